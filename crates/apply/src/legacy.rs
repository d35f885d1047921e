//! Requests in the form of etcd's v2 store, in which members before 3.6 still tell their name and, long ago, told the
//! cluster's version. They are read as what says the same today, as etcd 3.7 reads them.

use api::etcdserverpb::{InternalRaftRequest, RequestHeader};
use api::membershippb::{self, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use api::wire::{Field, Reader, Value};
use bytes::Bytes;
use cluster::Member;
use prost::Message as _;

const CLUSTER_VERSION: &str = "/0/version";
const MEMBERS: &str = "/0/members/";
const ATTRIBUTES: &str = "/attributes";

/// An `etcdserverpb.Request`: what of it is read.
#[derive(Default)]
struct StoreRequest<'a> {
    id: u64,
    method: &'a [u8],
    path: &'a [u8],
    value: &'a [u8],
}

/// The encoded `InternalRaftRequest` that says what these bytes say; `None` if they are no request
/// of the v2 store, or one that writes what no member has had since 3.5.
#[must_use]
pub fn translate(data: &[u8]) -> Option<Bytes> {
    let request = StoreRequest::read(data)?;
    let path = std::str::from_utf8(request.path).ok()?;
    if request.method != b"PUT" {
        return None;
    }
    let header = Some(RequestHeader { id: request.id, ..RequestHeader::default() });
    let mut translated = InternalRaftRequest { header, ..InternalRaftRequest::default() };
    if path == CLUSTER_VERSION {
        let ver = String::from_utf8(request.value.to_vec()).ok()?;
        translated.cluster_version_set = Some(ClusterVersionSetRequest { ver });
    } else {
        let id = path.strip_prefix(MEMBERS)?.strip_suffix(ATTRIBUTES)?;
        let Member { name, client_urls, .. } = Member::from_json(request.value).ok()?;
        translated.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
            member_id: u64::from_str_radix(id, 16).ok()?,
            member_attributes: Some(membershippb::Attributes { name, client_urls }),
        });
    }
    Some(Bytes::from(translated.encode_to_vec()))
}

impl<'a> StoreRequest<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let mut request = Self::default();
        let mut reader = Reader::new(data);
        while let Some(Field { number, value }) = reader.next_field().ok()? {
            match (number, value) {
                (1, Value::Varint(id)) => request.id = id,
                (2, Value::Bytes(method)) => request.method = method,
                (3, Value::Bytes(path)) => request.path = path,
                (4, Value::Bytes(value)) => request.value = value,
                _ => {}
            }
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 3.5 writes it: all fields, whether set or not.
    fn store_request(method: &str, path: &str, value: &str) -> Vec<u8> {
        let mut data = vec![0x08, 0x07];
        for (tag, text) in [(0x12, method), (0x1a, path), (0x22, value)] {
            data.push(tag);
            data.push(u8::try_from(text.len()).expect("short"));
            data.extend_from_slice(text.as_bytes());
        }
        data.extend_from_slice(&[0x28, 0, 0x32, 0, 0x38, 0, 0x48, 0, 0x50, 0, 0x58, 0]);
        data
    }

    #[test]
    fn what_3_5_writes_is_read() {
        let attributes = r#"{"name":"infra1","clientURLs":["http://127.0.0.1:2379"]}"#;
        let data = store_request("PUT", "/0/members/8e9e05c52164694d/attributes", attributes);
        let read = translate(&data).and_then(|data| InternalRaftRequest::decode(data).ok());
        let read = read.expect("a request");
        assert_eq!(read.header.map(|header| header.id), Some(7));
        let set = read.cluster_member_attr_set.expect("attributes");
        assert_eq!(set.member_id, 0x8e9e_05c5_2164_694d);
        let attributes = set.member_attributes.expect("attributes");
        assert_eq!(attributes.name, "infra1");
        assert_eq!(attributes.client_urls, ["http://127.0.0.1:2379"]);

        let version = translate(&store_request("PUT", "/0/version", "3.5.0"))
            .and_then(|data| InternalRaftRequest::decode(data).ok())
            .and_then(|request| request.cluster_version_set);
        assert_eq!(version.map(|set| set.ver).as_deref(), Some("3.5.0"));
    }

    #[test]
    fn what_no_member_writes_any_more_is_not() {
        for (method, path, value) in [
            ("SYNC", "", ""),
            ("PUT", "/1/key", "value"),
            ("PUT", "/0/members/nothex/attributes", "{}"),
            ("PUT", "/0/members/1/attributes", "no json"),
            ("DELETE", "/0/version", "3.5.0"),
        ] {
            assert_eq!(translate(&store_request(method, path, value)), None, "{method} {path}");
        }
        assert_eq!(translate(&[0x12, 0xff]), None);
    }
}
