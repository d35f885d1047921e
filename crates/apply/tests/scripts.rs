//! Requests in, outcomes out as text: `tests/scripts/*.txt`. `UPDATE=1` rewrites them.
//!
//! Each line is a request that is committed and applied, or one of `lead`, `tick SECONDS`,
//! `commit` (the frozen batch reaches the file), `settle` (ticks and commits until nothing is left
//! to do), `renew ID`, `ttl ID` and `reopen` (a restart from what the file holds). `----` follows with what came of it. Transactions read
//! `txn if CONDITIONS then OPS else OPS`, operations between semicolons, nested ones in brackets.
#![expect(clippy::disallowed_methods, reason = "scripts are files")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use api::etcdserverpb as pb;
use api::internal::{InternalRequestRef, OpRef};
use api::key_value::KeyValueRef;
use api::wire::Encode;
use apply::{Applier, Command, Input, OpOutcome, Options, Outcome, Output};
use backend::{Backend, Committer};
use bytes::Bytes;
use cluster::Cluster;
use env::MemDisk;
use mvcc::{EventKind, Reader};
use prost::Message;
use raft::{ConfState, Entry};

#[path = "support/txn_text.rs"]
mod txn_text;

struct State {
    disk: MemDisk,
    applier: Applier,
    committer: Committer<MemDisk>,
    frozen: Option<backend::Batch>,
    index: u64,
    now: Duration,
    quota: Option<u64>,
}

fn open(disk: &MemDisk, quota: Option<u64>, now: Duration) -> (Applier, Committer<MemDisk>) {
    let options = backend::Options::default();
    let (backend, committer) =
        Backend::open(disk.clone(), Path::new("db"), options).expect("backend");
    let mut cluster = Cluster::restore(&backend).expect("cluster");
    cluster.set_ids(1, 7);
    let options = Options {
        member_id: 1,
        quota,
        snapshot_count: 10_000,
        lease_ttl_min: 2,
        election_timeout: Duration::from_secs(1),
        lease_checkpoint: false,
        lease_checkpoint_persist: false,
        compaction_batch_limit: 2,
        compaction_sleep_interval: Duration::from_millis(10),
        auto_compaction: None,
        attributes: cluster::Attributes::default(),
        cluster_version: cluster::Version::new(3, 7, 0),
        first_request_id: 1 << 40,
        watch: mvcc::watch::Options::default(),
    };
    let conf_state = ConfState::from_voters(vec![1]);
    let (applier, _) =
        Applier::restore(backend, options, cluster, conf_state, 0, now).expect("state");
    (applier, committer)
}

impl State {
    fn new() -> Self {
        let disk = MemDisk::new();
        let (applier, committer) = open(&disk, None, Duration::ZERO);
        Self { disk, applier, committer, frozen: None, index: 0, now: Duration::ZERO, quota: None }
    }

    fn run(&mut self, line: &str) -> String {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let mut out = Output::default();
        match command {
            "lead" => self.input(Input::Role { term: 2, leader: 1 }, &mut out),
            "tick" => {
                self.now += Duration::from_secs_f64(rest.parse().expect("seconds"));
                self.applier.tick(self.now, &mut out);
            }
            "commit" => self.commit(&mut out),
            "settle" => return self.settle(),
            "reopen" => self.reopen(),
            "quota" => {
                self.quota = rest.parse().ok();
                self.reopen();
            }
            "renew" => self.command(Command::LeaseRenew(number(words[0])), &mut out),
            "ttl" => self.command(Command::LeaseTimeToLive(number(words[0]), true), &mut out),
            "leases" => self.command(Command::LeaseLeases, &mut out),
            "view" => self.command(Command::View, &mut out),
            "get" => return self.get(&words),
            _ => {
                let request = request(command, rest, &words);
                self.propose(&request, &mut out);
            }
        }
        self.describe(out)
    }

    fn input(&mut self, input: Input, out: &mut Output) {
        self.applier.handle(input, self.now, out);
    }

