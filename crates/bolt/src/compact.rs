//! Copying a database without its free pages.

use env::Disk;

use crate::{Bucket, BucketMut, Cursor, Db, Error, ReadTx, WriteTx};

/// How full pages are left: rows come in order, so that a page once left is never filled up.
const FILL_PERCENT: f64 = 0.9;
/// Buckets inside buckets, and so on.
const NESTING_MAX: usize = 64;
/// What a transaction of the copy may hold.
const TX_ROWS_MAX: usize = 10_000;

/// A bucket that is being copied, and where the copy has come to.
#[derive(Debug)]
struct Level<'a> {
    name: &'a [u8],
    sequence: u64,
    cursor: Cursor<'a>,
}

/// What a transaction of the copy may still take.
#[derive(Debug)]
struct Room {
    rows: usize,
    bytes: usize,
}

/// Why copying a bucket stopped.
#[derive(Debug)]
enum Stop<'a> {
    /// All its rows are copied.
    Done,
    /// The next row is this bucket.
    Bucket(Level<'a>),
    /// The transaction has got enough.
    Full,
}

/// Copies all buckets of `src`, with their rows and sequence numbers, to `dst`, which should be
/// empty: in order, page after page, in transactions of about `tx_bytes_max` bytes.
///
/// `dst` is best opened with `no_sync`, and synced at the end.
pub fn compact<D: Disk>(src: &ReadTx, dst: &mut Db<D>, tx_bytes_max: usize) -> Result<(), Error> {
    // From the bucket of buckets down to the bucket that is being copied.
    let mut levels = vec![Level::new(b"", src.root()?)];
    while !levels.is_empty() {
        let mut tx = dst.begin_write()?;
        let mut room = Room { rows: TX_ROWS_MAX, bytes: tx_bytes_max };
        while !levels.is_empty() {
            match copy_rows(src, &mut tx, &mut levels, &mut room)? {
                Stop::Done => {
                    levels.pop();
                }
                Stop::Bucket(level) if levels.len() <= NESTING_MAX => levels.push(level),
                Stop::Bucket(_) => {
                    return Err(src.pages().damaged(0, "buckets are nested too deep"));
                }
                Stop::Full => break,
            }
        }
        tx.commit()?;
    }
    Ok(())
}

/// Copies rows of the innermost bucket, having made it.
fn copy_rows<'a, D: Disk>(
    src: &ReadTx,
    tx: &mut WriteTx<'_, D>,
    levels: &mut [Level<'a>],
    room: &mut Room,
) -> Result<Stop<'a>, Error> {
    let mut bucket = make(tx, levels)?;
    let Some(level) = levels.last_mut() else { return Ok(Stop::Done) };
    while room.rows > 0 && room.bytes > 0 {
        room.rows -= 1;
        let Some(item) = level.cursor.next()? else { return Ok(Stop::Done) };
        if let Some(inner) = level.cursor.bucket()? {
            return Ok(Stop::Bucket(Level::new(item.key, inner)));
        }
        let Some(bucket) = &mut bucket else {
            return Err(src.pages().damaged(0, "a value among the top-level buckets"));
        };
        bucket.put(item.key, item.value)?;
        room.bytes = room.bytes.saturating_sub(item.key.len() + item.value.len());
    }
    Ok(Stop::Full)
}

/// The copy of the innermost bucket; `None` for the bucket of buckets.
fn make<'tx, D: Disk>(
    tx: &'tx mut WriteTx<'_, D>,
    levels: &[Level<'_>],
) -> Result<Option<BucketMut<'tx>>, Error> {
    let mut inner = levels.iter().skip(1);
    let Some(top) = inner.next() else { return Ok(None) };
    let (mut bucket, mut sequence) = (tx.create_bucket_if_missing(top.name)?, top.sequence);
    for level in inner {
        bucket = bucket.into_bucket_or_new(level.name)?;
        sequence = level.sequence;
    }
    bucket.set_fill_percent(FILL_PERCENT);
    bucket.set_sequence(sequence);
    Ok(Some(bucket))
}

impl<'a> Level<'a> {
    fn new(name: &'a [u8], bucket: Bucket<'a>) -> Self {
        Self { name, sequence: bucket.sequence(), cursor: bucket.cursor() }
    }
}
