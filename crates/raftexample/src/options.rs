//! The four flags.

use cobra::go;
use cobra::goflag::{self, Flag, UsageError, number};

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The peer URLs of all members; the first is that of member 1.
    pub(crate) cluster: Vec<String>,
    /// This member.
    pub(crate) id: u64,
    /// Where the key-value store is served.
    pub(crate) port: u16,
    /// Whether the cluster is there already.
    pub(crate) join: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Cluster,
    Id,
    Join,
    Port,
}

impl Known {
    const ALL: [Self; 4] = [Self::Cluster, Self::Id, Self::Join, Self::Port];

    /// The default, and two lines for the usage.
    const fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Cluster => (
                "http://127.0.0.1:9021",
                "  -cluster string",
                "comma separated cluster peers (default \"http://127.0.0.1:9021\")",
            ),
            Self::Id => ("1", "  -id int", "node ID (default 1)"),
            Self::Join => ("false", "  -join", "join an existing cluster"),
            Self::Port => ("9121", "  -port int", "key-value server port (default 9121)"),
        }
    }
}

impl Flag for Known {
    fn name(&self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Id => "id",
            Self::Join => "join",
            Self::Port => "port",
        }
    }

    fn is_bool(&self) -> bool {
        *self == Self::Join
    }

    fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Self::Cluster => Ok(()),
            Self::Id => number::<u64>(value).map(drop),
            Self::Join => go::parse_bool(value).map(drop).map_err(|_| "parse error".to_owned()),
            Self::Port => number::<u16>(value).map(drop),
        }
    }
}

/// The text of `-help`, in Go's form.
pub(crate) fn usage(program: &str) -> String {
    let mut text = format!("Usage of {program}:\n");
    for flag in Known::ALL {
        let (_, head, meaning) = flag.describe();
        text += &format!("{head}\n    \t{meaning}\n");
    }
    text
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, UsageError> {
        let find = |name: &str| Known::ALL.into_iter().find(|flag| flag.name() == name);
        let parsed = goflag::parse(arguments, find)?;
        let text = |flag: Known| parsed.value(flag.name()).unwrap_or(flag.describe().0);
        let message = |why: String| UsageError::Message(why);
        Ok(Self {
            cluster: text(Known::Cluster).split(',').map(str::to_owned).collect(),
            id: number(text(Known::Id)).map_err(message)?,
            port: number(text(Known::Port)).map_err(message)?,
            join: go::parse_bool(text(Known::Join)).unwrap_or_default(),
        })
    }

    /// The peer URL of this member.
    pub(crate) fn own_url(&self) -> Option<&str> {
        let at = usize::try_from(self.id).ok()?.checked_sub(1)?;
        self.cluster.get(at).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let parse = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&arguments)
        };
        let defaults = Options {
            cluster: vec!["http://127.0.0.1:9021".to_owned()],
            id: 1,
            port: 9121,
            join: false,
        };
        assert_eq!(parse(""), Ok(defaults));
        let options = parse("--id 2 --cluster http://a:1,http://b:2 -port=7 --join");
        let options = options.expect("flags");
        assert_eq!(options.own_url(), Some("http://b:2"));
        assert!(options.join && options.port == 7);
        let refused = "invalid value \"70000\" for flag -port: value out of range";
        assert_eq!(parse("--port 70000"), Err(UsageError::Message(refused.to_owned())));
        assert_eq!(parse("--id 3").expect("flags").own_url(), None);
        assert_eq!(parse("--id 0").expect("flags").own_url(), None);
    }
}
