//! `stm`: transactions as programs, alone or under a lock.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use client::Client;
use client::concurrency::{self, Isolation, Session, Stm};

use crate::keys;
use crate::load::drive;
use crate::session::{self, Failure};

const LOCK: &str = "stmlock";
const KEY_SIZE: usize = 16;

/// Who waits in the queue for the lock.
#[derive(Debug)]
enum Lock {
    Client(concurrency::Mutex),
    /// The server, for a session.
    Rpc(Session),
}

/// Places in the queue for the lock, one for each client, each with a lease of its own.
#[derive(Clone, Debug)]
struct Locks(Arc<Mutex<Vec<Lock>>>);

impl Locks {
    async fn new(clients: &[Client], is_rpc: bool) -> client::Result<Self> {
        let mut free = Vec::new();
        for client in clients {
            let session = client.session().await?;
            free.push(if is_rpc {
                Lock::Rpc(session)
            } else {
                Lock::Client(concurrency::Mutex::new(&session, LOCK))
            });
        }
        Ok(Self(Arc::new(Mutex::new(free))))
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Lock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn under(&self, run: impl Future<Output = client::Result<()>>) -> client::Result<()> {
        let mut lock = self.free().pop().expect("no more requests at a time than clients");
        let result = lock.hold(run).await;
        self.free().push(lock);
        result
    }
}

impl Lock {
    /// Takes the lock, runs, and gives it back whatever came of it.
    async fn hold(&mut self, run: impl Future<Output = client::Result<()>>) -> client::Result<()> {
        match self {
            Self::Client(mutex) => {
                mutex.lock().await?;
                let result = run.await;
                result.and(mutex.unlock().await)
            }
            Self::Rpc(session) => {
                let key = session.client().lock(LOCK, session.lease()).await?.key;
                let result = run.await;
                result.and(session.client().unlock(key).await.map(drop))
            }
        }
    }
}

pub(crate) async fn stm(session: &session::Session) -> Result<(), Failure> {
    let space = session.positive("keys")?;
    let per_txn = session.number("keys-per-txn")?;
    if per_txn > space {
        return Err(Failure::new(format!(
            "expected --keys-per-txn between 0 and {space}, got ({per_txn})"
        )));
    }
    let percent = session.number("txn-wr-percent")?;
    if percent > 100 {
        return Err(Failure::new(format!("expected [0, 100] --txn-wr-percent, got ({percent})")));
    }
    let isolation = match session.input.text("isolation").as_str() {
        "c" => Isolation::ReadCommitted,
        "r" => Isolation::RepeatableReads,
        "s" => Isolation::Serializable,
        "ss" => Isolation::SerializableSnapshot,
        other => return Err(Failure::new(format!("unknown --isolation {other:?}"))),
    };
    let is_rpc = match session.input.text("stm-locker").as_str() {
        "stm" => None,
        "lock-client" => Some(false),
        "lock-rpc" => Some(true),
        other => return Err(Failure::new(format!("unexpected stm locker {other:?}"))),
    };
    let size = session.size("val-size")?;
    let amount = session.amount("total", "rate")?;
    let clients = session.clients().await?;
    let writes = per_txn * percent / 100;
    let locks = match is_rpc {
        Some(is_rpc) => Some(Locks::new(&clients, is_rpc).await.map_err(Failure::new)?),
        None => None,
    };
    let report = drive(&clients, amount, session.samples(), move |client, _| {
        let keys = choose(space, per_txn);
        let locks = locks.clone();
        async move {
            let run = transaction(&client, isolation, keys, writes, size);
            match locks {
                Some(locks) => locks.under(run).await,
                None => run.await,
            }
        }
    });
    session.report("", "stm", &report.await?);
    Ok(())
}

fn choose(space: u64, count: u64) -> Vec<Vec<u8>> {
    let mut numbers = BTreeSet::new();
    while (numbers.len() as u64) < count {
        numbers.insert(fastrand::u64(..space));
    }
    numbers.into_iter().map(|number| keys::key(number, KEY_SIZE)).collect()
}

async fn transaction(
    client: &Client,
    isolation: Isolation,
    keys: Vec<Vec<u8>>,
    writes: u64,
    size: usize,
) -> client::Result<()> {
    let keys = Arc::new(keys);
    let program = |txn: concurrency::StmTxn| {
        let keys = Arc::clone(&keys);
        async move {
            for (key, number) in keys.iter().zip(0..) {
                txn.get(key.clone()).await?;
                if number < writes {
                    txn.put(key.clone(), keys::random(size));
                }
            }
            Ok(())
        }
    };
    Stm::new(client).isolation(isolation).run(program).await.map(drop)
}
