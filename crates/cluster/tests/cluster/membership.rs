//! Changes of the membership, and what is refused.

use backend::Backend;
use cluster::{
    Attributes, Cluster, ConfChangeError, Connected, Member, MembershipChange,
    ReconfigurationError, promote_context,
};
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use raft::{ConfChange, ConfChangeType};

use crate::{add, backend, change, cluster_of, member};

fn learner(id: u64) -> Member {
    Member { is_learner: true, ..member(id, "") }
}

fn promote(id: u64) -> ConfChange {
    change(ConfChangeType::AddNode, id, promote_context(id))
}

fn remove(id: u64) -> ConfChange {
    change(ConfChangeType::RemoveNode, id, "")
}

fn update(member: &Member) -> ConfChange {
    change(ConfChangeType::UpdateNode, member.id, member.to_json())
}

/// Members, learners marked by `*`, and removed ids.
fn text(cluster: &Cluster) -> String {
    let members: Vec<String> = cluster
        .members()
        .map(|member| format!("{}{}", member.id, if member.is_learner { "*" } else { "" }))
        .collect();
    let removed: Vec<String> = cluster.removed().map(|id| id.to_string()).collect();
    format!("{} - {}", members.join(" "), removed.join(" "))
}

/// What the backend holds is what the cluster is.
fn check_restored(cluster: &Cluster, backend: &Backend) {
    let restored = Cluster::restore(backend).expect("restored");
    assert_eq!(text(&restored), text(cluster));
    assert!(restored.members().eq(cluster.members()));
    assert_eq!(restored.version(), cluster.version());
}

#[test]
fn a_life_of_a_cluster() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(1, "n1"), member(2, "n2")], &mut backend);
    assert_eq!(text(&cluster), "1 2 - ");
    cluster.apply_conf_change(&add(&learner(3)), &mut backend).expect("added");
    assert_eq!(text(&cluster), "1 2 3* - ");
    assert_eq!(cluster.conf_state().voters, [1, 2]);
    assert_eq!(cluster.conf_state().learners, [3]);
    check_restored(&cluster, &backend);

    let change = cluster.apply_conf_change(&promote(3), &mut backend).expect("promoted");
    assert_eq!(change, MembershipChange::Promoted(3));
    assert_eq!(text(&cluster), "1 2 3 - ");
    // etcd issues 19557, 20793: a promotion must be in the database too.
    check_restored(&cluster, &backend);

    let change = cluster.apply_conf_change(&remove(1), &mut backend).expect("removed");
    assert_eq!(change, MembershipChange::Removed(1));
    assert_eq!(text(&cluster), "2 3 - 1");
    assert!(cluster.is_removed(1));
    check_restored(&cluster, &backend);
    assert!(matches!(
        cluster.apply_conf_change(&add(&member(1, "n1")), &mut backend),
        Err(ConfChangeError::IdRemoved)
    ));
    assert!(matches!(
        cluster.apply_conf_change(&remove(1), &mut backend),
        Err(ConfChangeError::IdRemoved)
    ));
    check_restored(&cluster, &backend);
}

/// etcd issue 21694: an update says nothing of the vote, nor of the attributes.
#[test]
fn an_update_changes_only_peer_urls() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(1, "n1"), learner(2)], &mut backend);
    let attributes =
        Attributes { name: "n2".to_owned(), client_urls: vec!["http://c:2379".to_owned()] };
    assert!(cluster.update_attributes(2, attributes.clone(), &mut backend));
    assert!(!cluster.update_attributes(9, attributes, &mut backend));

    let new = Member { peer_urls: vec!["http://new:2380".to_owned()], id: 2, ..Member::default() };
    cluster.apply_conf_change(&update(&new), &mut backend).expect("updated");
    let found = cluster.member(2).expect("there");
    assert_eq!(
        found.to_json(),
        "{\"id\":2,\"peerURLs\":[\"http://new:2380\"],\"isLearner\":true,\"name\":\"n2\",\
         \"clientURLs\":[\"http://c:2379\"]}"
    );
    check_restored(&cluster, &backend);
}

#[test]
fn the_last_voter_stays() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(1, "n1"), member(2, "n2"), learner(3)], &mut backend);
    cluster.apply_conf_change(&remove(2), &mut backend).expect("there is another");
    let refused = cluster.apply_conf_change(&remove(1), &mut backend);
    assert!(matches!(refused, Err(ConfChangeError::LastVoter)), "{refused:?}");
    cluster.apply_conf_change(&remove(3), &mut backend).expect("it has no vote");
    check_restored(&cluster, &backend);
}

