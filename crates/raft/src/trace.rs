//! A trace of state transitions, for checking a run against the model of raft in TLA+.
//!
//! Events, fields and their JSON are those of etcd-io/raft built with the tag `with_tla` (its `state_trace.go`), so that
//! its `Traceetcdraft.tla` reads a trace of this library too. Give a [`Tracer`] to
//! [`RawNode::with_tracer`](crate::RawNode::with_tracer) and write each [`TraceEvent`] as a line, with whatever
//! envelope the checker's preprocessor wants around it. A member without a tracer makes no event: what remains is a
//! test of one pointer.

use std::any::Any;
use std::fmt;

use crate::pb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, HardState, Message, MessageType};
use crate::quorum::{JointConfig, MajorityConfig};
use crate::raft::StateType;

/// Takes the events of one member, in the order in which they happen.
///
/// [`RawNode::tracer_mut`](crate::RawNode::tracer_mut) gives it back, as `dyn Any` to those who know its type.
pub trait Tracer: Any + fmt::Debug + Send {
    /// Called in the midst of a transition; must not call back.
    fn trace(&mut self, event: &TraceEvent);
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceEventType {
    /// The member starts; nothing is loaded yet.
    InitState,
    /// It asks for votes. A pre-candidate makes no event, since nothing changes.
    BecomeCandidate,
    /// It follows, or waits.
    BecomeFollower,
    /// It leads; its first entry comes as `Replicate`.
    BecomeLeader,
    /// A leader has counted acknowledgements, whether that commits anything or not.
    Commit,
    /// A leader takes one normal entry into its log.
    Replicate,
    /// A leader takes a configuration change into its log.
    ChangeConf,
    /// A configuration comes into force; the event still shows the one before.
    ApplyConfChange,
    /// A `Ready` is handed out: what it holds may be durable from now on.
    Ready,
    /// An append, heartbeat or snapshot goes out.
    SendAppendEntriesRequest,
    /// An append, heartbeat or snapshot is handled.
    ReceiveAppendEntriesRequest,
    /// The answer to one goes out.
    SendAppendEntriesResponse,
    /// The answer to one is handled.
    ReceiveAppendEntriesResponse,
    /// A vote is asked for.
    SendRequestVoteRequest,
    /// A request for a vote is handled.
    ReceiveRequestVoteRequest,
    /// A vote, or its refusal, goes out.
    SendRequestVoteResponse,
    /// A vote, or its refusal, is handled.
    ReceiveRequestVoteResponse,
}

impl TraceEventType {
    /// The event of sending `msg_type`, if the model knows it.
    pub(crate) const fn of_sent(msg_type: MessageType) -> Option<Self> {
        Some(match msg_type {
            MessageType::App | MessageType::Heartbeat | MessageType::Snap => {
                Self::SendAppendEntriesRequest
            }
            MessageType::AppResp | MessageType::HeartbeatResp => Self::SendAppendEntriesResponse,
            MessageType::Vote => Self::SendRequestVoteRequest,
            MessageType::VoteResp => Self::SendRequestVoteResponse,
            _ => return None,
        })
    }

    /// The event of handling `msg_type`, if the model knows it.
    pub(crate) const fn of_received(msg_type: MessageType) -> Option<Self> {
        Some(match msg_type {
            MessageType::App | MessageType::Heartbeat | MessageType::Snap => {
                Self::ReceiveAppendEntriesRequest
            }
            MessageType::AppResp | MessageType::HeartbeatResp => Self::ReceiveAppendEntriesResponse,
            MessageType::Vote => Self::ReceiveRequestVoteRequest,
            MessageType::VoteResp => Self::ReceiveRequestVoteResponse,
            _ => return None,
        })
    }
}

/// One event, with the state in which it left the member.
#[derive(Clone, Debug)]
pub struct TraceEvent {
    /// What has happened.
    pub name: TraceEventType,
    /// The member.
    pub node_id: u64,
    /// Its term, vote and commit index.
    pub state: HardState,
    /// Its role.
    pub role: StateType,
    /// Last index of its log.
    pub log_size: u64,
    /// The voters in force.
    pub conf: JointConfig,
    /// The message sent or received.
    pub message: Option<TraceMessage>,
    /// What more there is to say.
    pub properties: TraceProperties,
}

/// A message without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceMessage {
    /// Its type.
    pub msg_type: MessageType,
    /// Its term.
    pub term: u64,
    /// Its sender.
    pub from: u64,
    /// Its recipient.
    pub to: u64,
    /// How many entries it has; of a snapshot the index, since it stands for all entries up to there.
    pub entries: u64,
    /// Term of the entry before the first, 0 for a snapshot.
    pub log_term: u64,
    /// Index of the entry before the first, 0 for a snapshot.
    pub index: u64,
    /// Its commit index.
    pub commit: u64,
    /// The vote it carries to the disk.
    pub vote: u64,
    /// Whether it refuses.
    pub reject: bool,
    /// Where the logs may match.
    pub reject_hint: u64,
}