    fn command(&mut self, command: Command, out: &mut Output) {
        self.input(Input::Command { token: 9, command }, out);
    }

    fn propose(&mut self, data: &Bytes, out: &mut Output) {
        self.index += 1;
        let entry = Entry { term: 2, index: self.index, data: data.clone(), ..Entry::default() };
        self.input(Input::Entries(vec![entry]), out);
    }

    fn commit(&mut self, out: &mut Output) {
        if let Some(batch) = self.frozen.take() {
            let done = self.committer.commit(batch).expect("commit");
            self.input(Input::Committed(done), out);
        }
    }

    fn settle(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..30 {
            let mut out = Output::default();
            self.commit(&mut out);
            self.now += Duration::from_millis(100);
            self.applier.tick(self.now, &mut out);
            text.push_str(&self.describe(out).replace("frozen\n", ""));
        }
        text
    }

    /// What was frozen but has not reached the file is lost, like everything behind it.
    fn reopen(&mut self) {
        self.frozen = None;
        self.disk = self.disk.crashed();
        let (applier, committer) = open(&self.disk, self.quota, self.now);
        self.index = applier.applied_index();
        (self.applier, self.committer) = (applier, committer);
    }

    fn get(&self, words: &[&str]) -> String {
        let request = pb::RangeRequest {
            key: words[0].to_owned().into(),
            range_end: words
                .get(1)
                .copied()
                .filter(|end| *end != "-")
                .unwrap_or("")
                .to_owned()
                .into(),
            revision: words.get(2).map_or(0, |revision| number(revision)),
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestRange(request)),
            }],
            ..Default::default()
        };
        let reader: Reader = self.applier.reader();
        match apply::evaluate_read_only(&reader, &txn) {
            Ok(outcome) => op_text(&outcome.responses[0]) + "\n",
            Err(err) => format!("error: {err}\n"),
        }
    }

    fn describe(&mut self, out: Output) -> String {
        let mut text = String::new();
        for reply in out.replies {
            let _ = match reply.result {
                Ok(outcome) => writeln!(text, "{}", outcome_text(&outcome)),
                Err(err) => writeln!(text, "error: {err}"),
            };
        }
        for (_, answer) in out.answers {
            let _ = match answer {
                apply::Answer::View(view) => writeln!(text, "view revision={}", view.revision),
                answer => writeln!(text, "{answer:?}"),
            };
        }
        for batch in out.events {
            for event in batch.events.iter() {
                let kind = if event.kind == EventKind::Put { "PUT" } else { "DELETE" };
                let _ = writeln!(text, "event {kind} {}", row(&event.kv));
            }
        }
        let leaders = out.leader_proposals.into_iter().map(|(_, proposal)| proposal);
        for proposal in out.proposals.into_iter().chain(leaders) {
            let request = InternalRequestRef::decode(&proposal).expect("own proposal");
            let op = request.op.expect("an operation");
            let _ = writeln!(text, "proposes request {}", op.number());
        }
        if out.commit.is_some() {
            self.frozen = out.commit;
            text.push_str("frozen\n");
        }
        text
    }
}

fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}

/// Which operation the bytes are.
type Operation = fn(&[u8]) -> OpRef<'_>;

