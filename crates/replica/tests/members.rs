//! What members of a cluster owe each other: a follower and a leader, fed by hand.

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message, MessageType,
    Snapshot, SnapshotMetadata,
};
use replica::{
    Boot, ConfProposal, Effect, Event, INFLIGHT_MESSAGES_MAX, Options, Persist, Replica,
};

fn options(id: u64, seed: u64) -> Options {
    Options {
        id,
        election_ticks: 10,
        pre_vote: false,
        change_ticks: 70,
        catchup_entries: 5,
        inflight_messages_max: INFLIGHT_MESSAGES_MAX,
        seed,
        log_level: None,
    }
}

/// A member of three that has one entry of term 1, committed and applied.
fn member(id: u64, seed: u64) -> Replica {
    let entry = Entry { term: 1, index: 1, ..Entry::default() };
    let boot = Boot::Restart {
        hard_state: HardState { term: 1, vote: 0, commit: 1 },
        before_first: (0, 0),
        entries: vec![entry],
        conf_state: ConfState::from_voters(vec![1, 2, 3]),
        applied: 1,
    };
    Replica::new(options(id, seed), boot).expect("a member")
}

fn step(replica: &mut Replica, event: Event) -> Vec<Effect> {
    let mut out = Vec::new();
    replica.handle(event, &mut out);
    replica.flush(&mut out);
    out
}

fn persists(effects: Vec<Effect>) -> Vec<Persist> {
    let persist = |effect| if let Effect::Persist(persist) = effect { Some(persist) } else { None };
    effects.into_iter().filter_map(persist).collect()
}

/// Lets the disk do all that it is asked for; the effects that are no writes.
fn settle(replica: &mut Replica, effects: Vec<Effect>) -> Vec<Effect> {
    let mut rest = Vec::new();
    let mut waiting = std::collections::VecDeque::from(effects);
    while let Some(effect) = waiting.pop_front() {
        match effect {
            Effect::Persist(persist) => {
                waiting.extend(step(replica, Event::Persisted(persist.responses)));
            }
            other => rest.push(other),
        }
    }
    rest
}

fn from(id: u64, msg_type: MessageType, term: u64) -> Message {
    Message { from: id, to: 1, msg_type, term, ..Message::default() }
}

/// Member 1, elected by member 2, in term 2.
fn leader(seed: u64) -> Replica {
    let mut replica = member(1, seed);
    for _ in 0..20 {
        let effects = step(&mut replica, Event::Tick);
        settle(&mut replica, effects);
    }
    let vote = from(2, MessageType::VoteResp, 2);
    let effects = step(&mut replica, Event::Peer(vote));
    let effects = settle(&mut replica, effects);
    let leads = |effect: &Effect| matches!(effect, Effect::Role { term: 2, leader: 1, .. });
    assert!(effects.iter().any(leads), "{effects:?}");
    replica
}

fn append(index: u64, term: u64, commit: u64) -> Message {
    let entries = vec![Entry { term, index: index + 1, ..Entry::default() }];
    let app = from(2, MessageType::App, term);
    Message { index, log_term: 1, commit, entries, ..app }
}

#[test]
fn a_follower_answers_its_leader_when_the_entry_is_on_disk() {
    let mut follower = member(1, 7);
    let effects = step(&mut follower, Event::Peer(append(1, 2, 1)));
    let sends = |effect: &Effect| matches!(effect, Effect::Send(_));
    assert!(!effects.iter().any(sends), "{effects:?}");
    let sent = settle(&mut follower, effects);
    let answers = |effect: &Effect| matches!(effect, Effect::Send(m) if m.msg_type == MessageType::AppResp && m.to == 2 && m.index == 2);
    assert!(sent.iter().any(answers), "{sent:?}");
}

#[test]
fn what_a_leader_proposes_as_such_dies_with_its_term() {
    let mut replica = leader(7);
    let data = vec![Bytes::from_static(b"revoke")];
    let event = |term| Event::ProposeAsLeader { term, data: data.clone() };
    assert!(persists(step(&mut replica, event(1))).is_empty(), "an earlier term");
    let written = persists(step(&mut replica, event(2)));
    assert!(written.iter().any(|persist| persist.entries.iter().any(|e| e.data == "revoke")));
    // Another leads: nothing is written, and nothing is forwarded to it.
    let heartbeat = from(2, MessageType::Heartbeat, 3);
    let effects = step(&mut replica, Event::Peer(heartbeat));
    settle(&mut replica, effects);
    for term in [2, 3] {
        let effects = step(&mut replica, event(term));
        assert!(effects.is_empty(), "{effects:?}");
    }
}

