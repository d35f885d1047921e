//! Keys: reads, writes, transactions and compaction.

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::etcdserverpb::{
    CompactionRequest, CompactionResponse as CompactResponse, RangeRequest, RangeStreamResponse,
};
use bytes::Bytes;

use crate::call::Method;
use crate::channel::Answers;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::namespace;
use crate::op::{Delete, Get, GetResponse, Kv, Op, OpResponse, Put, Txn};
use crate::watch::{Command, Watch};

const RANGE: Method = Method::repeatable("/etcdserverpb.KV/Range");
const RANGE_STREAM: Method = Method::repeatable("/etcdserverpb.KV/RangeStream");
const PUT: Method = Method::once("/etcdserverpb.KV/Put");
const DELETE_RANGE: Method = Method::once("/etcdserverpb.KV/DeleteRange");
const TXN: Method = Method::once("/etcdserverpb.KV/Txn");
const COMPACT: Method = Method::once("/etcdserverpb.KV/Compact");

/// How often each endpoint is asked for an answer that isn't from the past (clientv3's).
const ORDER_ROUNDS: usize = 5;

/// The wait between two such questions.
const ORDER_WAIT: Duration = Duration::from_millis(5);

impl Client {
    /// Reads a key, or with the options of [`Get`] a range of keys.
    pub fn get(&self, key: impl Into<Vec<u8>>) -> Get<Self> {
        Get::to(key, self.clone())
    }

    /// Sets a key.
    pub fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Put<Self> {
        Put::to(key, value, self.clone())
    }

    /// Deletes a key, or with the options of [`Delete`] a range of keys.
    pub fn delete(&self, key: impl Into<Vec<u8>>) -> Delete<Self> {
        Delete::to(key, self.clone())
    }

    /// Begins a transaction.
    pub fn txn(&self) -> Txn<Self> {
        Txn::to(self.clone())
    }

    /// Forgets what was before `revision`. With `physical` it returns when the room is free.
    ///
    /// # Errors
    /// If the revision was forgotten before or isn't there yet, or the call fails.
    pub async fn compact(&self, revision: i64, physical: bool) -> Result<CompactResponse> {
        self.unary(COMPACT, CompactionRequest { revision, physical }).await
    }

    /// Watches a key, or with the options of [`Watch`] a range of keys.
    pub fn watch(&self, key: impl Into<Vec<u8>>) -> Watch {
        Watch::new(self.clone(), key)
    }

    /// Asks the server to tell all watchers of this client how far they have come, once all are in step.
    pub fn request_progress(&self) {
        // A stream that ends at this moment leaves its watchers to the next one, which is asked again.
        let _ = self.watch_stream().send(Command::Progress);
    }

    async fn send(&self, op: Op) -> Result<(OpResponse, i64)> {
        let revision = |header: Option<api::etcdserverpb::ResponseHeader>| {
            header.map_or(0, |header| header.revision)
        };
        Ok(match op {
            Op::Get(get) => {
                let response: GetResponse = self.unary(RANGE, get.request).await?;
                let revision = revision(response.header);
                (OpResponse::Get(response), revision)
            }
            Op::Put(put) => {
                let response: crate::PutResponse = self.unary(PUT, put.request).await?;
                let revision = revision(response.header);
                (OpResponse::Put(response), revision)
            }
            Op::Delete(delete) => {
                let response: crate::DeleteResponse =
                    self.unary(DELETE_RANGE, delete.request).await?;
                let revision = revision(response.header);
                (OpResponse::Delete(response), revision)
            }
            Op::Txn(txn) => {
                let response: crate::TxnResponse = self.unary(TXN, txn.request).await?;
                let revision = revision(response.header);
                (OpResponse::Txn(response), revision)
            }
        })
    }

    /// Sends a read until its answer is not from before what was shown already. A transaction that writes is
    /// never from before.
    async fn send_in_order(&self, op: Op) -> Result<OpResponse> {
        let Some(order) = self.order() else { return Ok(self.send(op).await?.0) };
        let asked = order.load(Ordering::Relaxed);
        for _ in 0..ORDER_ROUNDS * self.endpoints().len().max(1) {
            let (response, revision) = self.send(op.clone()).await?;
            if Self::is_in_order(order, asked, revision) {
                return Ok(response);
            }
            tokio::time::sleep(ORDER_WAIT).await;
        }
        Err(Error::NoGreaterRevision)
    }
}

impl Kv for Client {
    async fn execute(&self, mut op: Op) -> Result<OpResponse> {
        let prefix = self.prefix();
        namespace::add_to_op(&prefix, &mut op)?;
        let mut response = self.send_in_order(op).await?;
        namespace::strip_response(&prefix, &mut response);
        Ok(response)
    }
}

impl Get<Client> {
    /// Reads in parts, for ranges that are too large to be held at once. All are of one revision.
    ///
    /// Orders and bounds on revisions are refused by the server.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn stream(self) -> Result<RangeStream> {
        let (mut request, client): (RangeRequest, Client) = (self.request, self.to);
        let prefix = client.prefix();
        namespace::add(&prefix, &mut request.key, &mut request.range_end)?;
        let (caller, terms) = (client.caller(), client.terms());
        let opening = caller.server_streaming(terms, RANGE_STREAM, request);
        let answers = caller.within(terms, opening).await?;
        Ok(RangeStream { answers, prefix })
    }
}

/// A range that comes in parts.
#[derive(Debug)]
pub struct RangeStream {
    answers: Answers<RangeStreamResponse>,
    prefix: Bytes,
}

impl RangeStream {
    /// The next part, or `None` behind the last, which has the header and the count.
    ///
    /// # Errors
    /// If the stream breaks: what came is a part of the range then.
    pub async fn next(&mut self) -> Result<Option<GetResponse>> {
        let Some(response) = self.answers.next().await? else { return Ok(None) };
        let mut response = response.range_response.unwrap_or_default();
        namespace::strip_all(&self.prefix, &mut response.kvs);
        Ok(Some(response))
    }
}
