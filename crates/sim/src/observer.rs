//! Sees what all members do, and complains when two of them disagree.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use api::etcdserverpb::alarm_request::AlarmAction;
use api::internal::{InternalRequestRef, OpRef};
use api::key_value::KeyValueRef;
use apply::Applier;
use backend::Bucket;
use bytes::Bytes;
use mvcc::{EventBatch, EventKind};
use prost::Message;
use raft::Entry;
use replica::Persist;

/// The states of members are compared at every so many entries, in the beginning. To look at a state takes
/// the longer the more has happened, and so it is done less often then.
const STATE_CHECK_INTERVAL: u64 = 32;

/// A change of a key, as all members see it.
pub type Change = (EventKind, Bytes);

/// A lease that came to its end in the log.
#[derive(Clone, Copy, Debug)]
pub struct Revoked {
    /// When the first member was given it to apply.
    pub at: u64,
    /// The id of the request.
    pub request: u64,
}

/// What is known of the run so far.
#[derive(Debug, Default)]
pub struct Observer {
    /// The time, in nanoseconds, as the world says.
    pub now: u64,
    /// Term and checksum of committed entries, by index.
    committed: BTreeMap<u64, (u64, u32)>,
    /// Checksums of entries in any log, by term and index.
    logged: BTreeMap<(u64, u64), u32>,
    leaders: BTreeMap<u64, u64>,
    /// Checksums of the whole state, by index.
    states: BTreeMap<u64, Vec<u32>>,
    /// The changes of each revision.
    revisions: BTreeMap<i64, Vec<Change>>,
    /// Per key: revision and value, `None` for deleted.
    keys: BTreeMap<Bytes, BTreeMap<i64, Option<Bytes>>>,
    /// The highest index that some member has applied.
    applied: u64,
    /// The highest index of an entry that some member was given to apply, and whose request is noted.
    noted: u64,
    /// Members that were removed, and the first index at which that was seen.
    removed: BTreeMap<u64, u64>,
    /// Leases that were revoked, by id.
    pub revoked: BTreeMap<i64, Revoked>,
    /// Whether states are compared at every entry.
    pub checks_all: bool,
    /// How often an alarm was raised.
    pub alarms: u64,
    /// How many snapshots were installed.
    pub installs: u64,
    /// How often a leader whose disk had stalled handed leadership over.
    pub gave_way: u64,
    /// How many states were compared.
    pub states_compared: u64,
    /// What is wrong, if anything.
    pub violations: Vec<String>,
}

fn checksum(entry: &Entry) -> u32 {
    crc32c::crc32c_append(entry.entry_type as u32, &entry.data)
}

impl Observer {
    /// Complains.
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// A member is about to write entries: those of one index and term are one entry everywhere.
    pub fn persisting(&mut self, id: u64, persist: &Persist) {
        for entry in &persist.entries {
            let sum = checksum(entry);
            let known = *self.logged.entry((entry.term, entry.index)).or_insert(sum);
            if known != sum {
                let (index, term) = (entry.index, entry.term);
                self.violation(format!("{id:x} has another entry at {index} of term {term}"));
            }
        }
    }

    /// A member has learned that entries are committed.
    pub fn committed(&mut self, id: u64, entries: &[Entry]) {
        for entry in entries {
            let found = (entry.term, checksum(entry));
            let known = *self.committed.entry(entry.index).or_insert(found);
            if known != found {
                self.violation(format!(
                    "{id:x} takes entry {} of term {} for committed, another member that of term {}",
                    entry.index, found.0, known.0
                ));
            }
        }
    }

    /// A member has told who leads.
    pub fn role(&mut self, id: u64, term: u64, leader: u64) {
        if leader == 0 {
            return;
        }
        let known = *self.leaders.entry(term).or_insert(leader);
        if known != leader {
            self.violation(format!(
                "{id:x} takes {leader:x} for the leader of term {term}, others {known:x}"
            ));
        }
    }

    /// A member is told to install a snapshot.
    pub fn installing(&mut self) {
        self.installs += 1;
    }

