//! What it is: command lines as Go's libraries read them: cobra, of etcd's tools, and flag, of its server.
//! What it never does: print, read the environment, or run anything; text in, text or an action out.
//! Entry types: [`Program`], [`Command`], [`Flag`]; [`Program::interpret`] gives an [`Outcome`].
//! Owner: none; commands are constants.
//! How to test it: `cargo test -p cobra`; `cargo xtask conformance ctl` compares with the real tools.
//!
//! Commands and flags are data. From them come the parser, the help, the errors with their exact
//! texts, the candidates for completion (`__complete`, the protocol that cobra's scripts speak)
//! and the scripts for four shells. A general parser for command lines would need as much code
//! again to say the same: a command may be shortened to what is unique, a flag may stand before,
//! between and behind, the usage goes to standard error behind an error and to standard output
//! when it was asked for.
//!
//! [`go`] has the forms in which Go reads and writes numbers, durations and quoted text, [`goflag`] is that other package.
//!
//! Left out: what etcd's tools do not use, such as hooks, required flags and aliases.

mod command;
mod complete;
mod find;
mod flag;
pub mod go;
pub mod goflag;
mod script;
mod usage;

pub use command::{Arguments, Command, Outcome, Program, Text};
pub use flag::{Flag, FlagError, Input, Kind, Value};
pub use script::{Shell, script};
pub use usage::flag_usages;

#[cfg(test)]
mod tests;
