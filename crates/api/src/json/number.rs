//! JSON's numbers as integers: `1e3` and `10.0` are some, `1.5` is none.

/// More digits than this no integer has.
const DIGITS_MAX: usize = 20;

/// Length of the number at the start of `text`, if one stands there and ends at a delimiter.
pub(super) fn len(text: &[u8]) -> Option<usize> {
    let parts = Parts::read(text)?;
    let is_delimited = text.get(parts.len).is_none_or(|byte| !is_word(*byte));
    is_delimited.then_some(parts.len)
}

/// Whether a byte goes on a number or a word.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_')
}

/// The integer that a number stands for, in decimal.
pub(super) fn integer(number: &[u8]) -> Option<i128> {
    let parts = Parts::read(number)?;
    let whole = if parts.whole == b"0" { b"" } else { parts.whole };
    let fraction = parts.fraction.trim_suffix_zeros();
    if whole.is_empty() && fraction.is_empty() {
        return Some(0);
    }
    let exponent: i32 = match parts.exponent {
        b"" => 0,
        digits => std::str::from_utf8(digits).ok()?.parse().ok()?,
    };
    let mut digits = whole.to_vec();
    if let Ok(shift) = usize::try_from(exponent) {
        if fraction.len() > shift || whole.len().checked_add(shift)? > DIGITS_MAX {
            return None;
        }
        digits.extend_from_slice(fraction);
        digits.resize(whole.len() + shift, b'0');
    } else {
        let kept = whole.len().checked_sub(usize::try_from(exponent.unsigned_abs()).ok()?)?;
        if !fraction.is_empty() || digits.split_off(kept).iter().any(|digit| *digit != b'0') {
            return None;
        }
        // As in Go, nothing is left of a number that is all zeros behind the point.
        if digits.is_empty() {
            return None;
        }
    }
    if digits.len() > 2 * DIGITS_MAX - 2 {
        return None;
    }
    let value: i128 = std::str::from_utf8(&digits).ok()?.parse().ok()?;
    Some(if parts.is_negative { -value } else { value })
}

trait TrimZeros {
    fn trim_suffix_zeros(&self) -> &Self;
}

impl TrimZeros for [u8] {
    fn trim_suffix_zeros(&self) -> &Self {
        let zeros = self.iter().rev().take_while(|digit| **digit == b'0').count();
        self.get(..self.len() - zeros).unwrap_or_default()
    }
}

/// A number's parts.
struct Parts<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// With its sign.
    exponent: &'a [u8],
    len: usize,
}

impl<'a> Parts<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let is_negative = text.first() == Some(&b'-');
        let mut at = usize::from(is_negative);
        let whole = match text.get(at)? {
            b'0' => text.get(at..=at)?,
            b'1'..=b'9' => digits(text, at),
            _ => return None,
        };
        at += whole.len();
        let mut fraction: &[u8] = b"";
        if text.get(at) == Some(&b'.') && text.get(at + 1).is_some_and(u8::is_ascii_digit) {
            fraction = digits(text, at + 1);
            at += 1 + fraction.len();
        }
        let mut exponent: &[u8] = b"";
        if matches!(text.get(at), Some(b'e' | b'E')) && text.len() > at + 1 {
            let start = at + 1;
            let sign = usize::from(matches!(text.get(start), Some(b'+' | b'-')));
            text.get(start + sign)?;
            at = start + sign + digits(text, start + sign).len();
            exponent = text.get(start..at)?;
        }
        Some(Self { is_negative, whole, fraction, exponent, len: at })
    }
}

fn digits(text: &[u8], from: usize) -> &[u8] {
    let rest = text.get(from..).unwrap_or_default();
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest.get(..len).unwrap_or_default()
}