#[test]
fn contexts_of_reads_are_of_one_member_and_one_start() {
    let context = |id, seed| {
        let mut follower = member(id, seed);
        let heartbeat = Message { to: id, ..from(2, MessageType::Heartbeat, 2) };
        let effects = step(&mut follower, Event::Peer(heartbeat));
        settle(&mut follower, effects);
        let effects = step(&mut follower, Event::Read { id: 1 });
        let context = effects.into_iter().find_map(|effect| match effect {
            Effect::Send(m) if m.msg_type == MessageType::ReadIndex => {
                m.entries.first().map(|entry| entry.data.clone())
            }
            _ => None,
        });
        context.expect("the leader is asked")
    };
    assert_eq!(context(1, 7), context(1, 7));
    assert_ne!(context(1, 7), context(1, 1000), "another start");
    assert_ne!(context(1, 7), context(3, 7), "another member");
}

/// Entry 2 adds member 4, and is handed to apply. Before apply is done with it, the leader's
/// snapshot at 9 arrives, by which member 4 is gone again.
#[test]
fn a_change_that_a_snapshot_has_overtaken_is_left_out() {
    let mut follower = member(1, 7);
    let change =
        ConfChange { change_type: ConfChangeType::AddNode, node_id: 4, ..ConfChange::default() };
    let mut app = append(1, 2, 2);
    app.entries[0].entry_type = EntryType::ConfChange;
    app.entries[0].data = change.encode_to_vec().into();
    let effects = step(&mut follower, Event::Peer(app));
    let effects = settle(&mut follower, effects);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Apply(_))), "{effects:?}");

    let metadata =
        SnapshotMetadata { conf_state: ConfState::from_voters(vec![1, 2, 3]), index: 9, term: 2 };
    let snapshot = Snapshot { metadata, ..Snapshot::default() };
    let message = Message { snapshot: Some(Box::new(snapshot)), ..from(2, MessageType::Snap, 2) };
    let effects = step(&mut follower, Event::Peer(message));
    let installs = |effect: &Effect| matches!(effect, Effect::Install(_));
    assert!(!effects.iter().any(installs), "not before it is recorded: {effects:?}");
    let effects = settle(&mut follower, effects);
    assert!(effects.iter().any(installs), "{effects:?}");

    let conf_changes = vec![(2, change.to_v2())];
    let applied = Event::Applied { index: 2, conf_changes, snapshot: None };
    let effects = step(&mut follower, applied);
    settle(&mut follower, effects);
    let state = follower.describe();
    assert!(!state.contains("[4 "), "member 4 is back: {state}");
}

#[test]
fn a_snapshot_is_written_alone() {
    let persist = |snapshot: Option<Snapshot>, index| Persist {
        snapshot,
        entries: vec![Entry { term: 1, index, ..Entry::default() }],
        must_sync: true,
        ..Persist::default()
    };
    let mut first = persist(None, 1);
    assert!(first.merge(persist(None, 2)).is_none());
    assert_eq!(first.entries.len(), 2);
    assert!(first.merge(persist(Some(Snapshot::default()), 3)).is_some());
    let mut snapshot = persist(Some(Snapshot::default()), 3);
    assert!(snapshot.merge(persist(None, 4)).is_some());
}

#[test]
fn only_a_leader_promotes_and_only_who_is_ready() {
    let change = |node_id| ConfChange {
        change_type: ConfChangeType::AddNode,
        node_id,
        id: 77,
        ..ConfChange::default()
    };
    let promote = |node_id| {
        let change = change(node_id);
        Event::ProposeConfChange(ConfProposal { change, needs_ready_learner: true })
    };
    let refusal = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Refused(ids, error) => Some((ids, error)),
            _ => None,
        })
    };
    let mut follower = member(1, 7);
    assert_eq!(refusal(step(&mut follower, promote(3))), Some((vec![77], api::Error::NoLeader)));
    let mut replica = leader(7);
    let refused = refusal(step(&mut replica, promote(3)));
    assert_eq!(refused, Some((vec![77], api::Error::MemberNotLearner)));
    let refused = refusal(step(&mut replica, promote(9)));
    assert_eq!(refused, Some((vec![77], api::Error::MemberNotFound)));
}

