//! What the log keeps, and what it refuses.

use std::io::ErrorKind;

use env::{Disk, Fault, MemDisk};
use raft::Entry;
use wal::{Error, Reason, SnapshotRecord, Wal};

use crate::support::{
    DIR, METADATA, create, dir, disk, entry, files, open, options, segments, snapshot, state, text,
    write_file,
};

fn open_at(disk: &MemDisk, from: &SnapshotRecord) -> Result<(Wal<MemDisk>, wal::Replay), Error> {
    Wal::open(disk.clone(), dir(), from, options(4096))
}

#[test]
fn what_is_saved_is_read_back() {
    let disk = disk();
    assert!(!wal::exists(&disk, dir()).expect("no fault"));
    let mut wal = create(&disk, 4096);
    assert!(wal::exists(&disk, dir()).expect("no fault"));
    wal.save(&state(1, 2, 0), &[entry(1, 1, "a"), entry(1, 2, vec![0; 9000])], true)
        .expect("saved");
    wal.save(&state(1, 2, 2), &[], false).expect("saved");
    wal.close().expect("closed");

    let (wal, replay) = open(&disk, 4096).expect("opened");
    assert_eq!(replay.metadata, METADATA);
    assert_eq!(text(&replay), "1 2 2; 1/1:1 1/2:9000");
    assert!(!replay.is_repaired);
    drop(wal);
    let replay = wal::open_for_read(&disk, dir(), &SnapshotRecord::default()).expect("read");
    assert_eq!(text(&replay), "1 2 2; 1/1:1 1/2:9000");
}

#[test]
fn a_later_entry_replaces_those_from_its_index_on() {
    let disk = disk();
    let mut wal = create(&disk, 1 << 20);
    let entries: Vec<Entry> = (1..=5).map(|index| entry(1, index, "")).collect();
    wal.save(&state(1, 1, 1), &entries, true).expect("saved");
    wal.save(&state(2, 1, 1), &[entry(2, 3, "new")], true).expect("saved");
    drop(wal);
    let (_, replay) = open(&disk, 1 << 20).expect("opened");
    assert_eq!(text(&replay), "2 1 1; 1/1:0 1/2:0 2/3:3");
}

/// The simulator's seed 34938: the entries of an old leader came back behind a snapshot, with a lower term than it has.
#[test]
fn what_was_replaced_does_not_come_back_behind_a_snapshot() {
    let old: Vec<Entry> = (1..=9).map(|index| entry(1, index, "")).collect();
    let reopened = |rest: &[(u64, u64)], taken: (u64, u64), more: &[(u64, u64)]| {
        let disk = disk();
        let mut wal = create(&disk, 1 << 20);
        let entries = |list: &[(u64, u64)]| -> Vec<Entry> {
            list.iter().map(|(term, index)| entry(*term, *index, "")).collect()
        };
        wal.save(&state(1, 1, 1), &old, true).expect("saved");
        wal.save(&state(2, 1, 1), &entries(rest), true).expect("saved");
        let snapshot = snapshot(taken.0, taken.1);
        wal.save_snapshot(&snapshot).expect("saved");
        wal.save(&state(2, 1, taken.1), &entries(more), true).expect("saved");
        drop(wal);
        text(&open_at(&disk, &snapshot).expect("opened").1)
    };
    // Replaced from before the snapshot's index on.
    assert_eq!(reopened(&[(2, 3), (2, 4)], (2, 4), &[]), "2 1 4; ");
    assert_eq!(reopened(&[(2, 3), (2, 4)], (2, 4), &[(2, 5)]), "2 1 4; 2/5:0");
    assert_eq!(reopened(&[(2, 3), (2, 4), (2, 5)], (2, 4), &[]), "2 1 4; 2/5:0");
    // Replaced by a leader's snapshot, of a log that was another at its index.
    assert_eq!(reopened(&[], (2, 6), &[]), "2 1 6; ");
    assert_eq!(reopened(&[], (2, 6), &[(2, 7)]), "2 1 6; 2/7:0");
    // The same log: what is behind the snapshot stays.
    assert_eq!(reopened(&[], (1, 6), &[]), "2 1 6; 1/7:0 1/8:0 1/9:0");
    assert_eq!(reopened(&[], (1, 6), &[(2, 8)]), "2 1 6; 1/7:0 2/8:0");
}

#[test]
fn opened_at_a_snapshot() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    for index in 1..=30 {
        wal.save(&state(1, 1, index), &[entry(1, index, vec![1; 500])], true).expect("saved");
        if index % 10 == 0 {
            wal.save_snapshot(&snapshot(1, index)).expect("saved");
        }
    }
    // Beyond the commit index: a crash came between the snapshot and its state.
    wal.save_snapshot(&snapshot(1, 40)).expect("saved");
    drop(wal);
    let valid: Vec<u64> = wal::valid_snapshots(&disk, dir())
        .expect("read")
        .into_iter()
        .map(|snapshot| snapshot.index)
        .collect();
    assert_eq!(valid, [0, 10, 20, 30]);

    let (_, replay) = open_at(&disk, &snapshot(1, 20)).expect("opened");
    let indexes: Vec<u64> = replay.entries.iter().map(|entry| entry.index).collect();
    assert_eq!(indexes, (21..=30).collect::<Vec<_>>());

    let error = |from: &SnapshotRecord| open_at(&disk, from).expect_err("refused").to_string();
    assert_eq!(error(&snapshot(1, 15)), "wal: snapshot not found");
    assert!(
        error(&snapshot(2, 20)).starts_with("wal: snapshot mismatch: in file '0000"),
        "{}",
        error(&snapshot(2, 20))
    );
}

