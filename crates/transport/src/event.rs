//! What the transport tells its owner, and what it asks.

use raft::{Message, SnapshotStatus};
use tokio::sync::oneshot;

/// Something that consensus has to know.
#[derive(Debug)]
pub enum Event {
    /// A message of another member, to this one; neither local nor from a removed member.
    Message(Message),
    /// A message to this member may not have arrived, and others may not.
    Unreachable(u64),
    /// A member that was connected has gone, and its machine says that nobody listens there any more.
    /// Its process has ended: nothing that it has begun goes on. Told once, until it is connected again.
    Gone(u64),
    /// How sending a snapshot ended.
    Snapshot {
        /// The receiver.
        to: u64,
        /// Whether it has it.
        status: SnapshotStatus,
    },
    /// Another member says that this one was removed: it must stop.
    Removed,
}

/// Who gets the events and the requests. Nothing here may wait.
pub trait Owner: Send + Sync + 'static {
    /// Takes an event; gives it back when there is no room. A message is then dropped, which raft survives;
    /// another event is offered again.
    fn event(&self, event: Event) -> Option<Event>;

    /// Takes a request of another member that only the server can answer. If its `reply` is dropped,
    /// the other member gets an error.
    fn request(&self, request: Request);
}

/// A request of another member, with the way back.
#[derive(Debug)]
pub enum Request {
    /// `/members`: all members as a JSON array.
    Members {
        /// The array.
        reply: oneshot::Sender<String>,
    },
    /// `/version`.
    Version {
        /// Both versions.
        reply: oneshot::Sender<Versions>,
    },
    /// `/members/promote/<id>`.
    Promote {
        /// The learner.
        id: u64,
        /// The token of the client that asked, if it had one.
        token: Option<String>,
        /// All members as a JSON array.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// `/members/hashkv`.
    HashKv {
        /// At which revision; 0 is the current one.
        revision: i64,
        /// The hash, or etcd's text for why not.
        reply: oneshot::Sender<Result<HashKv, String>>,
    },
    /// `/downgrade/enabled`, as of now: a linearizable read.
    DowngradeEnabled {
        /// Whether, or etcd's text for why the read failed.
        reply: oneshot::Sender<Result<bool, String>>,
    },
    /// `/leases`: keep a lease alive, after what was committed when the request came is applied.
    LeaseRenew {
        /// The lease.
        id: i64,
        /// Its new time to live, in seconds.
        reply: oneshot::Sender<Result<i64, LeaseRefusal>>,
    },
    /// `/leases/internal`: the time that a lease has left, as for [`Request::LeaseRenew`].
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// Whether its keys are wanted.
        keys: bool,
        /// What is known of it.
        reply: oneshot::Sender<Result<LeaseTtl, LeaseRefusal>>,
    },
}

/// The answer to [`Request::Version`], beside the server's own version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// `None`: not decided yet.
    pub cluster: Option<String>,
    /// `None`: unknown.
    pub storage: Option<String>,
}

/// An error with a status code of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 404, 412, 500...
    pub status: u16,
    /// etcd's text.
    pub text: String,
}

/// The answer to [`Request::HashKv`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKv {
    /// The member's revision.
    pub revision: i64,
    /// The hash.
    pub hash: u32,
    /// The compact revision when it was made, or -1.
    pub compact_revision: i64,
    /// The revision of the hash.
    pub hash_revision: i64,
}

/// The answer to [`Request::LeaseTimeToLive`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTtl {
    /// Seconds that are left.
    pub ttl: i64,
    /// Seconds that it was granted for.
    pub granted_ttl: i64,
    /// Its keys, if they were asked for.
    pub keys: Vec<Vec<u8>>,
}

/// Why a request about a lease is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// There is no such lease.
    #[error("lease not found")]
    NotFound,
    /// Only the leader knows how long leases live.
    #[error("not a primary lessor")]
    NotPrimary,
    /// What was committed is not applied after a second.
    #[error("waiting for node to catch up its applied index has timed out")]
    Timeout,
}
