//! Several servers in one cluster: whoever is asked, whoever is killed, whoever comes and goes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use api::etcdserverpb as pb;
use bytes::Bytes;
use prost::Message;

use crate::client::{Client, Failure};
use crate::support::{End, Launch, Outcome, Scratch, Server, http};

/// How long a cluster may take to come to what it must come to.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

const UNHEALTHY: &str = "etcdserver: unhealthy cluster";

/// A cluster of servers on an address of its own, so that ports can be told in advance.
pub(crate) struct Cluster {
    scratch: Scratch,
    host: String,
    flags: Vec<&'static str>,
    pub(crate) servers: Vec<Option<Server>>,
}

impl Cluster {
    /// A cluster whose first members are started at once.
    pub(crate) fn start(name: &str, members: usize, flags: &[&'static str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // 127.0.0.0/8 is this machine; no two tests that run at a time share an address.
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = format!("127.{}.{}.{}", 64 + number, process >> 8 & 255, process & 255);
        let mut cluster =
            Self { scratch: Scratch::new(name), host, flags: flags.to_vec(), servers: Vec::new() };
        let launches: Vec<Launch> =
            (0..members).map(|number| cluster.launch(number, members, "new")).collect();
        let starting: Vec<_> =
            launches.into_iter().map(|launch| thread::spawn(move || launch.start())).collect();
        cluster.servers =
            starting.into_iter().map(|thread| Some(thread.join().expect("serves"))).collect();
        cluster
    }

    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.scratch.join(&format!("n{number}"))
    }

    pub(crate) fn peer_url(&self, number: usize) -> String {
        format!("http://{}:{}", self.host, 2380 + number)
    }

    /// The command line of a member that knows of the first `members`.
    pub(crate) fn launch(&self, number: usize, members: usize, state: &str) -> Launch {
        let list: Vec<String> =
            (0..members).map(|number| format!("n{number}={}", self.peer_url(number))).collect();
        let url = self.peer_url(number);
        Launch::new(&self.data(number))
            .flags(&["--name", &format!("n{number}")])
            .flags(&["--listen-peer-urls", &url, "--initial-advertise-peer-urls", &url])
            .flags(&["--initial-cluster", &list.join(","), "--initial-cluster-state", state])
            .flags(&self.flags)
    }

    pub(crate) fn server(&self, number: usize) -> &Server {
        self.servers[number].as_ref().expect("it runs")
    }

    pub(crate) fn take(&mut self, number: usize) -> Server {
        self.servers[number].take().expect("it runs")
    }

    /// Starts a member again, or a new one that joins.
    pub(crate) fn run(&mut self, number: usize, members: usize) {
        let server = self.launch(number, members, "existing").start();
        if number == self.servers.len() {
            self.servers.push(None);
        }
        self.servers[number] = Some(server);
    }

    /// The numbers of the servers that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|number| self.servers[*number].is_some()).collect()
    }

    pub(crate) fn id(&self, number: usize) -> u64 {
        self.server(number).client().status().header.expect("a header").member_id
    }

    /// The number of the server that leads, once all that run agree.
    pub(crate) fn leader(&self) -> usize {
        eventually("a leader", || {
            let running = self.running();
            let leaders: Vec<u64> = running
                .iter()
                .map(|number| self.server(*number).client().status().leader)
                .collect();
            let leader = *leaders.first()?;
            let is_agreed = leaders.iter().all(|other| *other == leader);
            running.into_iter().find(|number| is_agreed && self.id(*number) == leader)
        })
    }

    pub(crate) fn follower(&self) -> usize {
        let leader = self.leader();
        *self.running().iter().find(|number| **number != leader).expect("another")
    }

    /// All running servers have the same keys, by their own account and by the hash of all revisions.
    pub(crate) fn agree(&self) -> usize {
        let states: Vec<_> = self
            .running()
            .iter()
            .map(|number| {
                let client = self.server(*number).client();
                let (revision, keys) = client.all().expect("a linearizable read");
                let request = pb::HashKvRequest { revision };
                let hash: pb::HashKvResponse =
                    client.call("Maintenance/HashKV", &request).expect("a hash");
                (revision, hash.hash, keys)
            })
            .collect();
        for state in &states {
            assert_eq!((state.0, state.1), (states[0].0, states[0].1));
            assert_eq!(state.2, states[0].2);
        }
        states[0].2.len()
    }

    pub(crate) fn list(&self, number: usize) -> Vec<pb::Member> {
        let request = pb::MemberListRequest { linearizable: true };
        let response: pb::MemberListResponse =
            self.server(number).client().call("Cluster/MemberList", &request).expect("a list");
        response.members
    }

    /// A change of the members through a server, as soon as that takes the cluster for healthy.
    pub(crate) fn change<A: Message + Default>(
        &self,
        through: usize,
        method: &str,
        request: &impl Message,
    ) -> A {
        eventually(method, || match self.server(through).client().call(method, request) {
            Ok(answer) => Some(answer),
            Err(Failure::Status(14, text)) if text == UNHEALTHY => None,
            Err(Failure::Status(9, text)) if text.ends_with("in sync with leader") => None,
            Err(failure) => panic!("{method}: {failure:?}"),
        })
    }

    /// A write through a server, tried until it is acknowledged.
    pub(crate) fn put(&self, through: usize, key: &str) {
        eventually("a write", || self.server(through).client().put(key.as_bytes(), b"v").ok());
    }
}

