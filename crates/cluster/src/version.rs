//! Versions of servers and clusters.

use std::fmt;

/// A version `major.minor.patch`. A pre-release or build suffix is read over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Changes with the API.
    pub major: u64,
    /// Changes with the data: members may differ by one.
    pub minor: u64,
    /// Changes with nothing that others see; always 0 in a cluster version.
    pub patch: u64,
}

impl Version {
    /// What a new cluster has until all members are known.
    pub const CLUSTER_MIN: Self = Self::new(3, 0, 0);

    /// A version from its parts.
    pub const fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `3.7.0`, `3.8.0-alpha.0` and the like; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next()?;
        let mut parts = core.split('.').map(parse_number);
        let version = Self::new(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }

    /// Reads the target of a downgrade, `3.6` or `3.6.0`, and drops the patch.
    pub fn parse_downgrade_target(text: &str) -> Option<Self> {
        let version = Self::parse(text).or_else(|| Self::parse(&format!("{text}.0")))?;
        Some(version.cluster())
    }

    /// The version without its patch, which is what clusters agree on.
    #[must_use]
    pub const fn cluster(self) -> Self {
        Self { patch: 0, ..self }
    }

    /// What a database says of itself in a cluster of this version; releases before 3.6 keep nothing.
    pub fn storage(self) -> Option<Self> {
        Some(self.cluster()).filter(|version| *version >= Self::new(3, 6, 0))
    }

    /// `major.minor`, as etcd shows cluster versions.
    pub fn major_minor(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// Whether a cluster of this version may be downgraded to `target`: one minor version.
    pub fn is_valid_downgrade(self, target: Self) -> bool {
        self.major == target.major
            && self.minor.checked_sub(1) == Some(target.minor)
            && target.patch == 0
    }

    /// Whether a cluster of this version may go to `target`: up within the major version, or one
    /// minor version down.
    pub fn is_valid_change(self, target: Self) -> bool {
        let (from, to) = (self.cluster(), target.cluster());
        from.is_valid_downgrade(to) || (from.major == to.major && from < to)
    }
}

fn parse_number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse() {
        let cases = [
            ("3.7.0", Some((3, 7, 0))),
            ("3.7.12", Some((3, 7, 12))),
            ("3.8.0-alpha.0", Some((3, 8, 0))),
            ("3.5.0+git", Some((3, 5, 0))),
            ("3.7", None),
            ("", None),
            ("3.7.0.1", None),
            ("3..0", None),
            ("+3.7.0", None),
            ("3.7.x", None),
            ("99999999999999999999.0.0", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(major, minor, patch)| Version::new(major, minor, patch));
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert_eq!(Version::parse_downgrade_target("3.6"), Some(Version::new(3, 6, 0)));
        assert_eq!(Version::parse_downgrade_target("3.6.4"), Some(Version::new(3, 6, 0)));
        assert_eq!(Version::parse_downgrade_target("v3.6"), None);
    }

    #[test]
    fn a_database_keeps_its_version_since_3_6() {
        for (minor, expected) in [(0, None), (5, None), (6, Some(6)), (7, Some(7))] {
            let expected = expected.map(|minor| Version::new(3, minor, 0));
            assert_eq!(Version::new(3, minor, 1).storage(), expected);
        }
    }

    #[test]
    fn changes() {
        let version = |minor, patch| Version::new(3, minor, patch);
        let cases = [
            (version(7, 0), version(6, 0), true, true),
            (version(7, 0), version(7, 0), false, false),
            (version(7, 0), version(8, 0), false, true),
            (version(0, 0), version(7, 0), false, true),
            (version(7, 0), version(5, 0), false, false),
            (version(7, 0), version(7, 3), false, false),
            (version(0, 0), Version::new(2, 9, 0), false, false),
            (version(7, 0), Version::new(4, 0, 0), false, false),
        ];
        for (from, to, downgrade, change) in cases {
            assert_eq!(from.is_valid_downgrade(to), downgrade, "downgrade {from} {to}");
            assert_eq!(from.is_valid_change(to), change, "change {from} {to}");
        }
    }
}
