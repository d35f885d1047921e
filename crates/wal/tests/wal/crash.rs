//! Power failures at every operation, torn writes at every byte and sector, and changed bits.

use std::io::ErrorKind;
use std::path::PathBuf;

use env::{Fault, MemDisk};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use raft::{Entry, HardState};
use wal::{Error, Options, Wal};

use crate::support::{
    METADATA, create, dir, disk, disk_with, entry, files, open, options, read_file, segments,
    snapshot, state,
};

const SECTOR: usize = 512;

/// One call of `save`, from index `from` on.
#[derive(Clone, Debug)]
struct Save {
    state: HardState,
    entries: Vec<Entry>,
}

/// Saves whose entries follow each other, of sizes that fall into all places of a sector. Data is
/// never zero, so that a zeroed sector is always a change.
fn saves(count: usize) -> impl Strategy<Value = Vec<Save>> {
    let sizes = prop::collection::vec(prop::collection::vec(0_usize..1500, 0..5), 1..=count);
    (sizes, prop::collection::vec(any::<bool>(), count)).prop_map(|(sizes, has_state)| {
        let mut index = 0;
        let mut saves = Vec::new();
        for (save, sizes) in sizes.into_iter().enumerate() {
            let commit = index;
            let entries: Vec<Entry> = sizes
                .into_iter()
                .map(|size| {
                    index += 1;
                    entry(3, index, vec![0x55 ^ index as u8 | 1; size])
                })
                .collect();
            let state = if entries.is_empty() || has_state[save] {
                state(3, 1 + save as u64, commit)
            } else {
                HardState::default()
            };
            saves.push(Save { state, entries });
        }
        saves
    })
}

fn save(wal: &mut Wal<MemDisk>, save: &Save) -> Result<(), Error> {
    wal.save(&save.state, &save.entries, true)
}

fn entries(saves: &[Save]) -> Vec<Entry> {
    saves.iter().flat_map(|save| save.entries.iter().cloned()).collect()
}

/// The log must hold all entries of `synced`, and then a part of those of `rest`, in order.
fn check(found: &[Entry], synced: &[Save], rest: &[Save]) -> Result<(), String> {
    let must = entries(synced);
    let may = entries(&[synced, rest].concat());
    if found.len() < must.len() {
        return Err(format!("lost: {} of {} synced entries", must.len() - found.len(), must.len()));
    }
    if may.get(..found.len()) != Some(found) {
        return Err("entries that were never saved".to_owned());
    }
    Ok(())
}

/// A log must also go on after it was opened.
fn check_goes_on(disk: &MemDisk, options: Options) -> Result<(), String> {
    let from = wal::SnapshotRecord::default();
    let open = || Wal::open(disk.clone(), dir(), &from, options).map_err(|err| err.to_string());
    let (mut wal, replay) = open()?;
    let next = replay.entries.last().map_or(1, |entry| entry.index + 1);
    wal.save(&state(9, 9, next), &[entry(9, next, "after")], true)
        .map_err(|err| err.to_string())?;
    drop(wal);
    let (_, again) = open()?;
    if again.is_repaired || again.entries.len() != replay.entries.len() + 1 {
        return Err("the log is not whole after a repair".to_owned());
    }
    Ok(())
}

/// Runs saves until the disk fails; returns how many were acknowledged.
fn run(disk: &MemDisk, saves: &[Save], options: Options, prepares: bool) -> usize {
    let Ok(mut wal) = Wal::create(disk.clone(), dir(), &METADATA, options) else { return 0 };
    for (done, one) in saves.iter().enumerate() {
        let prepared = if prepares { wal.prepare_next() } else { Ok(()) };
        if prepared.and_then(|()| save(&mut wal, one)).is_err() {
            return done;
        }
    }
    saves.len()
}

