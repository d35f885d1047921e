//! Members, cluster version and alarms as replicated state.
