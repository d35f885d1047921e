/// The names of request header fields that an etcd server asks for, so that no one compares strings for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Protocol,
    ContentType,
    ContentLength,
    Te,
    UserAgent,
    GrpcTimeout,
    GrpcEncoding,
    GrpcAcceptEncoding,
    GrpcStatus,
    GrpcMessage,
    Token,
    Authorization,
    HasLeader,
    ClientApiVersion,
    /// Any other; its text is beside it.
    Other,
}

/// How a field of an answer enters the peer's dynamic table (RFC 7541 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// Sent in full once, in one or two bytes afterwards: for values that repeat, as `grpc-status: 0`.
    Index,
    /// Sent in full each time: for values that differ, as `grpc-message`.
    Literal,
    /// Sent in full each time, and no intermediary may index it: for secrets.
    Never,
}

/// One header field of an answer. Names are lowercase; values hold no NUL, CR or LF (else they are sent as an empty value).
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub name: &'a str,
    pub value: &'a [u8],
    pub indexing: Indexing,
}

impl<'a> Field<'a> {
    /// A field whose value repeats from answer to answer.
    pub const fn indexed(name: &'a str, value: &'a [u8]) -> Self {
        Self { name, value, indexing: Indexing::Index }
    }

    /// A field whose value differs from answer to answer.
    pub const fn literal(name: &'a str, value: &'a [u8]) -> Self {
        Self { name, value, indexing: Indexing::Literal }
    }
}
