//! Operations on keys, with their options: to be awaited, or to be put into a transaction.

use std::future::IntoFuture;
use std::pin::Pin;

use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{
    self as pb, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use bytes::Bytes;

use crate::error::{Error, Result};

pub use api::etcdserverpb::{
    DeleteRangeResponse as DeleteResponse, PutResponse, RangeResponse as GetResponse, TxnResponse,
};
pub use api::range::prefix_end;

/// The end of a range that has none.
pub(crate) const NO_END: &[u8] = &[0];

/// Makes a range of a key: all keys that begin with it.
pub(crate) fn to_prefix(key: &mut Bytes, range_end: &mut Bytes) {
    *range_end = prefix_end(key);
    if key.is_empty() {
        *key = Bytes::from_static(NO_END);
    }
}

/// Makes a range of a key: itself and all behind it.
pub(crate) fn to_from_key(key: &mut Bytes, range_end: &mut Bytes) {
    *range_end = Bytes::from_static(NO_END);
    if key.is_empty() {
        *key = Bytes::from_static(NO_END);
    }
}

/// An operation, as [`Txn`] takes it.
#[derive(Clone, Debug)]
pub enum Op {
    /// Reads keys.
    Get(Get),
    /// Sets a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// A transaction in another.
    Txn(Txn),
}

/// What became of an [`Op`].
#[derive(Clone, Debug, PartialEq)]
pub enum OpResponse {
    /// Of [`Op::Get`].
    Get(GetResponse),
    /// Of [`Op::Put`].
    Put(PutResponse),
    /// Of [`Op::Delete`].
    Delete(DeleteResponse),
    /// Of [`Op::Txn`].
    Txn(TxnResponse),
}

/// Where operations go to: a [`Client`](crate::Client), or something in front of one, such as
/// [`Leasing`](crate::leasing::Leasing).
pub trait Kv: Send + Sync + 'static {
    /// Carries one operation out.
    fn execute(&self, op: Op) -> impl Future<Output = Result<OpResponse>> + Send;
}

/// What a builder of this module is when it is awaited.
pub type OpFuture<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Reads a key, or a range of keys.
///
/// ```
/// # async fn example(client: client::Client) -> client::Result<()> {
/// use client::{SortOrder, SortTarget};
///
/// let answer = client.get("users/").prefix().sort(SortTarget::Mod, SortOrder::Descend).limit(10).await?;
/// for kv in &answer.kvs {
///     println!("{:?} = {:?}", kv.key, kv.value);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Get<C = ()> {
    pub(crate) request: RangeRequest,
    pub(crate) to: C,
}

impl Get {
    /// For a transaction. To read at once, [`Client::get`](crate::Client::get) is shorter.
    pub fn new(key: impl Into<Vec<u8>>) -> Self {
        Self::to(key, ())
    }
}

impl<C> Get<C> {
    pub(crate) fn to(key: impl Into<Vec<u8>>, to: C) -> Self {
        Self { request: RangeRequest { key: key.into().into(), ..RangeRequest::default() }, to }
    }

    /// All keys that begin with this one.
    pub fn prefix(mut self) -> Self {
        to_prefix(&mut self.request.key, &mut self.request.range_end);
        self
    }

    /// This key and all behind it.
    pub fn from_key(mut self) -> Self {
        to_from_key(&mut self.request.key, &mut self.request.range_end);
        self
    }

    /// The keys from this one to before `end`.
    pub fn range(mut self, end: impl Into<Vec<u8>>) -> Self {
        self.request.range_end = end.into().into();
        self
    }

    /// At most so many keys; the answer says whether there are more.
    pub fn limit(mut self, keys: i64) -> Self {
        self.request.limit = keys;
        self
    }

    /// As of this revision, and not of now.
    pub fn revision(mut self, revision: i64) -> Self {
        self.request.revision = revision;
        self
    }

    /// In this order.
    pub fn sort(mut self, target: SortTarget, order: SortOrder) -> Self {
        // Ascending by key is how they come; asked for it, a server would sort before it cuts at the limit.
        let is_natural = target == SortTarget::Key && order == SortOrder::Ascend;
        let order = if is_natural { SortOrder::None } else { order };
        self.request.sort_target = target.into();
        self.request.sort_order = order.into();
        self
    }

    /// As the member that is asked knows it, without a word to the others: quick, but perhaps old.
    pub fn serializable(mut self) -> Self {
        self.request.serializable = true;
        self
    }

    /// Without values.
    pub fn keys_only(mut self) -> Self {
        self.request.keys_only = true;
        self
    }

    /// The number of keys alone.
    pub fn count_only(mut self) -> Self {
        self.request.count_only = true;
        self
    }