/// The power fails before each operation in turn, from the creation of the log over several
/// segments. What was acknowledged is there afterwards.
#[test]
fn power_fails_at_every_operation() {
    let saves: Vec<Save> = (1..=24)
        .map(|index| Save {
            state: state(1, 1, index - 1),
            entries: vec![entry(1, index, vec![index as u8; 700])],
        })
        .collect();
    for prepares in [false, true] {
        let whole = disk();
        assert_eq!(run(&whole, &saves, options(4096), prepares), saves.len());
        let first = disk().operations();
        for after in 0..whole.operations() - first {
            let disk = disk();
            disk.set_fault(Some(Fault { after, error: ErrorKind::Other }));
            let acked = run(&disk, &saves, options(4096), prepares);
            let disk = disk.crashed();
            if acked == 0 && !wal::exists(&disk, dir()).expect("no fault") {
                drop(create(&disk, 4096));
                continue;
            }
            let (_, replay) = open(&disk, 4096)
                .unwrap_or_else(|err| panic!("operation {after}, {acked} saved: {err}"));
            check(&replay.entries, &saves[..acked], &saves[acked..])
                .unwrap_or_else(|err| panic!("operation {after}, {acked} saved: {err}"));
            check_goes_on(&disk, options(4096)).unwrap_or_else(|err| panic!("{after}: {err}"));
        }
    }
}

/// A process is killed at any operation, so that what it wrote is in the system's cache; the next
/// one reads it, and then the power fails. What it has read is still there. (The simulator's seed 134.)
#[test]
fn what_a_restart_has_read_survives_a_power_failure() {
    let saves: Vec<Save> = (1..=12)
        .map(|index| Save {
            state: state(1, 1, index - 1),
            entries: vec![entry(1, index, vec![index as u8; 700])],
        })
        .collect();
    let whole = disk();
    run(&whole, &saves, options(4096), true);
    let mut restarts = 0;
    for after in 0..whole.operations() {
        let disk = disk();
        disk.set_fault(Some(Fault { after, error: ErrorKind::Other }));
        run(&disk, &saves, options(4096), true);
        disk.set_fault(None);
        if !wal::exists(&disk, dir()).expect("no fault") {
            continue;
        }
        let (wal, read) = open(&disk, 4096).expect("a kill leaves a log");
        drop(wal);
        let (_, left) = open(&disk.crashed(), 4096).expect("so does a power failure");
        assert_eq!(read.entries, left.entries, "operation {after}");
        assert_eq!(read.hard_state, left.hard_state, "operation {after}");
        restarts += 1;
    }
    assert!(restarts > 20, "{restarts}");
}

/// Saves `synced`, then `last`; gives the last segment before and after the last one.
fn before_and_after(synced: &[Save], last: &Save) -> (Vec<(PathBuf, Vec<u8>)>, Vec<u8>) {
    let disk = disk();
    let mut wal = create(&disk, 64 << 10);
    for one in synced {
        save(&mut wal, one).expect("saved");
    }
    let before = files(&disk);
    save(&mut wal, last).expect("saved");
    let after = read_file(&disk, segments(&disk).last().expect("a segment"));
    (before, after)
}

fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

fn reopen(files: &[(PathBuf, Vec<u8>)], tail: Vec<u8>) -> (MemDisk, Result<wal::Replay, Error>) {
    let mut files = files.to_vec();
    files.last_mut().expect("a segment").1 = tail;
    let disk = disk_with(&files);
    let result = open(&disk, 64 << 10).map(|(_, replay)| replay);
    (disk, result)
}

/// etcd issue 15068: the file ends at each byte of the last save.
#[test]
fn the_file_is_cut_at_every_byte() {
    let synced = [Save { state: state(1, 1, 0), entries: vec![entry(1, 1, vec![7; 300])] }];
    let last = Save {
        state: state(1, 1, 1),
        entries: vec![entry(1, 2, vec![8; 40]), entry(1, 3, ""), entry(1, 4, vec![9; 600])],
    };
    let (before, after) = before_and_after(&synced, &last);
    let synced_end = end_of(&before[0].1).next_multiple_of(8);
    let mut repaired = 0;
    for cut in synced_end..=end_of(&after) {
        let (disk, result) = reopen(&before, after[..cut].to_vec());
        let replay = result.unwrap_or_else(|err| panic!("cut at {cut}: {err}"));
        check(&replay.entries, &synced, std::slice::from_ref(&last))
            .unwrap_or_else(|err| panic!("cut at {cut}: {err}"));
        if replay.is_repaired {
            repaired += 1;
            let broken = before[0].0.with_extension("wal.broken");
            assert_eq!(read_file(&disk, &broken), after[..cut], "the file is kept as it was");
        }
        check_goes_on(&disk, options(64 << 10)).unwrap_or_else(|err| panic!("cut at {cut}: {err}"));
    }
    assert!(repaired > 500, "{repaired}");
}

