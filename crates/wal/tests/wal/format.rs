//! The bytes, read by a second decoder that shares nothing with the first.

use wal::{SnapshotRecord, Wal};

use crate::support::{
    METADATA, create, dir, disk, entry, files, open, options, read_file, segments, snapshot, state,
    write_file,
};

/// A record as it lies in the file.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    kind: u8,
    crc: u32,
    data: Option<Vec<u8>>,
}

/// CRC-32C bit by bit.
fn crc32c(crc: u32, data: &[u8]) -> u32 {
    let mut crc = !crc;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// All records of a segment, their framing checked on the way.
fn records(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while bytes.len() >= 8 && bytes[..8] != [0; 8] {
        let mut len = [0; 8];
        len[..7].copy_from_slice(&bytes[..7]);
        let len = u64::from_le_bytes(len) as usize;
        let padding = (8 - len % 8) % 8;
        assert_eq!(bytes[7], if padding == 0 { 0 } else { 0x80 | padding as u8 });
        let (mut record, rest) = bytes[8..].split_at(len);
        let (pad, rest) = rest.split_at(padding);
        assert!(pad.iter().all(|&byte| byte == 0));
        bytes = rest;

        assert_eq!(record[0], 0x08);
        let kind = record[1];
        assert_eq!(record[2], 0x10);
        record = &record[3..];
        let crc = varint(&mut record) as u32;
        let data = (!record.is_empty()).then(|| {
            assert_eq!(record[0], 0x1a);
            record = &record[1..];
            assert_eq!(varint(&mut record) as usize, record.len());
            record.to_vec()
        });
        records.push(Record { kind, crc, data });
    }
    assert!(bytes.iter().all(|&byte| byte == 0), "nothing but zeros behind the last record");
    records
}

/// Checks the chain of checksums through all segments and gives types and data.
fn check_chain(segments: &[Vec<Record>]) -> Vec<Vec<(u8, Vec<u8>)>> {
    let mut crc = 0;
    let mut shape = Vec::new();
    for records in segments {
        assert_eq!(records[0], Record { kind: 4, crc, data: None });
        let mut seen = Vec::new();
        for record in records {
            let data = record.data.clone().unwrap_or_default();
            crc = crc32c(crc, &data);
            assert_eq!(record.crc, crc);
            seen.push((record.kind, data));
        }
        shape.push(seen);
    }
    shape
}

#[test]
fn a_new_log() {
    let disk = disk();
    drop(create(&disk, 64 << 10));
    let bytes = read_file(&disk, &dir().join("0000000000000000-0000000000000000.wal"));
    assert_eq!(bytes.len(), 64 << 10);
    let head = [0x04, 0, 0, 0, 0, 0, 0, 0x84, 0x08, 0x04, 0x10, 0, 0, 0, 0, 0];
    assert_eq!(bytes[..16], head);

    let shape = check_chain(&[records(&bytes)]);
    let mut metadata = METADATA.encode();
    assert_eq!(shape[0][1], (1, metadata.clone()));
    assert_eq!(shape[0][2], (5, vec![0x08, 0, 0x10, 0]));
    assert_eq!(shape[0].len(), 3);

    // Both ids are proto2 fields that are always written.
    let mut rest = metadata.as_mut_slice() as &[u8];
    assert_eq!(varint(&mut rest), 1 << 3);
    assert_eq!(varint(&mut rest), METADATA.node_id);
    assert_eq!(varint(&mut rest), 2 << 3);
    assert_eq!(varint(&mut rest), METADATA.cluster_id);
    assert!(rest.is_empty());
    assert_eq!(wal::Metadata::default().encode(), [8, 0, 16, 0]);
}

#[test]
fn segments_of_the_usual_size() {
    let disk = disk();
    let wal = Wal::create(disk.clone(), dir(), &METADATA, wal::Options::default());
    drop(wal.expect("created"));
    assert_eq!(read_file(&disk, &segments(&disk)[0]).len(), 64_000_000);
}

#[test]
fn records_of_a_first_start() {
    let disk = disk();
    let mut wal = create(&disk, 1 << 20);
    let conf_change =
        raft::Entry { entry_type: raft::EntryType::ConfChange, ..entry(1, 1, &b"context"[..]) };
    wal.save(&state(1, 0, 1), &[conf_change], true).expect("saved");
    wal.save(&state(2, 7, 1), &[], true).expect("saved");
    wal.save(&state(0, 0, 0), &[entry(2, 2, "")], true).expect("saved");
    wal.save_snapshot(&snapshot(2, 2)).expect("saved");

    let shape = check_chain(&[records(&read_file(&disk, &segments(&disk)[0]))]);
    let expected: Vec<(u8, Vec<u8>)> = vec![
        (2, [&[8, 1, 16, 1, 24, 1, 34, 7][..], b"context"].concat()),
        (3, vec![8, 1, 16, 0, 24, 1]),
        (3, vec![8, 2, 16, 7, 24, 1]),
        // An empty entry has only term and index; an empty state is not written.
        (2, vec![16, 2, 24, 2]),
        (5, vec![8, 2, 16, 2, 26, 6, 8, 1, 8, 2, 8, 3]),
    ];
    assert_eq!(shape[0][3..], expected);
}

#[test]
fn heads_of_later_segments() {
    let disk = disk();
    let mut wal = create(&disk, 4096);
    for index in 1..=20 {
        wal.save(&state(1, 1, index - 1), &[entry(1, index, vec![index as u8; 700])], true)
            .expect("saved");
    }
    drop(wal);

    let names: Vec<String> = segments(&disk)
        .iter()
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        names,
        [
            "0000000000000000-0000000000000000.wal",
            "0000000000000001-0000000000000007.wal",
            "0000000000000002-000000000000000d.wal",
            "0000000000000003-0000000000000013.wal",
        ]
    );
    let files = files(&disk);
    let parsed: Vec<Vec<Record>> = files.iter().map(|(_, bytes)| records(bytes)).collect();
    let shape = check_chain(&parsed);
    // A full segment is cut to what it holds, the last one has its space reserved.
    for (_, bytes) in &files[..3] {
        assert!(bytes.len() >= 4096 && bytes[bytes.len() - 700 / 2..] != vec![0; 350]);
    }
    assert_eq!(files[3].1.len(), 4096);
    for (n, records) in shape.iter().enumerate().skip(1) {
        assert_eq!(records[1], (1, METADATA.encode()));
        let commit = 6 * n as u8 - 1;
        assert_eq!(records[2], (3, vec![8, 1, 16, 1, 24, commit]));
        assert_eq!(records[3].0, 2);
    }
    assert_eq!(open(&disk, 4096).expect("opened").1.entries.len(), 20);
}

