//! `make-mirror`.

use std::cell::Cell;
use std::time::Duration;

use client::mirror::Syncer;
use client::{Client, Delete, Event, EventType, Put};
use cobra::{Flag, Kind};

use crate::exit::{ERROR, Exit};
use crate::output;
use crate::session::Session;

const TELL_INTERVAL: Duration = Duration::from_secs(30);

const fn text(name: &'static str, usage: &'static str) -> Flag {
    Flag::new(name, Kind::Text, "", usage)
}

pub(crate) const FLAGS: &[Flag] = &[
    text("prefix", "Key-value prefix to mirror"),
    Flag::new("rev", Kind::Int, "0", "Specify the kv revision to start to mirror"),
    Flag::new(
        "max-txn-ops",
        Kind::Uint,
        "128",
        "Maximum number of operations permitted in a transaction during syncing updates.",
    ),
    text(
        "dest-prefix",
        "destination prefix to mirror a prefix to a different prefix in the destination cluster",
    ),
    Flag::switch("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
    text(
        "dest-cert",
        "Identify secure client using this TLS certificate file for the destination cluster",
    ),
    text("dest-key", "Identify secure client using this TLS key file"),
    text("dest-cacert", "Verify certificates of TLS enabled secure servers using this CA bundle"),
    Flag::new(
        "dest-insecure-transport",
        Kind::Bool,
        "true",
        "Disable transport security for client connections",
    ),
    text(
        "dest-user",
        "Destination username[:password] for authentication (prompt if password is not supplied)",
    ),
    text(
        "dest-password",
        "Destination password for authentication (if this option is used, --user option shouldn't include password)",
    ),
];

pub(crate) fn run(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("make-mirror takes one destination argument"));
    }
    let credentials =
        session.credentials_of("dest-user", "dest-password", "Destination Password: ")?;
    session.check_files("dest-cert", "dest-key", "dest-cacert")?;
    let destination = session.connect_as(&[session.arg(0)], &credentials)?;
    let source = session.client()?;
    let input = &session.input;
    if input.bool("no-dest-prefix") && !input.bytes("dest-prefix").is_empty() {
        return Err(Exit::arguments(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let prefix = input.bytes("prefix").to_vec();
    // DIFF(etcd): with --rev its tool takes the prefix away unless another is given.
    let new_prefix = match input.bytes("dest-prefix") {
        b"" if input.bool("no-dest-prefix") => Vec::new(),
        b"" => prefix.clone(),
        new => new.to_vec(),
    };
    let mirror = Mirror {
        destination,
        prefix,
        new_prefix,
        ops_max: usize::try_from(input.uint("max-txn-ops")).unwrap_or(usize::MAX).max(1),
        total: Cell::new(0),
    };
    let begin = (input.int("rev") - 1).max(0);
    session.wait(async {
        tokio::select! {
            result = mirror.run(&source, begin) => result,
            never = mirror.tell() => never,
        }
    })
}

/// A copy under way.
struct Mirror {
    destination: Client,
    prefix: Vec<u8>,
    new_prefix: Vec<u8>,
    ops_max: usize,
    /// How many keys were written or deleted.
    total: Cell<u64>,
}

impl Mirror {
    /// Copies all keys, unless a revision is given to begin behind, and then each change.
    async fn run(&self, source: &Client, begin: i64) -> Result<(), Exit> {
        let mut syncer = Syncer::new(source, self.prefix.clone()).revision(begin);
        if begin == 0 {
            let mut base = syncer.sync_base().await?;
            while let Some(part) = base.next().await? {
                for kv in part.kvs {
                    self.destination.put(self.rename(&kv.key), kv.value).await?;
                    self.count(1);
                }
            }
        }
        let mut updates = syncer.sync_updates().await?;
        while let Some(response) = updates.next().await {
            self.apply(response?.events).await?;
        }
        Err(Exit::new(ERROR, "the watch of the source has ended"))
    }

    /// What has happened at one revision happens in one transaction, as far as its length allows.
    async fn apply(&self, events: Vec<Event>) -> Result<(), Exit> {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for group in events.chunk_by(|a, b| revision(a) == revision(b)) {
            for events in group.chunks(self.ops_max) {
                let mut txn = self.destination.txn();
                for event in events {
                    let kv = event.kv.clone().unwrap_or_default();
                    let key = self.rename(&kv.key);
                    txn = match event.r#type() {
                        EventType::Put => txn.then(Put::new(key, kv.value)),
                        EventType::Delete => txn.then(Delete::new(key)),
                    };
                }
                txn.await?;
                self.count(events.len() as u64);
            }
        }
        Ok(())
    }

    fn rename(&self, key: &[u8]) -> Vec<u8> {
        let rest = key.strip_prefix(self.prefix.as_slice()).unwrap_or(key);
        [self.new_prefix.as_slice(), rest].concat()
    }

    fn count(&self, keys: u64) {
        self.total.set(self.total.get() + keys);
    }

    /// Tells every half minute how far it has come.
    async fn tell(&self) -> Result<(), Exit> {
        loop {
            tokio::time::sleep(TELL_INTERVAL).await;
            output::line(&self.total.get().to_string());
        }
    }
}
