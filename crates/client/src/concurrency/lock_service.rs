//! Locks for which the server stands in the queue.

use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use bytes::Bytes;

use crate::call::Method;
use crate::client::Client;
use crate::error::Result;

const LOCK: Method = Method::once("/v3lockpb.Lock/Lock");
const UNLOCK: Method = Method::once("/v3lockpb.Lock/Unlock");

impl Client {
    /// Takes a lock with one call, and waits for it. It is held, as the key in the answer, for as long as the lease
    /// lives, or until [`Client::unlock`]. Shares its keys with [`super::Mutex`].
    ///
    /// # Errors
    /// If the lease ends, or the call fails.
    pub async fn lock(&self, name: impl Into<Bytes>, lease: i64) -> Result<LockResponse> {
        self.unary(LOCK, LockRequest { name: name.into(), lease }).await
    }

    /// Gives up the lock that is held as `key`.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn unlock(&self, key: impl Into<Bytes>) -> Result<UnlockResponse> {
        self.unary(UNLOCK, UnlockRequest { key: key.into() }).await
    }
}
