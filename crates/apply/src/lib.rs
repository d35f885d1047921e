//! The one place where a committed entry changes state.
