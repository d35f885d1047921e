//! What operators get wrong about members, each refused in etcd's words, and none of the others any the worse.

use std::fs;
use std::thread;

use api::etcdserverpb as pb;

use crate::client::Failure;
use crate::cluster::{Cluster, eventually, refused};
use crate::support::{Launch, Outcome, Scratch};

/// A member that founds a cluster: its name, where it is, and what it says of all.
fn founder(scratch: &Scratch, name: &str, advertised: &str, initial: &str) -> Launch {
    Launch::new(&scratch.data()).flags(&["--name", name]).flags(&[
        "--initial-advertise-peer-urls",
        advertised,
        "--initial-cluster",
        initial,
    ])
}

#[test]
fn the_list_of_members_must_fit_the_member() {
    let scratch = Scratch::new("lists");
    let (one, other) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
    for (name, advertised, initial, expected) in [
        (
            // Another has the name.
            "a",
            other,
            "a=http://127.0.0.1:1,b=http://127.0.0.1:3",
            "--initial-cluster has a=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://127.0.0.1:2 (resolved urls: \"http://127.0.0.1:2\" != \"http://127.0.0.1:1\")",
        ),
        (
            // Two would have one id.
            "a",
            one,
            "a=http://127.0.0.1:1,b=http://127.0.0.1:1",
            "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
        ),
        (
            "c",
            one,
            "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
            "couldn't find local name \"c\" in the initial cluster configuration",
        ),
        (
            "a",
            "http://127.0.0.1:1,http://127.0.0.1:2",
            "a=http://127.0.0.1:1",
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2",
        ),
        (
            // Not looked up, as in etcd.
            "a",
            one,
            "a=http://localhost:1",
            "--initial-cluster has a=http://localhost:1 but missing from --initial-advertise-peer-urls=http://127.0.0.1:1 (resolved urls: \"http://127.0.0.1:1\" != \"http://localhost:1\")",
        ),
    ] {
        let end = founder(&scratch, name, advertised, initial).end();
        assert_eq!(refused(&end), expected);
    }
    // The system takes this for a name of the same address.
    let launch = founder(&scratch, "a", one, "a=http://127.1:1");
    let end = launch.start().terminate();
    assert!(end.log().contains("resolved URL Host"), "{}", end.log());
}

#[test]
fn who_lost_its_disk_and_joins_with_its_old_id_ends_and_the_others_go_on() {
    let mut cluster = Cluster::start("lost", 3, &[]);
    let lost = cluster.follower();
    for number in 0..20 {
        cluster.put(number % 3, &format!("k{number}"));
    }
    drop(cluster.take(lost).kill());
    fs::remove_dir_all(cluster.data(lost)).expect("a disk that is lost");
    let end = match cluster.launch(lost, 3, "existing").run() {
        Outcome::Ended(end) => end,
        Outcome::Serving(server) => server.wait(),
    };
    assert_ne!(end.code(), 0);
    let text = "Was the raft log corrupted, truncated, or lost?";
    assert!(end.log().contains(text), "{}", end.log());
    for other in cluster.running() {
        cluster.put(other, &format!("without {other}"));
    }
    assert_eq!(cluster.agree(), 22);
}

#[test]
fn a_founder_with_another_list_does_no_harm() {
    let mut cluster = Cluster::start("disagrees", 3, &[]);
    let stranger = cluster.follower();
    drop(cluster.take(stranger).kill());
    fs::remove_dir_all(cluster.data(stranger)).expect("a new member");
    // It founds a cluster of its own, whose id is another, and never has a majority.
    let launch = cluster.launch(stranger, 3, "new").flags(&["--initial-cluster-token", "other"]);
    let mut waiting = launch.start_waiting();
    waiting.wait_for("request sent was ignored by remote peer due to cluster ID mismatch");
    for other in cluster.running() {
        cluster.put(other, &format!("without {other}"));
    }
    let end = waiting.kill();
    assert!(!end.log().contains("ready to serve client requests"), "{}", end.log());
    assert_eq!(cluster.agree(), 2);
}

/// What a member of a cluster says of all: each name with the number of its peer URL.
fn list(cluster: &Cluster, members: &[(&str, usize)]) -> String {
    let each = members.iter().map(|(name, number)| format!("{name}={}", cluster.peer_url(*number)));
    each.collect::<Vec<_>>().join(",")
}

/// Starts founders together, each with changes of its command line, until all serve.
fn found(cluster: &mut Cluster, changes: &[(usize, &[&str])]) {
    let starting = changes.iter().map(|(number, flags)| {
        let launch = cluster.launch(*number, 3, "new").flags(flags);
        thread::spawn(move || launch.start())
    });
    let starting: Vec<_> = starting.collect();
    for ((number, _), server) in changes.iter().zip(starting) {
        cluster.servers[*number] = Some(server.join().expect("it serves"));
    }
}

