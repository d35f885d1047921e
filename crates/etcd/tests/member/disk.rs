//! Damaged directories and failing disks: a member serves every acknowledged write, or says which
//! file is at fault and ends with code 1.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;

use crate::client::Client;
use crate::support::{End, Launch, Outcome, Scratch, copy_dir};

const SEGMENT: &str = "member/wal/0000000000000000-0000000000000000.wal";
const DB: &str = "member/snap/db";
const PAGE: u64 = 4096;

/// Keys with value and revision.
type Rows = BTreeMap<Bytes, (Bytes, i64)>;

/// Writes in the order of their revisions, the first of which makes revision 2.
struct History(Vec<(Bytes, Option<Bytes>)>);

impl History {
    /// Puts, some to the same keys, and a few deletions.
    fn write(client: &Client, writes: usize) -> Self {
        let mut history = Self(Vec::new());
        history.extend(client, writes, (writes * 2 / 3).max(1));
        history
    }

    /// Goes on up to so many writes, to so many keys.
    fn extend(&mut self, client: &Client, writes: usize, keys: usize) {
        let history = &mut self.0;
        for number in history.len()..writes {
            let key = Bytes::from(format!("key/{:03}", number % keys));
            if number % 10 == 9 {
                let (earlier, _): &(Bytes, _) = &history[number - 5];
                let earlier = earlier.clone();
                client.delete(&earlier).expect("delete");
                history.push((earlier, None));
            } else {
                let value = Bytes::from(format!("{number}:").repeat(1 + number % 30));
                client.put(&key, &value).expect("put");
                history.push((key, Some(value)));
            }
        }
    }

    fn revision(&self) -> i64 {
        1 + self.0.len() as i64
    }

    /// What the store held at a revision.
    fn rows_at(&self, revision: i64) -> Rows {
        let mut rows = BTreeMap::new();
        for ((key, value), revision) in self.0.iter().zip(2..=revision) {
            match value {
                Some(value) => rows.insert(key.clone(), (value.clone(), revision)),
                None => rows.remove(key),
            };
        }
        rows
    }
}

/// Writes a directory and ends the server as told.
fn fixture(scratch: &Scratch, flags: &[&str], writes: usize, is_killed: bool) -> History {
    let server = Launch::new(&scratch.data()).flags(flags).start();
    let history = History::write(&server.client(), writes);
    if is_killed {
        server.kill()
    } else {
        server.terminate()
    };
    history
}

/// Everything stays in the log, and the database is as good as empty.
const LOG_ONLY: &[&str] = &["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];

/// What became of a damaged directory.
#[derive(Debug)]
enum Verdict {
    /// It serves the store as it was at a revision, and takes writes that last.
    Serves(i64),
    /// It ended, before or while it served.
    Refuses(End),
}

/// A copy of the directory, damaged, and the start of a server on it.
fn verdict(scratch: &Scratch, history: &History, damage: impl FnOnce(&Path)) -> Verdict {
    let dir = scratch.join("damaged");
    let _ = fs::remove_dir_all(&dir);
    copy_dir(&scratch.data(), &dir);
    damage(&dir);
    let launch = Launch::new(&dir);
    let server = match launch.run() {
        Outcome::Ended(end) => return Verdict::Refuses(end),
        Outcome::Serving(server) => server,
    };
    let client = server.client();
    let Ok((revision, kvs)) = client.all() else { return Verdict::Refuses(server.wait()) };
    let rows: Rows = kvs.into_iter().map(|kv| (kv.key, (kv.value, kv.mod_revision))).collect();
    assert_eq!(rows, history.rows_at(revision), "the store at revision {revision} is another");
    let Ok(next) = client.put(b"after", b"damage") else { return Verdict::Refuses(server.wait()) };
    assert_eq!(next, revision + 1);
    server.kill();
    let server = launch.start();
    assert_eq!(server.client().get(b"after").expect("get"), Some(Bytes::from_static(b"damage")));
    assert_eq!(server.terminate().signal(), Some(15));
    Verdict::Serves(revision)
}

/// The end is code 1, and every error names the file.
fn assert_names(end: &End, file: &str, what: &str) {
    assert_eq!(end.code(), 1, "{what}");
    let errors = end.errors();
    assert!(!errors.is_empty(), "{what}: no error in\n{}", end.log());
    for error in errors {
        assert!(error.contains(file), "{what}: {error}");
    }
}

fn segment_name() -> &'static str {
    SEGMENT.rsplit('/').next().expect("a name")
}