    /// Only keys that were changed at this revision or later.
    pub fn min_mod_revision(mut self, revision: i64) -> Self {
        self.request.min_mod_revision = revision;
        self
    }

    /// Only keys that were changed at this revision or earlier.
    pub fn max_mod_revision(mut self, revision: i64) -> Self {
        self.request.max_mod_revision = revision;
        self
    }

    /// Only keys that were created at this revision or later.
    pub fn min_create_revision(mut self, revision: i64) -> Self {
        self.request.min_create_revision = revision;
        self
    }

    /// Only keys that were created at this revision or earlier.
    pub fn max_create_revision(mut self, revision: i64) -> Self {
        self.request.max_create_revision = revision;
        self
    }

    /// The one key among those with this prefix that comes first in this order.
    pub fn first_by(self, target: SortTarget) -> Self {
        self.prefix().sort(target, SortOrder::Ascend).limit(1)
    }

    /// The one key among those with this prefix that comes last in this order.
    pub fn last_by(self, target: SortTarget) -> Self {
        self.prefix().sort(target, SortOrder::Descend).limit(1)
    }
}

/// Sets a key.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Put<C = ()> {
    pub(crate) request: PutRequest,
    pub(crate) to: C,
}

impl Put {
    /// For a transaction. To write at once, [`Client::put`](crate::Client::put) is shorter.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::to(key, value, ())
    }
}

impl<C> Put<C> {
    pub(crate) fn to(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, to: C) -> Self {
        let (key, value) = (key.into().into(), value.into().into());
        Self { request: PutRequest { key, value, ..PutRequest::default() }, to }
    }

    /// The key ends with this lease.
    pub fn lease(mut self, id: i64) -> Self {
        self.request.lease = id;
        self
    }

    /// The answer has the key as it was before.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }

    /// The key keeps its value.
    pub fn ignore_value(mut self) -> Self {
        self.request.ignore_value = true;
        self
    }

    /// The key keeps its lease.
    pub fn ignore_lease(mut self) -> Self {
        self.request.ignore_lease = true;
        self
    }
}

/// Deletes a key, or a range of keys.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Delete<C = ()> {
    pub(crate) request: DeleteRangeRequest,
    pub(crate) to: C,
}

impl Delete {
    /// For a transaction. To delete at once, [`Client::delete`](crate::Client::delete) is shorter.
    pub fn new(key: impl Into<Vec<u8>>) -> Self {
        Self::to(key, ())
    }
}

impl<C> Delete<C> {
    pub(crate) fn to(key: impl Into<Vec<u8>>, to: C) -> Self {
        let key = key.into().into();
        Self { request: DeleteRangeRequest { key, ..DeleteRangeRequest::default() }, to }
    }

    /// All keys that begin with this one.
    pub fn prefix(mut self) -> Self {
        to_prefix(&mut self.request.key, &mut self.request.range_end);
        self
    }

    /// This key and all behind it.
    pub fn from_key(mut self) -> Self {
        to_from_key(&mut self.request.key, &mut self.request.range_end);
        self
    }

    /// The keys from this one to before `end`.
    pub fn range(mut self, end: impl Into<Vec<u8>>) -> Self {
        self.request.range_end = end.into().into();
        self
    }

    /// The answer has the keys as they were before.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }
}

/// Operations that happen together, and only on conditions.
///
/// ```
/// # async fn example(client: client::Client) -> client::Result<()> {
/// use client::{Compare, Comparison, Get, Put};
///
/// let answer = client
///     .txn()
///     .when(Compare::create_revision("leader", Comparison::Equal, 0))
///     .then(Put::new("leader", "me"))
///     .otherwise(Get::new("leader"))
///     .await?;
/// println!("{}", if answer.succeeded { "it is me" } else { "it is somebody else" });
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Txn<C = ()> {
    pub(crate) request: TxnRequest,
    pub(crate) to: C,
}

impl Txn {
    /// For a transaction in another. [`Client::txn`](crate::Client::txn) makes one to be sent.
    pub fn new() -> Self {
        Self::to(())
    }
}

impl Default for Txn {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Txn<C> {
    pub(crate) fn to(to: C) -> Self {
        Self { request: TxnRequest::default(), to }
    }

    /// Adds a condition. All must hold.
    pub fn when(mut self, condition: Compare) -> Self {
        self.request.compare.push(condition.0);
        self
    }

    /// Adds an operation for the case that all conditions hold.
    pub fn then(mut self, op: impl Into<Op>) -> Self {
        self.request.success.push(op.into().into());
        self
    }

