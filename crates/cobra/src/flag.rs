//! Flags: their description, their values, and the parser, which is pflag's.

use std::fmt;

use crate::go;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Needs no value.
    Bool,
    /// A signed number.
    Int,
    /// An unsigned one.
    Uint,
    /// A number with a fraction.
    Float,
    /// Go's durations.
    Duration,
    /// Any bytes.
    Text,
    /// Words with commas between; may be given several times.
    List,
}

impl Kind {
    /// How the usage calls the value.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Bool => "",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Float => "float",
            Self::Duration => "duration",
            Self::Text => "string",
            Self::List => "strings",
        }
    }
}

/// The description of a flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Behind two dashes.
    pub name: &'static str,
    /// Behind one dash.
    pub shorthand: Option<char>,
    /// What it takes.
    pub kind: Kind,
    /// Its value when it is not given, as pflag prints it: a list has brackets.
    pub default: &'static str,
    /// One line for the usage.
    pub usage: &'static str,
    /// What a shell may offer as its value.
    pub choices: &'static [&'static str],
    /// Not in the usage.
    pub hidden: bool,
}

impl Flag {
    /// A flag without shorthand and choices.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        usage: &'static str,
    ) -> Self {
        Self { name, shorthand: None, kind, default, usage, choices: &[], hidden: false }
    }

    /// A switch that is off.
    #[must_use]
    pub const fn switch(name: &'static str, usage: &'static str) -> Self {
        Self::new(name, Kind::Bool, "false", usage)
    }

    /// With a one-letter name as well.
    #[must_use]
    pub const fn short(self, shorthand: char) -> Self {
        Self { shorthand: Some(shorthand), ..self }
    }

    /// With words that a shell may offer.
    #[must_use]
    pub const fn choices(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }

    /// Not in the usage.
    #[must_use]
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// Whether the usage says nothing of the default.
    pub(crate) fn default_is_zero(&self) -> bool {
        let zero = match self.kind {
            Kind::Bool => "false",
            Kind::Int | Kind::Uint | Kind::Float => "0",
            Kind::Duration => "0s",
            Kind::Text => "",
            Kind::List => "[]",
        };
        self.default == zero
    }
}

/// A flag's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a switch.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A number with a fraction.
    Float(f64),
    /// In nanoseconds.
    Duration(i64),
    /// Bytes, since keys need not be UTF-8.
    Text(Vec<u8>),
    /// Words.
    List(Vec<String>),
}

impl Value {
    /// Reads a text; the error is the reason in Go's words.
    fn read(kind: Kind, bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.as_ref();
        Ok(match kind {
            Kind::Bool => Self::Bool(go::parse_bool(text).map_err(|e| e.to_string())?),
            Kind::Int => Self::Int(go::parse_int(text, 0).map_err(|e| e.to_string())?),
            Kind::Uint => Self::Uint(go::parse_uint(text, 0).map_err(|e| e.to_string())?),
            Kind::Float => Self::Float(go::parse_float(text).map_err(|e| e.to_string())?),
            Kind::Duration => Self::Duration(go::parse_duration(text)?),
            Kind::Text => Self::Text(bytes.to_vec()),
            Kind::List => Self::List(words(text)?),
        })
    }
}

/// As pflag prints it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Uint(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Duration(nanos) => f.write_str(&go::duration(*nanos)),
            Self::Text(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::List(words) => write!(f, "[{}]", words.join(",")),
        }
    }
}

/// One line of comma-separated values. A field in quotes may hold commas, and quotes when they are doubled.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Ok(words);
    }
    let mut rest = line;
    loop {
        let column = line.len() - rest.len() + 1;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut word = String::new();
            let mut tail = quoted;
            loop {
                let Some((part, behind)) = tail.split_once('"') else {
                    let column = line.len() + 1;
                    return Err(format!(
                        "record on line 1; parse error on line 2, column {column}: extraneous or missing \" in quoted-field"
                    ));
                };
                word.push_str(part);
                let Some(behind) = behind.strip_prefix('"') else {
                    tail = behind;
                    break;
                };
                word.push('"');
                tail = behind;
            }
            words.push(word);
            match tail.strip_prefix(',') {
                Some(behind) => rest = behind,
                None if tail.is_empty() => return Ok(words),
                None => {
                    let column = line.len() - tail.len();
                    return Err(format!(
                        "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
                    ));
                }
            }
            continue;
        }
        let (word, behind) = match rest.split_once(',') {
            Some((word, behind)) => (word, Some(behind)),
            None => (rest, None),
        };
        if let Some(at) = word.find('"') {
            let column = column + at;
            return Err(format!(
                "parse error on line 1, column {column}: bare \" in non-quoted-field"
            ));
        }
        words.push(word.to_owned());
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(words),
        }
    }
}

