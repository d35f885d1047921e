//! What of a run's plan takes place: all of it, or what a shrinker has left.

use std::fmt;

/// Numbers, as ranges: `3,7-12`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    ranges: Vec<(u64, u64)>,
}

/// Which faults and which turns of clients take place, by number; `None` for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Faults, as they are drawn.
    pub faults: Option<Numbers>,
    /// Turns of clients.
    pub calls: Option<Numbers>,
}

impl Mask {
    /// Whether a fault strikes.
    #[must_use]
    pub fn has_fault(&self, number: u64) -> bool {
        self.faults.as_ref().is_none_or(|numbers| numbers.contains(number))
    }

    /// Whether a client calls.
    #[must_use]
    pub fn has_call(&self, number: u64) -> bool {
        self.calls.as_ref().is_none_or(|numbers| numbers.contains(number))
    }
}

impl Numbers {
    /// These numbers, which ascend.
    #[must_use]
    pub fn new(numbers: &[u64]) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for &number in numbers {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        Self { ranges }
    }

    /// As written by `Display`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::default());
        }
        let range = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            Some((low.parse().ok()?, high.parse().ok()?))
        };
        let ranges = text.split(',').map(range).collect::<Option<_>>()?;
        Some(Self { ranges })
    }

    fn contains(&self, number: u64) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&number))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ranges.is_empty() {
            return f.write_str("none");
        }
        for (place, (low, high)) in self.ranges.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            match low == high {
                true => write!(f, "{comma}{low}")?,
                false => write!(f, "{comma}{low}-{high}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (numbers, text) in
            [(&[][..], "none"), (&[4], "4"), (&[0, 1, 2, 7, 9, 10], "0-2,7,9-10")]
        {
            let mask = Numbers::new(numbers);
            assert_eq!(mask.to_string(), text);
            assert_eq!(Numbers::parse(text), Some(mask.clone()));
            let kept: Vec<u64> = (0..20).filter(|number| mask.contains(*number)).collect();
            assert_eq!(kept, numbers);
        }
        assert_eq!(Numbers::parse("3-x"), None);
        assert_eq!(Numbers::parse(""), None);
    }
}