#[test]
fn refused_changes() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(1, "n1"), member(2, "n2"), learner(3)], &mut backend);
    let before = text(&cluster);
    let taken = Member { peer_urls: member(1, "").peer_urls, ..member(9, "") };
    let cases: Vec<(ConfChange, &str)> = vec![
        (add(&member(2, "n2")), "membership: ID exists"),
        (add(&taken), "membership: peerURL exists"),
        (add(&learner(4)), "membership: too many learner members in cluster"),
        (promote(9), "membership: ID not found"),
        (promote(1), "membership: can only promote a learner member"),
        (remove(9), "membership: ID not found"),
        (update(&member(9, "")), "membership: ID not found"),
        (update(&Member { id: 2, ..taken.clone() }), "membership: peerURL exists"),
        (
            change(ConfChangeType::AddNode, 4, add(&member(5, "")).context),
            "got different member ID 4 and 5",
        ),
        (
            change(ConfChangeType::UpdateNode, 1, add(&member(5, "")).context),
            "got different member ID 1 and 5",
        ),
    ];
    for (change, expected) in cases {
        let checked = cluster.validate_conf_change(&change).expect_err(expected);
        assert_eq!(checked.to_string(), expected);
        let applied = cluster.apply_conf_change(&change, &mut backend).expect_err(expected);
        assert_eq!(applied.to_string(), expected);
    }
    for context in ["", "null", "[]", "{", "{\"id\":-1}", "{\"id\":\"1\"}", "{\"peerURLs\":[1]}"] {
        for kind in [ConfChangeType::AddNode, ConfChangeType::UpdateNode] {
            let id = if kind == ConfChangeType::AddNode { 5 } else { 1 };
            let err = cluster.apply_conf_change(&change(kind, id, context), &mut backend);
            assert!(
                matches!(err, Err(ConfChangeError::Context(_) | ConfChangeError::OtherId(..))),
                "{context}: {err:?}"
            );
        }
    }
    assert_eq!(text(&cluster), before);
    check_restored(&cluster, &backend);

    cluster.set_max_learners(2);
    cluster.apply_conf_change(&add(&learner(4)), &mut backend).expect("room for two");
    // Its own URLs are no other member's.
    cluster.apply_conf_change(&update(&member(1, "")), &mut backend).expect("the same URLs");
}

/// Voters, how many of them are started, and whether a voter may be added, a started one removed,
/// one not started removed, and a learner promoted.
#[test]
fn strict_reconfiguration() {
    let cases = [
        (1, 0, "- - - -"),
        (1, 1, "add - - promote"),
        (2, 1, "- - remove-idle promote"),
        (2, 2, "add remove - promote"),
        (3, 1, "- - - -"),
        (3, 2, "- - remove-idle promote"),
        (3, 3, "add remove - promote"),
        (4, 2, "- - remove-idle promote"),
        (4, 3, "add remove remove-idle promote"),
        (5, 3, "- - remove-idle promote"),
        (5, 4, "add remove remove-idle promote"),
    ];
    for (voters, started, expected) in cases {
        let mut backend = backend();
        let members: Vec<Member> =
            (1..=voters).map(|id| member(id, if id <= started { "n" } else { "" })).collect();
        let mut all = members.clone();
        // A learner counts for nothing.
        all.push(learner(9));
        let cluster = cluster_of(&all, &mut backend);
        let mut answer = Vec::new();
        answer.push(if cluster.is_ready_to_add_voter() { "add" } else { "-" });
        let removes = started > 0 && cluster.is_ready_to_remove_voter(1);
        answer.push(if removes { "remove" } else { "-" });
        let removes = started < voters && cluster.is_ready_to_remove_voter(voters);
        answer.push(if removes { "remove-idle" } else { "-" });
        answer.push(if cluster.is_ready_to_promote() { "promote" } else { "-" });
        assert_eq!(answer.join(" "), expected, "{voters} voters, {started} started");
    }
}

