//! One bit of a record's frame or head is not what was written. The checksum covers a record's data alone, so what
//! the data is taken for must be told in other ways.

use std::ops::Range;
use std::path::PathBuf;

use env::MemDisk;
use raft::{Entry, EntryType, HardState};
use wal::{Replay, SnapshotRecord, Wal};

use crate::support::{
    create, dir, disk, disk_with, entry, files, open, options, snapshot, state, text,
};

const SEGMENT_BYTES: u64 = 640;
/// Ids of members are hashes; a small one could be a term.
const ID: u64 = 0x8e9e_05c5_2164_694d;

enum Step {
    Save(HardState, Vec<Entry>),
    Snapshot(SnapshotRecord),
}

/// What a member writes: founders, an election, entries with and without data, a snapshot, a term in which it has not
/// voted, and each kind of record as the last one of some prefix.
fn history() -> Vec<Step> {
    let founder = |index| Entry { entry_type: EntryType::ConfChange, ..entry(1, index, "founder") };
    vec![
        Step::Save(state(1, ID, 3), (1..=3).map(founder).collect()),
        Step::Save(state(2, ID, 3), vec![entry(2, 4, "")]),
        Step::Save(HardState::default(), vec![entry(2, 5, vec![5; 100])]),
        Step::Save(state(2, ID, 5), Vec::new()),
        Step::Snapshot(snapshot(2, 5)),
        Step::Save(state(3, 0, 5), vec![entry(3, 6, "")]),
        Step::Save(state(3, 0, 6), vec![entry(3, 7, vec![7; 30]), entry(3, 8, vec![8; 300])]),
        Step::Save(state(3, 0, 8), Vec::new()),
        Step::Save(state(4, ID, 8), vec![entry(4, 9, vec![9; 200])]),
        Step::Save(HardState::default(), vec![entry(4, 10, "")]),
    ]
}

fn written(steps: &[Step]) -> Vec<(PathBuf, Vec<u8>)> {
    let disk = disk();
    let mut wal = create(&disk, SEGMENT_BYTES);
    for step in steps {
        match step {
            Step::Save(state, entries) => wal.save(state, entries, true),
            Step::Snapshot(snapshot) => wal.save_snapshot(snapshot),
        }
        .expect("written");
    }
    drop(wal);
    files(&disk)
}

/// Where the frames and heads of the records are, without the data.
fn heads(segment: &[u8]) -> Vec<Range<usize>> {
    let mut heads = Vec::new();
    let mut at = 0;
    while let Some(length) = segment.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let field = u64::from_le_bytes(*length);
        let record = field as usize & ((1 << 32) - 1);
        if record == 0 {
            break;
        }
        // Type, checksum, tag and length of the data.
        heads.push(at..at + 8 + record.min(11));
        at = (at + 8 + record).next_multiple_of(8);
    }
    heads
}

/// All that a start learns from a log, and that it can go on with it.
fn read(disk: &MemDisk, from: &SnapshotRecord) -> Result<(Replay, Vec<SnapshotRecord>), String> {
    let snapshots = wal::valid_snapshots(disk, dir()).map_err(|err| err.to_string())?;
    let seen = wal::open_for_read(disk, dir(), from).map_err(|err| err.to_string())?;
    let opened = Wal::open(disk.clone(), dir(), from, options(SEGMENT_BYTES));
    let (mut wal, replay) = opened.map_err(|err| err.to_string())?;
    assert_eq!(text(&seen), text(&replay));
    let index = replay.entries.last().map_or(from.index, |last| last.index) + 1;
    // The second one begins a segment.
    for index in [index, index + 1] {
        let entries = [entry(5, index, vec![1; 700])];
        wal.save(&state(5, ID, index - 1), &entries, true).map_err(|err| err.to_string())?;
    }
    drop(wal);
    let again = wal::open_for_read(disk, dir(), from).map_err(|err| err.to_string())?;
    assert_eq!(again.entries.last().map(|last| last.index), Some(index + 1));
    assert_eq!(again.entries.len(), replay.entries.len() + 2);
    Ok((replay, snapshots))
}

#[test]
fn a_changed_bit_in_a_head_is_noticed_or_has_no_effect() {
    let steps = history();
    let mut silent = Vec::new();
    let mut looked = 0;
    for len in 1..=steps.len() {
        let files = written(&steps[..len]);
        let mut starts = vec![SnapshotRecord::default()];
        starts.extend(steps[..len].iter().filter_map(|step| match step {
            Step::Snapshot(snapshot) => Some(snapshot.clone()),
            Step::Save(..) => None,
        }));
        for from in starts {
            let whole = read(&disk_with(&files), &from).expect("nothing is wrong");
            for segment in 0..files.len() {
                for at in heads(&files[segment].1).into_iter().flatten() {
                    for bit in 0..8 {
                        let mut damaged = files.clone();
                        damaged[segment].1[at] ^= 1 << bit;
                        looked += 1;
                        if let Ok(found) = read(&disk_with(&damaged), &from)
                            && found != whole
                        {
                            let (was, is) = (text(&whole.0), text(&found.0));
                            let place =
                                format!("{len} steps, from {}, {segment}:{at}.{bit}", from.index);
                            silent.push(format!("{place}: {was}\n  as {is}"));
                        }
                    }
                }
            }
        }
    }
    assert!(looked > 10_000, "{looked}");
    assert!(silent.is_empty(), "{} of {looked}:\n{}", silent.len(), silent.join("\n"));
}

/// As the data of a record of another type would be.
#[test]
fn a_segment_begins_with_its_head() {
    let files = written(&history()[..1]);
    for (number, byte) in [(0, 5), (1, 3), (1, 5)] {
        let mut damaged = files.clone();
        let head = heads(&damaged[0].1)[number].clone();
        // Behind the frame and the tag of the type.
        damaged[0].1[head.start + 9] = byte;
        let err = open(&disk_with(&damaged), SEGMENT_BYTES).expect_err("refused").to_string();
        assert!(err.starts_with("wal: a segment must begin with"), "{err}");
    }
}
