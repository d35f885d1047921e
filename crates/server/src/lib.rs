//! What it is: a member put together: configuration, data directory, listeners, threads and queues.
//! What it never does: decide anything about the state; what needs a unit test belongs further down.
//! Entry types: [`Config`], [`Member::start`], [`Member::stop`]; [`log`] for the process log.
//! Owner: the caller's thread, until the member is stopped; all other threads are started here.
//! How to test it: `cargo test -p server`; members are started on free ports and asked by clients.
//!
//! ```no_run
//! let config = server::Config { data_dir: "one.etcd".into(), ..server::Config::default() };
//! let member = server::Member::start(&config)?;
//! println!("serving on {:?}", member.client_addresses());
//! member.stop();
//! # Ok::<(), server::StartError>(())
//! ```

mod announce;
mod apply_thread;
mod ask_leader;
mod boot;
mod commit_thread;
mod config;
mod consensus_thread;
mod corruption;
mod defrag;
mod disk_thread;
mod error;
mod failpoint;
#[cfg(feature = "failpoints")]
mod failpoint_disk;
mod fatal;
mod force;
mod join;
mod listen;
pub mod log;
mod member;
mod metered_disk;
mod own_requests;
mod peer_desk;
mod peers;
mod publish;
mod queues;
mod resolve;
mod url;
mod version_monitor;
mod watch_thread;

pub use apply::AutoCompaction;
pub use config::{Config, DEFAULT_QUOTA_BYTES, FeatureGates, parse_bool};
pub use error::StartError;
pub use member::{Member, Notice};
pub use transport::{TlsFiles, TlsVersion};
pub use url::Url;

/// The release of etcd that this server stands in for.
pub const ETCD_VERSION: &str = "3.7.3";

/// The same as a number to compare.
pub const VERSION: cluster::Version = cluster::Version::new(3, 7, 3);

/// What stands where etcd tells the commit that it was built from.
pub const GIT_SHA: &str = "quorate";

/// What etcd's metrics and `--version` call the toolchain; tools parse the form, not the value.
pub const GO_VERSION: &str = concat!("rust", env!("CARGO_PKG_RUST_VERSION"));
