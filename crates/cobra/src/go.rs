//! Numbers, durations and quoted text in Go's forms.

use std::fmt;

pub use api::error::transport::quote;

/// Why Go's `strconv` refuses a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberError {
    function: &'static str,
    text: String,
    what: &'static str,
}

impl NumberError {
    /// Whether it is a number, and too large.
    #[must_use]
    pub fn is_range(&self) -> bool {
        self.what == RANGE
    }
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "strconv.{}: parsing {}: {}",
            self.function,
            quote(self.text.as_bytes()),
            self.what
        )
    }
}

const SYNTAX: &str = "invalid syntax";
const RANGE: &str = "value out of range";

/// `strconv.ParseInt` with 64 bits. Base 0 takes the base from the text's prefix.
///
/// # Errors
/// No number in this base, or too large for an `i64`.
pub fn parse_int(text: &str, base: u32) -> Result<i64, NumberError> {
    let fail = |what| NumberError { function: "ParseInt", text: text.to_owned(), what };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = i128::from(magnitude(digits, base).map_err(fail)?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| fail(RANGE))
}

/// `strconv.ParseUint` with 64 bits.
///
/// # Errors
/// No number in this base, or too large for a `u64`.
pub fn parse_uint(text: &str, base: u32) -> Result<u64, NumberError> {
    magnitude(text, base).map_err(|what| NumberError {
        function: "ParseUint",
        text: text.to_owned(),
        what,
    })
}

/// `strconv.ParseBool`.
///
/// # Errors
/// None of Go's twelve words.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NumberError { function: "ParseBool", text: text.to_owned(), what: SYNTAX }),
    }
}

/// `strconv.ParseFloat`, of decimal numbers.
///
/// # Errors
/// No decimal number.
pub fn parse_float(text: &str) -> Result<f64, NumberError> {
    text.parse().map_err(|_| NumberError {
        function: "ParseFloat",
        text: text.to_owned(),
        what: SYNTAX,
    })
}

fn magnitude(text: &str, base: u32) -> Result<u64, &'static str> {
    let (digits, base) = match base {
        0 => prefixed(text)?,
        base => (text.to_owned(), base),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err(SYNTAX);
    }
    u64::from_str_radix(&digits, base).map_err(|_| RANGE)
}

/// The digits and their base, without prefix and underscores. An underscore may stand between two digits or behind the
/// prefix.
fn prefixed(text: &str) -> Result<(String, u32), &'static str> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    let misplaced = digits.ends_with('_') || digits.contains("__");
    if misplaced || (base == 10 && digits.starts_with('_')) {
        return Err(SYNTAX);
    }
    Ok((digits.replace('_', ""), base))
}

/// `time.ParseDuration`, in nanoseconds.
///
/// # Errors
/// Go's sentence.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let fail = |what: &str| format!("time: {what} duration {}", quote(text.as_bytes()));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let invalid = || fail("invalid");
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, behind) = rest.split_at(end);
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => {
                behind.split_at(behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len()))
            }
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let scale: u64 = match unit {
            "" => return Err(fail("missing unit in")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(fail(&format!("unknown unit {} in", quote(unit.as_bytes())))),
        };
        let mut part = match whole {
            "" => 0,
            digits => digits.parse::<u64>().map_err(|_| invalid())?,
        };
        part = part.checked_mul(scale).ok_or_else(invalid)?;
        let mut place = scale as f64;
        let mut behind_point = 0.0;
        for digit in fraction.bytes() {
            place /= 10.0;
            behind_point += f64::from(digit - b'0') * place;
        }
        part = part.checked_add(behind_point as u64).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = behind;
    }
    let signed = if negative { -i128::from(total) } else { i128::from(total) };
    i64::try_from(signed).map_err(|_| invalid())
}

/// `time.Duration.String`.
#[must_use]
pub fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(total, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(total, 6)),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let seconds = decimal(rest, 9);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// `value` with the point `places` digits from its end, without zeros behind it.
fn decimal(value: u64, places: u32) -> String {
    let unit = 10_u64.pow(places);
    let digits = format!("{:0width$}", value % unit, width = places as usize);
    match digits.trim_end_matches('0') {
        "" => format!("{}", value / unit),
        digits => format!("{}.{digits}", value / unit),
    }
}

/// `%q` of a character.
#[must_use]
pub fn quote_char(c: char) -> String {
    let quoted = quote(c.to_string().as_bytes());
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        _ => format!("'{}'", &quoted[1..quoted.len() - 1]),
    }
}
