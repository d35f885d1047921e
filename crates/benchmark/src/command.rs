//! The commands.

mod lease;
mod put;
mod range;
mod stm;
mod store;
mod watch;
mod watch_get;
mod watch_latency;

use std::future::Future;
use std::pin::Pin;

use crate::session::{Failure, Session};

/// A command at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;
/// What a command does.
pub(crate) type Action = fn(Session) -> Running;

/// Each command as a constant, which is what a table can hold.
macro_rules! actions {
    ($($name:ident = $module:ident::$function:ident;)+) => {
        $(pub(crate) const $name: Action =
            |session| Box::pin(async move { $module::$function(&session).await });)+
    };
}

actions! {
    PUT = put::put;
    TXN_PUT = put::txn_put;
    RANGE = range::range;
    TXN_MIXED = range::txn_mixed;
    STM = stm::stm;
    WATCH = watch::watch;
    WATCH_GET = watch_get::watch_get;
    WATCH_LATENCY = watch_latency::watch_latency;
    LEASE_KEEPALIVE = lease::keepalive;
    MVCC_PUT = store::put;
}
