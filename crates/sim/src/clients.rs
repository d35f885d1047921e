//! Clients: what they ask for, and what they make of the answers.

use std::collections::{BTreeMap, BTreeSet};

use api::etcdserverpb as pb;
use api::internal::{InternalRequestRef, OpRef};
use api::key_value::KeyValueRef;
use api::wire::Encode;
use apply::{Answer, OpOutcome, Outcome};
use bytes::Bytes;
use mvcc::RangeArgs;
use prost::Message;
use replica::{Event, Proposal};

use crate::check::linear::{Call, Did, Value};
use crate::plan::{MS, Plan, SECOND};
use crate::process::Outside;
use crate::rng::Rng;
use crate::world::{Action, World};

/// How many kinds of calls there are, for [`Plan::calls`].
pub const KINDS: usize = 14;

/// The longest of all values.
const LARGE_VALUE_MAX: u64 = 100 << 10;

/// What a call asks for. Keys are numbers; those of leased keys are apart from the others.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    Put(u64, u64),
    Get(u64),
    SerializableGet(u64),
    Delete(u64),
    Swap(u64, Value, Bytes, u64),
    PutTwo(u64, u64, u64),
    /// Puts, and reads all keys as of a revision.
    PutAndLook(u64, u64, i64),
    /// Puts, and then hangs the key on a lease that there is not.
    Doomed(u64, u64),
    All,
    Grant(i64, i64),
    KeepAlive(i64),
    Revoke(i64),
    PutLeased(i64, u64),
    Compact(i64),
}

/// A call that waits for its answer.
#[derive(Clone, Debug)]
struct Open {
    client: usize,
    site: usize,
    life: u64,
    begin: u64,
    /// The highest revision that anybody had been told of when the call began.
    floor: i64,
    /// How long the client waits before the next call.
    think: u64,
    op: Op,
}

/// A lease, as its owner knows it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Seconds granted.
    pub ttl: i64,
    /// When successful grants and renewals began.
    pub renewed: Vec<u64>,
    /// Whether a client asked for its end.
    pub is_given_up: bool,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    open: BTreeMap<u64, Open>,
    busy: BTreeSet<usize>,
    /// What was found out about each key.
    histories: BTreeMap<u64, Vec<Call>>,
    /// The leases of which a grant was acknowledged.
    pub leases: BTreeMap<i64, Lease>,
    /// What the key held when somebody looked last.
    seen: BTreeMap<u64, (Value, Bytes)>,
    /// The highest revision that anybody was told of.
    pub floor: i64,
    /// Calls that ended with an answer, without one, and that had no effect.
    pub answered: u64,
    /// See `answered`.
    pub unknown: u64,
    /// See `answered`.
    pub failed: u64,
    /// When the last successful put through each site began.
    pub served: BTreeMap<usize, u64>,
    /// When all faults ended: from then on every member is to serve a put.
    pub healed: Option<u64>,
    /// Whether clients go on.
    pub is_working: bool,
    /// They do nothing before this time.
    pub idle_until: u64,
    /// Values that were larger than usual.
    pub large: u64,
    large_values: u64,
    keys: u64,
    value_bytes: u64,
    think: u64,
    weights: Vec<u64>,
    numbers: u64,
    /// How many turns clients had.
    turns: u64,
    /// The numbers of those at which they called.
    pub made: Vec<u64>,
    rng: Rng,
}

impl Clients {
    /// The clients of a run.
    #[must_use]
    pub fn new(plan: &Plan, rng: Rng) -> Self {
        Self {
            open: BTreeMap::new(),
            busy: BTreeSet::new(),
            histories: BTreeMap::new(),
            leases: BTreeMap::new(),
            seen: BTreeMap::new(),
            floor: 1,
            answered: 0,
            unknown: 0,
            failed: 0,
            served: BTreeMap::new(),
            healed: None,
            is_working: true,
            idle_until: 0,
            large: 0,
            large_values: plan.large_values,
            keys: plan.keys,
            value_bytes: plan.value_bytes,
            think: plan.think,
            weights: plan.calls.clone(),
            numbers: 0,
            turns: 0,
            made: Vec::new(),
            rng,
        }
    }