/// Looks until there is something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}");
        thread::sleep(PAUSE);
    }
}

pub(crate) fn refused(end: &End) -> String {
    assert_eq!(end.code(), 1);
    end.errors().pop().expect("an error")
}

#[test]
fn three_members_outlive_each_of_them() {
    let mut cluster = Cluster::start("three", 3, &[]);
    for number in 0..3 {
        cluster.put(number, &format!("k{number}"));
    }
    assert_eq!(cluster.agree(), 3);
    for round in 0..3 {
        let leader = cluster.leader();
        let server = cluster.take(leader);
        // One is killed, one stops, one is killed while it follows.
        match round {
            0 => drop(server.kill()),
            1 => assert_eq!(server.terminate().signal(), Some(15)),
            _ => {
                let follower = cluster.running()[0];
                cluster.servers[leader] = Some(server);
                drop(cluster.take(follower).kill());
            }
        }
        for number in cluster.running() {
            cluster.put(number, &format!("without {round} {number}"));
        }
        let gone = (0..3).find(|number| !cluster.running().contains(number)).expect("one");
        cluster.run(gone, 3);
        let client = cluster.server(gone).client();
        let key = format!("without {round} {}", (gone + 1) % 3);
        assert!(client.get(key.as_bytes()).expect("a linearizable read").is_some());
    }
    assert_eq!(cluster.agree(), 9);
}

#[test]
fn a_leader_that_stops_hands_over() {
    let mut cluster = Cluster::start("hand-over", 3, &["--election-timeout=10000"]);
    let leader = cluster.leader();
    let term = cluster.server(leader).client().status().raft_term;
    let begun = Instant::now();
    let end = cluster.take(leader).terminate();
    assert_eq!(end.signal(), Some(15), "{}", end.log());
    let next = cluster.leader();
    cluster.put(next, "k");
    assert!(begun.elapsed() < Duration::from_secs(9), "nobody waited for an election");
    assert_eq!(cluster.server(next).client().status().raft_term, term + 1);
}

#[test]
fn nobody_waits_for_a_leader_that_is_gone() {
    let mut cluster = Cluster::start("gone", 3, &["--election-timeout=10000"]);
    for round in 0..2 {
        let leader = cluster.leader();
        let begun = Instant::now();
        drop(cluster.take(leader).kill());
        let next = cluster.leader();
        cluster.put(next, &format!("k{round}"));
        assert!(begun.elapsed() < Duration::from_secs(5), "an election timeout is longer");
        cluster.run(leader, 3);
    }
    assert_eq!(cluster.agree(), 2);
}