#[test]
fn a_log_that_begins_with_a_received_snapshot() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    wal.save_snapshot(&snapshot(3, 1000)).expect("saved");
    wal.save(&state(3, 0, 1000), &[], true).expect("saved");
    for index in 1001..=1020 {
        wal.save(&state(3, 1, index), &[entry(3, index, vec![1; 500])], true).expect("saved");
    }
    drop(wal);
    let (_, replay) = open_at(&disk, &snapshot(3, 1000)).expect("opened");
    assert_eq!(replay.entries.len(), 20);

    // From the beginning there is a gap, and not an allocation of a thousand entries.
    let err = open_at(&disk, &SnapshotRecord::default()).expect_err("refused");
    assert!(
        matches!(err, Error::Corrupt { reason: Reason::Gap { index: 1001, expected: 1 }, .. }),
        "{err}"
    );
}

#[test]
fn hostile_indexes() {
    for index in [0, 2, u64::MAX] {
        let disk = disk();
        let mut wal = create(&disk, 4096);
        wal.save(&state(1, 1, 0), &[entry(1, index, "")], true).expect("saved");
        wal.save(&state(1, 1, 1), &[entry(1, index, vec![0; 5000])], true).expect("rolled");
        drop(wal);
        let result = open(&disk, 4096).map(|(_, replay)| text(&replay));
        match index {
            0 => assert_eq!(result.expect("before the beginning"), "1 1 1; "),
            _ => assert!(
                matches!(
                    result,
                    Err(Error::Corrupt { reason: Reason::Gap { .. }, .. }
                        | Error::SequenceGap { .. })
                ),
                "{result:?}"
            ),
        }
        let from = SnapshotRecord { index: u64::MAX, ..SnapshotRecord::default() };
        assert!(open_at(&disk, &from).is_err());
    }
}

#[test]
fn a_snapshot_needs_its_members() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    let without = SnapshotRecord { conf_state: None, ..snapshot(1, 5) };
    assert!(matches!(wal.save_snapshot(&without), Err(Error::MissingConfState(_))));
    wal.save_snapshot(&snapshot(1, 5)).expect("the log can still be used");
}

#[test]
fn one_process_has_the_log() {
    let disk = disk();
    let wal = create(&disk, 4096);
    let err = open(&disk, 4096).expect_err("locked");
    assert_eq!(
        err.to_string(),
        format!("fileutil: file already locked: {DIR}/0000000000000000-0000000000000000.wal")
    );
    assert!(matches!(
        Wal::create(disk.clone(), dir(), &METADATA, options(4096)),
        Err(Error::Exists(_))
    ));
    wal::open_for_read(&disk, dir(), &SnapshotRecord::default()).expect("readers need no lock");
    drop(wal);
    open(&disk, 4096).expect("unlocked");
}

#[test]
fn the_next_segment_is_prepared_in_turn() {
    let disk = disk();
    let names = || disk.list(dir()).expect("no fault");
    let mut wal = create(&disk, 4096);
    let mut tmp = Vec::new();
    for index in 1..=4 {
        wal.prepare_next().expect("prepared");
        wal.prepare_next().expect("prepared");
        tmp.extend(names().into_iter().filter(|name| name.ends_with(".tmp")));
        wal.save(&state(1, 1, 0), &[entry(1, index, vec![0; 5000])], true).expect("rolled");
    }
    assert_eq!(tmp, ["0.tmp", "1.tmp", "0.tmp", "1.tmp"]);
    wal.prepare_next().expect("prepared");
    wal.close().expect("closed");
    assert_eq!(names().len(), 5);
    assert!(names().iter().all(|name| name.ends_with(".wal")));

    // A file that a crash left is emptied.
    write_file(&disk, &dir().join("0.tmp"), &[0xff; 5000]);
    let (mut wal, _) = open(&disk, 4096).expect("opened");
    wal.save(&state(1, 1, 0), &[entry(1, 5, vec![0; 5000])], true).expect("rolled");
    drop(wal);
    let (_, replay) = open(&disk, 4096).expect("opened");
    assert_eq!(replay.entries.len(), 5);
}