#[test]
fn founders_who_disagree_about_the_third_found_two_clusters() {
    const MISMATCH: &str = "request sent was ignored by remote peer due to cluster ID mismatch";
    let mut cluster = Cluster::start("third", 0, &[]);
    cluster.servers.resize_with(3, || None);
    // Each counts on the other and on somebody who is not there.
    let other = list(&cluster, &[("n0", 0), ("n1", 1), ("n3", 3)]);
    let mut odd = cluster.launch(1, 3, "new").flags(&["--initial-cluster", &other]).start_waiting();
    let mut even = cluster.launch(0, 3, "new").start_waiting();
    odd.wait_for(MISMATCH);
    even.wait_for(MISMATCH);
    assert!(!even.kill().log().contains("ready to serve client requests"));
    // The third decides.
    found(&mut cluster, &[(0, &[]), (2, &[])]);
    odd.wait_for(MISMATCH);
    for number in [0, 2] {
        cluster.put(number, &format!("without {number}"));
    }
    assert!(!odd.kill().log().contains("ready to serve client requests"));
    // Its data says which cluster it has founded, so the right list is of no use to it.
    let mut odd = cluster.launch(1, 3, "new").start_waiting();
    odd.wait_for(MISMATCH);
    assert!(!odd.kill().log().contains("ready to serve client requests"));
    fs::remove_dir_all(cluster.data(1)).expect("its data");
    found(&mut cluster, &[(1, &[])]);
    cluster.put(1, "with all");
    assert_eq!(cluster.agree(), 3);
}

#[test]
fn who_is_not_in_its_own_list_is_refused_and_the_others_go_on() {
    let mut cluster = Cluster::start("not-in-list", 3, &[]);
    let gone = cluster.follower();
    drop(cluster.take(gone).kill());
    fs::remove_dir_all(cluster.data(gone)).expect("its data");
    let others: Vec<_> = (0..3).filter(|number| *number != gone).collect();
    let names = others.iter().map(|number| format!("n{number}")).collect::<Vec<_>>();
    let members = [(names[0].as_str(), others[0]), (names[1].as_str(), others[1])];
    let without = list(&cluster, &members);
    for state in ["new", "existing"] {
        let launch = cluster.launch(gone, 3, state).flags(&["--initial-cluster", &without]);
        let expected =
            format!("couldn't find local name \"n{gone}\" in the initial cluster configuration");
        assert_eq!(refused(&launch.end()), expected);
    }
    for other in cluster.running() {
        cluster.put(other, &format!("without {other}"));
    }
    assert_eq!(cluster.agree(), 2);
}

/// Ids are made of URLs: etcd lets two members have one name, and shows them so.
#[test]
fn two_members_of_one_name_are_told_by_their_ids() {
    let mut cluster = Cluster::start("one-name", 0, &[]);
    cluster.servers.resize_with(3, || None);
    let swapped = list(&cluster, &[("n1", 0), ("n0", 1), ("n2", 2)]);
    found(
        &mut cluster,
        &[(0, &[]), (1, &["--name", "n0", "--initial-cluster", &swapped]), (2, &[])],
    );
    for number in 0..3 {
        cluster.put(number, &format!("k{number}"));
        let names = eventually("all names", || {
            let mut members = cluster.list(number);
            members.sort_by_key(|member| member.peer_urls[0].clone());
            let names: Vec<String> = members.into_iter().map(|member| member.name).collect();
            names.iter().all(|name| !name.is_empty()).then_some(names)
        });
        assert_eq!(names, ["n0", "n0", "n2"]);
    }
    assert_eq!(cluster.agree(), 3);
    // A name that stands twice in one list is a member with two URLs.
    let twice = list(&cluster, &[("n0", 0), ("n0", 1), ("n2", 2)]);
    drop(cluster.take(1).kill());
    fs::remove_dir_all(cluster.data(1)).expect("its data");
    let launch = cluster.launch(1, 3, "new").flags(&["--name", "n0", "--initial-cluster", &twice]);
    let (first, second) = (cluster.peer_url(0), cluster.peer_url(1));
    assert_eq!(
        refused(&launch.end()),
        format!(
            "--initial-cluster has n0={first} but missing from --initial-advertise-peer-urls={second} (len([\"{second}\"]) != len([\"{first}\" \"{second}\"]))"
        )
    );
    cluster.put(0, "k3");
    assert_eq!(cluster.agree(), 4);
}