/// Where a command knows a flag from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It has declared it.
    Own,
    /// A command above has.
    Inherited,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) flag: Flag,
    pub(crate) origin: Origin,
    value: Value,
    pub(crate) changed: bool,
}

/// What a command line says to one command: the values of its flags, and what is left.
#[derive(Clone, Debug, Default)]
pub struct Input {
    pub(crate) slots: Vec<Slot>,
    /// What is no flag, in order.
    pub args: Vec<Vec<u8>>,
}

/// Why a command line is refused, in pflag's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagError(pub String);

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Input {
    /// All flags at their defaults.
    pub(crate) fn new(flags: impl IntoIterator<Item = (Flag, Origin)>) -> Self {
        let slots = flags.into_iter().map(|(flag, origin)| {
            let text = match flag.kind {
                Kind::List => flag.default.trim_start_matches('[').trim_end_matches(']'),
                _ => flag.default,
            };
            let value = Value::read(flag.kind, text.as_bytes());
            let value = value.unwrap_or_else(|why| panic!("the default of --{}: {why}", flag.name));
            Slot { flag, origin, value, changed: false }
        });
        Self { slots: slots.collect(), args: Vec::new() }
    }

    /// Reads the words behind the command; flags may stand anywhere before `--`.
    pub(crate) fn parse(&mut self, words: &[Vec<u8>]) -> Result<(), FlagError> {
        self.args.clear();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_slice() {
                b"--" => {
                    self.args.extend(words.cloned());
                    return Ok(());
                }
                [b'-', b'-', name @ ..] => self.parse_long(word, name, &mut words)?,
                [b'-', letters @ ..] if !letters.is_empty() => {
                    self.parse_short(letters, &mut words)?;
                }
                _ => self.args.push(word.clone()),
            }
        }
        Ok(())
    }

    fn parse_long<'w>(
        &mut self,
        word: &[u8],
        body: &[u8],
        words: &mut impl Iterator<Item = &'w Vec<u8>>,
    ) -> Result<(), FlagError> {
        let shown = String::from_utf8_lossy;
        if matches!(body.first(), None | Some(b'-' | b'=')) {
            return Err(FlagError(format!("bad flag syntax: {}", shown(word))));
        }
        let (name, attached) = match body.iter().position(|&byte| byte == b'=') {
            Some(at) => (&body[..at], Some(&body[at + 1..])),
            None => (body, None),
        };
        let Some(index) = self.slots.iter().position(|slot| slot.flag.name.as_bytes() == name)
        else {
            return Err(FlagError(format!("unknown flag: --{}", shown(name))));
        };
        let value = match attached {
            Some(value) => value,
            None if self.slots[index].flag.kind == Kind::Bool => b"true",
            None => words
                .next()
                .ok_or_else(|| FlagError(format!("flag needs an argument: --{}", shown(name))))?,
        };
        self.set(index, value)
    }

    fn parse_short<'w>(
        &mut self,
        mut letters: &[u8],
        words: &mut impl Iterator<Item = &'w Vec<u8>>,
    ) -> Result<(), FlagError> {
        while let [letter, behind @ ..] = letters {
            // Go makes a character of the byte, and then reads the first byte of that character.
            let shown = char::from(char::from(*letter).to_string().as_bytes()[0]);
            let context =
                || format!("{} in -{}", go::quote_char(shown), String::from_utf8_lossy(letters));
            let known = |slot: &Slot| slot.flag.shorthand == Some(char::from(*letter));
            let Some(index) = self.slots.iter().position(known) else {
                return Err(FlagError(format!("unknown shorthand flag: {}", context())));
            };
            let is_switch = self.slots[index].flag.kind == Kind::Bool;
            let value = match behind {
                [b'=', value @ ..] if !value.is_empty() => value,
                _ if is_switch => {
                    self.set(index, b"true")?;
                    letters = behind;
                    continue;
                }
                [] => words
                    .next()
                    .ok_or_else(|| FlagError(format!("flag needs an argument: {}", context())))?,
                value => value,
            };
            return self.set(index, value);
        }
        Ok(())
    }

    fn set(&mut self, index: usize, bytes: &[u8]) -> Result<(), FlagError> {
        let slot = &mut self.slots[index];
        let value = Value::read(slot.flag.kind, bytes).map_err(|why| {
            let name = match slot.flag.shorthand {
                Some(letter) => format!("\"-{letter}, --{}\"", slot.flag.name),
                None => format!("\"--{}\"", slot.flag.name),
            };
            FlagError(format!("invalid argument {} for {name} flag: {why}", go::quote(bytes)))
        })?;
        match (&mut slot.value, value) {
            (Value::List(words), Value::List(more)) if slot.changed => words.extend(more),
            (old, new) => *old = new,
        }
        slot.changed = true;
        Ok(())
    }

    /// Gives a flag, which the command line has not set, the text that the environment has for it.
    ///
    /// # Errors
    /// The text cannot be read; the flag stays as it is.
    pub fn set_from_environment(&mut self, name: &str, text: &[u8]) -> Result<(), FlagError> {
        let index = self.slots.iter().position(|slot| slot.flag.name == name);
        self.set(index.unwrap_or_else(|| panic!("no flag --{name} here")), text)
    }

    /// Inherited flags in the order of their names, with their values, and whether they were set.
    #[must_use]
    pub fn inherited(&self) -> Vec<(&'static str, &Value, bool)> {
        let inherited = self.slots.iter().filter(|slot| slot.origin == Origin::Inherited);
        let mut all: Vec<_> =
            inherited.map(|slot| (slot.flag.name, &slot.value, slot.changed)).collect();
        all.sort_unstable_by_key(|&(name, ..)| name);
        all
    }

    fn slot(&self, name: &str) -> &Slot {
        let slot = self.slots.iter().find(|slot| slot.flag.name == name);
        slot.unwrap_or_else(|| panic!("no flag --{name} here"))
    }

    /// A flag's value as pflag prints it.
    #[must_use]
    pub fn value_text(&self, name: &str) -> String {
        self.slot(name).value.to_string()
    }

    /// Whether the flag was given.
    #[must_use]
    pub fn changed(&self, name: &str) -> bool {
        self.slot(name).changed
    }

    /// The value of a switch.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        match &self.slot(name).value {
            Value::Bool(value) => *value,
            _ => panic!("--{name} is no switch"),
        }
    }

    /// The value of a number.
    #[must_use]
    pub fn int(&self, name: &str) -> i64 {
        match &self.slot(name).value {
            Value::Int(value) => *value,
            _ => panic!("--{name} is no signed number"),
        }
    }

    /// The value of an unsigned number.
    #[must_use]
    pub fn uint(&self, name: &str) -> u64 {
        match &self.slot(name).value {
            Value::Uint(value) => *value,
            _ => panic!("--{name} is no unsigned number"),
        }
    }

    /// The value of a number with a fraction.
    #[must_use]
    pub fn float(&self, name: &str) -> f64 {
        match &self.slot(name).value {
            Value::Float(value) => *value,
            _ => panic!("--{name} is no number with a fraction"),
        }
    }

    /// The value of a duration in nanoseconds.
    #[must_use]
    pub fn nanos(&self, name: &str) -> i64 {
        match &self.slot(name).value {
            Value::Duration(value) => *value,
            _ => panic!("--{name} is no duration"),
        }
    }

    /// The bytes of a text.
    #[must_use]
    pub fn bytes(&self, name: &str) -> &[u8] {
        match &self.slot(name).value {
            Value::Text(value) => value,
            _ => panic!("--{name} is no text"),
        }
    }

    /// A text; what is not UTF-8 in it is replaced.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name)).into_owned()
    }

    /// The words of a list.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        match &self.slot(name).value {
            Value::List(words) => words,
            _ => panic!("--{name} is no list"),
        }
    }
}
