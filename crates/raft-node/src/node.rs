//! The handle.

use std::sync::Arc;

use bytes::Bytes;
use raft::{
    BasicStatus, ConfChange, ConfChangeV2, ConfState, Config, ConfigError, Entry, EntryType,
    LogLine, Message, MessageType, OwnedStatus, Peer, RawNode, Ready, SnapshotStatus, Storage,
};

use crate::call::{NextReady, Proposal};
use crate::error::{Error, StartError};
use crate::shared::Shared;

/// A member of a raft cluster, for several threads and tasks at once. A clone is another handle on the same member.
///
/// The names are those of etcd-io/raft's `Node` interface (node.go), and so is what they do; where one differs, it says
/// so. Each call but [`with_storage`](Self::with_storage) and [`take_log_lines`](Self::take_log_lines) returns
/// [`Error::Stopped`] after [`stop`](Self::stop), or does nothing if it has no result.
#[derive(Debug)]
pub struct Node<S> {
    shared: Arc<Shared<S>>,
}

impl<S> Clone for Node<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Storage> Node<S> {
    /// Founds a cluster: etcd's `StartNode`. Each founding member does this with the same `peers` in the same order, and
    /// an empty storage.
    ///
    /// # Errors
    /// What [`RawNode::new`] and [`RawNode::bootstrap`] refuse. etcd's panics, or logs a warning and goes on.
    pub fn start(config: Config, storage: S, peers: &[Peer]) -> Result<Self, StartError> {
        let node = Self::restart(config, storage)?;
        node.shared.lock().raw.bootstrap(peers)?;
        Ok(node)
    }

    /// Starts a member from what `storage` holds: etcd's `RestartNode`. Also for one that joins a cluster, whose storage
    /// is empty. [`Config::applied`] says what the application has applied already.
    ///
    /// # Errors
    /// What [`RawNode::new`] refuses.
    pub fn restart(config: Config, storage: S) -> Result<Self, ConfigError> {
        let (log_level, is_async) = (config.log_level, config.async_storage_writes);
        let raw = RawNode::new(config, storage)?;
        Ok(Self { shared: Arc::new(Shared::new(raw, is_async, log_level)) })
    }

    /// Runs `f` on the member, unless it is stopped.
    fn with_raw<T>(&self, f: impl FnOnce(&mut RawNode<S>) -> T) -> Result<T, Error> {
        let mut state = self.shared.lock();
        if state.is_stopped {
            return Err(Error::Stopped);
        }
        Ok(f(&mut state.raw))
    }

    // ---- time ----

    /// One tick of the clock has passed. Never blocks: while another thread is within a call the tick is kept and counted
    /// when that call ends. Of more than 128 that come during one call the rest is dropped, with a warning in the log.
    pub fn tick(&self) {
        self.shared.tick();
    }