#[test]
fn views() {
    let mut backend = backend();
    let mut cluster = cluster_of(&[member(2, "b"), member(1, "a"), learner(3)], &mut backend);
    let client = |url: &str| Attributes { name: "b".to_owned(), client_urls: vec![url.to_owned()] };
    cluster.update_attributes(2, client("http://b:2379"), &mut backend);
    assert_eq!(cluster.client_urls(), ["http://b:2379"]);
    assert_eq!(
        cluster.peer_urls(),
        ["http://10.0.0.1:2380", "http://10.0.0.2:2380", "http://10.0.0.3:2380"]
    );
    assert_eq!(cluster.member_by_name("b").map(|member| member.id), Some(2));
    assert_eq!(cluster.voters().map(|member| member.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((cluster.local_id(), cluster.id()), (1, 100));
    assert!(!cluster.is_local_learner());
    cluster.set_ids(3, 100);
    assert!(cluster.is_local_learner());
}

proptest! {
    /// Random changes: no id comes back, no URL is twice, and the database follows.
    #[test]
    fn invariants(changes in prop::collection::vec(random_change(), 1..40)) {
        let mut backend = backend();
        let mut cluster = cluster_of(&[member(1, "n1")], &mut backend);
        let mut gone: Vec<u64> = Vec::new();
        for change in changes {
            let before = text(&cluster);
            let is_valid = cluster.validate_conf_change(&change).is_ok();
            let result = cluster.apply_conf_change(&change, &mut backend);
            prop_assert_eq!(result.is_ok(), is_valid);
            if let Ok(MembershipChange::Removed(id)) = &result {
                gone.push(*id);
            }
            if result.is_err() {
                prop_assert_eq!(text(&cluster), before);
            }
            prop_assert!(gone.iter().all(|&id| cluster.member(id).is_none()));
            let mut urls = cluster.peer_urls();
            let count = urls.len();
            urls.dedup();
            prop_assert_eq!(urls.len(), count);
            prop_assert!(cluster.members().filter(|member| member.is_learner).count() <= 1);
        }
        check_restored(&cluster, &backend);
    }
}

fn random_change() -> impl Strategy<Value = ConfChange> {
    let one = (1..6_u64, 1..6_u64, any::<bool>()).prop_map(|(id, host, is_learner)| Member {
        id,
        peer_urls: vec![format!("http://10.0.0.{host}:2380")],
        is_learner,
        ..Member::default()
    });
    let id = 1..6_u64;
    prop_oneof![
        one.clone().prop_map(|member| add(&member)),
        one.prop_map(|member| update(&member)),
        id.clone().prop_map(promote),
        id.prop_map(remove),
        Just(change(ConfChangeType::AddNode, 1, "{}")),
    ]
}

#[test]
fn a_change_that_endangers_the_quorum_is_not_proposed() {
    use ReconfigurationError::{NotEnoughStarted, Unhealthy};
    let (new, removed) = (ConfChangeType::AddNode, ConfChangeType::RemoveNode);
    let new_learner = ConfChangeType::AddLearnerNode;
    // Voters, how many of them have started, who is connected to member 1, the change of whom.
    type Case<'a> = (u64, u64, &'a [u64], ConfChangeType, u64, Result<(), ReconfigurationError>);
    let cases: [Case<'_>; 18] = [
        (1, 1, &[], new, 7, Ok(())),
        (3, 3, &[2, 3], new, 7, Ok(())),
        // A quorum with the new one, which counts as away, must be connected.
        (2, 2, &[], new, 7, Err(Unhealthy)),
        (2, 2, &[2], new, 7, Ok(())),
        (3, 3, &[2], new, 7, Err(Unhealthy)),
        (4, 4, &[2, 3], new, 7, Ok(())),
        (4, 4, &[2], new, 7, Err(Unhealthy)),
        (5, 5, &[2, 3, 4], new, 7, Ok(())),
        (5, 5, &[2, 3], new, 7, Err(Unhealthy)),
        // A learner's place is the same, though nobody need have started.
        (3, 1, &[2, 3], new_learner, 7, Ok(())),
        (3, 1, &[2], new_learner, 7, Err(Unhealthy)),
        (2, 1, &[2], new, 7, Err(NotEnoughStarted)),
        (1, 1, &[], removed, 1, Err(NotEnoughStarted)),
        (3, 3, &[2, 3], removed, 3, Ok(())),
        // Who is down is no part of the active quorum.
        (3, 3, &[2], removed, 3, Ok(())),
        (3, 3, &[2], removed, 2, Err(Unhealthy)),
        (3, 1, &[2, 3], removed, 1, Err(NotEnoughStarted)),
        // The learner is promoted, or goes.
        (3, 3, &[], new, 9, Ok(())),
    ];
    for (voters, started, active, change_type, id, expected) in cases {
        let mut backend = backend();
        let mut all: Vec<Member> =
            (1..=voters).map(|id| member(id, if id <= started { "n" } else { "" })).collect();
        all.push(learner(9));
        let mut cluster = cluster_of(&all, &mut backend);
        cluster.set_ids(1, 1);
        let change = ConfChange { change_type, node_id: id, ..ConfChange::default() };
        let connected =
            |id: u64| if active.contains(&id) { Connected::Long } else { Connected::No };
        let found = cluster.check_reconfiguration(&change, connected);
        assert_eq!(found, expected, "{change_type:?} {id} of {voters}, {started} started");
    }
}

#[test]
fn who_is_back_is_part_of_the_quorum_but_not_yet_to_be_counted_on() {
    let mut backend = backend();
    let all: Vec<Member> = (1..=3).map(|id| member(id, "n")).collect();
    let mut cluster = cluster_of(&all, &mut backend);
    cluster.set_ids(1, 1);
    let removed = remove(3);
    let with = |third: Connected| {
        let connected = |id: u64| if id == 3 { third } else { Connected::Lately };
        cluster.check_reconfiguration(&removed, connected)
    };
    assert_eq!(with(Connected::No), Ok(()));
    assert_eq!(with(Connected::Lately), Err(ReconfigurationError::Unhealthy));
    assert_eq!(with(Connected::Long), Err(ReconfigurationError::Unhealthy));
}
