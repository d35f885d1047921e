//! Makes a failing input short.

use crate::frame::{self, HEADER_LEN};
use crate::judge::{Tally, judge};

/// Leaves out frames, and then bytes, as long as the input fails.
pub fn shrink(input: &[u8]) -> Vec<u8> {
    shrink_while(input, |bytes| judge(bytes, &mut Tally::default()).is_err())
}

fn shrink_while(input: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    loop {
        let before = best.len();
        for pieces in [frames(&best), bytes(&best), inner_bytes(&best)] {
            for (start, end, length_at) in pieces.into_iter().rev() {
                let Some(shorter) = without(&best, start, end, length_at) else { continue };
                if fails(&shorter) {
                    best = shorter;
                }
            }
        }
        if best.len() == before {
            return best;
        }
    }
}

/// What to leave out: from, to, and where the length stands that has to be less then.
type Piece = (usize, usize, Option<usize>);

fn without(input: &[u8], start: usize, end: usize, length_at: Option<usize>) -> Option<Vec<u8>> {
    let mut shorter = input.get(..start)?.to_vec();
    shorter.extend_from_slice(input.get(end..)?);
    if let Some(at) = length_at {
        let length: &mut [u8; 3] = shorter.get_mut(at..at + 3)?.try_into().ok()?;
        let [a, b, c] = *length;
        let [_, a, b, c] = u32::from_be_bytes([0, a, b, c]).checked_sub(1)?.to_be_bytes();
        *length = [a, b, c];
    }
    Some(shorter)
}

fn each_frame(input: &[u8], mut visit: impl FnMut(usize, usize)) {
    let mut rest = input.get(2..).unwrap_or_default();
    while let Some(frame) = frame::next(&mut rest) {
        let end = input.len() - rest.len();
        visit(end - frame.bytes.len(), end);
    }
}

fn frames(input: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    each_frame(input, |start, end| pieces.push((start, end, None)));
    pieces
}

fn bytes(input: &[u8]) -> Vec<Piece> {
    (2..input.len()).map(|at| (at, at + 1, None)).collect()
}

/// Bytes of payloads, whose frames become shorter.
fn inner_bytes(input: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    each_frame(input, |start, end| {
        pieces.extend((start + HEADER_LEN..end).map(|at| (at, at + 1, Some(start))));
    });
    pieces
}

#[cfg(test)]
mod tests {
    use super::shrink_while;

    #[test]
    fn what_matters_is_left() {
        let mut input = vec![0, 0];
        for payload in [&b"abc"[..], b"xyz!uvw", b"def"] {
            crate::frame::put(&mut input, 0, 0, 1, payload);
        }
        let shrunk = shrink_while(&input, |bytes| {
            bytes.windows(11).any(|part| part == b"\0\0\x01\0\0\0\0\0\x01!\0")
                || bytes.contains(&b'!')
        });
        assert_eq!(shrunk, [0, 0, b'!']);
    }
}