#[test]
fn a_second_process_with_the_id_of_a_member_ends_and_the_others_go_on() {
    let cluster = Cluster::start("one-id", 3, &[]);
    let twin = cluster.follower();
    let id = cluster.id(twin);
    cluster.put(twin, "before");
    // All is as with the member that runs, but for the directory and the socket.
    let data = cluster.data(7);
    let data = data.to_str().expect("a path in UTF-8");
    let elsewhere = ["--data-dir", data, "--listen-peer-urls", &cluster.peer_url(7)];
    let launch = cluster.launch(twin, 3, "new").flags(&elsewhere);
    let expected = format!("member {id:x} has already been bootstrapped");
    assert_eq!(refused(&launch.end()), expected);
    let end = match cluster.launch(twin, 3, "existing").flags(&elsewhere).run() {
        Outcome::Ended(end) => end,
        Outcome::Serving(server) => server.wait(),
    };
    assert_ne!(end.code(), 0);
    let text = "Was the raft log corrupted, truncated, or lost?";
    assert!(end.log().contains(text), "{}", end.log());
    for number in 0..3 {
        cluster.put(number, &format!("k{number}"));
    }
    assert_eq!(cluster.agree(), 4);
}

#[test]
fn two_members_do_not_share_a_directory() {
    let mut cluster = Cluster::start("one-directory", 0, &[]);
    cluster.servers.resize_with(3, || None);
    found(&mut cluster, &[(0, &[]), (2, &[])]);
    let data = cluster.data(0);
    let data = data.to_str().expect("a path in UTF-8");
    let mut second = cluster.launch(1, 3, "new").flags(&["--data-dir", data]).start_waiting();
    second.wait_for("server has already been initialized");
    for number in [0, 2] {
        cluster.put(number, &format!("k{number}"));
    }
    assert!(!second.kill().log().contains("ready to serve client requests"));
    found(&mut cluster, &[(1, &[])]);
    cluster.put(1, "k1");
    assert_eq!(cluster.agree(), 3);
}

#[test]
fn who_finds_its_directory_in_use_waits() {
    let scratch = Scratch::new("shared");
    let first = Launch::new(&scratch.data()).start();
    first.client().put(b"k", b"v").expect("a write");
    let mut second = Launch::new(&scratch.data()).start_waiting();
    second.wait_for("server has already been initialized");
    for _ in 0..20 {
        first.client().put(b"k", b"v").expect("a write");
    }
    assert_eq!(first.terminate().signal(), Some(15));
    second.wait_for("ready to serve client requests");
    assert_eq!(second.terminate().signal(), Some(15));
}

#[test]
fn a_change_waits_for_a_leader() {
    let mut cluster = Cluster::start("change-waits", 3, &[]);
    let ids = [0, 1, 2].map(|number| cluster.id(number));
    let peer_urls = vec![cluster.peer_url(2), "http://127.0.0.1:1".to_owned()];
    let request = pb::MemberUpdateRequest { id: ids[2], peer_urls: peer_urls.clone() };
    for number in [1, 2] {
        drop(cluster.take(number).kill());
    }
    eventually("loss of the leader", || {
        (cluster.server(0).client().status().leader == 0).then_some(())
    });
    let address = cluster.server(0).address.clone();
    let waiting = thread::spawn(move || {
        let client = crate::client::Client::connect(&address);
        client.call::<pb::MemberUpdateResponse>("Cluster/MemberUpdate", &request)
    });
    let refused = waiting.join().expect("an answer");
    assert_eq!(refused, Err(Failure::Status(14, "etcdserver: request timed out".to_owned())));
    cluster.run(1, 3);
    let request = pb::MemberUpdateRequest { id: ids[2], peer_urls: peer_urls.clone() };
    // A leader that has just begun takes none.
    let updated: pb::MemberUpdateResponse = eventually("update", || {
        cluster.server(1).client().call("Cluster/MemberUpdate", &request).ok()
    });
    let member = updated.members.into_iter().find(|member| member.id == ids[2]);
    assert_eq!(member.expect("the member").peer_urls, peer_urls);
}

#[test]
fn the_last_of_two_goes_on() {
    for leader_goes in [true, false] {
        let mut cluster = Cluster::start("two", 2, &["--strict-reconfig-check=false"]);
        cluster.put(0, "both");
        let leader = cluster.leader();
        let gone = if leader_goes { leader } else { 1 - leader };
        let request = pb::MemberRemoveRequest { id: cluster.id(gone) };
        let removed: pb::MemberRemoveResponse =
            cluster.change(gone, "Cluster/MemberRemove", &request);
        assert_eq!(removed.members.len(), 1);
        let end = cluster.take(gone).wait();
        assert_eq!(end.code(), 0, "{}", end.log());
        cluster.put(1 - gone, "one");
        assert_eq!(cluster.agree(), 2);
    }
}
