//! What must be true of a member that comes back after a power failure.

use std::path::Path;

use env::MemDisk;
use raft::{Entry, Message, MessageType};
use wal::SnapshotRecord;

use super::history::Target;
use super::scene::{Promise, Scene, Seat, TARGET};
use crate::observer::{Observer, state_checksums};
use crate::process::{Death, Identity, Process, Settings};

/// How many appends a member may need to get to the end of the log.
const APPENDS_MAX: usize = 8;

/// What is known of a history.
#[derive(Debug)]
pub struct Reference {
    /// Whose disk it is.
    pub identity: Identity,
    /// Who it is.
    pub target: Target,
    /// What it is told.
    pub settings: Settings,
    /// The committed entries, and what they lead to.
    pub observer: Observer,
    /// The leader's log, and whose it is.
    pub log: Option<LeaderLog>,
}

/// What a leader goes on with.
#[derive(Clone, Debug)]
pub struct LeaderLog {
    /// The leader.
    pub id: u64,
    /// Its term.
    pub term: u64,
    /// All committed entries.
    pub entries: Vec<Entry>,
}

fn wal_dir() -> &'static Path {
    Path::new("/data/member/wal")
}

fn failed(what: &str, err: impl std::fmt::Display) -> String {
    format!("{what}: {err}")
}

impl LeaderLog {
    /// That of the member in this seat, from its first entry on.
    ///
    /// # Errors
    /// If its log can't be read.
    pub fn of(seat: &Seat) -> Result<Self, String> {
        let replay = wal::open_for_read(&seat.disk, wal_dir(), &SnapshotRecord::default());
        let replay = replay.map_err(|err| failed("the leader's log", err))?;
        let mut entries = replay.entries;
        entries.retain(|entry| entry.index <= replay.hard_state.commit);
        let term = replay.hard_state.term + 1;
        Ok(Self { id: seat.identity.metadata.node_id, term, entries })
    }

    fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.index)
    }

    /// An append of all that comes after `index`.
    fn append(&self, to: u64, index: u64) -> Message {
        let (before, after) = self.entries.split_at((index as usize).min(self.entries.len()));
        Message {
            msg_type: MessageType::App,
            to,
            from: self.id,
            term: self.term,
            index,
            log_term: before.last().map_or(0, |entry| entry.term),
            entries: after.to_vec(),
            commit: self.last(),
            ..Message::default()
        }
    }
}

impl Reference {
    /// Lets the member start on what a power failure has left, and go on. Returns the scene as it
    /// ends; `record`: with all moments of its disk.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(
        &self,
        disk: &MemDisk,
        promise: &Promise,
        seed: u64,
        record: bool,
    ) -> Result<Scene, String> {
        let known = match self.target {
            // What it had not promised to anybody, it may lose and do otherwise.
            Target::Alone => promise.applied,
            Target::Follower | Target::Learner => u64::MAX,
        };
        let observer = self.observer.as_of(known);
        let (identity, settings) = (self.identity.clone(), self.settings.clone());
        if record {
            disk.record();
        }
        let mut scene = Scene::resumed(identity, disk.clone(), settings, observer, seed);
        let died = |death: Death| format!("it ends: {death:?}");
        scene.boot(TARGET).map_err(|death| format!("it can't start: {death:?}"))?;
        let process = scene.seats[TARGET].process.as_deref().expect("started");
        self.expect_sound(process)?;
        let applied = process.applier.applied_index();
        scene.observer.learn(&self.observer, applied);
        if promise.term > 0 {
            expect_kept(disk, promise)?;
        }
        self.go_on(&mut scene).map_err(died)?;
        if let Some(violation) = scene.observer.violations.first() {
            return Err(violation.clone());
        }
        let process = scene.seats[TARGET].process.as_deref().expect("still runs");
        let applied = process.applier.applied_index();
        let end = self.log.as_ref().map_or(promise.applied, LeaderLog::last);
        if applied < end {
            return Err(format!("entry {end} is lost, the last one is {applied}"));
        }
        self.expect_same_states(&scene.observer, promise.applied, applied)?;
        Ok(scene)
    }

    /// The database is whole, and what all others have where it stands.
    fn expect_sound(&self, process: &Process) -> Result<(), String> {
        let view = process.applier.backend().reader().snapshot();
        if let Some(damage) = bolt::check(&view).first() {
            return Err(failed("the database is damaged", damage));
        }
        let applied = process.applier.applied_index();
        if applied == 0 {
            return Ok(());
        }
        match self.observer.state(applied) {
            None => Err(format!("the database has entry {applied}, which nobody has applied")),
            Some(state) if state == state_checksums(&process.applier) => Ok(()),
            Some(_) => Err(format!("the database differs from what entry {applied} leads to")),
        }
    }

    /// The member serves, or follows.
    fn go_on(&self, scene: &mut Scene) -> Result<(), Death> {
        let Some(log) = &self.log else {
            scene.put(10)?;
            return scene.wait();
        };
        for _ in 0..APPENDS_MAX {
            let Some(process) = scene.seats[TARGET].process.as_deref() else { break };
            let (id, applied) = (process.id, process.applier.applied_index());
            if applied >= log.last() {
                break;
            }
            scene.receive(log.append(id, applied.max(process.replica.committed())));
            scene.round()?;
        }
        Ok(())
    }

    /// What it has kept although it had not promised to is what it was.
    fn expect_same_states(&self, found: &Observer, from: u64, to: u64) -> Result<(), String> {
        for index in from + 1..=to {
            if found.entry(index).is_none() || found.entry(index) != self.observer.entry(index) {
                break;
            }
            if let (Some(before), Some(after)) = (self.observer.state(index), found.state(index))
                && before != after
            {
                return Err(format!("entry {index} leads to another state than before"));
            }
        }
        Ok(())
    }
}

/// The log still knows what was promised.
fn expect_kept(disk: &MemDisk, promise: &Promise) -> Result<(), String> {
    let unreadable = |err| failed("its log", err);
    let snapshots = wal::valid_snapshots(disk, wal_dir()).map_err(unreadable)?;
    let from = snapshots.last().cloned().unwrap_or_default();
    let replay = wal::open_for_read(disk, wal_dir(), &from).map_err(unreadable)?;
    let state = replay.hard_state;
    let last = replay.entries.last().map_or(from.index, |entry| entry.index);
    if state.term < promise.term {
        return Err(format!("it was in term {}, and has forgotten: {state:?}", promise.term));
    }
    if state.term == promise.term && promise.vote != 0 && state.vote != promise.vote {
        return Err(format!("it has voted for {:x}, and has forgotten: {state:?}", promise.vote));
    }
    if last < promise.logged {
        return Err(format!("it had entry {}, and now ends at {last}", promise.logged));
    }
    Ok(())
}