fn request(command: &str, rest: &str, words: &[&str]) -> Bytes {
    let id = 1 << 48 | 1;
    let (message, op): (Vec<u8>, Operation) = match command {
        "put" => (txn_text::put(words).encode_to_vec(), |m| OpRef::Put(m)),
        "del" => (txn_text::delete(words).encode_to_vec(), |m| OpRef::DeleteRange(m)),
        "txn" => (txn_text::txn(rest).encode_to_vec(), |m| OpRef::Txn(m)),
        "compact" => {
            let physical = words.contains(&"physical");
            let request = pb::CompactionRequest { revision: number(words[0]), physical };
            (request.encode_to_vec(), |m| OpRef::Compaction(m))
        }
        "grant" => {
            let request = pb::LeaseGrantRequest { id: number(words[0]), ttl: number(words[1]) };
            (request.encode_to_vec(), |m| OpRef::LeaseGrant(m))
        }
        "revoke" => {
            let request = pb::LeaseRevokeRequest { id: number(words[0]) };
            (request.encode_to_vec(), |m| OpRef::LeaseRevoke(m))
        }
        "alarm" => {
            let action = match words[0] {
                "get" => 0,
                "activate" => 1,
                "deactivate" => 2,
                other => number(other) as i32,
            };
            let (member_id, alarm) = (number(words[1]) as u64, number(words[2]) as i32);
            let request = pb::AlarmRequest { action, member_id, alarm };
            (request.encode_to_vec(), |m| OpRef::Alarm(m))
        }
        other => panic!("unknown command {other}"),
    };
    let request = InternalRequestRef { id, op: Some(op(&message)), ..Default::default() };
    request.encode_to_vec().into()
}

fn row(raw: &Bytes) -> String {
    let kv = KeyValueRef::decode(raw).expect("a row");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut row = format!("{}@{}", text(kv.key), kv.mod_revision);
    if kv.version > 0 {
        let (create, version) = (kv.create_revision, kv.version);
        let _ = write!(row, "={}(create={create} version={version}", text(kv.value));
        if kv.lease != 0 {
            let _ = write!(row, " lease={}", kv.lease);
        }
        row.push(')');
    }
    row
}

fn rows(raw: &[Bytes]) -> String {
    raw.iter().map(row).collect::<Vec<_>>().join(" ")
}

fn prev(raw: Option<&Bytes>) -> String {
    raw.map_or_else(String::new, |raw| format!(" prev {}", row(raw)))
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Put { revision, prev_kv } => {
            format!("put revision={revision}{}", prev(prev_kv.as_ref()))
        }
        Outcome::DeleteRange { revision, deleted, prev_kvs } => {
            format!("deleted {deleted} revision={revision} {}", rows(prev_kvs))
                .trim_end()
                .to_owned()
        }
        Outcome::Txn(txn) => {
            let ops = ops_text(&txn.responses);
            format!("txn revision={} succeeded={} [{ops}]", txn.revision, txn.succeeded)
        }
        other => format!("{other:?}"),
    }
}

fn ops_text(ops: &[OpOutcome]) -> String {
    ops.iter().map(op_text).collect::<Vec<_>>().join("; ")
}

fn op_text(op: &OpOutcome) -> String {
    match op {
        OpOutcome::Range(range) => {
            format!("range revision={} count={} {}", range.revision, range.count, rows(&range.kvs))
                .trim_end()
                .to_owned()
        }
        OpOutcome::Put { revision, prev_kv } => {
            format!("put revision={revision}{}", prev(prev_kv.as_ref()))
        }
        OpOutcome::DeleteRange { revision, deleted, prev_kvs } => {
            format!("deleted {deleted} revision={revision} {}", rows(prev_kvs))
                .trim_end()
                .to_owned()
        }
        OpOutcome::Txn { succeeded, responses } => {
            format!("txn succeeded={succeeded} [{}]", ops_text(responses))
        }
    }
}

fn replay(script: &str) -> String {
    let mut state = State::new();
    let mut text = String::new();
    for block in script.split("\n\n") {
        let commands = block.split("----").next().expect("a block").trim();
        if commands.is_empty() {
            continue;
        }
        if commands.lines().all(|line| line.starts_with('#')) {
            let _ = writeln!(text, "{commands}\n");
            continue;
        }
        let lines = commands.lines().filter(|line| !line.starts_with('#'));
        let output: String = lines.map(|line| state.run(line)).collect();
        let _ = writeln!(text, "{commands}\n----\n{output}");
    }
    text
}

#[test]
fn scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for file in fs::read_dir(dir).expect("scripts") {
        let path = file.expect("script").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let script = fs::read_to_string(&path).expect("script");
        let replayed = replay(&script);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, replayed).expect("script");
        } else {
            assert_eq!(replayed, script, "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 6, "scripts are missing");
}
