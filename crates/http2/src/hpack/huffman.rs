//! The Huffman code of RFC 7541 Appendix B. It is canonical, so the lengths alone define it; tables are built at
//! compile time.

use super::DecodeError;

/// Bits of the code of each byte.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LENGTH_MAX: usize = 30;
/// Codes up to this long are decoded with one look; they cover all that names, paths and tokens are made of.
const FAST_BITS: usize = 10;

struct Code {
    /// Code of each byte, right-aligned.
    codes: [u32; 256],
    /// Bytes in the order of their codes.
    symbols: [u8; 256],
    /// For each length: the code after the last of that length, left-aligned in 32 bits; 0 if there is none.
    limit: [u32; LENGTH_MAX + 1],
    /// For each length: its first code, right-aligned, and that code's place in `symbols`.
    first: [u32; LENGTH_MAX + 1],
    place: [u32; LENGTH_MAX + 1],
    /// For each value of the next `FAST_BITS` bits: length << 8 | byte, or 0 if the code is longer.
    fast: [u16; 1 << FAST_BITS],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        codes: [0; 256],
        symbols: [0; 256],
        limit: [0; LENGTH_MAX + 1],
        first: [0; LENGTH_MAX + 1],
        place: [0; LENGTH_MAX + 1],
        fast: [0; 1 << FAST_BITS],
    };
    let mut next: u32 = 0;
    let mut place = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        next <<= 1;
        code.first[length] = next;
        code.place[length] = place as u32;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.symbols[place] = symbol as u8;
                if length <= FAST_BITS {
                    let spare = FAST_BITS - length;
                    let mut low = 0;
                    while low < 1 << spare {
                        code.fast[((next as usize) << spare) + low] =
                            (length as u16) << 8 | symbol as u16;
                        low += 1;
                    }
                }
                next += 1;
                place += 1;
            }
            symbol += 1;
        }
        if next > code.first[length] {
            code.limit[length] = next << (32 - length);
        }
        length += 1;
    }
    code
}

/// Appends the bytes that `input` encodes to `out`. Refuses the end-of-string symbol and padding that is not
/// fewer than eight one-bits (RFC 7541 5.2). At most 8/5 of the input's length is appended.
pub(crate) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.reserve(input.len() + input.len() * 3 / 5 + 1);
    let mut rest = input;
    // The next bits, left-aligned; `held` of them are input, those below are zeros.
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    loop {
        if held <= 32 {
            if let Some((word, after)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(*word)) << (32 - held);
                held += 32;
                rest = after;
            } else {
                while let Some((&byte, after)) = rest.split_first() {
                    bits |= u64::from(byte) << (56 - held);
                    held += 8;
                    rest = after;
                }
            }
        }
        let entry = CODE.fast[(bits >> (64 - FAST_BITS)) as usize];
        let (symbol, length) = if entry != 0 {
            (entry as u8, u32::from(entry >> 8))
        } else {
            decode_long((bits >> 32) as u32).unwrap_or((0, u32::MAX))
        };
        if length > held {
            // Only padding may be left, and no padding is the whole of a code.
            let padding_ok = held < 8 && (held == 0 || bits >> (64 - held) == (1 << held) - 1);
            return if padding_ok { Ok(()) } else { Err(DecodeError("bad Huffman code")) };
        }
        out.push(symbol);
        bits <<= length;
        held -= length;
    }
}

/// The symbol at the front of `bits` and its length, when longer than the fast table's; `None` for 30 one-bits.
fn decode_long(bits: u32) -> Option<(u8, u32)> {
    for length in FAST_BITS + 1..=LENGTH_MAX {
        if bits < CODE.limit[length] {
            let code = bits >> (32 - length);
            let place = CODE.place[length] + (code - CODE.first[length]);
            return Some((CODE.symbols[place as usize], length as u32));
        }
    }
    None
}

/// Bytes that `input` takes when encoded.
pub(crate) fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Appends `input` encoded.
pub(crate) fn encode(input: &[u8], out: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    for &byte in input {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << length | u64::from(CODE.codes[usize::from(byte)]);
        held += length;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        out.push((bits << (8 - held)) as u8 | 0xff >> held);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn codes_as_in_rfc_7541_appendix_b() {
        for (byte, code, length) in [
            (b'0', 0x0, 5),
            (b'a', 0x3, 5),
            (b'/', 0x18, 6),
            (b':', 0x5c, 7),
            (b'X', 0xfc, 8),
            (0, 0x1ff8, 13),
            (b'\\', 0x7fff0, 19),
            (10, 0x3ffffffc, 30),
            (22, 0x3ffffffe, 30),
            (255, 0x3ffffee, 26),
        ] {
            assert_eq!(CODE.codes[usize::from(byte)], code, "{byte}");
            assert_eq!(LENGTHS[usize::from(byte)], length, "{byte}");
        }
    }

    #[test]
    fn end_of_string_and_bad_padding_are_refused() {
        assert_eq!(decoded(&[0x07]), Ok(b"0".to_vec()), "three bits of padding");
        assert!(decoded(&[0x00]).is_err(), "padding of zeros");
        assert!(decoded(&[0xff]).is_err(), "eight bits of padding");
        assert!(decoded(&[0x07, 0xff]).is_err(), "eleven bits of padding");
        assert!(decoded(&[0xff, 0xff, 0xff, 0xff]).is_err(), "end of string");
        assert!(decoded(&[0xff, 0xff, 0xff, 0xfc]).is_err(), "end of string, then zeros");
        assert_eq!(decoded(&[]), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            encode(&bytes, &mut out);
            prop_assert_eq!(out.len(), encoded_len(&bytes));
            prop_assert_eq!(decoded(&out), Ok(bytes));
        }

        #[test]
        fn what_decodes_encodes_to_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(text) = decoded(&bytes) {
                prop_assert!(text.len() <= bytes.len() * 8 / 5);
                let mut out = Vec::new();
                encode(&text, &mut out);
                prop_assert_eq!(out, bytes);
            }
        }
    }
}
