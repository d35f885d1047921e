//! One member without sockets or threads: events in, effects out.