    /// What happened to each key, calls that nobody answered included.
    #[must_use]
    pub fn histories(&self) -> BTreeMap<u64, Vec<Call>> {
        let mut histories = self.histories.clone();
        for open in self.open.values() {
            note_unknown(&mut histories, open);
        }
        histories
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn value(&mut self, number: u64) -> Bytes {
        let mut text = number.to_string().into_bytes();
        let mut longest = self.value_bytes;
        if self.rng.chance(self.large_values) {
            longest = (100 * longest.max(200)).min(LARGE_VALUE_MAX);
            self.large += 1;
        }
        let len = text.len() + self.rng.below(longest + 1) as usize;
        text.resize(len, b'.');
        text.into()
    }

    fn draw(&mut self, now: u64) -> Op {
        let total: u64 = self.weights.iter().sum();
        let mut at = self.rng.below(total);
        let kind = self.weights.iter().position(|weight| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        let key = self.rng.below(self.keys);
        match kind.unwrap_or(0) {
            1 => Op::Get(key),
            2 => Op::SerializableGet(key),
            3 => Op::Delete(key),
            4 => {
                let (value, bytes) = self.seen.get(&key).cloned().unwrap_or_default();
                Op::Swap(key, value, bytes, self.number())
            }
            5 => Op::PutTwo(key, self.rng.below(self.keys), self.number()),
            6 => Op::All,
            // Few leases that live long tell more than many.
            kind @ 7..=10 => match self.some_lease(now) {
                None => self.grant(),
                Some(id) if kind == 8 || (kind == 7 && !self.rng.chance(300_000)) => {
                    Op::KeepAlive(id)
                }
                Some(_) if kind == 7 => self.grant(),
                Some(id) if kind == 9 && self.rng.chance(300_000) => Op::Revoke(id),
                Some(id) => Op::PutLeased(id, self.number()),
            },
            11 if self.rng.chance(200_000) => {
                let back = if self.rng.chance(300_000) { 0 } else { self.rng.below(20) };
                Op::Compact((self.floor - back as i64).max(1))
            }
            12 => {
                let revision = (self.floor - self.rng.below(30) as i64).max(1);
                Op::PutAndLook(key, self.number(), revision)
            }
            13 if self.rng.chance(300_000) => Op::Doomed(key, self.number()),
            _ => Op::Put(key, self.number()),
        }
    }

    fn grant(&mut self) -> Op {
        let number = self.number() as i64;
        let id = if self.rng.chance(300_000) { -number } else { number };
        Op::Grant(id, self.rng.between(1, 5) as i64)
    }

    /// One of the latest leases.
    fn some_lease(&mut self, now: u64) -> Option<i64> {
        let lives = |lease: &Lease| {
            !lease.is_given_up
                && lease.renewed.iter().max().is_some_and(|at| at + 30 * SECOND > now)
        };
        let mut living: Vec<i64> =
            self.leases.iter().filter(|(_, lease)| lives(lease)).map(|(id, _)| *id).collect();
        living.sort_unstable_by_key(|id| id.abs());
        let latest = &living[living.len().saturating_sub(4)..];
        (!latest.is_empty()).then(|| *self.rng.pick(latest))
    }
}

fn key_of(key: u64) -> Vec<u8> {
    format!("k{key:03}").into_bytes()
}

fn parse(value: &[u8]) -> Value {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

/// What a call may have done that nobody knows the outcome of.
fn note_unknown(histories: &mut BTreeMap<u64, Vec<Call>>, open: &Open) {
    let mut note = |key: u64, did| {
        let call = Call { begin: open.begin, end: u64::MAX, did };
        histories.entry(key).or_default().push(call);
    };
    match &open.op {
        Op::Put(key, value) | Op::PutAndLook(key, value, _) => {
            note(*key, Did::Write(Some(*value)));
        }
        Op::Delete(key) => note(*key, Did::Write(None)),
        Op::Swap(key, old, _, new) => note(*key, Did::Swap(*old, Some(*new), None)),
        Op::PutTwo(one, other, value) => {
            note(*one, Did::Write(Some(*value)));
            if one != other {
                note(*other, Did::Write(Some(*value)));
            }
        }
        _ => {}
    }
}

impl World {
    /// A site has died: most of those who wait for its answers see that their connection is gone.
    pub fn hang_up(&mut self, site: usize) {
        let open = self.clients.open.iter().filter(|(_, open)| open.site == site);
        let waiting: Vec<u64> = open.map(|(id, _)| *id).collect();
        for id in waiting {
            if self.rng.chance(700_000) {
                let delay = self.rng.between(MS, 50 * MS);
                self.after(delay, Action::Timeout(id));
            }
        }
    }

    /// A client begins a call, if it waits for none.
    pub fn client_turn(&mut self, client: usize) {
        if !self.clients.is_working || self.clients.busy.contains(&client) {
            return;
        }
        let idle = self.clients.idle_until.saturating_sub(self.now);
        if idle > 0 && self.is_hostile {
            return self.after(idle + client as u64 * MS, Action::Client(client));
        }
        let turn = self.clients.turns;
        self.clients.turns += 1;
        // A generator for each turn, so that the others stay as they are when one is left out.
        let rng = self.clients.rng.fork();
        let before = std::mem::replace(&mut self.clients.rng, rng);
        if self.mask.has_call(turn) {
            self.call(client, turn);
        } else {
            let think = 5 * MS + self.clients.rng.below(2 * self.clients.think + 1);
            self.after(think, Action::Client(client));
        }
        self.clients.rng = before;
    }

    fn call(&mut self, client: usize, turn: u64) {
        let mut op = self.clients.draw(self.now);
        let mut running = self.running();
        if let Some(healed) = self.clients.healed
            && self.clients.rng.chance(500_000)
        {
            op = Op::Put(self.clients.rng.below(self.plan.keys), self.clients.number());
            let members = self.members();
            running.retain(|site| members.contains(site));
            let served = |site: &usize| self.clients.served.get(site) > Some(&healed);
            if !running.iter().all(served) {
                running.retain(|site| !served(site));
            }
        }
        let site = match &op {
            Op::KeepAlive(_) => self.leader(),
            _ if running.is_empty() => None,
            _ => Some(*self.clients.rng.pick(&running)),
        };
        let Some(site) = site else {
            return self.after(20 * MS, Action::Client(client));
        };
        let member = self.sites[site].identity.metadata.node_id & 0xffff;
        let id = (member << 48) | self.clients.number();
        let floor = self.clients.floor;
        let life = self.sites[site].life;
        let think = self.clients.rng.below(2 * self.clients.think + 1);
        let open = Open { client, site, life, begin: self.now, floor, think, op: op.clone() };
        self.clients.made.push(turn);
        self.trace
            .say(self.now, || format!("c{client} asks m{site}: {op:?} ({id:x}, call {turn})"));
        self.clients.open.insert(id, open);
        self.clients.busy.insert(client);
        self.trace.add(self.now, &[5, client as u64, site as u64, id]);
        let patience = *self.clients.rng.pick(&[SECOND, 3 * SECOND, 6 * SECOND]);
        self.after(patience, Action::Timeout(id));
        self.ask(site, id, &op);
    }

    fn ask(&mut self, site: usize, id: u64, op: &Op) {
        let data = self.proposal(id, op);
        let Some(process) = &mut self.sites[site].process else { return };
        match (op, data) {
            (_, Some(data)) => process.send(Event::Propose(vec![Proposal { id, data }])),
            (Op::SerializableGet(_), None) => {
                let life = self.sites[site].life;
                let ready = Box::new(Outside::ReadReady(id));
                self.after(10_000, Action::Front(site, life, ready));
            }
            // The leader makes sure that it leads before it renews a lease.
            _ => process.send(Event::Read { id }),
        }
        self.schedule(site);
    }

    fn proposal(&mut self, id: u64, op: &Op) -> Option<Bytes> {
        let clients = &mut self.clients;
        let put = |key: Vec<u8>, value: Bytes, lease: i64| pb::PutRequest {
            key: key.into(),
            value,
            lease,
            prev_kv: true,
            ..pb::PutRequest::default()
        };
        let encoded = |op: OpRef<'_>| {
            let request = InternalRequestRef { id, op: Some(op), ..Default::default() };
            Some(Bytes::from(request.encode_to_vec()))
        };
        match op {
            Op::Put(key, value) => {
                let request = put(key_of(*key), clients.value(*value), 0);
                encoded(OpRef::Put(&Message::encode_to_vec(&request)))
            }
            Op::PutLeased(lease, value) => {
                let key = format!("l{}", value % 5).into_bytes();
                let request = put(key, clients.value(*value), *lease);
                encoded(OpRef::Put(&Message::encode_to_vec(&request)))
            }
            Op::Delete(key) => {
                let request =
                    pb::DeleteRangeRequest { key: key_of(*key).into(), ..Default::default() };
                encoded(OpRef::DeleteRange(&Message::encode_to_vec(&request)))
            }
            Op::PutTwo(one, other, value) => {
                let value = clients.value(*value);
                let keys = BTreeSet::from([*one, *other]);
                let puts = keys.into_iter().map(|key| {
                    pb::request_op::Request::RequestPut(put(key_of(key), value.clone(), 0))
                });
                encoded(OpRef::Txn(&Message::encode_to_vec(&txn_of(puts))))
            }
            Op::PutAndLook(key, value, revision) => {
                let range = pb::RangeRequest {
                    key: b"k".to_vec().into(),
                    range_end: b"l".to_vec().into(),
                    revision: *revision,
                    ..pb::RangeRequest::default()
                };
                let ops = [
                    pb::request_op::Request::RequestPut(put(
                        key_of(*key),
                        clients.value(*value),
                        0,
                    )),
                    pb::request_op::Request::RequestRange(range),
                ];
                encoded(OpRef::Txn(&Message::encode_to_vec(&txn_of(ops))))
            }
            Op::Doomed(key, value) => {
                let value = clients.value(*value);
                let ops = [(key_of(*key), 0), (b"l0".to_vec(), i64::MAX)].map(|(key, lease)| {
                    pb::request_op::Request::RequestPut(put(key, value.clone(), lease))
                });
                encoded(OpRef::Txn(&Message::encode_to_vec(&txn_of(ops))))
            }
            Op::Swap(key, old, bytes, new) => {
                let value = clients.value(*new);
                let request = swap(key_of(*key).into(), old.map(|_| bytes.clone()), value);
                encoded(OpRef::Txn(&Message::encode_to_vec(&request)))
            }
            Op::Grant(lease, ttl) => {
                let request = pb::LeaseGrantRequest { id: *lease, ttl: *ttl };
                encoded(OpRef::LeaseGrant(&Message::encode_to_vec(&request)))
            }
            Op::Revoke(lease) => {
                if let Some(lease) = clients.leases.get_mut(lease) {
                    lease.is_given_up = true;
                }
                let request = pb::LeaseRevokeRequest { id: *lease };
                encoded(OpRef::LeaseRevoke(&Message::encode_to_vec(&request)))
            }
            Op::Compact(revision) => {
                let physical = clients.rng.chance(500_000);
                let request = pb::CompactionRequest { revision: *revision, physical };
                encoded(OpRef::Compaction(&Message::encode_to_vec(&request)))
            }
            Op::Get(_) | Op::SerializableGet(_) | Op::All | Op::KeepAlive(_) => None,
        }
    }

    /// The front door of a member has something for somebody.
    pub fn front(&mut self, site: usize, outside: Outside) {
        match outside {
            Outside::Reply(reply) => self.replied(site, reply.id, reply.result),
            Outside::Refused(id, _) => {
                if let Some(open) = self.take(site, id) {
                    self.clients.failed += 1;
                    self.next_turn(&open);
                }
            }
            Outside::ReadReady(id) => self.read(site, id),
            Outside::Answer(id, answer) => self.answered(site, id, &answer),
            Outside::Watch(response) => self.watched(site, response),
            Outside::Send(_) | Outside::SendSnapshot(..) | Outside::Removed => {}
        }
    }

    /// The call, if it was made to this life of the member.
    fn take(&mut self, site: usize, id: u64) -> Option<Open> {
        let open = self.clients.open.get(&id)?;
        if open.site != site || open.life != self.sites[site].life {
            return None;
        }
        self.clients.open.remove(&id)
    }

    fn next_turn(&mut self, open: &Open) {
        self.clients.busy.remove(&open.client);
        self.after(open.think, Action::Client(open.client));
    }

    /// Nobody has answered.
    pub fn call_timed_out(&mut self, id: u64) {
        let Some(open) = self.clients.open.remove(&id) else { return };
        note_unknown(&mut self.clients.histories, &open);
        if let Op::KeepAlive(_) | Op::Get(_) | Op::SerializableGet(_) | Op::All = open.op {
            self.clients.failed += 1;
        } else {
            self.clients.unknown += 1;
        }
        self.trace.say(self.now, || format!("c{} gives up {id:x}", open.client));
        self.next_turn(&open);
    }

    fn replied(&mut self, site: usize, id: u64, result: Result<Outcome, api::Error>) {
        let Some(open) = self.take(site, id) else { return };
        self.trace.say(self.now, || format!("c{} hears of {id:x}: {result:?}", open.client));
        match result {
            Ok(outcome) => {
                self.clients.answered += 1;
                self.judge(&open, outcome);
            }
            // What goes over the quota is done nevertheless, but not what comes after.
            Err(api::Error::NoSpace) if self.was_done(&open) => {
                note_unknown(&mut self.clients.histories, &open);
                self.clients.unknown += 1;
            }
            // All other errors of apply mean that nothing has changed.
            Err(_) => self.clients.failed += 1,
        }
        self.next_turn(&open);
    }

    /// Whether the members have what a call was to write.
    fn was_done(&self, open: &Open) -> bool {
        let (key, value) = match open.op {
            Op::Put(key, value) | Op::PutAndLook(key, value, _) => (key, value),
            Op::PutTwo(key, _, value) | Op::Swap(key, _, _, value) => (key, value),
            _ => return false,
        };
        self.observer
            .values_since(&key_of(key), open.floor)
            .any(|bytes| parse(bytes) == Some(value))
    }

    fn note(&mut self, open: &Open, key: u64, did: Did) {
        let call = Call { begin: open.begin, end: self.now, did };
        self.clients.histories.entry(key).or_default().push(call);
    }

    /// An answer that says at which revision it is true: never before what was known already.
    fn expect_order(&mut self, open: &Open, revision: i64, is_change: bool) {
        let floor = open.floor;
        let ordered = if is_change { revision > floor } else { revision >= floor };
        if !ordered {
            let op = &open.op;
            self.observer.violation(format!(
                "{op:?} was answered at revision {revision}, but {floor} was known before it began"
            ));
        }
        self.clients.floor = self.clients.floor.max(revision);
    }

    fn judge(&mut self, open: &Open, outcome: Outcome) {
        match (&open.op, outcome) {
            (Op::Put(key, value), Outcome::Put { revision, .. }) => {
                self.expect_order(open, revision, true);
                self.expect_stored(&key_of(*key), *value, revision);
                self.note(open, *key, Did::Write(Some(*value)));
                self.clients.served.insert(open.site, open.begin);
            }
            (Op::PutLeased(_, value), Outcome::Put { revision, .. }) => {
                self.expect_order(open, revision, true);
                self.expect_stored(format!("l{}", value % 5).as_bytes(), *value, revision);
            }
            (Op::Delete(key), Outcome::DeleteRange { revision, deleted, .. }) => {
                self.expect_order(open, revision, deleted > 0);
                let did = if deleted > 0 { Did::Write(None) } else { Did::Read(None) };
                self.note(open, *key, did);
            }
            (Op::PutTwo(one, other, value), Outcome::Txn(outcome)) => {
                self.expect_order(open, outcome.revision, true);
                for key in BTreeSet::from([*one, *other]) {
                    self.expect_stored(&key_of(key), *value, outcome.revision);
                    self.note(open, key, Did::Write(Some(*value)));
                }
            }
            (Op::PutAndLook(key, value, revision), Outcome::Txn(outcome)) => {
                self.expect_order(open, outcome.revision, true);
                self.expect_stored(&key_of(*key), *value, outcome.revision);
                self.note(open, *key, Did::Write(Some(*value)));
                if let Some(OpOutcome::Range(range)) = outcome.responses.get(1) {
                    self.expect_rows(b"k", b"l", &range.kvs, *revision);
                }
            }
            (Op::Swap(key, old, _, new), Outcome::Txn(outcome)) => {
                self.expect_order(open, outcome.revision, outcome.succeeded);
                let went = if outcome.succeeded {
                    Ok(())
                } else {
                    let Some(OpOutcome::Range(range)) = outcome.responses.first() else { return };
                    Err(self.remember(*key, range.kvs.first().map(|row| &row[..])))
                };
                self.note(open, *key, Did::Swap(*old, Some(*new), Some(went)));
            }
            (Op::Grant(id, _), Outcome::LeaseGrant { ttl, .. }) => {
                let lease = Lease { ttl, renewed: vec![open.begin], is_given_up: false };
                self.clients.leases.insert(*id, lease);
            }
            (Op::Revoke(_), Outcome::LeaseRevoke { revision })
            | (Op::Compact(_), Outcome::Compact { revision }) => {
                self.expect_order(open, revision, false);
            }
            (op, outcome) => {
                self.observer.violation(format!("{op:?} was answered by {outcome:?}"));
            }
        }
    }

    fn expect_stored(&mut self, key: &[u8], value: u64, revision: i64) {
        let stored = self.observer.value_at(key, revision);
        let found = stored.map(|(bytes, at)| (parse(bytes), at));
        if found != Some((Some(value), revision)) {
            self.observer.violation(format!(
                "value {value} was acknowledged at revision {revision}, where members have {found:?}"
            ));
        }
    }

    /// Keeps in mind what a key was seen to hold.
    fn remember(&mut self, key: u64, row: Option<&[u8]>) -> Value {
        let row = row.and_then(|row| KeyValueRef::decode(row).ok());
        let value = row.and_then(|row| parse(row.value));
        let bytes = row.map(|row| Bytes::copy_from_slice(row.value)).unwrap_or_default();
        self.clients.seen.insert(key, (value, bytes));
        value
    }

    fn read(&mut self, site: usize, id: u64) {
        let Some(open) = self.clients.open.get(&id).cloned() else { return };
        if open.site != site || open.life != self.sites[site].life {
            return;
        }
        let Some(process) = &mut self.sites[site].process else { return };
        if let Op::KeepAlive(lease) = open.op {
            process.command(id, apply::Command::LeaseRenew(lease));
            return self.schedule(site);
        }
        let (key, range_end) = match open.op {
            Op::Get(key) | Op::SerializableGet(key) => (key_of(key), Vec::new()),
            _ => (b"k".to_vec(), b"l".to_vec()),
        };
        let args = RangeArgs { key: &key, range_end: &range_end, ..RangeArgs::default() };
        let mut rows: Vec<Bytes> = Vec::new();
        let result = process.reader.range(&args, |row| rows.push(row.to_owned()));
        let revision = result.expect("the newest revision can be read").revision;
        self.take(site, id);
        self.clients.answered += 1;
        self.trace.say(self.now, || {
            let found: Vec<Value> = rows
                .iter()
                .map(|row| KeyValueRef::decode(row).ok().and_then(|row| parse(row.value)))
                .collect();
            format!("c{} reads {id:x} at revision {revision}: {found:?}", open.client)
        });
        self.expect_rows(&key, &range_end, &rows, revision);
        match open.op {
            Op::SerializableGet(key) => {
                self.remember(key, rows.first().map(|row| &row[..]));
            }
            Op::Get(key) => {
                self.expect_order(&open, revision, false);
                let found = self.remember(key, rows.first().map(|row| &row[..]));
                self.note(&open, key, Did::Read(found));
            }
            _ => self.expect_order(&open, revision, false),
        }
        self.next_turn(&open);
    }

    /// What a range found must be what the members' changes up to that revision make.
    fn expect_rows(&mut self, key: &[u8], range_end: &[u8], rows: &[Bytes], revision: i64) {
        let mut found = Vec::new();
        for row in rows {
            let Ok(row) = KeyValueRef::decode(row) else {
                return self.observer.violation("a row can't be decoded".to_owned());
            };
            let expected = self.observer.value_at(row.key, revision);
            if expected.map(|(value, at)| (&value[..], at)) != Some((row.value, row.mod_revision)) {
                let key = String::from_utf8_lossy(row.key).into_owned();
                self.observer.violation(format!(
                    "a read of {key} at revision {revision} found that of {}",
                    row.mod_revision
                ));
                return;
            }
            found.push(row.key);
        }
        let keys = (0..self.clients.keys).map(key_of);
        let expected =
            keys.filter(|other| {
                if range_end.is_empty() { other == key } else { other.as_slice() < range_end }
            })
            .filter(|key| self.observer.value_at(key, revision).is_some())
            .count();
        if expected != found.len() {
            let count = found.len();
            self.observer.violation(format!(
                "a read at revision {revision} found {count} of {expected} keys"
            ));
        }
    }

    fn answered(&mut self, site: usize, id: u64, answer: &Answer) {
        let Some(open) = self.take(site, id) else { return };
        self.trace.say(self.now, || format!("c{} hears of {id:x}: {answer:?}", open.client));
        if let (Op::KeepAlive(id), Answer::Renewed { ttl: Some(_), .. }) = (&open.op, answer) {
            self.clients.answered += 1;
            if self.observer.revoked.get(id).is_some_and(|revoked| revoked.at < open.begin) {
                self.observer.violation(format!("lease {id} was renewed after it was revoked"));
            }
            let lease = self.clients.leases.get_mut(id).expect("renewals are of known leases");
            lease.renewed.push(open.begin);
        } else {
            self.clients.failed += 1;
        }
        self.next_turn(&open);
    }
}

/// A transaction that does this in any case.
fn txn_of(ops: impl IntoIterator<Item = pb::request_op::Request>) -> pb::TxnRequest {
    let success = ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    pb::TxnRequest { success, ..pb::TxnRequest::default() }
}

/// If the key holds `old` (`None`: does not exist), put `new`, else get it.
fn swap(key: Bytes, old: Option<Bytes>, new: Bytes) -> pb::TxnRequest {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (target, target_union) = match old {
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        Some(old) => (CompareTarget::Value, TargetUnion::Value(old)),
    };
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: key.clone(),
        target_union: Some(target_union),
        ..pb::Compare::default()
    };
    let put = pb::PutRequest { key: key.clone(), value: new, ..pb::PutRequest::default() };
    let get = pb::RangeRequest { key, ..pb::RangeRequest::default() };
    let op = |request| vec![pb::RequestOp { request: Some(request) }];
    pb::TxnRequest {
        compare: vec![compare],
        success: op(pb::request_op::Request::RequestPut(put)),
        failure: op(pb::request_op::Request::RequestRange(get)),
    }
}