/// A log whose records were written with another proto library: unknown fields, fields in another
/// order, a packed configuration.
#[test]
fn foreign_encodings() {
    let disk = disk();
    drop(create(&disk, 64 << 10));
    let path = &segments(&disk)[0];
    let mut bytes = read_file(&disk, path);
    let shape = records(&bytes);
    let mut crc = shape.last().expect("three records").crc;
    let mut end = bytes.iter().rposition(|&byte| byte != 0).expect("not empty") + 1;
    end = end.next_multiple_of(8);

    let mut append = |kind: u8, data: &[u8]| {
        crc = crc32c(crc, data);
        // data, crc, type and a field of tomorrow.
        let mut record = vec![0x1a, data.len() as u8];
        record.extend_from_slice(data);
        record.push(0x10);
        let mut value = crc;
        while value >= 0x80 {
            record.push(value as u8 | 0x80);
            value >>= 7;
        }
        record.push(value as u8);
        record.extend_from_slice(&[0x08, kind, 0x28, 0x01]);
        let padding = (8 - record.len() % 8) % 8;
        let flags = if padding == 0 { 0 } else { 0x80 | padding as u64 };
        let length = record.len() as u64 | flags << 56;
        bytes[end..end + 8].copy_from_slice(&length.to_le_bytes());
        bytes[end + 8..end + 8 + record.len()].copy_from_slice(&record);
        end += 8 + record.len() + padding;
    };
    append(2, &[0x22, 2, b'h', b'i', 0x18, 1, 0x10, 1, 0x08, 0]);
    append(5, &[0x1a, 4, 0x0a, 2, 1, 2, 0x10, 1, 0x08, 1, 0x38, 9]);
    append(3, &[0x18, 1, 0x10, 0, 0x08, 1]);
    write_file(&disk, path, &bytes);

    let from = SnapshotRecord::default();
    let replay = wal::open_for_read(&disk, dir(), &from).expect("read");
    assert_eq!(replay.entries, [entry(1, 1, "hi")]);
    assert_eq!(replay.hard_state, state(1, 0, 1));
    let snapshots = wal::valid_snapshots(&disk, dir()).expect("read");
    assert_eq!(snapshots.len(), 2);
    let conf_state = snapshots[1].conf_state.as_ref().expect("written");
    assert_eq!(conf_state.voters, [1, 2]);

    let (mut wal, _) =
        Wal::open(disk.clone(), dir(), &snapshots[1], options(64 << 10)).expect("opened");
    wal.save(&state(0, 0, 0), &[entry(1, 2, "there")], true).expect("saved");
    let replay = wal::open_for_read(&disk, dir(), &from).expect("read");
    assert_eq!(replay.entries, [entry(1, 1, "hi"), entry(1, 2, "there")]);
}
