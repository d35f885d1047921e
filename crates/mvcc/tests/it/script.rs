//! Runs the scripts of `testdata`: commands, `----`, and what they say. `UPDATE=1` rewrites them.

use std::collections::VecDeque;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use backend::Bucket;
use env::MemDisk;
use mvcc::watch::{Command, Create, Hub, Kind, Options, Response};
use mvcc::{CompactionProgress, EventBatch, RangeArgs, Rev, SortOrder, SortTarget, WriteTxn};

use crate::harness::{Member, show_bytes, show_event, show_row};

#[test]
#[expect(clippy::disallowed_methods, reason = "the scripts are files, and UPDATE rewrites them")]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it is read").path()).collect();
    files.sort();
    assert!(files.len() >= 4);
    for file in files {
        let before = fs::read_to_string(&file).expect("the file is text");
        let after = run(&before);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, after).expect("the file is written");
        } else {
            assert!(before == after, "{}:\n{after}", file.display());
        }
    }
}

/// The script with what its commands say now.
fn run(script: &str) -> String {
    let mut world = World::new();
    let mut after = String::new();
    for block in script.trim_end().split("\n\n") {
        let commands = block.split_once("\n----").map_or(block, |(commands, _)| commands);
        let _ = writeln!(after, "{commands}");
        let mut said = String::new();
        let lines: Vec<&str> = commands.lines().filter(|line| !line.starts_with('#')).collect();
        let mut lines = VecDeque::from(lines);
        let quiet = lines.is_empty();
        while let Some(line) = lines.pop_front() {
            world.run(line, &mut lines, &mut said);
        }
        if !quiet {
            let _ = writeln!(after, "----\n{}", if said.is_empty() { "ok\n" } else { &said });
        } else {
            after.push('\n');
        }
    }
    after.truncate(after.trim_end().len());
    after + "\n"
}

struct World {
    member: Member,
    hub: Hub,
    /// Batches that the hub has not seen, while they are held back.
    held: Option<Vec<EventBatch>>,
    out: Vec<Response>,
    now: Duration,
}

/// The words of a command: those by position, and `name=value` or bare flags.
struct Words<'a> {
    plain: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        Self { plain: line.split_whitespace().collect() }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let values = self.plain.iter().filter_map(|word| word.split_once('='));
        values.filter(|(word, _)| *word == name).map(|(_, value)| value).next()
    }

    fn number(&self, name: &str) -> i64 {
        self.get(name).map_or(0, |value| value.parse().expect("a number"))
    }

    fn flag(&self, name: &str) -> bool {
        self.plain.contains(&name)
    }

    fn key(&self, position: usize) -> Vec<u8> {
        let word = self.plain.get(position).filter(|word| !word.contains('='));
        let word = word.filter(|word| !["prev", "keys-only", "count-only"].contains(word));
        word.map_or_else(Vec::new, |word| {
            if *word == "''" { Vec::new() } else { word.replace("\\0", "\0").into_bytes() }
        })
    }
}

impl World {
    fn new() -> Self {
        let member = Member::open(MemDisk::new());
        let hub = Hub::new(hub_options(), member.store.reader());
        Self { member, hub, held: None, out: Vec::new(), now: Duration::ZERO }
    }

    fn run(&mut self, line: &str, rest: &mut VecDeque<&str>, said: &mut String) {
        let words = Words::new(line);
        match words.plain[0] {
            "put" | "delete" => self.txn([line].into(), said),
            "txn" => self.txn(std::mem::take(rest).into(), said),
            "range" => self.range(&words, said),
            "chunks" => self.chunks(&words, said),
            "compact" => {
                let member = &mut self.member;
                let revision = words.plain[1].parse().expect("a revision");
                if let Err(error) = member.store.compact(&mut member.backend, revision) {
                    let _ = writeln!(said, "{error}");
                }
            }
            "step" | "finish" => self.compaction(&words, said),
            "commit" => self.member.commit(),
            "restart" => self.restart(said),
            "rows" => self.rows(said),
            "hash" => {
                let revision = words.plain[1].parse().expect("a revision");
                let _ = match self.member.store.reader().hash_kv(revision) {
                    Ok((hash, current)) => writeln!(said, "{hash:?} current {current}"),
                    Err(error) => writeln!(said, "{error}"),
                };
            }
            "revision" => {
                let store = &self.member.store;
                let (current, compact) = (store.revision(), store.compact_revision());
                let _ = writeln!(said, "current {current} compact {compact}");
            }
            _ => self.watch(&words, said),
        }
        self.say_responses(said);
    }

