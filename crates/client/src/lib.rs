//! What it is: a client of etcd v3, and so of this server: what clientv3 is for Go, for Rust.
//! What it never does: repeat a write that may have happened, lose or repeat an event, or block a thread.
//! Entry types: [`Client`], [`Config`]; [`Error`] for all that goes wrong.
//! Owner: any task of a tokio runtime; handles are cheap to clone, and share connections.
//! How to test it: `cargo test -p client`; members are started in the same process.
//!
//! ```no_run
//! use client::{Client, Compare, Comparison, Config, Put};
//!
//! # async fn example() -> client::Result<()> {
//! let client = Client::connect(Config::new(["http://10.0.0.1:2379", "http://10.0.0.2:2379"])).await?;
//!
//! client.put("color/sky", "blue").await?;
//! let colors = client.get("color/").prefix().await?;
//! assert_eq!(colors.kvs[0].value, "blue");
//!
//! // Only if nobody was quicker.
//! let free = Compare::create_revision("color/grass", Comparison::Equal, 0);
//! client.txn().when(free).then(Put::new("color/grass", "green")).await?;
//!
//! let mut watcher = client.watch("color/").prefix().await?;
//! while let Some(response) = watcher.next().await {
//!     println!("{:?}", response?.events);
//! }
//! # Ok(()) }
//! ```
//!
//! Calls go to the endpoints in turn. One that can't be reached is left out, and tried again after a while. While
//! none can be reached calls wait, for as long as [`Config::timeout`] lets them. What a call does about a failure
//! is said in one place each: for calls with one answer, a read is tried again as long as the cluster is
//! unavailable, a write only if no server can have seen it; [watches](Client::watch) go on behind the last
//! revision that was delivered; [leases](Client::lease_keep_alive) are renewed over the next connection.
//!
//! Requests are builders that are sent when they are awaited, and parts of transactions without. Answers are the
//! messages of etcd's protocol as they came.
//!
//! Left out until later: TLS.

pub mod auth;
mod balancer;
mod call;
mod channel;
mod client;
pub mod cluster;
pub mod concurrency;
mod config;
mod endpoint;
mod error;
mod jitter;
mod kv;
pub mod lease;
pub mod leasing;
pub mod maintenance;
pub mod mirror;
mod namespace;
pub mod naming;
mod op;
mod snapshot;
mod watch;

pub use api::Code;
pub use api::Error as EtcdError;
pub use api::etcdserverpb::ResponseHeader;
pub use api::etcdserverpb::range_request::{SortOrder, SortTarget};

pub use client::Client;
pub use config::{Config, RECEIVE_BYTES_MAX, SEND_BYTES_MAX};
pub use error::{Error, Result};
pub use kv::RangeStream;
pub use lease::{LeaseGrant, LeaseKeepAlive};
pub use op::{
    Compare, Comparison, Delete, DeleteResponse, Get, GetResponse, Kv, Op, OpFuture, OpResponse,
    Put, PutResponse, Txn, TxnResponse, prefix_end,
};
pub use snapshot::{SavedSnapshot, Snapshot, SnapshotProgress};
pub use watch::{Event, EventType, KeyValue, Watch, WatchResponse, Watcher};

/// The version of the API that the client tells servers it speaks.
pub const API_VERSION: &str = "3.7";
