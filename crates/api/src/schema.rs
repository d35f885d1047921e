//! The JSON gateway's paths and messages, generated from the `.proto` files.

use crate::service::Rpc;

include!(concat!(env!("OUT_DIR"), "/schema_table.rs"));

/// A path that takes requests for a method.
#[derive(Debug)]
pub struct Route {
    /// The path, `/v3/kv/put`.
    pub path: &'static str,
    /// The method.
    pub rpc: Rpc,
    /// Its request.
    pub input: &'static Message,
    /// Its response.
    pub output: &'static Message,
}

/// A message as JSON shows it.
#[derive(Debug)]
pub struct Message {
    /// The full name, `etcdserverpb.PutRequest`.
    pub name: &'static str,
    /// In the order of their declaration.
    pub fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// Its number on the wire.
    pub number: u32,
    /// The name that is written, `range_end`.
    pub name: &'static str,
    /// The name that is read as well, `rangeEnd`.
    pub json_name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// It holds any number of them.
    pub is_list: bool,
    /// The full name of the choice that it is one of.
    pub oneof: Option<&'static str>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `bool`
    Bool,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint32`
    Uint32,
    /// `uint64`
    Uint64,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// One of some names.
    Enum(&'static Enum),
    /// Another message.
    Message(&'static Message),
}

impl Kind {
    /// The name in texts of errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Enum(_) => "enum",
            Self::Message(_) => "message",
        }
    }
}

/// The values of an enum.
#[derive(Debug)]
pub struct Enum {
    /// Names and numbers.
    pub values: &'static [(&'static str, i32)],
}

/// The route of exactly this path.
#[must_use]
pub fn route(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}
