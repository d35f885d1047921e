//! Where services are found: addresses under a name, as etcd's `naming/endpoints` writes them.
//!
//! ```
//! # async fn example(client: client::Client) -> client::Result<()> {
//! use client::naming::{Endpoint, Manager};
//!
//! let manager = Manager::new(&client, "services/search")?;
//! let session = client.session().ttl(10).await?;
//! let endpoint = Endpoint::new("10.0.0.1:8080");
//! manager.add_endpoint("services/search/1", endpoint, session.lease()).await?;
//! for (key, endpoint) in manager.list().await? {
//!     println!("{key}: {}", endpoint.address);
//! }
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;

use api::mvccpb::event::EventType;
use api::{Code, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::op::{Delete, Put, Txn};
use crate::watch::{KeyValue, Watcher};

/// Where a service is found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// Such as `host:port`.
    pub address: String,
    /// What else is to be known of it.
    pub metadata: Value,
}

impl Endpoint {
    /// An address, and nothing else to be known of it.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), metadata: Value::Null }
    }
}

/// A change of the endpoints of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// One is there, or is another than before.
    Add {
        /// The key that stands for it.
        key: String,
        /// What it is.
        endpoint: Endpoint,
        /// The lease with which it ends; 0 for none. Not known of what was heard of.
        lease: i64,
    },
    /// One is gone.
    Delete {
        /// The key that stood for it.
        key: String,
    },
}

impl Update {
    fn key(&self) -> &str {
        let (Self::Add { key, .. } | Self::Delete { key }) = self;
        key
    }
}

/// The value of a key.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(rename = "Op", default)]
    op: u8,
    #[serde(rename = "Addr", default)]
    address: String,
    #[serde(rename = "Metadata", default)]
    metadata: Value,
}

/// The endpoints of one service: keys behind `<target>/`.
#[derive(Clone, Debug)]
pub struct Manager {
    client: Client,
    target: String,
}

impl Manager {
    /// Those of the service of this name.
    ///
    /// # Errors
    /// If there is no name.
    pub fn new(client: &Client, target: impl Into<String>) -> Result<Self> {
        let target = target.into();
        if target.is_empty() {
            return Err(Error::Config("invalid target".to_owned()));
        }
        Ok(Self { client: client.clone(), target })
    }

    /// Makes several changes as one.
    ///
    /// # Errors
    /// If a key isn't behind the name, or the call fails.
    pub async fn update(&self, updates: impl IntoIterator<Item = Update>) -> Result<()> {
        let mut txn: Txn<Client> = self.client.txn();
        for update in updates {
            if !update.key().starts_with(&format!("{}/", self.target)) {
                let (target, key) = (&self.target, update.key());
                let text = format!(
                    "endpoints: endpoint key should be prefixed with '{target}/' got: '{key}'"
                );
                return Err(Status::new(Code::InvalidArgument, text).into());
            }
            txn = match update {
                Update::Delete { key } => txn.then(Delete::new(key)),
                Update::Add { key, endpoint: Endpoint { address, metadata }, lease } => {
                    let record = Record { op: 0, address, metadata };
                    let value = serde_json::to_vec(&record)
                        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
                    txn.then(Put::new(key, value).lease(lease))
                }
            };
        }
        txn.await?;
        Ok(())
    }

    /// Adds an endpoint, which ends with a lease unless that is 0.
    ///
    /// # Errors
    /// As [`Manager::update`].
    pub async fn add_endpoint(
        &self,
        key: impl Into<String>,
        endpoint: Endpoint,
        lease: i64,
    ) -> Result<()> {
        self.update([Update::Add { key: key.into(), endpoint, lease }]).await
    }

    /// Removes an endpoint.
    ///
    /// # Errors
    /// As [`Manager::update`].
    pub async fn delete_endpoint(&self, key: impl Into<String>) -> Result<()> {
        self.update([Update::Delete { key: key.into() }]).await
    }

    /// The endpoints by their keys. What isn't one is left out.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn list(&self) -> Result<BTreeMap<String, Endpoint>> {
        let answer = self.client.get(format!("{}/", self.target)).prefix().serializable().await?;
        Ok(answer.kvs.iter().filter_map(endpoint).collect())
    }

    /// Follows the endpoints.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn watch(&self) -> Result<Endpoints> {
        let prefix = format!("{}/", self.target);
        let answer = self.client.get(prefix.as_str()).prefix().serializable().await?;
        let first = answer.kvs.iter().filter_map(endpoint);
        let first = first.map(|(key, endpoint)| Update::Add { key, endpoint, lease: 0 }).collect();
        let since = answer.header.map_or(0, |header| header.revision).saturating_add(1);
        let watcher = self.client.watch(prefix).prefix().start_revision(since).await?;
        Ok(Endpoints { first: Some(first), watcher })
    }
}

/// The endpoints of a service, as they come and go.
#[derive(Debug)]
pub struct Endpoints {
    first: Option<Vec<Update>>,
    watcher: Watcher,
}

impl Endpoints {
    /// The next changes: first those that make what is there. An error is the last thing.
    pub async fn next(&mut self) -> Option<Result<Vec<Update>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(Ok(first));
        }
        loop {
            let response = match self.watcher.next().await? {
                Ok(response) => response,
                Err(error) => return Some(Err(error)),
            };
            let updates: Vec<Update> = response
                .events
                .iter()
                .filter_map(|event| {
                    let kv = event.kv.as_ref()?;
                    if event.r#type() == EventType::Delete {
                        let key = String::from_utf8_lossy(&kv.key).into_owned();
                        return Some(Update::Delete { key });
                    }
                    let (key, endpoint) = endpoint(kv)?;
                    Some(Update::Add { key, endpoint, lease: 0 })
                })
                .collect();
            if !updates.is_empty() {
                return Some(Ok(updates));
            }
        }
    }
}

/// What a key stands for, if it is an endpoint.
fn endpoint(kv: &KeyValue) -> Option<(String, Endpoint)> {
    let key = String::from_utf8_lossy(&kv.key).into_owned();
    match serde_json::from_slice(&kv.value) {
        Ok(Record { address, metadata, .. }) => Some((key, Endpoint { address, metadata })),
        Err(error) => {
            warn!(key, %error, "unmarshal endpoint update failed");
            None
        }
    }
}