#[test]
fn leadership_moves() {
    let cluster = Cluster::start("move", 3, &[]);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let request = pb::MoveLeaderRequest { target_id: cluster.id(follower) };
    let move_leader = |through: usize| {
        let client = cluster.server(through).client();
        client.call::<pb::MoveLeaderResponse>("Maintenance/MoveLeader", &request)
    };
    let not_leader = Failure::Status(9, "etcdserver: not leader".to_owned());
    assert_eq!(move_leader(follower), Err(not_leader));
    assert_eq!(move_leader(leader), Ok(pb::MoveLeaderResponse { header: None }));
    assert_eq!(cluster.leader(), follower);
    cluster.put(leader, "k");
}

#[test]
fn members_come_and_go() {
    let mut cluster = Cluster::start("come-and-go", 3, &[]);
    cluster.put(0, "before");
    let follower = cluster.follower();
    let request = pb::MemberAddRequest { peer_urls: vec![cluster.peer_url(3)], is_learner: true };
    let added: pb::MemberAddResponse = cluster.change(follower, "Cluster/MemberAdd", &request);
    assert_eq!(added.members.len(), 4);
    let id = added.member.expect("the member").id;

    cluster.run(3, 4);
    assert_eq!(cluster.id(3), id);
    let learner = cluster.server(3).client();
    let refused = Failure::Status(9, "etcdserver: rpc not supported for learner".to_owned());
    assert_eq!(learner.put(b"k", b"v"), Err(refused));
    assert!(learner.status().is_learner);

    let request = pb::MemberPromoteRequest { id };
    let promoted: pb::MemberPromoteResponse =
        cluster.change(follower, "Cluster/MemberPromote", &request);
    assert!(promoted.members.iter().all(|member| !member.is_learner));
    cluster.put(3, "after");
    assert_eq!(cluster.agree(), 2);

    let leader = cluster.leader();
    let request = pb::MemberRemoveRequest { id: cluster.id(leader) };
    let removed: pb::MemberRemoveResponse = cluster.change(3, "Cluster/MemberRemove", &request);
    assert_eq!(removed.members.len(), 3);
    let end = cluster.take(leader).wait();
    let removal = "the member has been permanently removed from the cluster";
    assert_eq!((end.code(), end.errors().contains(&removal.to_owned())), (0, true));
    cluster.put(3, "without");
    assert_eq!(cluster.agree(), 3);
    let mut names: Vec<String> = cluster.list(3).into_iter().map(|member| member.name).collect();
    names.sort();
    assert_eq!(names.len(), 3);
    assert!(!names.contains(&format!("n{leader}")));
    // It has its data, and is told once more.
    let end = match cluster.launch(leader, 4, "existing").run() {
        Outcome::Ended(end) => end,
        Outcome::Serving(server) => server.wait(),
    };
    assert_eq!((end.code(), end.errors().contains(&removal.to_owned())), (0, true));
}

