//! `mvcc put`: the store and its file alone, without raft and without a network.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backend::{Backend, Committer, Options};
use env::OsDisk;
use mvcc::Store;

use crate::keys;
use crate::report::{Record, Watch};
use crate::session::{Failure, Session};

const FILE: &str = "mvcc-bench";

struct Bench {
    store: Store,
    backend: Backend,
    committer: Committer<OsDisk>,
    begun: Instant,
}

impl Bench {
    /// The store on a file of the working directory, which has no name any more.
    fn open(options: Options) -> Result<Self, Failure> {
        let path = std::env::current_dir().map(|here| here.join(FILE)).map_err(Failure::new)?;
        let opened = Backend::open(OsDisk, &path, options).map_err(Failure::new)?;
        let (mut backend, committer) = opened;
        remove(&path)?;
        let (store, _) =
            Store::restore(&mut backend, mvcc::Options::default()).map_err(Failure::new)?;
        Ok(Self { store, backend, committer, begun: Instant::now() })
    }

    /// A transaction that sets these keys.
    fn put(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Failure> {
        let mut txn = self.store.begin(&mut self.backend, false);
        for (key, value) in pairs {
            txn.put(key, value, 0, false).map_err(Failure::new)?;
        }
        // Nobody watches.
        drop(txn.finish());
        if self.backend.wants_commit(self.begun.elapsed())
            && let Some(batch) = self.backend.freeze()
        {
            let done = self.committer.commit(batch).map_err(Failure::new)?;
            self.backend.committed(done);
        }
        Ok(())
    }
}

fn remove(path: &PathBuf) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

#[expect(clippy::unused_async, reason = "as all commands")]
pub(crate) async fn put(session: &Session) -> Result<(), Failure> {
    for name in ["cpuprofile", "memprofile"] {
        if !session.input.bytes(name).is_empty() {
            return Err(Failure::new(format!("--{name}: use perf or heaptrack on this program")));
        }
    }
    let options = Options {
        batch_interval: Duration::from_millis(session.number("batch-interval")?),
        batch_limit: session.size("batch-limit")?,
        ..Options::default()
    };
    let (key_size, value_size) = (session.size("key-size")?, session.size("value-size")?);
    let ops = if session.input.bool("txn") { session.positive("txn-ops")? } else { 1 };
    let total = session.number("total")?;
    let mut bench = Bench::open(options)?;
    let mut record = Record::new(session.samples());
    let watch = Watch::start();
    for _ in 0..total {
        let pairs: Vec<_> =
            (0..ops).map(|_| (keys::random(key_size), keys::random(value_size))).collect();
        let begun = Instant::now();
        bench.put(&pairs)?;
        record.add(begun.elapsed());
    }
    session.report("", "mvcc-put", &watch.stop(record).weighted(ops as f64));
    Ok(())
}
