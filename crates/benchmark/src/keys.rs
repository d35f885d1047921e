//! Keys and values as etcd's tool makes them.

/// The key of a number: its varint, signed, at the head of as many bytes as a key has.
pub(crate) fn key(number: u64, size: usize) -> Vec<u8> {
    let mut rest = number << 1;
    let mut key = Vec::with_capacity(size);
    while rest >= 0x80 {
        key.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    key.push(rest as u8);
    key.resize(size, 0);
    key
}

/// Which of the keys is next: one after the other, or any.
pub(crate) fn pick(number: u64, space: u64, is_sequential: bool) -> u64 {
    if is_sequential { number % space } else { fastrand::u64(..space) }
}

/// Bytes that do not compress.
pub(crate) fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_gos_put_varint() {
        assert_eq!(key(0, 4), [0, 0, 0, 0]);
        assert_eq!(key(1, 2), [2, 0]);
        assert_eq!(key(64, 4), [0x80, 1, 0, 0]);
        assert_eq!(key(300, 8), [0xd8, 4, 0, 0, 0, 0, 0, 0]);
        // Longer than there is room for: cut, where Go's tool ends.
        assert_eq!(key(300, 1), [0xd8]);
    }
}