    fn txn(&mut self, lines: Vec<&str>, said: &mut String) {
        let want_prev = self.hub.want_prev().get();
        let member = &mut self.member;
        let mut txn = member.store.begin(&mut member.backend, want_prev);
        for line in lines {
            operation(&mut txn, &Words::new(line), said);
        }
        if let Some(batch) = txn.finish() {
            let _ = writeln!(said, "revision {}", batch.revision);
            match &mut self.held {
                Some(held) => held.push(batch),
                None => self.hub.notify(&batch, &mut self.out),
            }
        }
    }

    fn range(&mut self, words: &Words<'_>, said: &mut String) {
        let (key, end) = (words.key(1), words.key(2));
        let mut rows = String::new();
        let result = self.member.store.reader().range(&range_args(words, &key, &end), |row| {
            let _ = writeln!(rows, "  {}", show_row(&row));
        });
        say_range(result, &rows, said);
    }

    fn chunks(&mut self, words: &Words<'_>, said: &mut String) {
        let (mut key, end) = (words.key(1), words.key(2));
        let reader = self.member.store.reader();
        let mut args = range_args(words, b"", &end);
        loop {
            let from = std::mem::take(&mut key);
            let chunk = reader.range_chunk(&RangeArgs { key: &from, ..args }, |row| {
                let _ = writeln!(said, "  {}", show_row(&row));
            });
            let Ok(chunk) = chunk.map_err(|error| writeln!(said, "{error}")) else { return };
            let _ = writeln!(said, "chunk of {} at {}", chunk.rows, chunk.revision);
            let Some(next) = chunk.next else { return };
            key = next;
            if args.revision == 0 {
                args.revision = chunk.revision;
            }
        }
    }

    fn compaction(&mut self, words: &Words<'_>, said: &mut String) {
        let member = &mut self.member;
        if words.plain[0] == "step" {
            let limit = usize::try_from(words.number("limit")).expect("a size");
            let step = member.store.compaction_step(&mut member.backend, limit);
            let _ = writeln!(said, "{:?}", step.expect("the backend is well"));
            return;
        }
        for progress in member.compact_all(1000) {
            if let CompactionProgress::Finished { revision, hash, .. } = progress {
                let _ = writeln!(said, "finished {revision}, {hash:?}");
            }
        }
    }

    fn restart(&mut self, said: &mut String) {
        let member = self.member.restart();
        self.hub = Hub::new(hub_options(), member.store.reader());
        for (key, lease) in &member.leases {
            let _ = writeln!(said, "{} has lease {lease}", show_bytes(key));
        }
        self.member = member;
    }

    fn rows(&mut self, said: &mut String) {
        let reader = self.member.backend.reader();
        let scanned = reader.scan(Bucket::Key, b"", b"", 0, |key, value| {
            let (rev, tombstone) = Rev::from_key(key).expect("a revision");
            let mark = if tombstone { "t" } else { "" };
            let _ = writeln!(said, "{}/{}{mark} {}", rev.main, rev.sub, show_row(value));
            std::ops::ControlFlow::Continue(())
        });
        scanned.expect("the backend is well");
    }

    fn watch(&mut self, words: &Words<'_>, said: &mut String) {
        let stream = words.number("s").cast_unsigned();
        let watch_id = words.number("id");
        let command = match words.plain[0] {
            "watch" => Command::Create(Create {
                stream,
                watch_id,
                key: words.key(1).into(),
                range_end: words.key(2).into(),
                start_revision: words.number("rev"),
                progress_notify: words.get("notify").is_some(),
                no_put: words.get("noput").is_some(),
                no_delete: words.get("nodelete").is_some(),
                prev_kv: words.get("prev").is_some(),
                fragment: words.get("fragment").is_some(),
            }),
            "cancel" => Command::Cancel { stream, watch_id },
            "progress" => Command::Progress { stream },
            "close" => Command::Close { stream },
            "ack" => {
                let responses = u32::try_from(words.number("n")).expect("a number");
                Command::Ack { stream, responses }
            }
            "hold" => return self.held = Some(Vec::new()),
            "release" => {
                for batch in self.held.take().unwrap_or_default() {
                    self.hub.notify(&batch, &mut self.out);
                }
                return;
            }
            "lose" => {
                self.held = None;
                let revision = self.member.store.revision();
                return self.hub.missed(revision);
            }
            "sync" => {
                while self.hub.has_work() {
                    self.hub.sync(self.now, &mut self.out).expect("the backend is well");
                }
                return;
            }
            "tick" => {
                self.now += Duration::from_millis(words.number("ms").cast_unsigned());
                return self.hub.tick(self.now, &mut self.out);
            }
            "stats" => {
                let _ = writeln!(said, "{:?}", self.hub.stats());
                return;
            }
            unknown => panic!("no command {unknown}"),
        };
        self.hub.command(command, &mut self.out);
    }

