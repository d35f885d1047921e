//! HPACK (RFC 7541), for either role: a decoder that trusts nothing, an encoder that indexes what it is told to.

mod decoder;
mod encoder;
mod huffman;
mod table;

pub(crate) use decoder::{Decoder, FieldRef};
pub(crate) use encoder::Encoder;

/// What a peer's header block broke. Always a connection error, since the tables no longer agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecodeError(pub(crate) &'static str);

/// Bytes an entry counts beside its name and value (RFC 7541 4.1); a header list's fields count the same.
pub(crate) const ENTRY_OVERHEAD: usize = 32;

/// The dynamic table's size before any SETTINGS (RFC 9113 6.5.2).
pub(crate) const TABLE_SIZE_DEFAULT: u32 = 4096;

/// Largest integer accepted: no length or index in a block of bounded size needs more.
const INTEGER_MAX: u64 = u32::MAX as u64;

/// Decodes an integer with a prefix of `prefix_bits` (RFC 7541 5.1) from the front of `input`.
fn decode_integer(input: &mut &[u8], prefix_bits: u32) -> Result<usize, DecodeError> {
    let (&first, mut rest) = input.split_first().ok_or(DecodeError("truncated header block"))?;
    let mask = (1u32 << prefix_bits) - 1;
    let mut value = u64::from(u32::from(first) & mask);
    if value == u64::from(mask) {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(DecodeError("truncated integer"))?;
            rest = after;
            // Five bytes hold 35 bits; a sixth could only be zeros, or too large.
            if shift > 28 {
                return Err(DecodeError("integer too long"));
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if value > INTEGER_MAX {
            return Err(DecodeError("integer too large"));
        }
    }
    *input = rest;
    usize::try_from(value).map_err(|_| DecodeError("integer too large"))
}

/// Appends `value` with a prefix of `prefix_bits` below the pattern `first`.
fn encode_integer(out: &mut Vec<u8>, first: u8, prefix_bits: u32, value: usize) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_in_rfc_7541_c_1() {
        for (bits, value, bytes) in
            [(5, 10, &[10u8][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42]), (7, 127, &[127, 0])]
        {
            let mut out = Vec::new();
            encode_integer(&mut out, 0, bits, value);
            assert_eq!(out, bytes);
            let mut input = bytes;
            assert_eq!(decode_integer(&mut input, bits), Ok(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn integers_without_end_or_beyond_32_bits_are_refused() {
        for bytes in [
            &[][..],
            &[0x7f],
            &[0x7f, 0x80],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert!(decode_integer(&mut &*bytes, 7).is_err(), "{bytes:x?}");
        }
        let largest = [0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(decode_integer(&mut &largest[..], 7), Ok(u32::MAX as usize));
    }
}
