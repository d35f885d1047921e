//! Ranges of keys, as requests name them.

use bytes::Bytes;

/// The first key behind all that begin with `prefix`, as the end of a range.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.len() - prefix.iter().rev().take_while(|byte| **byte == u8::MAX).count();
    match prefix.get(..kept).and_then(<[u8]>::split_last) {
        Some((last, rest)) => [rest, &[last + 1]].concat().into(),
        // There is no such key: the range has no end.
        None => Bytes::from_static(b"\0"),
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(prefix_end(b"a/"), "a0");
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff"), "\0");
        assert_eq!(prefix_end(b""), "\0");
    }
}
