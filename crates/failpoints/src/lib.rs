//! What it is: gofail's runtime: named points in the server, and the terms, variables and pages by which a test sets them.
//! What it never does: run in a normal build. The feature `failpoints` of the binary brings it in; no deterministic crate knows of it.
//! Entry types: [`Point`] with [`Point::reach`], [`start`], [`names`].
//! Owner: the process: points are statics, as in gofail, and any thread may reach one or set it.
//! How to test it: `cargo test -p failpoints`; etcd's robustness suite drives a server with it.

mod http;
mod names;
mod point;
mod terms;

pub use names::names;
pub use names::points;
pub use point::{Point, SetError};
pub use terms::Value;

use std::fmt;

/// The variable with points to be set at the start, `name=terms` with semicolons between.
const GOFAIL_FAILPOINTS: &str = "GOFAIL_FAILPOINTS";

/// The variable with the address of gofail's pages.
const GOFAIL_HTTP: &str = "GOFAIL_HTTP";

/// The code of a Go program that panicked, which is what gofail's `panic` ends in.
const EXIT_PANIC: i32 = 2;

/// Why [`start`] failed.
#[derive(Debug)]
pub enum StartError {
    /// `GOFAIL_FAILPOINTS` is not a list of `name=terms`.
    Parse(String),
    /// The address of `GOFAIL_HTTP` can't be listened on.
    Listen(String, std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(what) => write!(f, "fail to parse failpoint: {what}"),
            Self::Listen(address, err) => write!(f, "listen tcp {address}: {err}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Sets the points of `GOFAIL_FAILPOINTS`, then serves gofail's pages at the address of `GOFAIL_HTTP` for as long as
/// the process lives. `variable` looks a variable up. As in gofail, a name that does not exist and terms that can't be
/// parsed are passed over; returned is what there is to say of them.
///
/// # Errors
/// If the list or the address is of no use: gofail ends the process then.
pub fn start(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, StartError> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    let mut complaints = Vec::new();
    if let Some(list) = given(GOFAIL_FAILPOINTS) {
        for (name, terms) in point::parse_list(&list).map_err(StartError::Parse)? {
            if let Err(err) = point::set(&name, &terms) {
                complaints.push(format!("failed to enable \"{name}={terms}\" ({err})"));
            }
        }
    }
    if let Some(address) = given(GOFAIL_HTTP) {
        http::serve(&address).map_err(|err| StartError::Listen(address, err))?;
    }
    Ok(complaints)
}