    /// A member has the state of a snapshot.
    pub fn installed(&mut self, applier: &Applier) {
        self.applied = self.applied.max(applier.applied_index());
    }

    /// How many of `entries` to apply before [`Observer::applied`].
    pub fn until_check(&self, entries: &[Entry]) -> usize {
        let at = entries.iter().position(|entry| self.is_checked(entry.index));
        at.map_or(entries.len(), |at| at + 1)
    }

    fn is_checked(&self, index: u64) -> bool {
        let interval = STATE_CHECK_INTERVAL.max(index.next_power_of_two() / 32);
        self.checks_all || index.is_multiple_of(interval)
    }

    /// Who knows of the entries up to `index` that they are committed, and what state they lead to.
    #[must_use]
    pub fn as_of(&self, index: u64) -> Self {
        let upto = |(at, state): (&u64, &Vec<u32>)| (*at, state.clone());
        Self {
            committed: self.committed.range(..=index).map(|(at, entry)| (*at, *entry)).collect(),
            states: self.states.range(..=index).map(upto).collect(),
            checks_all: self.checks_all,
            ..Self::default()
        }
    }

    /// Takes over what `other` knows of the entries up to `index`.
    pub fn learn(&mut self, other: &Self, index: u64) {
        for (at, entry) in other.committed.range(..=index) {
            let known = *self.committed.entry(*at).or_insert(*entry);
            if known != *entry {
                self.violation(format!("entry {at} is another one than before"));
            }
        }
        for (at, state) in other.states.range(..=index) {
            self.states.entry(*at).or_insert_with(|| state.clone());
        }
    }

