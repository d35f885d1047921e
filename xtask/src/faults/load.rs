//! Clients that write and read through all members while faults strike, and keep a record of every call.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sim::rng::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::calls::{self, Outcome};
use super::history::{Answer, Call, Keys, Operation};
use crate::grpc::Channel;

/// Clients of each member. Each makes one call at a time.
const CLIENTS: usize = 3;
/// Keys in use at a time, and calls after which others take their place: so that the history of a key stays short.
const KEYS: u64 = 8;
const CALLS_PER_GENERATION: u64 = 1500;
/// How long a client waits for an answer.
const CALL_LIMIT: Duration = Duration::from_millis(1500);
/// Before a member that could not be reached is called again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(30);
/// Between calls of a client, at most.
const PAUSE_MAX_MS: u64 = 12;

/// The record of all clients.
#[derive(Debug)]
pub(super) struct Record {
    epoch: Instant,
    calls: Mutex<Vec<Call>>,
    wrong: Mutex<Vec<String>>,
    /// Writes acknowledged by each member.
    written: Vec<AtomicU64>,
    /// The highest revision in any answer.
    revision: AtomicI64,
    begun: AtomicU64,
    next_value: AtomicU64,
    is_over: AtomicBool,
    /// Bytes of each value.
    padding: usize,
}

impl Record {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// How many writes a member has acknowledged.
    pub(super) fn written(&self, member: usize) -> u64 {
        self.written[member].load(Ordering::Relaxed)
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Relaxed)
    }
}

/// The clients, until they are told to stop.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) record: Arc<Record>,
    clients: JoinSet<()>,
}

impl Load {
    /// Clients of the members at these addresses.
    pub(super) fn start(addresses: &[String], padding: usize, seed: u64) -> Self {
        let record = Arc::new(Record {
            epoch: Instant::now(),
            calls: Mutex::default(),
            wrong: Mutex::default(),
            written: addresses.iter().map(|_| AtomicU64::new(0)).collect(),
            revision: AtomicI64::new(1),
            begun: AtomicU64::new(0),
            next_value: AtomicU64::new(1),
            is_over: AtomicBool::new(false),
            padding,
        });
        let mut rng = Rng::new(seed);
        let mut clients = JoinSet::new();
        for (member, address) in addresses.iter().enumerate() {
            for _ in 0..CLIENTS {
                clients.spawn(work(Arc::clone(&record), member, address.clone(), rng.fork()));
            }
        }
        Self { record, clients }
    }

    /// Lets each client end its call, and gives what all have recorded, and the answers that no server may give.
    pub(super) async fn stop(mut self) -> (Vec<Call>, Vec<String>) {
        self.record.is_over.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let calls = self.record.calls.lock().map(|mut all| std::mem::take(&mut *all));
        let wrong = self.record.wrong.lock().map(|mut all| std::mem::take(&mut *all));
        (calls.unwrap_or_default(), wrong.unwrap_or_default())
    }
}

async fn work(record: Arc<Record>, member: usize, address: String, rng: Rng) {
    let mut client = Client { record, member, rng, last_seen: None };
    let mut channel = None;
    while !client.record.is_over.load(Ordering::Relaxed) {
        let connected = match channel.take() {
            Some(connected) => connected,
            None => match Channel::connect(&address).await {
                Ok(connected) => connected,
                Err(_) => {
                    sleep(RECONNECT_PAUSE).await;
                    continue;
                }
            },
        };
        if client.one_call(&connected).await {
            channel = Some(connected);
        } else {
            sleep(RECONNECT_PAUSE).await;
        }
        sleep(Duration::from_millis(client.rng.below(PAUSE_MAX_MS))).await;
    }
}

struct Client {
    record: Arc<Record>,
    member: usize,
    rng: Rng,
    /// A key and what it held.
    last_seen: Option<(String, Option<u64>)>,
}

impl Client {
    /// Makes a call and records it. Whether the connection still is of use.
    async fn one_call(&mut self, channel: &Channel) -> bool {
        let operation = self.choose();
        let begin = self.record.now();
        let sent = timeout(CALL_LIMIT, calls::call(channel, &operation, self.record.padding)).await;
        let end = self.record.now();
        let (call, is_connected) = match sent {
            Ok(Outcome::Answered(revision, answer)) => {
                self.learn(&operation, revision, &answer);
                (Call { begin, end, operation, answer: Some((revision, answer)) }, true)
            }
            Ok(Outcome::Unknown(_)) => {
                (Call { begin, end: u64::MAX, operation, answer: None }, false)
            }
            Ok(Outcome::Wrong(why)) => {
                if let Ok(mut wrong) = self.record.wrong.lock() {
                    wrong.push(format!("{why}: {operation}"));
                }
                return true;
            }
            // The member may be paused: the connection is kept, so that it is there when the member goes on.
            Err(_) => (Call { begin, end: u64::MAX, operation, answer: None }, true),
        };
        if let Ok(mut calls) = self.record.calls.lock() {
            calls.push(call);
        }
        is_connected
    }

    fn learn(&mut self, operation: &Operation, revision: i64, answer: &Answer) {
        self.record.revision.fetch_max(revision, Ordering::Relaxed);
        if matches!(answer, Answer::Written | Answer::Deleted(Some(_))) {
            self.record.written[self.member].fetch_add(1, Ordering::Relaxed);
        }
        let seen = match (operation, answer) {
            (
                Operation::Put { key, value } | Operation::Swap { key, value, .. },
                Answer::Written,
            ) => Some((key, Some(*value))),
            (Operation::Swap { key, .. }, Answer::Found(rows))
            | (Operation::Drop { key, .. }, Answer::Found(rows))
            | (Operation::Read { keys: Keys::One(key), at: None, .. }, Answer::Found(rows)) => {
                Some((key, rows.first().and_then(|row| row.value)))
            }
            _ => None,
        };
        self.last_seen = seen.map(|(key, value)| (key.clone(), value));
    }

    fn choose(&mut self) -> Operation {
        let begun = self.record.begun.fetch_add(1, Ordering::Relaxed);
        let generation = begun / CALLS_PER_GENERATION;
        let number = self.rng.below(KEYS);
        let key = format!("k{generation:03}/{number}");
        let value = self.record.next_value.fetch_add(1, Ordering::Relaxed);
        // Who has seen something acts upon it more often than not.
        if let Some((key, seen)) = self.last_seen.take()
            && self.rng.below(100) < 60
        {
            return match (seen, self.rng.below(4)) {
                (Some(expected), 0) => Operation::Drop { key, expected },
                (expected, _) => Operation::Swap { key, expected, value },
            };
        }
        let is_linearizable = self.rng.below(5) > 0;
        match self.rng.below(100) {
            0..38 => Operation::Put { key, value },
            38..46 => Operation::Delete { key },
            46..52 => Operation::Pair { keys: [format!("p{generation:03}/{number}"), key], value },
            52..90 => Operation::Read { keys: Keys::One(key), at: None, is_linearizable },
            90..96 => {
                let keys = Keys::Prefix(format!("k{generation:03}/"));
                Operation::Read { keys, at: None, is_linearizable }
            }
            _ => {
                let back = self.rng.below(300) as i64;
                let at = Some((self.record.revision() - back).max(1));
                Operation::Read { keys: Keys::Prefix("k".to_owned()), at, is_linearizable }
            }
        }
    }
}