fn open(path: PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("open")
}

fn flip(path: PathBuf, offset: u64, bits: u8) {
    let file = open(path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ bits], offset).expect("write");
}

/// A record's place in a segment.
#[derive(Clone, Copy, Debug)]
struct Frame {
    start: u64,
    end: u64,
    padding: u64,
    is_entry: bool,
}

fn frames(segment: &Path) -> Vec<Frame> {
    let file = File::open(segment).expect("open");
    let mut frames = Vec::new();
    let mut start = 0;
    loop {
        let mut head = [0; 16];
        file.read_exact_at(&mut head, start).expect("read");
        let word = u64::from_le_bytes(head[..8].try_into().expect("eight"));
        if word == 0 {
            return frames;
        }
        let padding = if word >> 63 == 1 { word >> 56 & 7 } else { 0 };
        let end = start + 8 + (word & ((1 << 56) - 1)) + padding;
        frames.push(Frame { start, end, padding, is_entry: head[8..10] == [8, 2] });
        start = end;
    }
}

#[test]
fn a_cut_log_gives_the_writes_before_the_cut() {
    let scratch = Scratch::new("log-cut");
    let history = fixture(&scratch, LOG_ONLY, 60, true);
    let frames = frames(&scratch.data().join(SEGMENT));
    let entries = frames.iter().filter(|frame| frame.is_entry).count();
    let founding = entries - history.0.len();
    let whole = |len: u64| frames.iter().filter(|frame| frame.is_entry && frame.end <= len).count();
    let mut lengths = vec![0, 1];
    for (number, frame) in frames.iter().enumerate() {
        let is_last = number + 4 > frames.len();
        if is_last || number < 12 || number % 16 == 0 {
            let middle = frame.start.midpoint(frame.end);
            lengths.extend([frame.start, frame.start + 3, middle, frame.end - 1, frame.end]);
        }
    }
    for len in lengths {
        let what = format!("cut at {len}");
        match verdict(&scratch, &history, |dir| open(dir.join(SEGMENT)).set_len(len).expect("cut"))
        {
            Verdict::Serves(revision) => {
                let expected = 1 + whole(len).saturating_sub(founding) as i64;
                assert_eq!(revision, expected, "{what}");
            }
            Verdict::Refuses(end) => {
                assert_names(&end, "wal", &what);
                assert!(whole(len) <= founding, "{what}: {}", end.log());
            }
        }
    }
}

#[test]
fn a_cut_log_is_refused_if_the_database_has_more() {
    let scratch = Scratch::new("log-behind");
    let history = fixture(&scratch, &[], 30, false);
    let frames = frames(&scratch.data().join(SEGMENT));
    let cut = frames[frames.len() - 10].start;
    match verdict(&scratch, &history, |dir| open(dir.join(SEGMENT)).set_len(cut).expect("cut")) {
        Verdict::Serves(revision) => assert_eq!(revision, history.revision()),
        Verdict::Refuses(end) => {
            assert_eq!(end.code(), 1);
            assert!(!end.errors().is_empty());
        }
    }
}