/// The head of a segment is synced before the segment has its name, so a cut there is damage.
#[test]
fn a_cut_head_is_refused() {
    let disk = disk();
    drop(create(&disk, 64 << 10));
    let before = files(&disk);
    let head = end_of(&before[0].1).next_multiple_of(8);
    for cut in 0..head {
        let (_, result) = reopen(&before, before[0].1[..cut].to_vec());
        assert!(result.is_err(), "cut at {cut}");
    }
}

/// Damage that is not at the end, or not of the last segment, is never cut off.
#[test]
fn damage_of_an_older_segment() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    for index in 1..=10 {
        wal.save(&state(1, 1, index), &[entry(1, index, vec![1; 700])], true).expect("saved");
    }
    drop(wal);
    let files = files(&disk);
    assert_eq!(files.len(), 2);
    for cut in (0..files[0].1.len()).step_by(7) {
        let mut damaged = files.clone();
        damaged[0].1.truncate(cut);
        let err = open(&disk_with(&damaged), 4096).expect_err("refused").to_string();
        assert!(err.contains(".wal' at position: ") || err.starts_with("wal: "), "{cut}: {err}");
    }
}

proptest! {
    /// Any sectors of the last save are missing (etcd issues 5230, 11488).
    #[test]
    fn sectors_of_the_last_save_are_missing(saves in saves(6), missing in any::<u64>()) {
        let (last, synced) = saves.split_last().expect("one at least");
        let (before, after) = before_and_after(synced, last);
        let first = end_of(&before[0].1) / SECTOR;
        let mut torn = after.clone();
        for sector in first..=end_of(&after) / SECTOR {
            if missing >> (sector % 64) & 1 == 1 {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                torn[range.clone()].copy_from_slice(&before[0].1[range]);
            }
        }
        let (disk, result) = reopen(&before, torn);
        let replay = result.map_err(|err| proptest::test_runner::TestCaseError::fail(err.to_string()))?;
        prop_assert_eq!(check(&replay.entries, synced, std::slice::from_ref(last)), Ok(()));
        prop_assert_eq!(check_goes_on(&disk, options(64 << 10)), Ok(()));
    }

    /// One bit anywhere in what was written: noticed, or without effect, or it reads as a torn last
    /// save, from which a single bit of its own cannot be told.
    #[test]
    fn a_changed_bit(saves in saves(8), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let disk = disk();
        let mut wal = create(&disk, 64 << 10);
        for one in &saves {
            save(&mut wal, one).expect("saved");
        }
        drop(wal);
        let before = files(&disk);
        let mut damaged = before[0].1.clone();
        let at = at.index(end_of(&damaged));
        damaged[at] ^= 1_u8 << bit;
        let (_, result) = reopen(&before, damaged);
        if let Ok(replay) = result {
            let is_whole = replay.entries == entries(&saves);
            prop_assert!(is_whole && !replay.is_repaired, "lost in silence: bit {} of {}", bit, at);
        }
    }

    /// A sector in the middle becomes zero. Where later saves show that it had been synced, the log
    /// is refused; never is an entry before it lost, or one read that was not saved.
    #[test]
    fn a_lost_sector(saves in saves(8), at in any::<prop::sample::Index>()) {
        let disk = disk();
        let mut wal = create(&disk, 64 << 10);
        for one in &saves {
            save(&mut wal, one).expect("saved");
        }
        wal.save_snapshot(&snapshot(3, 1)).expect("saved");
        wal.save(&state(3, 99, 1), &[], true).expect("saved");
        wal.save(&state(3, 100, 1), &[], true).expect("saved");
        drop(wal);
        let before = files(&disk);
        let mut damaged = before[0].1.clone();
        // The three records behind the saves take less than two sectors; they stay.
        let sectors = end_of(&damaged).saturating_sub(2 * SECTOR) / SECTOR;
        if sectors == 0 {
            return Ok(());
        }
        let sector = at.index(sectors);
        damaged[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
        let (_, result) = reopen(&before, damaged);
        prop_assert!(result.is_err(), "sector {} of {} was not missed", sector, sectors);
    }

    /// Bytes at random never panic, whatever length they claim (CVE-2020-15106).
    #[test]
    fn random_bytes(
        tail in prop::collection::vec(any::<u8>(), 0..300),
        length in any::<u64>(),
        has_length in any::<bool>(),
    ) {
        let disk = disk();
        drop(create(&disk, 4096));
        let before = files(&disk);
        let end = end_of(&before[0].1).next_multiple_of(8);
        let mut bytes = before[0].1[..end].to_vec();
        if has_length {
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(&tail);
        let (disk, result) = reopen(&before, bytes);
        if let Ok(replay) = result {
            prop_assert!(replay.entries.is_empty());
        }
        let _ = wal::valid_snapshots(&disk, dir());
    }
}

/// Lengths at the limits, of records that are not there.
#[test]
fn declared_lengths() {
    let disk = disk();
    drop(create(&disk, 4096));
    let before = files(&disk);
    let end = end_of(&before[0].1).next_multiple_of(8);
    let open_with = |length: u64| {
        let mut bytes = before[0].1.clone();
        bytes[end..end + 8].copy_from_slice(&length.to_le_bytes());
        reopen(&before, bytes).1
    };
    for length in [1, 7, 8, 4000, 4096, 1 << 31, (1 << 56) - 1, u64::MAX, i64::MAX as u64] {
        // The record's own bytes are zeros, which a crash explains.
        let replay = open_with(length).unwrap_or_else(|err| panic!("{length:x}: {err}"));
        assert!(replay.is_repaired && replay.entries.is_empty(), "{length:x}");
    }
    // No record at all is not what anyone writes.
    for length in [1 << 63, 0x87 << 56] {
        assert!(open_with(length).is_err(), "{length:x}");
    }
}

/// A value that looks like a log does not make a torn record of it look like damage.
#[test]
fn a_log_within_a_value() {
    let inner = disk();
    let mut wal = create(&inner, 64 << 10);
    for index in 1..=3 {
        wal.save(&state(1, 1, index), &[entry(1, index, "inner")], true).expect("saved");
    }
    drop(wal);
    let bytes = files(&inner).remove(0).1;
    let value = bytes[..end_of(&bytes)].to_vec();

    let last = Save { state: state(1, 1, 0), entries: vec![entry(1, 1, value.repeat(5))] };
    let (before, after) = before_and_after(&[], &last);
    let start = end_of(&before[0].1).next_multiple_of(8);
    for cut in start + 64..end_of(&after) {
        let (_, result) = reopen(&before, after[..cut].to_vec());
        let replay = result.unwrap_or_else(|err| panic!("cut at {cut}: {err}"));
        assert!(replay.is_repaired || replay.entries.len() == 1);
    }
}

#[test]
fn what_was_cut_off_does_not_come_back_behind_what_is_written_next() {
    let disk = disk();
    let mut wal = create(&disk, 8192);
    wal.save(&state(1, 1, 1), &[entry(1, 1, "first")], true).expect("saved");
    disk.record();
    wal.save(&state(1, 1, 1), &[entry(1, 2, vec![7; 900])], true).expect("saved");
    drop(wal);
    // Of that write, whose sync never came, the last sector is kept alone.
    let moments = disk.recorded();
    let written = moments.iter().find(|moment| moment.unsynced().iter().any(|one| one.sectors > 1));
    let written = written.expect("a write of some sectors");
    let last = written.unsynced().last().copied().expect("the write");
    let disk = written.crashed(|at, sector| at == last.operation && sector + 1 == last.sectors);

    let (mut wal, replay) = open(&disk, 8192).expect("there is no second entry");
    assert_eq!(replay.entries.len(), 1);
    let opened = disk.operations();
    disk.record();
    wal.save(&state(2, 1, 1), &[entry(2, 2, vec![8; 850])], true).expect("saved");
    drop(wal);
    for moment in disk.recorded() {
        let disk = moment.crashed(|at, _| at > opened);
        open(&disk, 8192).expect("only what was written since is on disk");
    }
}