    fn say_responses(&mut self, said: &mut String) {
        for Response { stream, watch_id, revision, kind } in self.out.drain(..) {
            let _ = write!(said, "stream {stream} watch {watch_id} header {revision}: ");
            let _ = match kind {
                Kind::Created => writeln!(said, "created"),
                Kind::Refused(refusal) => writeln!(said, "created and canceled: {refusal}"),
                Kind::Canceled => writeln!(said, "canceled"),
                Kind::Compacted { compact_revision } => {
                    writeln!(said, "canceled, compacted at {compact_revision}")
                }
                Kind::Progress => writeln!(said, "progress"),
                Kind::Events { events, prev_kv, fragment } => {
                    let fragment = if fragment { ", may be split" } else { "" };
                    let _ = writeln!(said, "events{fragment}");
                    for event in &events[..] {
                        let _ = writeln!(said, "  {}", show_event(event, prev_kv));
                    }
                    Ok(())
                }
            };
        }
    }
}

fn operation(txn: &mut WriteTxn<'_>, words: &Words<'_>, said: &mut String) {
    let (first, second) = (words.key(1), words.key(2));
    match words.plain[0] {
        "put" => {
            let put = txn.put(&first, &second, words.number("lease"), words.flag("prev"));
            let put = put.expect("the backend is well");
            if put.prev_lease != 0 {
                let _ = writeln!(said, "had lease {}", put.prev_lease);
            }
            if let Some(prev) = put.prev_kv {
                let _ = writeln!(said, "before: {}", show_row(&prev));
            }
        }
        "delete" => {
            let deleted = txn.delete_range(&first, &second, words.flag("prev"));
            let deleted = deleted.expect("the backend is well");
            let _ = writeln!(said, "deleted {}", deleted.keys.len());
            for (key, lease) in deleted.keys.iter().filter(|(_, lease)| *lease != 0) {
                let _ = writeln!(said, "{} had lease {lease}", show_bytes(key));
            }
            for prev in &deleted.prev_kvs {
                let _ = writeln!(said, "before: {}", show_row(prev));
            }
        }
        "get" => {
            let row = txn.get(&first).expect("the backend is well");
            let row = row.map_or_else(|| "nothing".into(), |row| show_row(&row));
            let _ = writeln!(said, "{row}, {:?}", txn.meta(&first));
        }
        "range" => {
            let mut rows = String::new();
            let result = txn.range(&range_args(words, &first, &second), |row| {
                let _ = writeln!(rows, "  {}", show_row(&row));
            });
            say_range(result, &rows, said);
        }
        unknown => panic!("no operation {unknown}"),
    }
}

fn say_range(result: Result<mvcc::RangeResult, mvcc::Error>, rows: &str, said: &mut String) {
    let _ = match result {
        Ok(result) => {
            let more = if result.more { ", more" } else { "" };
            write!(said, "count {} at {}{more}\n{rows}", result.count, result.revision)
        }
        Err(error) => {
            assert_eq!(rows, "");
            writeln!(said, "{error}")
        }
    };
}

fn range_args<'a>(words: &Words<'_>, key: &'a [u8], range_end: &'a [u8]) -> RangeArgs<'a> {
    RangeArgs {
        key,
        range_end,
        limit: words.number("limit"),
        revision: words.number("rev"),
        sort_order: match words.get("order") {
            Some("ascend") => SortOrder::Ascend,
            Some("descend") => SortOrder::Descend,
            _ => SortOrder::None,
        },
        sort_target: match words.get("by") {
            Some("version") => SortTarget::Version,
            Some("create") => SortTarget::Create,
            Some("mod") => SortTarget::Mod,
            Some("value") => SortTarget::Value,
            _ => SortTarget::Key,
        },
        keys_only: words.flag("keys-only"),
        count_only: words.flag("count-only"),
        min_mod_revision: words.number("min-mod"),
        max_mod_revision: words.number("max-mod"),
        min_create_revision: words.number("min-create"),
        max_create_revision: words.number("max-create"),
    }
}

/// Small, so that scripts come to the limits.
fn hub_options() -> Options {
    Options {
        progress_notify_interval: Duration::from_secs(1),
        seed: 7,
        outstanding_max: 8,
        outstanding_per_watcher: 0,
        outstanding_bytes_max: 256,
    }
}
