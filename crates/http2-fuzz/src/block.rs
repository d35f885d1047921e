//! A header block without its tables: enough to tell which of the allowed differences it may be about.

const STATIC_MAX: usize = 61;

/// The name of a field, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named<'b> {
    /// That of an entry of the static table.
    Entry(usize),
    Text(&'b [u8]),
    /// In the dynamic table, or in Huffman's code, or not to be read.
    Unknown,
}

/// Whether a pseudo-header may be among the block's fields.
pub(crate) fn may_have_pseudo(block: &[u8]) -> bool {
    names(block).any(|name| match name {
        Named::Entry(index) => index <= 14,
        Named::Text(text) => text.first() == Some(&b':'),
        Named::Unknown => true,
    })
}

/// Whether a pseudo-header other than `:status` may be among the block's fields.
pub(crate) fn may_have_request_field(block: &[u8]) -> bool {
    names(block).any(|name| match name {
        Named::Entry(index) => index <= 7,
        Named::Text(text) => text.first() == Some(&b':') && text != b":status",
        Named::Unknown => true,
    })
}

/// Whether `content-length` may be among the block's fields.
pub(crate) fn may_have_length(block: &[u8]) -> bool {
    names(block).any(|name| {
        matches!(name, Named::Entry(28) | Named::Text(b"content-length") | Named::Unknown)
    })
}

/// Whether `content-length` may be among the block's fields without a value.
pub(crate) fn may_have_empty_length(block: &[u8]) -> bool {
    // The entry of the static table, whose value is empty, one of the dynamic table, or a string of no bytes.
    may_have_length(block) && block.iter().any(|byte| matches!(byte, 0x00 | 0x80 | 0x9c | 0xbe..))
}

/// Whether `:path` is certainly among the block's fields.
pub(crate) fn has_path(block: &[u8]) -> bool {
    names(block).any(|name| matches!(name, Named::Entry(4 | 5) | Named::Text(b":path")))
}

/// Whether an integer of the block may be longer than it need be.
pub(crate) fn may_have_long_integer(block: &[u8]) -> bool {
    block.windows(4).any(|bytes| bytes.iter().all(|byte| byte & 0x80 != 0))
}

fn names(block: &[u8]) -> impl Iterator<Item = Named<'_>> {
    let mut rest = Some(block);
    std::iter::from_fn(move || {
        loop {
            let block = rest.filter(|block| !block.is_empty())?;
            let (named, after) = next_name(block);
            rest = after;
            if let Some(named) = named {
                return Some(named);
            }
        }
    })
}

/// The name of the first representation, if it has one, and what is behind it, if that can be told.
fn next_name(block: &[u8]) -> (Option<Named<'_>>, Option<&[u8]>) {
    let (bits, is_indexed, is_update) = match block[0] {
        0x80.. => (7, true, false),
        0x40.. => (6, false, false),
        0x20.. => (5, false, true),
        _ => (4, false, false),
    };
    let unknown = Some(Named::Unknown);
    let Some((index, rest)) = integer(block, bits) else { return (unknown, None) };
    if is_update {
        return (None, Some(rest));
    }
    let (named, rest) = match index {
        0 if is_indexed => return (unknown, None),
        0 => match string(rest) {
            Some((false, text, rest)) => (Named::Text(text), rest),
            Some((true, _, rest)) => (Named::Unknown, rest),
            None => return (unknown, None),
        },
        1..=STATIC_MAX => (Named::Entry(index), rest),
        _ => (Named::Unknown, rest),
    };
    let rest = if is_indexed { Some(rest) } else { string(rest).map(|(_, _, rest)| rest) };
    (Some(named), rest)
}

fn integer(bytes: &[u8], bits: u32) -> Option<(usize, &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let mask = (1usize << bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for shift in (0..35).step_by(7) {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value, rest));
            }
        }
        return None;
    }
    Some((value, rest))
}

/// A string as it is coded, and what is behind it.
fn string(bytes: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let is_huffman = bytes.first()? & 0x80 != 0;
    let (length, rest) = integer(bytes, 7)?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((is_huffman, text, rest))
}

#[cfg(test)]
mod tests {
    use super::{may_have_long_integer, may_have_pseudo, may_have_request_field};

    #[test]
    fn pseudo_headers_are_seen() {
        for (block, want) in [
            (&b"\x83"[..], true),
            (b"\x40\x01a\x01b", false),
            (b"\x00\x02:a\x01b", true),
            (b"\x00\x82\xb8\x7f\x01b", true),
            (b"\x3e\x0f\x0d\x01b", false),
            (b"\x40\x01a\x01b\x04\x01/", true),
            (b"\xbe", true),
        ] {
            assert_eq!(may_have_pseudo(block), want, "{block:x?}");
        }
        assert!(!may_have_request_field(b"\x88\x08\x03200") && may_have_pseudo(b"\x88"));
        assert!(may_have_request_field(b"\x88\x84"));
    }

    #[test]
    fn long_integers_are_seen() {
        assert!(may_have_long_integer(b"\xff\x80\x80\x80\x00"));
        assert!(!may_have_long_integer(b"\xff\x80\x00\x80\x80"));
    }
}