/// The messages among the effects, by type and receiver.
fn sent(effects: &[Effect]) -> Vec<(MessageType, u64)> {
    let message = |effect: &Effect| match effect {
        Effect::Send(message) => Some((message.msg_type, message.to)),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

/// A leader whose disk does not come back with an entry that some others have, and all that it sends in so many ticks.
fn stall(stored_by: &[u64], ticks: u32, stores: bool) -> Vec<(MessageType, u64)> {
    let mut replica = leader(7);
    let stored = |id, index| {
        let answer = from(id, MessageType::AppResp, 2);
        Event::Peer(Message { index, ..answer })
    };
    for id in [2, 3] {
        let effects = step(&mut replica, stored(id, 2));
        settle(&mut replica, effects);
    }
    let data = Bytes::from_static(b"a");
    let mut writing = step(&mut replica, Event::Propose(vec![replica::Proposal { id: 1, data }]));
    for id in stored_by {
        writing.extend(step(&mut replica, stored(*id, 3)));
    }
    let mut all = Vec::new();
    for _ in 0..ticks {
        let effects = step(&mut replica, Event::Tick);
        all.extend(sent(&effects));
        writing.extend(effects);
        for id in [2, 3] {
            let alive = from(id, MessageType::HeartbeatResp, 2);
            writing.extend(step(&mut replica, Event::Peer(alive)));
        }
        if stores {
            all.extend(sent(&settle(&mut replica, std::mem::take(&mut writing))));
        }
    }
    all
}

#[test]
fn a_leader_whose_disk_has_stalled_gives_way() {
    for (stored_by, ticks, stores, expected) in [
        (&[2, 3][..], 9, false, &[][..]),
        // The leader has just looked who is alive, and waits to hear from them.
        (&[2, 3], 11, false, &[2]),
        // Nobody took it: once more after an election timeout.
        (&[2, 3], 22, false, &[2, 2]),
        // The others could not go on either.
        (&[3], 50, false, &[]),
        // All is well.
        (&[2, 3], 50, true, &[]),
    ] {
        let sent = stall(stored_by, ticks, stores);
        let orders = sent.iter().filter(|(kind, _)| *kind == MessageType::TimeoutNow);
        let orders: Vec<u64> = orders.map(|(_, to)| *to).collect();
        assert_eq!(orders, expected, "{stored_by:?} {ticks} {stores}");
    }
}

#[test]
fn a_follower_whose_disk_has_stalled_does_not_want_to_lead() {
    let mut follower = member(1, 7);
    let writing = step(&mut follower, Event::Peer(append(1, 2, 1)));
    for _ in 0..50 {
        let effects = step(&mut follower, Event::Tick);
        assert!(effects.is_empty(), "{effects:?}");
    }
    settle(&mut follower, writing);
    let effects = step(&mut follower, Event::Tick);
    let effects = settle(&mut follower, effects);
    let votes = [(MessageType::Vote, 2), (MessageType::Vote, 3)];
    assert_eq!(sent(&effects), votes, "{effects:?}");
}

#[test]
fn a_change_of_the_members_waits_for_a_leader() {
    let change = ConfChange {
        change_type: ConfChangeType::RemoveNode,
        node_id: 3,
        id: 77,
        ..ConfChange::default()
    };
    let event = || {
        let change = change.clone();
        Event::ProposeConfChange(ConfProposal { change, needs_ready_learner: false })
    };
    let mut follower = member(1, 7);
    let effects = step(&mut follower, event());
    assert!(effects.is_empty(), "{effects:?}");
    // Its leader is not known to have begun before its first entry is applied.
    let effects = step(&mut follower, Event::Peer(append(1, 2, 2)));
    let effects = settle(&mut follower, effects);
    assert!(!sent(&effects).contains(&(MessageType::Prop, 2)), "{effects:?}");
    let applied = Event::Applied { index: 2, conf_changes: Vec::new(), snapshot: None };
    let effects = step(&mut follower, applied);
    assert!(sent(&effects).contains(&(MessageType::Prop, 2)), "{effects:?}");

    // Who has waited for it in vain has been told so.
    for (ticks, is_made) in [(69, true), (70, false)] {
        let mut follower = member(1, 7);
        step(&mut follower, event());
        for _ in 0..ticks {
            let effects = step(&mut follower, Event::Tick);
            settle(&mut follower, effects);
        }
        let effects = step(&mut follower, Event::Peer(append(1, 100, 2)));
        settle(&mut follower, effects);
        let applied = Event::Applied { index: 2, conf_changes: Vec::new(), snapshot: None };
        let effects = step(&mut follower, applied);
        let is_found = sent(&effects).contains(&(MessageType::Prop, 2));
        assert_eq!(is_found, is_made, "{ticks}: {effects:?}");
    }

    let mut follower = member(1, 7);
    step(&mut follower, event());
    let effects = step(&mut follower, Event::Stop);
    let is_refused = |effect: &Effect| matches!(effect, Effect::Refused(ids, api::Error::Stopped) if ids == &[77]);
    assert!(effects.iter().any(is_refused), "{effects:?}");
}