    /// Adds an operation for the case that a condition does not hold.
    pub fn otherwise(mut self, op: impl Into<Op>) -> Self {
        self.request.failure.push(op.into().into());
        self
    }
}

/// How a stored thing must relate to a given one.
pub use api::etcdserverpb::compare::CompareResult as Comparison;

/// A condition on a key. One that isn't there has version, revisions and lease 0, and no value.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare(pub(crate) pb::Compare);

impl Compare {
    fn new(
        key: impl Into<Vec<u8>>,
        result: CompareResult,
        target: CompareTarget,
        union: TargetUnion,
    ) -> Self {
        Self(pb::Compare {
            key: key.into().into(),
            result: result.into(),
            target: target.into(),
            target_union: Some(union),
            range_end: Bytes::new(),
        })
    }

    /// On the value.
    #[must_use]
    pub fn value(key: impl Into<Vec<u8>>, is: Comparison, value: impl Into<Vec<u8>>) -> Self {
        let union = TargetUnion::Value(value.into().into());
        Self::new(key, is, CompareTarget::Value, union)
    }

    /// On how often the key was put since it was created.
    #[must_use]
    pub fn version(key: impl Into<Vec<u8>>, is: Comparison, version: i64) -> Self {
        Self::new(key, is, CompareTarget::Version, TargetUnion::Version(version))
    }

    /// On the revision at which the key was created.
    #[must_use]
    pub fn create_revision(key: impl Into<Vec<u8>>, is: Comparison, revision: i64) -> Self {
        Self::new(key, is, CompareTarget::Create, TargetUnion::CreateRevision(revision))
    }

    /// On the revision at which the key was changed last.
    #[must_use]
    pub fn mod_revision(key: impl Into<Vec<u8>>, is: Comparison, revision: i64) -> Self {
        Self::new(key, is, CompareTarget::Mod, TargetUnion::ModRevision(revision))
    }

    /// On the lease of the key.
    #[must_use]
    pub fn lease(key: impl Into<Vec<u8>>, is: Comparison, id: i64) -> Self {
        Self::new(key, is, CompareTarget::Lease, TargetUnion::Lease(id))
    }

    /// On all keys that begin with this one.
    #[must_use]
    pub fn prefix(mut self) -> Self {
        to_prefix(&mut self.0.key, &mut self.0.range_end);
        self
    }

    /// On all keys from this one to before `end`.
    #[must_use]
    pub fn range(mut self, end: impl Into<Vec<u8>>) -> Self {
        self.0.range_end = end.into().into();
        self
    }
}

impl From<Op> for RequestOp {
    fn from(op: Op) -> Self {
        let request = match op {
            Op::Get(get) => Request::RequestRange(get.request),
            Op::Put(put) => Request::RequestPut(put.request),
            Op::Delete(delete) => Request::RequestDeleteRange(delete.request),
            Op::Txn(txn) => Request::RequestTxn(txn.request),
        };
        Self { request: Some(request) }
    }
}

/// What makes an operation of a builder, and a future of one that knows where to go.
macro_rules! operation {
    ($builder:ident, $response:ident) => {
        impl From<$builder> for Op {
            fn from(op: $builder) -> Self {
                Self::$builder(op)
            }
        }

        impl<C: Kv> IntoFuture for $builder<C> {
            type Output = Result<$response>;
            type IntoFuture = OpFuture<$response>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(async move {
                    let op = $builder { request: self.request, to: () };
                    match self.to.execute(op.into()).await? {
                        OpResponse::$builder(response) => Ok(response),
                        _ => Err(Error::Unexpected("the answer to another operation")),
                    }
                })
            }
        }
    };
}

operation!(Get, GetResponse);
operation!(Put, PutResponse);
operation!(Delete, DeleteResponse);
operation!(Txn, TxnResponse);

#[cfg(test)]
mod tests {
    use super::{Get, SortOrder, SortTarget, prefix_end};

    #[test]
    fn the_end_of_a_prefix() {
        let table: [(&[u8], &[u8]); 5] = [
            (b"a", b"b"),
            (b"a\xff", b"b"),
            (b"ab\xff\xff", b"ac"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ];
        for (prefix, end) in table {
            assert_eq!(prefix_end(prefix), end);
        }
    }

    #[test]
    fn an_empty_prefix_is_everything() {
        let request = Get::new("").prefix().request;
        assert_eq!((&*request.key, &*request.range_end), (&b"\0"[..], &b"\0"[..]));
    }

    #[test]
    fn the_natural_order_is_not_asked_for() {
        let request = Get::new("a").sort(SortTarget::Key, SortOrder::Ascend).request;
        assert_eq!(request.sort_order(), SortOrder::None);
        let request = Get::new("a").sort(SortTarget::Mod, SortOrder::Ascend).request;
        assert_eq!(request.sort_order(), SortOrder::Ascend);
    }
}