#[test]
fn any_member_is_asked_for_a_promotion() {
    let mut cluster = Cluster::start("promotion", 3, &[]);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let request = pb::MemberAddRequest { peer_urls: vec![cluster.peer_url(3)], is_learner: true };
    let added: pb::MemberAddResponse = cluster.change(leader, "Cluster/MemberAdd", &request);
    let learner = added.member.expect("the new member").id;
    let promote = |cluster: &Cluster, id: u64| {
        let address = cluster.peer_url(follower).replace("http://", "");
        http(address, &format!("POST /members/promote/{id}"))
    };
    assert_eq!(promote(&cluster, 7), (404, "membership: ID not found\n".to_owned()));
    let not_ready =
        "etcdserver: can only promote a learner member which is in sync with leader\n".to_owned();
    assert_eq!(promote(&cluster, learner), (412, not_ready));
    cluster.run(3, 4);
    let members = eventually("the learner is ready", || {
        let (status, members) = promote(&cluster, learner);
        (status == 200).then_some(members)
    });
    assert!(members.contains(&format!(r#""id":{learner},"#)), "{members}");
    assert!(!members.contains("isLearner"), "{members}");
    // The leader counts them.
    let metrics = cluster.server(leader).metrics();
    assert_eq!(metrics["etcd_server_learner_promote_successes"], 1.0);
    let reason = "etcd_server_learner_promote_failures{Reason=\"membership: ID not found\"}";
    assert_eq!(metrics[reason], 1.0);
}

#[test]
fn a_member_with_another_url_is_found() {
    let mut cluster = Cluster::start("update", 3, &[]);
    let moved = format!("http://{}:3380", cluster.host);
    let request = pb::MemberUpdateRequest { id: cluster.id(2), peer_urls: vec![moved.clone()] };
    let through = (cluster.leader() + 1) % 2;
    let _: pb::MemberUpdateResponse = cluster.change(through, "Cluster/MemberUpdate", &request);
    drop(cluster.take(2).kill());
    let launch = cluster.launch(2, 3, "existing").flags(&["--listen-peer-urls", &moved]);
    cluster.servers[2] = Some(launch.start());
    cluster.put(2, "k");
    assert_eq!(cluster.agree(), 1);
}

#[test]
fn leases_live_wherever_they_are_asked_for() {
    let cluster = Cluster::start("leases", 3, &[]);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let client = cluster.server(follower).client();
    let grant = pb::LeaseGrantRequest { ttl: 3, id: 7 };
    let _: pb::LeaseGrantResponse = client.call("Lease/LeaseGrant", &grant).expect("a lease");
    let put = pb::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: 7,
        ..Default::default()
    };
    let _: pb::PutResponse = client.call("KV/Put", &put).expect("a write");
    for number in [leader, follower] {
        let client = cluster.server(number).client();
        let request = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
        let lease: pb::LeaseTimeToLiveResponse =
            client.call("Lease/LeaseTimeToLive", &request).expect("the lease");
        assert!(lease.ttl >= 0 && lease.granted_ttl == 3, "{lease:?}");
        assert_eq!(lease.keys, [Bytes::from_static(b"k")]);
        let none = pb::LeaseTimeToLiveRequest { id: 8, keys: true };
        let none: pb::LeaseTimeToLiveResponse =
            client.call("Lease/LeaseTimeToLive", &none).expect("an answer");
        assert_eq!(none.ttl, -1);
    }
    // Renewed through the follower for longer than it was granted, then left alone.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let mut stream =
            client.stream("Lease/LeaseKeepAlive", &pb::LeaseKeepAliveRequest { id: 7 });
        let renewed: pb::LeaseKeepAliveResponse = stream.next().expect("a renewal");
        assert_eq!((renewed.id, renewed.ttl), (7, 3));
        assert!(client.get(b"k").expect("a read").is_some());
        thread::sleep(PAUSE);
    }
    eventually("end of the lease", || client.get(b"k").expect("a read").is_none().then_some(()));
    let mut stream = client.stream("Lease/LeaseKeepAlive", &pb::LeaseKeepAliveRequest { id: 7 });
    let renewed: pb::LeaseKeepAliveResponse = stream.next().expect("an answer");
    assert_eq!(renewed.ttl, 0);
}

#[test]
fn who_is_far_behind_gets_a_snapshot() {
    let flags = ["--snapshot-count=10", "--snapshot-catchup-entries=5"];
    let mut cluster = Cluster::start("behind", 3, &flags);
    let leader = cluster.leader();
    let behind = cluster.follower();
    drop(cluster.take(behind).kill());
    for number in 0..100 {
        cluster.put(leader, &format!("k{number}"));
    }
    cluster.run(behind, 3);
    assert_eq!(cluster.agree(), 100);
    let request = pb::MemberAddRequest { peer_urls: vec![cluster.peer_url(3)], is_learner: false };
    let _: pb::MemberAddResponse = cluster.change(leader, "Cluster/MemberAdd", &request);
    cluster.run(3, 4);
    cluster.put(3, "k100");
    assert_eq!(cluster.agree(), 101);
    for (member, name) in [
        (leader, "etcd_disk_backend_snapshot_duration_seconds_count"),
        (behind, "etcd_snap_db_save_total_duration_seconds_count"),
        (behind, "etcd_snap_db_fsync_duration_seconds_count"),
    ] {
        assert!(cluster.server(member).metrics()[name] > 0.0, "{name}");
    }
    let end = cluster.take(behind).kill();
    assert!(end.log().contains("applied snapshot"), "{}", end.log());
    // What came by snapshot is there after a crash.
    cluster.run(behind, 4);
    assert_eq!(cluster.agree(), 101);
}

#[test]
fn one_member_goes_on_alone() {
    let mut cluster = Cluster::start("alone", 3, &[]);
    cluster.put(0, "k");
    // The log tells that the first one is committed only together with the next one; what is not
    // known to be committed is given up, as in etcd.
    cluster.put(0, "next");
    let id = cluster.id(0);
    assert_eq!(cluster.agree(), 2);
    for number in 0..3 {
        drop(cluster.take(number).kill());
    }
    let launch = cluster.launch(0, 3, "new").flags(&["--force-new-cluster"]);
    cluster.servers[0] = Some(launch.start());
    let list = cluster.list(0);
    assert_eq!((list.len(), list[0].id), (1, id));
    cluster.put(0, "alone");
    drop(cluster.take(0).kill());
    cluster.run(0, 3);
    let client = cluster.server(0).client();
    for key in ["k", "alone"] {
        assert!(client.get(key.as_bytes()).expect("a read").is_some(), "{key}");
    }
}

#[test]
fn who_does_not_belong_is_refused() {
    let mut cluster = Cluster::start("refused", 3, &[]);
    let stranger = cluster.launch(3, 4, "existing").end();
    let text = refused(&stranger);
    assert!(
        text.starts_with("error validating peerURLs {ClusterID:")
            && text.ends_with("}: member count is unequal"),
        "{text}"
    );
    let mut other = cluster.launch(3, 2, "existing");
    other = other.flags(&["--initial-cluster"]).flags(&[&format!(
        "n0={},n1={},n3={}",
        cluster.peer_url(0),
        cluster.peer_url(1),
        cluster.peer_url(3)
    )]);
    let text = refused(&other.end());
    assert!(text.contains("PeerURLs: no match found for existing member ("), "{text}");

    let id = cluster.id(2);
    drop(cluster.take(2).kill());
    std::fs::remove_dir_all(cluster.data(2)).expect("a disk that is lost");
    let text = refused(&cluster.launch(2, 3, "new").end());
    assert_eq!(text, format!("member {id:x} has already been bootstrapped"));

    for number in 0..2 {
        drop(cluster.take(number).kill());
    }
    let text = refused(&cluster.launch(2, 3, "existing").end());
    assert_eq!(
        text,
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
    );
}

#[test]
fn a_member_that_waits_for_others_can_be_stopped() {
    let scratch = Scratch::new("waits");
    let list = "default=http://127.0.0.1:0,other=http://127.0.0.1:1";
    let launch = Launch::new(&scratch.data())
        .flags(&["--initial-advertise-peer-urls", "http://127.0.0.1:0"])
        .flags(&["--initial-cluster", list]);
    let end = launch.start_and_signal(rustix::process::Signal::TERM);
    assert_eq!(end.signal(), Some(15), "{}", end.log());
}

#[test]
fn a_client_sees_one_cluster() {
    let cluster = Cluster::start("one", 3, &[]);
    let headers: Vec<pb::ResponseHeader> = (0..3)
        .map(|number| cluster.server(number).client().status().header.expect("a header"))
        .collect();
    assert!(headers.iter().all(|header| header.cluster_id == headers[0].cluster_id));
    for number in 0..3 {
        eventually("common version", || {
            let version = cluster.server(number).page("/version");
            let expected = r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
            (version == expected).then_some(())
        });
    }
    for number in 0..3 {
        let port = 2380 + u16::try_from(number).expect("a few");
        let page = http((cluster.host.as_str(), port), "GET /downgrade/enabled");
        assert_eq!(page, (200, "false".to_owned()));
        let downgrade = cluster.server(number).client().status().downgrade_info;
        assert_eq!(downgrade, Some(pb::DowngradeInfo::default()));
    }
    let clients: Vec<Client> = (0..3).map(|number| cluster.server(number).client()).collect();
    // What one acknowledges, all others show at once.
    for number in 0..30 {
        let key = format!("k{number}");
        clients[number % 3].put(key.as_bytes(), b"v").expect("a write");
        for client in &clients {
            assert!(client.get(key.as_bytes()).expect("a read").is_some());
        }
    }
}