    /// Term and checksum of the committed entry at `index`.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<(u64, u32)> {
        self.committed.get(&index).copied()
    }

    /// Checksums of the state at `index`, if a member was looked at there.
    #[must_use]
    pub fn state(&self, index: u64) -> Option<&[u32]> {
        self.states.get(&index).map(Vec::as_slice)
    }

    /// A member was given entries to apply, and has done so unless it waits for the installation of a snapshot.
    pub fn applied(&mut self, applier: &Applier, entries: &[Entry]) {
        // Also of entries that wait: it may be that all others get past them by snapshots.
        let before = self.noted;
        for entry in entries.iter().filter(|entry| entry.index > before) {
            self.note_request(entry);
            self.noted = entry.index;
        }
        if entries.last().is_none_or(|last| last.index != applier.applied_index()) {
            return;
        }
        let index = applier.applied_index();
        self.applied = self.applied.max(index);
        self.expect_removed(applier);
        if self.is_checked(index) {
            self.compare(applier);
        }
    }

    /// A member's state is that of the others at its index.
    pub fn compare(&mut self, applier: &Applier) {
        let index = applier.applied_index();
        let sum = state_checksums(applier);
        let known = self.states.entry(index).or_insert_with(|| sum.clone());
        self.states_compared += 1;
        if *known != sum {
            let id = applier.cluster().local_id();
            let differ = known.iter().zip(&sum).map(|(known, sum)| known != sum);
            let differ: Vec<bool> = differ.collect();
            self.violation(format!(
                "{id:x} has another state than others at index {index}, in {differ:?} of store, compact revision, revision, leases, members, removed, cluster, alarms, configuration"
            ));
        }
    }

    /// Who was removed stays removed.
    fn expect_removed(&mut self, applier: &Applier) {
        let (cluster, index) = (applier.cluster(), applier.applied_index());
        for id in cluster.removed() {
            self.removed.entry(id).or_insert(index);
        }
        let forgotten =
            self.removed.iter().find(|(id, at)| **at <= index && !cluster.is_removed(**id));
        if let Some((id, at)) = forgotten {
            let member = cluster.local_id();
            self.violations
                .push(format!("{member:x} has forgotten that {id:x} was removed at {at}"));
        }
    }

    fn note_request(&mut self, entry: &Entry) {
        let Ok(request) = InternalRequestRef::decode(&entry.data) else { return };
        if let Some(OpRef::Alarm(message)) = request.op
            && let Ok(alarm) = api::etcdserverpb::AlarmRequest::decode(message)
        {
            self.alarms += u64::from(alarm.action == AlarmAction::Activate as i32);
        }
        if let Some(OpRef::LeaseRevoke(message)) = request.op
            && let Ok(revoke) = api::etcdserverpb::LeaseRevokeRequest::decode(message)
        {
            let revoked = Revoked { at: self.now, request: request.id };
            self.revoked.entry(revoke.id).or_insert(revoked);
        }
    }

    /// A member has changed keys.
    pub fn events(&mut self, id: u64, batches: &[Arc<EventBatch>]) {
        for batch in batches {
            let changes: Vec<Change> =
                batch.events.iter().map(|event| (event.kind, event.kv.clone())).collect();
            match self.revisions.get(&batch.revision) {
                Some(known) if *known == changes => {}
                Some(_) => {
                    let revision = batch.revision;
                    self.violation(format!("{id:x} has other changes at revision {revision}"));
                }
                None => {
                    for (kind, kv) in &changes {
                        let Ok(row) = KeyValueRef::decode(kv) else { continue };
                        let key = Bytes::copy_from_slice(row.key);
                        let value =
                            (*kind == EventKind::Put).then(|| Bytes::copy_from_slice(row.value));
                        self.keys.entry(key).or_default().insert(batch.revision, value);
                    }
                    self.revisions.insert(batch.revision, changes);
                }
            }
        }
    }

    /// The changes of all revisions of a range, ascending.
    pub fn changes(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, &Vec<Change>)> {
        let to = to.max(from);
        self.revisions.range(from..=to).map(|(revision, changes)| (*revision, changes))
    }

    /// A key's value at a revision, and the revision that set it; `None` if there is none, or if
    /// no member was seen to set it.
    pub fn value_at(&self, key: &[u8], revision: i64) -> Option<(&Bytes, i64)> {
        let history = self.keys.get(key)?;
        let (at, value) = history.range(..=revision).next_back()?;
        value.as_ref().map(|value| (value, *at))
    }

    /// What a key was set to after a revision.
    pub fn values_since(&self, key: &[u8], revision: i64) -> impl Iterator<Item = &Bytes> {
        let history = self.keys.get(key).into_iter();
        history
            .flat_map(move |history| history.range(revision + 1..))
            .filter_map(|(_, value)| value.as_ref())
    }

    /// The highest revision seen.
    pub fn revision(&self) -> i64 {
        self.revisions.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// The highest index that some member has applied.
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// The highest index that is known to be committed.
    pub fn committed_index(&self) -> u64 {
        self.committed.last_key_value().map_or(0, |(index, _)| *index)
    }
}

/// Checksums over the parts of everything that is replicated.
///
/// # Panics
/// If the state can't be read.
pub(crate) fn state_checksums(applier: &Applier) -> Vec<u32> {
    let reader = applier.reader();
    let (hash, _) = reader.hash_kv(0).expect("the store can be hashed");
    let mut sums = vec![hash.hash, hash.compact_revision as u32, hash.revision as u32];
    let rows = applier.backend().reader();
    let buckets =
        [Bucket::Lease, Bucket::Members, Bucket::MembersRemoved, Bucket::Cluster, Bucket::Alarm];
    for bucket in buckets {
        let mut sum = 0;
        let scanned = rows.scan(bucket, &[], &[], 0, |key, value| {
            sum = crc32c::crc32c_append(sum, &(key.len() as u64).to_le_bytes());
            sum = crc32c::crc32c_append(sum, key);
            sum = crc32c::crc32c_append(sum, value);
            ControlFlow::Continue(())
        });
        scanned.expect("the backend can be read");
        sums.push(sum);
    }
    let conf_state = rows.get(Bucket::Meta, cluster::CONF_STATE_KEY);
    sums.push(crc32c::crc32c(&conf_state.expect("the backend can be read").unwrap_or_default()));
    sums
}
