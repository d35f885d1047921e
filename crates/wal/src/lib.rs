//! What it is: etcd's write-ahead log (segments of CRC-chained records) and its `.snap` files, to the byte.
//! What it never does: retry a failed write or sync, guess at bytes whose checksum is wrong, or read a clock.
//! Entry types: [`Wal`] (create, open, save, roll), [`Replay`] (what a log held), [`snap::Snapshotter`].
//! Owner: the disk thread; [`purge`] and [`valid_snapshots`] need no `Wal` and may run elsewhere.
//! How to test it: `cargo test -p wal`; everything runs on `env::MemDisk`, crashes and bit flips included.
//!
//! ```text
//! wal/0000000000000000-0000000000000000.wal    <sequence>-<index of its first entry>, hexadecimal
//! wal/0000000000000001-00000000000021a0.wal    64,000,000 bytes reserved, truncated when it is full
//! wal/1.tmp                                    the next segment, reserved ahead by `prepare_next`
//!
//! segment:  crc  metadata  [state | snapshot{0,0}]  (entry* state? | snapshot)*  zeros
//! frame:    u64 LE: low 56 bits length of the record, top byte 0x80|padding if any
//!           record, padded with zeros to 8 bytes, so that no length is ever torn
//! record:   walpb.Record{type = 1, crc = 2, data = 3}; crc is the CRC-32C over the data of all
//!           records so far, carried from segment to segment by the crc record
//! ```
//!
//! A crash leaves sectors of the last write missing, as zeros or beyond the end of the file. Such a
//! torn tail is cut off on open, after a copy to `<name>.broken`. Damage anywhere else is an error:
//! the member must not run on a log from which it may have lost what it acknowledged.

mod decoder;
mod error;
mod names;
mod proto;
mod record;
mod replay;
pub mod snap;
mod writer;

pub use error::{Error, Reason};
pub use names::exists;
pub use record::{Metadata, SnapshotRecord};
pub use replay::{Replay, open_for_read, valid_snapshots};
pub use writer::{Options, SEGMENT_BYTES, Wal, purge};
