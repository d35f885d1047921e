//! The services and methods of this server, generated from the `.proto` files, and their lookup.

include!(concat!(env!("OUT_DIR"), "/service_table.rs"));

/// Who streams in a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many requests, one response.
    ClientStream,
    /// Many of both.
    Bidi,
}

/// A gRPC service.
#[derive(Debug)]
pub struct Service {
    /// The full name, `etcdserverpb.KV`.
    pub name: &'static str,
    /// The methods in the order of their definition.
    pub methods: &'static [Method],
}

/// A method of a service.
#[derive(Debug)]
pub struct Method {
    /// The method as an enum, to match on.
    pub rpc: Rpc,
    /// The full name of its service, `etcdserverpb.KV`.
    pub service: &'static str,
    /// The name alone, `Put`.
    pub name: &'static str,
    /// The `:path` of its requests, `/etcdserverpb.KV/Put`.
    pub path: &'static str,
    /// Who streams.
    pub kind: Kind,
    /// The full name of the request message, `etcdserverpb.PutRequest`.
    pub input: &'static str,
    /// The full name of the response message, `etcdserverpb.PutResponse`.
    pub output: &'static str,
}

impl Rpc {
    /// The row of the table that describes this method.
    #[must_use]
    pub fn method(self) -> &'static Method {
        &METHODS[self as usize]
    }
}

/// Why a path names no method; the parts are the ones the status text shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown<'a> {
    /// Not of the form `/service/method`.
    Malformed {
        /// The whole path.
        path: &'a [u8],
    },
    /// No such service here.
    Service {
        /// The name up to the last slash.
        service: &'a [u8],
    },
    /// The service is known, but it has no such method.
    Method {
        /// The full name of the service.
        service: &'static str,
        /// The name after the last slash.
        method: &'a [u8],
    },
}

/// Finds the method a request's `:path` names. Allocates nothing.
///
/// # Errors
///
/// [`Unknown`] says which part of the path is not known, by the rules of grpc-go: a leading slash
/// is required, and the last slash separates the service from the method.
pub fn lookup(path: &[u8]) -> Result<Rpc, Unknown<'_>> {
    known(path).ok_or_else(|| unknown(path))
}

fn unknown(path: &[u8]) -> Unknown<'_> {
    let Some((b'/', name)) = path.split_first() else {
        return Unknown::Malformed { path };
    };
    let Some(slash) = name.iter().rposition(|byte| *byte == b'/') else {
        return Unknown::Malformed { path };
    };
    let (service, method) = name.split_at(slash);
    match SERVICES.iter().find(|known| known.name.as_bytes() == service) {
        Some(known) => Unknown::Method {
            service: known.name,
            method: method.strip_prefix(b"/").unwrap_or(method),
        },
        None => Unknown::Service { service },
    }
}

#[cfg(test)]
mod tests;
