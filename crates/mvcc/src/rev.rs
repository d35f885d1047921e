//! Revisions and the keys of bucket `key`.

/// Length of the key of a put in bucket `key`: main, `_`, sub.
pub(crate) const REV_KEY_BYTES: usize = 17;

/// Marks the key of a delete, behind the revision.
const TOMBSTONE: u8 = b't';

/// A revision: the number of the transaction, and of the change within it, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev {
    /// The transaction. The empty store is at 1; the first change gets 2.
    pub main: i64,
    /// The change within the transaction, from 0.
    pub sub: i64,
}

impl Rev {
    /// The first possible revision of transaction `main`.
    #[must_use]
    pub const fn first_of(main: i64) -> Self {
        Self { main, sub: 0 }
    }

    /// The key of a put: main (8 bytes, big-endian), `_`, sub (8 bytes, big-endian). Keys order as
    /// revisions do.
    #[must_use]
    pub fn to_key(self) -> [u8; REV_KEY_BYTES] {
        let mut key = [b'_'; REV_KEY_BYTES];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[9..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The key of a delete: that of a put and `t`.
    #[must_use]
    pub fn to_tombstone_key(self) -> [u8; REV_KEY_BYTES + 1] {
        let mut key = [TOMBSTONE; REV_KEY_BYTES + 1];
        key[..REV_KEY_BYTES].copy_from_slice(&self.to_key());
        key
    }

    /// Reads the key of a row of bucket `key`, and whether it stands for a delete. `None` if it is
    /// no such key, or if its numbers are ones that no writer gives: negative, or a sub beyond
    /// 32 bits.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<(Self, bool)> {
        let (main, rest) = key.split_first_chunk::<8>()?;
        let (separator, rest) = rest.split_first()?;
        let (sub, mark) = rest.split_first_chunk::<8>()?;
        let tombstone = match mark {
            [] => false,
            [TOMBSTONE] => true,
            _ => return None,
        };
        let rev = Self { main: i64::from_be_bytes(*main), sub: i64::from_be_bytes(*sub) };
        let valid = *separator == b'_' && rev.main >= 0 && u32::try_from(rev.sub).is_ok();
        valid.then_some((rev, tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::Rev;

    #[test]
    fn keys_order_as_revisions_and_read_back() {
        let revs = [(0, 0), (0, 1), (1, 0), (255, 7), (256, 0), (i64::MAX, i64::from(u32::MAX))]
            .map(|(main, sub)| Rev { main, sub });
        for pair in revs.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_key() < pair[1].to_key());
            assert!(pair[0].to_tombstone_key().as_slice() < pair[1].to_key().as_slice());
        }
        for rev in revs {
            assert_eq!(Rev::from_key(&rev.to_key()), Some((rev, false)));
            assert_eq!(Rev::from_key(&rev.to_tombstone_key()), Some((rev, true)));
        }
    }

    #[test]
    fn what_no_writer_writes_is_refused() {
        let good = Rev { main: 5, sub: 1 }.to_tombstone_key();
        for len in (0..17).chain([19]) {
            let mut key = good.to_vec();
            key.resize(len, b't');
            assert_eq!(Rev::from_key(&key), None, "{len} bytes");
        }
        for at in [0, 8, 9, 17] {
            let mut key = good;
            key[at] = 0xff;
            assert_eq!(Rev::from_key(&key), None, "byte {at}");
        }
    }
}