#[test]
fn a_flipped_bit_in_the_log_is_found() {
    let scratch = Scratch::new("log-flip");
    let history = fixture(&scratch, LOG_ONLY, 40, true);
    let frames = frames(&scratch.data().join(SEGMENT));
    let mut refused = 0;
    for (number, frame) in frames.iter().enumerate() {
        let is_last = number + 3 > frames.len();
        if !is_last && number > 8 && number % 13 != 0 {
            continue;
        }
        let data_end = frame.end - frame.padding;
        let places = [
            (frame.start, 1),
            (frame.start, 0x40),
            (frame.start + 1, 1),
            (frame.start + 6, 1),
            (frame.start + 7, 1),
            (frame.start + 7, 0x80),
            (frame.start + 8, 1),
            (frame.start + 9, 2),
            (frame.start + 11, 0x10),
            (data_end.midpoint(frame.start + 8), 4),
            (data_end - 1, 1),
        ];
        for (offset, bits) in places {
            let what = format!("bits {bits:x} at {offset} in record {number} {frame:?}");
            match verdict(&scratch, &history, |dir| flip(dir.join(SEGMENT), offset, bits)) {
                Verdict::Serves(revision) => assert_eq!(revision, history.revision(), "{what}"),
                Verdict::Refuses(end) => {
                    assert_names(&end, segment_name(), &what);
                    assert!(end.errors()[0].contains(" at position: "), "{what}: {}", end.log());
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100, "{refused} of {} records' damages were found", frames.len());
}

#[test]
fn a_sector_that_was_never_written_ends_the_log() {
    let scratch = Scratch::new("log-torn");
    let history = fixture(&scratch, LOG_ONLY, 40, true);
    let frames = frames(&scratch.data().join(SEGMENT));
    let last_entry = frames.iter().rev().find(|frame| frame.is_entry).expect("an entry");
    // From the last sector boundary inside the last record of a write, if it has one; else all.
    let from = last_entry.end.saturating_sub(1) / 512 * 512;
    let from = from.max(last_entry.start);
    let lost = frames.iter().filter(|frame| frame.is_entry && frame.end > from).count() as i64;
    let torn = verdict(&scratch, &history, |dir| {
        let zeros = vec![0; (64_000_000 - from).min(1 << 20) as usize];
        open(dir.join(SEGMENT)).write_all_at(&zeros, from).expect("write");
    });
    match torn {
        Verdict::Serves(revision) => assert_eq!(revision, history.revision() - lost),
        Verdict::Refuses(end) => panic!("{}", end.log()),
    }
}

#[test]
fn one_meta_page_is_enough_and_two_bad_ones_are_refused() {
    let scratch = Scratch::new("db-meta");
    let history = fixture(&scratch, &["--backend-batch-limit=5"], 30, false);
    let damage = |pages: &'static [u64], offset: u64| {
        let scratch = &scratch;
        let history = &history;
        verdict(scratch, history, move |dir| {
            pages.iter().for_each(|page| flip(dir.join(DB), page * PAGE + offset, 0x10));
        })
    };
    // Page header's flags, then the meta's magic, root page, transaction id and checksum.
    for offset in [8, 16, 32, 16 + 48, 16 + 56] {
        for page in [&[0][..], &[1]] {
            match damage(page, offset) {
                Verdict::Serves(revision) => assert_eq!(revision, history.revision()),
                Verdict::Refuses(end) => panic!("page {page:?} offset {offset}: {}", end.log()),
            }
        }
    }
    for offset in [16, 32, 16 + 48, 16 + 56] {
        let Verdict::Refuses(end) = damage(&[0, 1], offset) else { panic!("serves") };
        assert_names(&end, DB, "both meta pages");
    }
}

#[test]
fn a_cut_database_is_rebuilt_or_refused() {
    let scratch = Scratch::new("db-cut");
    let history = fixture(&scratch, &["--backend-batch-limit=5"], 60, false);
    for len in [0, 1, 100, PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE + 100, 8 * PAGE] {
        let what = format!("cut at {len}");
        match verdict(&scratch, &history, |dir| open(dir.join(DB)).set_len(len).expect("cut")) {
            // The log begins with the cluster: it is all there is to know.
            Verdict::Serves(revision) => assert_eq!(revision, history.revision(), "{what}"),
            Verdict::Refuses(end) => assert_names(&end, DB, &what),
        }
    }
}

/// There are no checksums in bbolt's pages: damage inside a value is not seen. But whatever is
/// seen ends the member in good order.
#[test]
fn a_damaged_page_of_the_database_never_crashes_the_member() {
    let scratch = Scratch::new("db-page");
    fixture(&scratch, &["--backend-batch-limit=5"], 60, false);
    let pages = {
        let db = File::open(scratch.data().join(DB)).expect("open");
        let mut page = vec![0; PAGE as usize];
        let is_used = |number: &u64| {
            db.read_exact_at(&mut page, number * PAGE).expect("read");
            page.iter().any(|&byte| byte != 0)
        };
        (2..100).filter(is_used).collect::<Vec<u64>>()
    };
    let dir = scratch.join("damaged");
    let mut refused = 0;
    let mut step = 0_u64;
    for &page in &pages {
        for place in 0..6 {
            // The header, the rows' table, and a row's bytes.
            step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(page + 1);
            let offset = match place {
                0 => 8,
                1 => 10,
                2 => 12,
                3 => 16 + step % 64,
                4 => 16 + (step >> 32) % 300,
                _ => (step >> 20) % PAGE,
            };
            let _ = fs::remove_dir_all(&dir);
            copy_dir(&scratch.data(), &dir);
            flip(dir.join(DB), page * PAGE + offset, 1 << (step >> 60 & 7));
            let what = format!("page {page} offset {offset}");
            match Launch::new(&dir).run() {
                Outcome::Ended(end) => {
                    assert_names(&end, DB, &what);
                    refused += 1;
                }
                Outcome::Serving(server) => {
                    let client = server.client();
                    if client.all().is_ok() && client.put(b"after", b"damage").is_ok() {
                        let end = server.terminate();
                        if end.signal() != Some(15) {
                            assert_names(&end, DB, &what);
                        }
                    } else {
                        assert_names(&server.wait(), DB, &what);
                    }
                }
            }
        }
    }
    assert!(refused > 0, "no damage was seen in {} pages", pages.len());
}

/// A directory with several snapshot files.
fn with_snapshots(scratch: &Scratch) -> (History, Vec<String>) {
    let flags = ["--snapshot-count=10", "--snapshot-catchup-entries=2", "--backend-batch-limit=5"];
    let server = Launch::new(&scratch.data()).flags(&flags).start();
    let client = server.client();
    let mut history = History(Vec::new());
    // Over how many writes the next snapshot reaches depends on how fast the disk is.
    while snapshots(scratch).len() < 3 {
        let writes = history.0.len() + 15;
        assert!(writes < 3_000, "{:?}", snapshots(scratch));
        history.extend(&client, writes, 30);
    }
    server.terminate();
    let snaps = snapshots(scratch);
    (history, snaps)
}

/// The names of the snapshot files, the newest last.
fn snapshots(scratch: &Scratch) -> Vec<String> {
    let mut snaps: Vec<String> = fs::read_dir(scratch.data().join("member/snap"))
        .expect("list")
        .map(|entry| entry.expect("list").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.ends_with(".snap"))
        .collect();
    snaps.sort();
    snaps
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let scratch = Scratch::new("snap");
    let (history, snaps) = with_snapshots(&scratch);
    let newest = snaps.last().expect("a snapshot");
    let path = |dir: &Path, name: &str| dir.join("member/snap").join(name);
    for offset in [0, 2, 5, 9, 20] {
        match verdict(&scratch, &history, |dir| flip(path(dir, newest), offset, 4)) {
            Verdict::Serves(revision) => assert_eq!(revision, history.revision()),
            Verdict::Refuses(end) => panic!("{}", end.log()),
        }
        let broken = path(&scratch.join("damaged"), &format!("{newest}.broken"));
        assert!(broken.exists(), "offset {offset}");
    }
    for len in [0, 1, 10] {
        let cut = |dir: &Path| open(path(dir, newest)).set_len(len).expect("cut");
        match verdict(&scratch, &history, cut) {
            Verdict::Serves(revision) => assert_eq!(revision, history.revision()),
            Verdict::Refuses(end) => panic!("{}", end.log()),
        }
    }
    // The log is whole: it does without snapshots.
    let all_gone = verdict(&scratch, &history, |dir| {
        snaps.iter().for_each(|name| fs::remove_file(path(dir, name)).expect("remove"));
    });
    match all_gone {
        Verdict::Serves(revision) => assert_eq!(revision, history.revision()),
        Verdict::Refuses(end) => panic!("{}", end.log()),
    }
}

#[test]
fn missing_files_are_rebuilt_or_refused() {
    let scratch = Scratch::new("missing");
    let (history, _) = with_snapshots(&scratch);
    let wal_dir = |dir: &Path| dir.join("member/wal");
    // What a snapshot stands for is in the database alone.
    match verdict(&scratch, &history, |dir| fs::remove_file(dir.join(DB)).expect("remove")) {
        Verdict::Serves(revision) => assert_eq!(revision, history.revision()),
        Verdict::Refuses(end) => assert_names(&end, "db", "no database"),
    }
    match verdict(&scratch, &history, |dir| fs::remove_dir_all(wal_dir(dir)).expect("remove")) {
        Verdict::Serves(revision) => panic!("serves revision {revision} without a log"),
        Verdict::Refuses(end) => assert_names(&end, "wal", "no log"),
    }
    match verdict(&scratch, &history, |dir| fs::remove_file(dir.join(SEGMENT)).expect("remove")) {
        Verdict::Serves(revision) => panic!("serves revision {revision} without a log"),
        Verdict::Refuses(end) => assert_names(&end, "wal", "no segment"),
    }
    for name in [SEGMENT, DB] {
        let replaced = verdict(&scratch, &history, |dir| {
            fs::remove_file(dir.join(name)).expect("remove");
            fs::create_dir(dir.join(name)).expect("create");
        });
        let Verdict::Refuses(end) = replaced else { panic!("serves from a directory") };
        assert_names(&end, name.rsplit('/').next().expect("a name"), "a directory");
    }
    let with_others = verdict(&scratch, &history, |dir| {
        for name in ["member/wal/notes.txt", "member/wal/0.tmp", "member/snap/tmp123", "README"] {
            fs::write(dir.join(name), "x").expect("write");
        }
    });
    match with_others {
        Verdict::Serves(revision) => assert_eq!(revision, history.revision()),
        Verdict::Refuses(end) => panic!("{}", end.log()),
    }
}

/// Whether system calls can be made to fail here.
pub(crate) fn has_strace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-e", "trace=none", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().is_ok_and(|status| status.success())
}

#[test]
fn a_failing_disk_ends_the_member_and_loses_nothing() {
    if !has_strace() {
        eprintln!("skipped: no strace, so that no system call can be made to fail");
        return;
    }
    for (call, error) in [
        ("fdatasync", "EIO"),
        ("fdatasync", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("fsync", "EIO"),
        ("fallocate", "EIO"),
    ] {
        for when in [1, 4, 15, 30] {
            fail(call, error, when);
        }
    }
}

/// Lets the n-th call of a kind fail, while a client writes.
fn fail(call: &str, error: &str, when: usize) {
    let scratch = Scratch::new("strace");
    let trace = scratch.join("trace");
    let inject = format!("--inject={call}:error={error}:when={when}");
    let launch = Launch::new(&scratch.data()).flags(&["--snapshot-count=10"]).under(&[
        "strace",
        "-D",
        "-f",
        "-qq",
        "-e",
        &format!("trace={call}"),
        &inject,
        "-o",
        trace.to_str().expect("UTF-8"),
    ]);
    let what = format!("{call} {when} {error}");
    let mut acknowledged = 0;
    let end = match launch.run() {
        Outcome::Ended(end) => end,
        Outcome::Serving(server) => {
            let client = server.client();
            while acknowledged < 60
                && client.put(b"count", (acknowledged + 1).to_string().as_bytes()).is_ok()
            {
                acknowledged += 1;
            }
            if acknowledged < 60 { server.wait() } else { server.kill() }
        }
    };
    let trace = fs::read_to_string(&trace).expect("read");
    let failed = trace.lines().position(|line| line.contains("(INJECTED)"));
    if let Some(failed) = failed {
        // A failed sync is not tried again, neither is anything acknowledged after it.
        assert_eq!(end.code(), 1, "{what}");
        assert!(end.log().contains("\"level\":\"fatal\""), "{what}: {}", end.log());
        let is_named = end.errors().iter().all(|error| error.contains("data/member"));
        assert!(is_named, "{what}: {}", end.log());
        let descriptor = |line: &str| {
            let after = line.split_once(&format!("{call}("))?.1;
            after.split([')', ',', ' ']).next().map(str::to_owned)
        };
        let line = trace.lines().nth(failed).expect("found above");
        if call == "fdatasync"
            && let Some(file) = descriptor(line)
        {
            let again = trace
                .lines()
                .skip(failed + 1)
                .any(|line| descriptor(line).is_some_and(|other| other == file));
            assert!(!again, "{what}: synced again\n{trace}");
        }
    }
    let server = Launch::new(&scratch.data()).start();
    let value = server.client().get(b"count").expect("get");
    let found: usize =
        value.map_or(0, |value| String::from_utf8_lossy(&value).parse().expect("a number"));
    assert!(found == acknowledged || found == acknowledged + 1, "{what}: {found} {acknowledged}");
    server.terminate();
}
