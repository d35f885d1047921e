//! Changes of the members and of the leader, and what the leader is asked on a client's behalf.

use std::sync::atomic::Ordering;

use api::error::Error;
use api::etcdserverpb as pb;
use prost::Message;
use rpc::{LeaderAnswer, LeaderRequest, Limits};

use crate::client::{Answer, Client};
use crate::member::Member;

/// A client of a member of a cluster of so many started voters, itself first, which leads. All are
/// connected for long.
async fn cluster_of(voters: u64) -> (Member, Client) {
    let member = Member::start();
    for id in 1..=voters {
        member.add(&voter(id, &format!("n{id}")), Some(60));
    }
    let client = Client::connect(member.address).await;
    (member, client)
}

fn voter(id: u64, name: &str) -> cluster::Member {
    cluster::Member {
        id,
        name: name.to_owned(),
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        ..cluster::Member::default()
    }
}

fn learner(id: u64, name: &str) -> cluster::Member {
    cluster::Member { is_learner: true, ..voter(id, name) }
}

async fn call(client: &Client, method: &str, request: &impl Message) -> Answer {
    client.call(&format!("/etcdserverpb.{method}"), request).await
}

async fn add(client: &Client, urls: &[&str], is_learner: bool) -> Answer {
    let peer_urls = urls.iter().map(|url| (*url).to_owned()).collect();
    call(client, "Cluster/MemberAdd", &pb::MemberAddRequest { peer_urls, is_learner }).await
}

async fn remove(client: &Client, id: u64) -> Answer {
    call(client, "Cluster/MemberRemove", &pb::MemberRemoveRequest { id }).await
}

async fn update(client: &Client, id: u64, url: &str) -> Answer {
    let request = pb::MemberUpdateRequest { id, peer_urls: vec![url.to_owned()] };
    call(client, "Cluster/MemberUpdate", &request).await
}

async fn promote(client: &Client, id: u64) -> Answer {
    call(client, "Cluster/MemberPromote", &pb::MemberPromoteRequest { id }).await
}

async fn move_leader(client: &Client, target_id: u64) -> Answer {
    call(client, "Maintenance/MoveLeader", &pb::MoveLeaderRequest { target_id }).await
}

/// Members as `id` or `id(learner)` with their first URL.
fn show(members: &[pb::Member]) -> String {
    let show = |member: &pb::Member| {
        let kind = if member.is_learner { "learner" } else { "voter" };
        format!("{kind} {:?} {}", member.name, member.peer_urls.join(","))
    };
    members.iter().map(show).collect::<Vec<_>>().join("; ")
}

const NOT_STARTED: &str = "2 etcdserver: re-configuration failed due to not enough started members";
const UNHEALTHY: &str = "14 etcdserver: unhealthy cluster";
const NOT_FOUND: &str = "5 etcdserver: member not found";

