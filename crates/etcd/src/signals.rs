//! SIGTERM and SIGINT, caught while the member starts and runs.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;
use signal_hook::{flag, iterator};

/// A signal that ends the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal(i32);

/// Both signals, caught.
#[derive(Debug)]
pub(crate) struct Signals(iterator::Signals);

impl Signals {
    /// Catches them from now on. The second one ends the process at once, as in etcd.
    pub(crate) fn new() -> io::Result<Self> {
        let is_caught = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order makes the first one set what the second one finds.
            flag::register_conditional_default(signal, Arc::clone(&is_caught))?;
            flag::register(signal, Arc::clone(&is_caught))?;
        }
        iterator::Signals::new([SIGINT, SIGTERM]).map(Self)
    }

    /// Blocks until one comes.
    pub(crate) fn wait(&mut self) -> Signal {
        Signal(self.0.forever().next().unwrap_or(SIGTERM))
    }
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        if self.0 == SIGINT { "interrupt" } else { "terminated" }
    }

    /// Ends the process as the signal does to a program that does not catch it, so that whoever
    /// started it sees that. The first process of a container ends with code 0, as etcd does.
    pub(crate) fn raise(self) -> ExitCode {
        if std::process::id() != 1 {
            let _ = emulate_default_handler(self.0);
        }
        ExitCode::SUCCESS
    }
}