impl TraceMessage {
    pub(crate) fn of(m: &Message) -> Self {
        let snapshot = match &m.snapshot {
            Some(snapshot) if m.msg_type == MessageType::Snap => Some(snapshot.metadata.index),
            _ => None,
        };
        let is_snapshot = m.msg_type == MessageType::Snap;
        Self {
            msg_type: m.msg_type,
            term: m.term,
            from: m.from,
            to: m.to,
            entries: snapshot.unwrap_or(m.entries.len() as u64),
            log_term: if is_snapshot { 0 } else { m.log_term },
            index: if is_snapshot { 0 } else { m.index },
            commit: m.commit,
            vote: m.vote,
            reject: m.reject,
            reject_hint: m.reject_hint,
        }
    }
}

/// What only some events have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TraceProperties {
    /// Nothing.
    #[default]
    None,
    /// `SendAppendEntriesRequest` of an append: the sender's progress of itself.
    Progress {
        /// Its match index.
        match_index: u64,
        /// Its next index.
        next_index: u64,
    },
    /// `ChangeConf`: what is to change.
    Changes(Vec<ConfChangeSingle>),
    /// `ApplyConfChange`: the incoming voters of the configuration that comes into force.
    NewConf(MajorityConfig),
}

impl TraceProperties {
    /// Those of a change that the model knows: one that adds or removes somebody.
    pub(crate) fn of_change(change: &ConfChangeV2) -> Option<Self> {
        let is_known =
            |change: &&ConfChangeSingle| change.change_type != ConfChangeType::UpdateNode;
        let changes: Vec<_> = change.changes.iter().filter(is_known).cloned().collect();
        (!changes.is_empty()).then_some(Self::Changes(changes))
    }
}

impl fmt::Display for TraceEvent {
    /// One line of JSON, with the names and in the order of etcd's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HardState { term, vote, commit } = self.state;
        write!(
            f,
            r#"{{"name":"{:?}","nid":"{}","state":{{"term":{term},"vote":"{vote}","commit":{commit}}},"role":"{}","log":{},"conf":[{},{}]"#,
            self.name,
            self.node_id,
            self.role,
            self.log_size,
            Ids(&self.conf.incoming),
            Ids(&self.conf.outgoing),
        )?;
        if let Some(message) = &self.message {
            write!(f, r#","msg":{message}"#)?;
        }
        match &self.properties {
            TraceProperties::None => {}
            TraceProperties::Progress { match_index, next_index } => {
                write!(f, r#","prop":{{"match":{match_index},"next":{next_index}}}"#)?;
            }
            TraceProperties::Changes(changes) => {
                let changes: Vec<_> = changes
                    .iter()
                    .map(|change| {
                        let action = action(change.change_type);
                        format!(r#"{{"nid":"{}","action":"{action}"}}"#, change.node_id)
                    })
                    .collect();
                write!(f, r#","prop":{{"cc":{{"changes":[{}]}}}}"#, changes.join(","))?;
            }
            TraceProperties::NewConf(ids) if ids.is_empty() => {
                f.write_str(r#","prop":{"cc":{}}"#)?
            }
            TraceProperties::NewConf(ids) => {
                write!(f, r#","prop":{{"cc":{{"newconf":{}}}}}"#, Ids(ids))?;
            }
        }
        f.write_str("}")
    }
}

const fn action(change_type: ConfChangeType) -> &'static str {
    match change_type {
        ConfChangeType::AddNode => "AddNewServer",
        ConfChangeType::RemoveNode => "RemoveServer",
        ConfChangeType::AddLearnerNode => "AddLearner",
        ConfChangeType::UpdateNode => "",
    }
}

impl fmt::Display for TraceMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"{{"type":"{}","term":{},"from":"{}","to":"{}","entries":{},"logTerm":{},"index":{},"commit":{},"vote":"{}","reject":{},"rejectHint":{}}}"#,
            self.msg_type,
            self.term,
            self.from,
            self.to,
            self.entries,
            self.log_term,
            self.index,
            self.commit,
            self.vote,
            self.reject,
            self.reject_hint
        )
    }
}

/// Ids as a list of strings: a model checker's numbers are too small for them.
struct Ids<'a>(&'a MajorityConfig);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, id) in self.0.ids().iter().enumerate() {
            let separator = if i > 0 { "," } else { "" };
            write!(f, r#"{separator}"{id}""#)?;
        }
        f.write_str("]")
    }
}