#[tokio::test]
async fn a_member_is_added() {
    let (_member, client) = cluster_of(1).await;
    let added: pb::MemberAddResponse =
        add(&client, &["http://b:2", "http://a:1"], false).await.ok();
    let header = pb::ResponseHeader { cluster_id: 7, member_id: 1, revision: 0, raft_term: 2 };
    assert_eq!(added.header, Some(header));
    let member = added.member.expect("the member");
    assert_eq!(show(std::slice::from_ref(&member)), r#"voter "" http://a:1,http://b:2"#);
    assert_eq!(added.members.len(), 2);
    assert!(added.members.contains(&member) && member.id != 0);

    for bad in [&[][..], &["http://a"], &["a:1"], &["http://a:1/path"], &["ftp://a:1"]] {
        let refused = add(&client, bad, false).await;
        assert_eq!(refused.error(), "3 etcdserver: given member URLs are invalid", "{bad:?}");
    }
}

#[tokio::test]
async fn a_url_belongs_to_one_member() {
    let (_member, client) = cluster_of(3).await;
    let exists = "9 etcdserver: Peer URLs already exists";
    assert_eq!(add(&client, &["http://127.0.0.1:2"], true).await.error(), exists);
    assert_eq!(update(&client, 1, "http://127.0.0.1:2").await.error(), exists);
    let updated: pb::MemberUpdateResponse = update(&client, 2, "http://127.0.0.1:2").await.ok();
    assert_eq!(updated.members.len(), 3);
    let updated: pb::MemberUpdateResponse = update(&client, 2, "http://10.0.0.2:2").await.ok();
    assert_eq!(
        show(&updated.members),
        r#"voter "n1" http://127.0.0.1:1; voter "n2" http://10.0.0.2:2; voter "n3" http://127.0.0.1:3"#
    );
    assert_eq!(update(&client, 9, "http://10.0.0.9:2").await.error(), NOT_FOUND);
}

#[tokio::test]
async fn a_second_voter_must_have_started_before_the_third() {
    let (member, client) = cluster_of(1).await;
    assert_eq!(add(&client, &["http://a:1"], false).await.code, 0);
    assert_eq!(add(&client, &["http://a:2"], false).await.error(), NOT_STARTED);
    assert_eq!(remove(&client, 1).await.error(), NOT_STARTED);
    assert_eq!(add(&client, &["http://a:2"], true).await.error(), UNHEALTHY);
    for other in member.state.cluster().members() {
        member.state.active_since.write().insert(other.id, long_ago());
    }
    assert_eq!(add(&client, &["http://a:2"], true).await.code, 0);
    assert_eq!(
        add(&client, &["http://a:3"], true).await.error(),
        "9 etcdserver: too many learner members in cluster"
    );
}

fn long_ago() -> std::time::Instant {
    std::time::Instant::now().checked_sub(std::time::Duration::from_secs(60)).expect("not at boot")
}

#[tokio::test]
async fn voters_must_be_connected_for_a_while() {
    let member = Member::start();
    member.add(&voter(1, "n1"), None);
    member.add(&voter(2, "n2"), Some(60));
    member.add(&voter(3, "n3"), Some(4));
    let client = Client::connect(member.address).await;
    assert_eq!(add(&client, &["http://a:1"], false).await.error(), UNHEALTHY);
    assert_eq!(add(&client, &["http://a:1"], true).await.error(), UNHEALTHY);
    assert_eq!(remove(&client, 2).await.error(), UNHEALTHY);
    assert_eq!(remove(&client, 1).await.error(), UNHEALTHY);
    member.state.active_since.write().remove(&3);
    assert_eq!(remove(&client, 2).await.error(), UNHEALTHY);
    let removed: pb::MemberRemoveResponse = remove(&client, 3).await.ok();
    assert_eq!(
        show(&removed.members),
        r#"voter "n1" http://127.0.0.1:1; voter "n2" http://127.0.0.1:2"#
    );
    assert_eq!(remove(&client, 3).await.error(), NOT_FOUND);
    assert_eq!(remove(&client, 9).await.error(), NOT_FOUND);
}

#[tokio::test]
async fn the_last_member_stays() {
    let (_member, client) = cluster_of(1).await;
    assert_eq!(remove(&client, 1).await.error(), NOT_STARTED);
}

#[tokio::test]
async fn without_the_checks_all_is_proposed() {
    let member = Member::with_limits(Limits {
        strict_reconfig_check: false,
        drain_timeout: std::time::Duration::ZERO,
        ..Limits::default()
    });
    member.add(&voter(1, "n1"), None);
    let client = Client::connect(member.address).await;
    assert_eq!(add(&client, &["http://a:1"], false).await.code, 0);
    assert_eq!(add(&client, &["http://a:2"], false).await.code, 0);
    assert_eq!(remove(&client, 1).await.code, 0);
}

#[tokio::test]
async fn a_learner_is_promoted_when_it_is_ready() {
    let (member, client) = cluster_of(1).await;
    member.add(&learner(2, "n2"), None);
    member.machine.set_learner(Err(Error::LearnerNotReady));
    assert_eq!(
        promote(&client, 2).await.error(),
        "9 etcdserver: can only promote a learner member which is in sync with leader"
    );
    member.machine.set_learner(Ok(()));
    let promoted: pb::MemberPromoteResponse = promote(&client, 2).await.ok();
    assert_eq!(
        show(&promoted.members),
        r#"voter "n1" http://127.0.0.1:1; voter "n2" http://127.0.0.1:2"#
    );
    assert_eq!(
        promote(&client, 2).await.error(),
        "9 etcdserver: can only promote a learner member"
    );
    assert_eq!(promote(&client, 9).await.error(), NOT_FOUND);
    let metrics = &member.metrics;
    assert_eq!(metrics.server_learner_promote_successes.get(), 1);
    let failures = &metrics.server_learner_promote_failures;
    let count = |reason: &str| failures.with_label_values(&[reason]).get();
    assert_eq!(count("membership: can only promote a learner member"), 1);
    assert_eq!(count("membership: ID not found"), 1);
}

#[tokio::test]
async fn a_promotion_needs_started_voters() {
    let (member, client) = cluster_of(1).await;
    for id in 2..=4 {
        member.add(&voter(id, ""), None);
    }
    member.add(&learner(5, "n5"), None);
    assert_eq!(promote(&client, 5).await.error(), NOT_STARTED);
}

#[tokio::test]
async fn the_leader_is_asked_to_promote() {
    let (member, client) = cluster_of(2).await;
    member.state.leader.store(2, Ordering::Relaxed);
    member.machine.set_leader_answer(Ok(LeaderAnswer::Members(vec![voter(5, "n5")])));
    let promoted: pb::MemberPromoteResponse = promote(&client, 5).await.ok();
    assert_eq!(show(&promoted.members), r#"voter "n5" http://127.0.0.1:5"#);
    assert_eq!(member.machine.leader_asked(), [LeaderRequest::Promote(5)]);
    member.machine.set_leader_answer(Err(Error::MemberNotLearner));
    assert_eq!(
        promote(&client, 5).await.error(),
        "9 etcdserver: can only promote a learner member"
    );
}

#[tokio::test]
async fn leases_are_renewed_by_the_leader() {
    let (member, client) = cluster_of(2).await;
    member.state.leader.store(2, Ordering::Relaxed);
    let mut stream = client.open("/etcdserverpb.Lease/LeaseKeepAlive", &[]).await;
    for (ttl, expected) in [(Some(5), 5), (None, 0)] {
        member.machine.set_leader_answer(Ok(LeaderAnswer::Renewed(ttl)));
        stream.send(&pb::LeaseKeepAliveRequest { id: 3 });
        let renewed: pb::LeaseKeepAliveResponse = stream.next().await.expect("an answer");
        assert_eq!((renewed.id, renewed.ttl), (3, expected));
        let header = renewed.header.expect("a header");
        assert_eq!((header.member_id, header.revision), (1, 1));
    }
    assert_eq!(member.machine.leader_asked(), [LeaderRequest::LeaseRenew(3); 2]);
    member.machine.set_leader_answer(Err(Error::NoLeader));
    stream.send(&pb::LeaseKeepAliveRequest { id: 3 });
    let end = stream.next::<pb::LeaseKeepAliveResponse>().await.expect_err("the end");
    assert_eq!((end.code, end.message.as_str()), (14, "etcdserver: no leader"));
    assert_eq!(member.machine.asked(), (0, 0));
}

#[tokio::test]
async fn the_leader_knows_how_long_leases_live() {
    let (member, client) = cluster_of(2).await;
    member.state.leader.store(2, Ordering::Relaxed);
    let request = pb::LeaseTimeToLiveRequest { id: 3, keys: true };
    let lease = apply::LeaseTtl { ttl: 4, granted_ttl: 9, keys: vec!["k".into()] };
    member.machine.set_leader_answer(Ok(LeaderAnswer::LeaseTtl(Some(lease))));
    let found: pb::LeaseTimeToLiveResponse =
        call(&client, "Lease/LeaseTimeToLive", &request).await.ok();
    assert_eq!((found.id, found.ttl, found.granted_ttl, found.keys.len()), (3, 4, 9, 1));
    member.machine.set_leader_answer(Ok(LeaderAnswer::LeaseTtl(None)));
    let none: pb::LeaseTimeToLiveResponse =
        call(&client, "Lease/LeaseTimeToLive", &request).await.ok();
    assert_eq!((none.ttl, none.granted_ttl), (-1, 0));
    let asked = LeaderRequest::LeaseTimeToLive { id: 3, keys: true };
    assert_eq!(member.machine.leader_asked(), [asked; 2]);
}

#[tokio::test]
async fn leadership_is_moved_to_a_voter() {
    let (member, client) = cluster_of(2).await;
    member.add(&learner(3, "n3"), None);
    let bad = "9 etcdserver: bad leader transferee";
    assert_eq!(move_leader(&client, 3).await.error(), bad);
    assert_eq!(move_leader(&client, 9).await.error(), bad);
    let moving = move_leader(&client, 2);
    let moved = async {
        while member.machine.transfers() != [2] {
            tokio::task::yield_now().await;
        }
        member.state.leader.store(2, Ordering::Relaxed);
    };
    let (answer, ()) = tokio::join!(moving, moved);
    assert_eq!(answer.ok::<pb::MoveLeaderResponse>().header, None);
    assert_eq!(move_leader(&client, 1).await.error(), "9 etcdserver: not leader");
}

#[tokio::test]
async fn leadership_that_nobody_takes_stays() {
    let member = Member::with_limits(Limits {
        drain_timeout: std::time::Duration::ZERO,
        ..Limits::default()
    });
    member.add(&voter(1, "n1"), None);
    member.add(&voter(2, "n2"), None);
    let client = Client::connect(member.address).await;
    let request = crate::client::frame(&pb::MoveLeaderRequest { target_id: 2 });
    let path = "/etcdserverpb.Maintenance/MoveLeader";
    let answer = client.call_with(path, &[("grpc-timeout", "300m")], request).await;
    assert!(
        answer.error() == "2 etcdserver: request timed out, leader transfer took too long"
            || answer.error() == "4 context deadline exceeded",
        "{}",
        answer.error()
    );
}

#[tokio::test]
async fn learners_refuse_changes() {
    let (member, client) = cluster_of(2).await;
    member.state.is_learner.store(true, Ordering::Relaxed);
    let refused = "9 etcdserver: rpc not supported for learner";
    assert_eq!(add(&client, &["http://a:1"], false).await.error(), refused);
    assert_eq!(remove(&client, 2).await.error(), refused);
    assert_eq!(update(&client, 2, "http://a:1").await.error(), refused);
    assert_eq!(promote(&client, 2).await.error(), refused);
    assert_eq!(move_leader(&client, 2).await.error(), refused);
    let list = pb::MemberListRequest { linearizable: false };
    assert_eq!(call(&client, "Cluster/MemberList", &list).await.error(), refused);
}