#[test]
fn released_segments_are_purged() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    for index in 1..=60 {
        wal.save(&state(1, 1, index), &[entry(1, index, vec![0; 700])], true).expect("saved");
    }
    let count = segments(&disk).len();
    assert_eq!(count, 11);
    assert!(wal::purge(&disk, dir(), 5).expect("no fault").is_empty(), "all are locked");

    // Segments begin at 0, 7, 13, 19, 25, 31, ...; entry 20 is in the one that begins at 19.
    wal.release(20);
    let removed = wal::purge(&disk, dir(), 5).expect("no fault");
    assert_eq!(
        removed,
        [
            "0000000000000000-0000000000000000.wal",
            "0000000000000001-0000000000000007.wal",
            "0000000000000002-000000000000000d.wal",
        ]
    );
    wal.release(60);
    assert_eq!(wal::purge(&disk, dir(), 5).expect("no fault").len(), 3);
    assert_eq!(segments(&disk).len(), 5);
    wal.release(u64::MAX);
    wal.save(&state(1, 1, 61), &[entry(1, 61, "")], true).expect("the last one stays open");
    assert_eq!(wal::purge(&disk, dir(), 1).expect("no fault").len(), 4);
    assert!(wal::purge(&disk, dir(), 0).expect("no fault").is_empty(), "still written to");
}

#[test]
fn a_purge_of_which_a_power_failure_has_undone_a_part() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    for index in 1..=40 {
        wal.save(&state(1, 1, index), &[entry(1, index, vec![0; 700])], true).expect("saved");
        if index == 30 {
            wal.save_snapshot(&snapshot(1, 30)).expect("saved");
        }
    }
    drop(wal);
    // The third one is gone, and the first two are still there, or again.
    disk.remove(&segments(&disk)[2]).expect("no fault");
    let records =
        wal::valid_snapshots(&disk, dir()).expect("what is before the gap does not count");
    assert_eq!(records, [snapshot(1, 30)]);
    let (_, replay) = open_at(&disk, &records[0]).expect("the rest is whole");
    assert_eq!(replay.entries.len(), 10);
}

#[test]
fn a_missing_segment() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    for index in 1..=30 {
        wal.save(&state(1, 1, index), &[entry(1, index, vec![0; 700])], true).expect("saved");
    }
    drop(wal);
    let paths = segments(&disk);
    let expect = |text: &str| {
        assert_eq!(open(&disk, 4096).expect_err("refused").to_string(), text);
    };
    disk.remove(&paths[2]).expect("no fault");
    expect("wal: file sequence numbers (starting from 0) do not increase continuously");
    disk.remove(&paths[0]).expect("no fault");
    expect("wal: file not found which matches the snapshot index '0'");
    for path in segments(&disk) {
        disk.remove(&path).expect("no fault");
    }
    expect("wal: file not found");
    // Other names are no segments.
    write_file(&disk, &dir().join("0000000000000000-000000000000000g.wal"), b"");
    write_file(&disk, &dir().join("0-0.wal"), b"");
    expect("wal: file not found");
}

#[test]
fn segments_of_two_members() {
    let (one, other) = (disk(), disk());
    let fill = |disk: &MemDisk, metadata: &wal::Metadata| {
        let mut wal = Wal::create(disk.clone(), dir(), metadata, options(4096)).expect("created");
        for index in 1..=10 {
            wal.save(&state(1, 1, index), &[entry(1, index, vec![0; 700])], true).expect("saved");
        }
    };
    fill(&one, &METADATA);
    fill(&other, &wal::Metadata { node_id: 1, ..METADATA });
    let (path, bytes) = files(&other).remove(1);
    write_file(&one, &path, &bytes);
    // The chain of checksums breaks first.
    let err = open(&one, 4096).expect_err("refused");
    assert!(
        err.to_string().contains("crc mismatch")
            && err
                .to_string()
                .ends_with("in file '0000000000000001-0000000000000007.wal' at position: 0"),
        "{err}"
    );
}

/// The first failure poisons the log: a second sync could succeed although the first lost pages.
#[test]
fn nothing_is_retried() {
    for after in 0..2 {
        let disk = disk();
        let mut wal = create(&disk, 4096);
        disk.set_fault(Some(Fault { after, error: ErrorKind::StorageFull }));
        let err = wal.save(&state(1, 1, 0), &[entry(1, 1, "a")], true).expect_err("disk full");
        assert!(
            matches!(&err, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
        );
        disk.set_fault(None);
        assert!(matches!(wal.save(&state(1, 1, 0), &[], true), Err(Error::Poisoned)));
        assert!(matches!(wal.save_snapshot(&snapshot(1, 1)), Err(Error::Poisoned)));
        assert!(matches!(wal.prepare_next(), Err(Error::Poisoned)));
        assert!(matches!(wal.sync(), Err(Error::Poisoned)));
        assert!(matches!(wal.close(), Err(Error::Poisoned)));
    }
}

#[test]
fn without_sync_a_save_writes_nothing() {
    let disk = disk();
    let mut wal = create(&disk, 1 << 20);
    let before = disk.operations();
    for commit in 1..100 {
        wal.save(&state(1, 1, commit), &[], false).expect("saved");
    }
    assert_eq!(disk.operations(), before);
    wal.save(&state(1, 1, 100), &[entry(1, 1, "a"), entry(1, 2, "b")], true).expect("saved");
    assert_eq!(disk.operations(), before + 2, "one write and one sync");
    wal.save(&state(0, 0, 0), &[], false).expect("nothing to save");
    assert_eq!(disk.operations(), before + 2);
    assert!(wal.bytes_written() > 0);
}