    /// Starts an election now.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn campaign(&self) -> Result<(), Error> {
        Ok(self.with_raw(RawNode::campaign)??)
    }

    // ---- proposals and messages ----

    /// Proposes an entry. Waits while there is no leader, or while this member is out of the configuration; a follower then
    /// sends the proposal to its leader. Success says that it is on its way, not that it will be committed: that is known
    /// when it comes in [`Ready::committed_entries`]. It may be lost without notice, so try again after a while.
    ///
    /// # Errors
    /// [`Error::Stopped`]; `ProposalDropped` of [`raft::Error`] while leadership is being transferred, when a follower must
    /// not forward, or when too much is uncommitted.
    pub fn propose(&self, data: Bytes) -> Proposal<'_, S> {
        self.propose_entry(Entry { data, ..Entry::default() })
    }

    /// Proposes a change of one member. Waits as [`propose`](Self::propose) does. While another change is not applied the
    /// leader appends an empty entry in its place, without an error.
    ///
    /// # Errors
    /// As for [`propose`](Self::propose). (etcd's does not wait to learn that the proposal was dropped.)
    pub fn propose_conf_change(&self, change: &ConfChange) -> Proposal<'_, S> {
        let data = change.encode_to_vec().into();
        self.propose_entry(Entry { entry_type: EntryType::ConfChange, data, ..Entry::default() })
    }

    /// Proposes a change of any number of members; an empty one leaves a joint configuration. All members must know the
    /// second format, as etcd does from 3.4 on.
    ///
    /// # Errors
    /// As for [`propose`](Self::propose).
    pub fn propose_conf_change_v2(&self, change: &ConfChangeV2) -> Proposal<'_, S> {
        let data = change.encode_to_vec().into();
        self.propose_entry(Entry { entry_type: EntryType::ConfChangeV2, data, ..Entry::default() })
    }

    fn propose_entry(&self, entry: Entry) -> Proposal<'_, S> {
        self.step(Message {
            msg_type: MessageType::Prop,
            entries: vec![entry],
            ..Message::default()
        })
    }

    /// Handles a message from a peer. A proposal that a follower sent on waits as [`propose`](Self::propose) does; nothing
    /// else waits. Messages that a member may only send to itself, and answers of those outside the configuration, are
    /// ignored.
    ///
    /// # Errors
    /// [`Error::Stopped`]; what [`RawNode::step`] refuses, in particular `LogLost`, after which the member must not go on.
    pub fn step(&self, message: Message) -> Proposal<'_, S> {
        Proposal::new(&self.shared, message)
    }

    /// Handles an answer of this member's own storage threads, once what it answers is done; see
    /// [`Config::async_storage_writes`]. (etcd's has no call of its own for this.)
    ///
    /// # Errors
    /// [`Error::Stopped`]; `StepPeerNotFound` when this member was removed in the meantime.
    ///
    /// # Panics
    /// If the message is no answer.
    pub fn step_local(&self, message: Message) -> Result<(), Error> {
        Ok(self.with_raw(|raw| raw.step_local(message))??)
    }

    // ---- work ----

    /// The next work, to be done in the order that [`Ready`] describes. Meant for one thread or task; with several, each
    /// piece of work goes to one of them.
    pub fn ready(&self) -> NextReady<'_, S> {
        NextReady::new(&self.shared)
    }

    /// Acknowledges that everything in `ready` is done, and so makes the next one possible. The application may take the
    /// committed entries out and apply them later, but in their order.
    ///
    /// # Panics
    /// If no `Ready` is out, or with [`Config::async_storage_writes`], where the answers to messages take its place.
    pub fn advance(&self, ready: Ready) {
        let mut state = self.shared.lock();
        if state.is_stopped {
            return;
        }
        state.raw.advance(ready);
        state.is_ready_out = false;
    }

    /// Access to the storage, to write what a [`Ready`] says. The member stands still meanwhile: a storage on a disk
    /// should be written on its own, and only then be shown to raft.
    pub fn with_storage<T>(&self, f: impl FnOnce(&mut S) -> T) -> T {
        f(self.shared.lock().raw.storage_mut())
    }

    // ---- the configuration ----

    /// Puts a committed change into force; must be called for each that is not refused by the application, when its entry
    /// is applied. Returns the configuration to store with the next snapshot. When it removes this member, proposals wait
    /// from now on until there is another leader.
    ///
    /// # Errors
    /// [`Error::Stopped`]; [`Error::ConfChange`], see [`RawNode::apply_conf_change`]. (etcd's panics.)
    pub fn apply_conf_change(&self, change: &ConfChangeV2) -> Result<ConfState, Error> {
        let mut state = self.shared.lock();
        if state.is_stopped {
            return Err(Error::Stopped);
        }
        let was_member = is_member(&state.raw);
        let conf_state = state.raw.apply_conf_change(change)?;
        // One that was no member before may just not have learned of it yet.
        if was_member && !is_member(&state.raw) {
            state.takes_proposals = false;
        }
        Ok(conf_state)
    }

    // ---- leadership and reads ----

    /// Asks the leader to hand over to `transferee`. There is no answer: look at the status, or ask again. (etcd's takes
    /// the leader's id as well, which has no effect.)
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn transfer_leadership(&self, transferee: u64) -> Result<(), Error> {
        self.with_raw(|raw| raw.transfer_leader(transferee))
    }

    /// Forgets the leader, so that this follower may vote for another at once; see [`RawNode::forget_leader`]. Proposals
    /// wait until there is one again.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn forget_leader(&self) -> Result<(), Error> {
        Ok(self.with_raw(RawNode::forget_leader)??)
    }

    /// Asks for an index at which a read is linearizable; it comes in [`Ready::read_states`] with the same context, or
    /// never: then ask again. See [`RawNode::read_index`].
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn read_index(&self, request_ctx: Bytes) -> Result<(), Error> {
        self.with_raw(|raw| raw.read_index(request_ctx))
    }

    // ---- reports ----

    /// A message to `id` could not be sent.
    pub fn report_unreachable(&self, id: u64) {
        // a stopped member has no use for it
        let _ = self.with_raw(|raw| raw.report_unreachable(id));
    }

    /// Sending a snapshot to `id` has ended. A failure must be reported: until then nothing else is sent to that member.
    pub fn report_snapshot(&self, id: u64, status: SnapshotStatus) {
        // a stopped member has no use for it
        let _ = self.with_raw(|raw| raw.report_snapshot(id, status));
    }

    // ---- looking inside ----

    /// This member's state with its view of the others.
    ///
    /// # Errors
    /// [`Error::Stopped`]. (etcd's returns an empty one then.)
    pub fn status(&self) -> Result<OwnedStatus, Error> {
        self.with_raw(|raw| raw.status().to_owned())
    }

    /// This member's state, without allocating.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn basic_status(&self) -> Result<BasicStatus, Error> {
        self.with_raw(|raw| raw.basic_status())
    }

    /// The log lines since the last call, those of raft and those about leaders and missed ticks; see
    /// [`Config::log_level`].
    pub fn take_log_lines(&self) -> Vec<LogLine> {
        self.shared.lock().take_lines()
    }

    // ---- the end ----

    /// Stops the member. Whoever waits for it returns with [`Error::Stopped`], and so does every later call. The storage
    /// stays as it is, for [`restart`](Self::restart). A second call does nothing.
    pub fn stop(&self) {
        self.shared.lock().is_stopped = true;
    }
}

/// Whether the member is in the configuration in force, as far as it knows.
fn is_member<S: Storage>(raw: &RawNode<S>) -> bool {
    let id = raw.basic_status().id;
    let mut is_member = false;
    raw.with_progress(|other, _| is_member |= other == id);
    is_member
}
