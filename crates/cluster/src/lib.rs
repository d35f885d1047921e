//! What it is: who is in the cluster, at which version it runs, and which alarms are raised, as replicated state.
//! What it never does: resolve a name, reach a peer, decide what is to change; it applies and validates.
//! Entry types: [`Cluster`], [`Member`], [`InitialCluster`] (bootstrap), [`Alarms`], [`Version`].
//! Owner: the apply thread; a clone is a snapshot that others may read.
//! How to test it: `cargo test -p cluster`.
//!
//! The bytes in the backend are etcd's: members as JSON with its order of fields, escapes and
//! omissions, ids as unpadded hexadecimal. [`Cluster::v2_snapshot`] is the membership once more in
//! the form of etcd's retired v2 store, which releases up to 3.6 read from `.snap` files.

mod alarm;
mod cluster;
mod initial;
mod json;
mod member;
mod names;
mod persist;
mod v2store;
mod version;

pub use alarm::Alarms;
pub use cluster::{
    Cluster, ConfChangeError, Connected, Downgrade, MEMBERS_REMOVED_VALUE, MembershipChange,
    ReconfigurationError,
};
pub use initial::{InitialCluster, InitialError, parse_urls};
pub use member::{
    Attributes, JsonError, Member, cluster_id, hex, member_id, members_from_json, members_to_json,
    promote_context,
};
pub use names::Names;
pub use persist::{
    CONF_STATE_KEY, RestoreError, conf_state_from_json, conf_state_to_json, load_conf_state,
    load_storage_version, save_conf_state, save_storage_version,
};
pub use version::Version;
