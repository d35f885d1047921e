//! A lease as stored: `leasepb.Lease{ID = 1, TTL = 2, RemainingTTL = 3}`, under its id in 8 bytes.

/// The stored part of a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: i64,
    pub(crate) ttl: i64,
    pub(crate) remaining_ttl: i64,
}

/// The key in bucket `lease`. Negative ids sort behind the positive ones.
pub(crate) fn key(id: i64) -> [u8; 8] {
    id.to_be_bytes()
}

impl Stored {
    /// Zeros are left out, as proto3 has it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut buf = Vec::with_capacity(24);
        for (tag, value) in [(0x08, self.id), (0x10, self.ttl), (0x18, self.remaining_ttl)] {
            if value != 0 {
                buf.push(tag);
                put_varint(&mut buf, value.cast_unsigned());
            }
        }
        buf
    }

    /// `None` if the bytes are malformed. Unknown fields are skipped.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut stored = Self::default();
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes)?;
            let number = key >> 3;
            if number == 0 {
                return None;
            }
            let value = match key & 7 {
                0 => take_varint(&mut bytes)?.cast_signed(),
                1 => take(&mut bytes, 8)?,
                2 => {
                    let len = take_varint(&mut bytes)?;
                    take(&mut bytes, len)?
                }
                5 => take(&mut bytes, 4)?,
                _ => return None,
            };
            match key {
                0x08 => stored.id = value,
                0x10 => stored.ttl = value,
                0x18 => stored.remaining_ttl = value,
                _ => {}
            }
        }
        Some(stored)
    }
}

fn put_varint(buf: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *bytes = bytes.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Skips `len` bytes of a field that leases do not have.
fn take(bytes: &mut &[u8], len: u64) -> Option<i64> {
    *bytes = bytes.get(usize::try_from(len).ok()?..)?;
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn bytes_of_etcd() {
        let lease = Stored { id: 0x32695, ttl: 60, remaining_ttl: 0 };
        assert_eq!(lease.encode(), [0x08, 0x95, 0xcd, 0x0c, 0x10, 0x3c]);
        let negative = Stored { id: -1, ttl: 2, remaining_ttl: 1 };
        assert_eq!(
            negative.encode(),
            [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x10, 2, 0x18, 1]
        );
        assert_eq!(key(-1), [255; 8]);
    }

    #[test]
    fn malformed() {
        for bytes in [&[0x08][..], &[0x08, 0x80], &[0x0b], &[0x22, 5, 1], &[0x00, 0x01], &[255; 12]]
        {
            assert_eq!(Stored::decode(bytes), None, "{bytes:x?}");
        }
        // Unknown fields of every wire type.
        let unknown =
            [0x20, 1, 0x29, 0, 0, 0, 0, 0, 0, 0, 0, 0x32, 1, 0, 0x3d, 0, 0, 0, 0, 0x08, 7];
        assert_eq!(Stored::decode(&unknown), Some(Stored { id: 7, ..Stored::default() }));
    }

    proptest! {
        #[test]
        fn round_trip(id: i64, ttl: i64, remaining_ttl: i64) {
            let lease = Stored { id, ttl, remaining_ttl };
            prop_assert_eq!(Stored::decode(&lease.encode()), Some(lease));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Stored::decode(&bytes);
        }
    }
}
