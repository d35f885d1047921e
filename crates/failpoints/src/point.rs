//! One point: what it is set to, and what happens when a thread gets there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::EXIT_PANIC;
use crate::names::find;
use crate::terms::{Act, Terms, Value};

/// Held while a request is answered, so that a point that ends the process does so before or after, and who set it
/// has the answer.
pub(crate) static ANSWERING: Mutex<()> = Mutex::new(());

/// A named place in the code.
#[derive(Debug)]
pub struct Point {
    name: &'static str,
    /// Whether there are terms: all that is looked at where nothing is set.
    is_set: AtomicBool,
    terms: Mutex<Option<Arc<Terms>>>,
}

/// Why a point could not be set or asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No point has this name.
    NoSuchPoint,
    /// It has no terms.
    Disabled,
    /// The terms are not in gofail's language.
    BadTerms,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchPoint => "failpoint: failpoint does not exist",
            Self::Disabled => "failpoint: failpoint is disabled",
            Self::BadTerms => "failpoint: could not parse terms",
        })
    }
}

impl std::error::Error for SetError {}

impl Point {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, is_set: AtomicBool::new(false), terms: Mutex::new(None) }
    }

    /// etcd's name of it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Does what the point is set to: waits, says so, ends the process; or returns the value that the caller is to
    /// fail with. Nothing, if it is not set. While one thread waits here, others that come here wait for it, as in
    /// gofail.
    pub fn reach(&self) -> Option<Value> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        let terms = self.terms.lock().clone()?;
        terms.evaluate(|act, value| self.perform(act, value))
    }

    /// As [`Point::reach`], where the value is the text of an error.
    pub fn error(&self) -> std::io::Result<()> {
        match self.reach() {
            Some(Value::Text(text)) => Err(std::io::Error::other(text)),
            _ => Ok(()),
        }
    }

    #[expect(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "gofail prints, for whoever runs a test"
    )]
    fn perform(&self, act: Act, value: &Value) -> Option<Value> {
        match act {
            Act::Off => None,
            Act::Return => Some(value.clone()),
            Act::Print => {
                println!("failpoint print: {}", self.name);
                None
            }
            Act::Sleep => {
                match value.duration() {
                    Some(duration) => std::thread::sleep(duration),
                    None => println!("failpoint: ignoring sleep({value}) on {}", self.name),
                }
                None
            }
            Act::Panic => {
                // Until the process ends: nobody gets an answer any more.
                let _answering = ANSWERING.lock();
                match value {
                    Value::Unit => eprintln!("panic: failpoint panic: {}", self.name),
                    value => eprintln!("panic: failpoint panic: {value}"),
                }
                std::process::exit(EXIT_PANIC);
            }
            Act::Break => {
                break_into_debugger();
                None
            }
        }
    }
}

/// Starts gdb on this process and leaves it the time to attach, as gofail does.
fn break_into_debugger() {
    let program = std::env::current_exe().unwrap_or_default();
    let gdb =
        std::process::Command::new("gdb").arg(program).arg(std::process::id().to_string()).spawn();
    if gdb.is_ok() {
        std::thread::sleep(std::time::Duration::from_secs(3));
    }
}

/// `name=terms` pairs with semicolons between them.
pub(crate) fn parse_list(list: &str) -> Result<Vec<(String, String)>, String> {
    list.split(';')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((name, terms)) if !terms.contains('=') => Ok((name.to_owned(), terms.to_owned())),
            _ => Err(format!("bad failpoint {pair:?}")),
        })
        .collect()
}

/// Gives a point terms in the place of those that it has.
pub(crate) fn set(name: &str, terms: &str) -> Result<(), SetError> {
    let point = find(name).ok_or(SetError::NoSuchPoint)?;
    let terms = Terms::parse(terms).ok_or(SetError::BadTerms)?;
    *point.terms.lock() = Some(Arc::new(terms));
    point.is_set.store(true, Ordering::Release);
    Ok(())
}

/// Takes a point's terms away. A thread that waits there goes on waiting.
pub(crate) fn unset(name: &str) -> Result<(), SetError> {
    let point = find(name).ok_or(SetError::NoSuchPoint)?;
    point.is_set.store(false, Ordering::Release);
    point.terms.lock().take().map(drop).ok_or(SetError::Disabled)
}

/// The terms of a point, and how often one of them was done.
pub(crate) fn status(name: &str) -> Result<(String, u64), SetError> {
    let point = find(name).ok_or(SetError::NoSuchPoint)?;
    let terms = point.terms.lock().clone().ok_or(SetError::Disabled)?;
    Ok((terms.text().to_owned(), terms.count()))
}
