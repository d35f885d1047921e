//! `range` and `txn-mixed`.

use client::{Client, Get};

use crate::keys;
use crate::load::{Answer, drive, drive_kinds};
use crate::session::{Failure, Session, print};

/// How a range is read.
#[derive(Clone, Debug)]
struct Reading {
    key: Vec<u8>,
    end: Vec<u8>,
    limit: i64,
    is_prefix: bool,
    is_serializable: bool,
    is_count_only: bool,
    is_keys_only: bool,
    is_streamed: bool,
    is_paginated: bool,
}

impl Reading {
    fn get(&self, client: &Client, key: Vec<u8>) -> Get<Client> {
        let mut get = client.get(key).limit(self.limit);
        if self.is_prefix && self.end.is_empty() {
            get = get.range(client::prefix_end(&self.key));
        } else if !self.end.is_empty() {
            get = get.range(self.end.clone());
        }
        if self.is_serializable {
            get = get.serializable();
        }
        if self.is_count_only {
            get = get.count_only();
        }
        if self.is_keys_only {
            get = get.keys_only();
        }
        get
    }

    async fn run(self, client: Client) -> Answer {
        let mut key = self.key.clone();
        loop {
            let get = self.get(&client, key);
            let mut last = None;
            let mut has_more = false;
            if self.is_streamed {
                let mut stream = get.stream().await?;
                while let Some(part) = stream.next().await? {
                    last = part.kvs.last().map(|kv| kv.key.clone()).or(last);
                    has_more = part.more;
                }
            } else {
                let answer = get.await?;
                last = answer.kvs.last().map(|kv| kv.key.clone());
                has_more = answer.more;
            }
            match last {
                Some(last) if self.is_paginated && has_more => {
                    key = [&last[..], &[0]].concat();
                }
                _ => return Ok(()),
            }
        }
    }
}

pub(crate) async fn range(session: &Session) -> Result<(), Failure> {
    let (key, end) = match session.input.args.as_slice() {
        [key] => (key.clone(), Vec::new()),
        [key, end] => (key.clone(), end.clone()),
        args => {
            let count = args.len();
            return Err(Failure::new(format!("expected a key and an end at most, got {count}")));
        }
    };
    let reading = Reading {
        key,
        end,
        limit: session.input.int("limit"),
        is_prefix: session.input.bool("prefix"),
        is_serializable: session.is_serializable()?,
        is_count_only: session.input.bool("count-only"),
        is_keys_only: session.input.bool("keys-only"),
        is_streamed: session.input.bool("stream"),
        is_paginated: session.input.bool("paginate"),
    };
    if reading.is_paginated && reading.limit <= 0 {
        return Err(Failure::new("--paginate wants a --limit"));
    }
    let amount = session.amount("total", "rate")?;
    let clients = session.clients().await?;
    let report =
        drive(&clients, amount, session.samples(), move |client, _| reading.clone().run(client));
    session.report("", "range", &report.await?);
    Ok(())
}

const READ: usize = 0;
const WRITE: usize = 1;

pub(crate) async fn txn_mixed(session: &Session) -> Result<(), Failure> {
    let space = session.positive("key-space-size")?;
    let (key_size, value) = (session.size("key-size")?, session.size("val-size")?);
    let value = keys::random(value);
    let is_serializable = session.is_serializable()?;
    let (end, limit) = (session.input.bytes("end-key").to_vec(), session.input.int("limit"));
    let ratio = session.input.float("rw-ratio").max(0.0);
    let amount = session.amount("total", "rate")?;
    let clients = session.clients().await?;
    let request = move |client: Client, number| {
        let is_read = fastrand::f64() < ratio / (1.0 + ratio);
        let txn = if is_read {
            let mut get = if end.is_empty() {
                Get::new("").prefix()
            } else {
                Get::new("").range(end.clone())
            };
            get = get.limit(limit);
            client.txn().then(if is_serializable { get.serializable() } else { get })
        } else {
            let key = keys::key(number % space, key_size);
            client.txn().then(client::Put::new(key, value.clone()))
        };
        async move { (if is_read { READ } else { WRITE }, txn.await.map(drop)) }
    };
    let reports = drive_kinds(&clients, amount, session.samples(), 2, request).await?;
    for (kind, name) in [(READ, "Read"), (WRITE, "Write")] {
        let report = &reports[kind];
        if !session.input.bool("json") {
            print(&format!("Total {name} Ops: {}\nDetails:", report.answered()));
        }
        session.report("", &format!("txn-mixed-{}", name.to_lowercase()), report);
        print("\n");
    }
    Ok(())
}
