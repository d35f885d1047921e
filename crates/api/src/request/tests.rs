//! Each request against prost, both ways, and hostile bytes.

use super::{DeleteRangeRequestRef, PutRequestRef, RangeRequestRef, decode_lease_keep_alive};
use crate::etcdserverpb::{DeleteRangeRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest};
use crate::sample;
use crate::wire::Encode;
use bytes::Bytes;
use proptest::prelude::{Strategy, prop_assert_eq, prop_oneof, proptest};
use prost::Message;

macro_rules! request_tests {
    ($name:ident, $message:ident, $borrowed:ident, $sample:path) => {
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn same_as_prost(message in $sample()) {
                    let bytes = Bytes::from(message.encode_to_vec());
                    let borrowed = $borrowed::from(&message);
                    prop_assert_eq!(&borrowed.encode_to_vec(), &bytes);
                    prop_assert_eq!($borrowed::decode(&bytes), Ok(borrowed));
                    let decoded = $borrowed::decode(&bytes).expect("decoded just now");
                    prop_assert_eq!(decoded.to_message(&bytes), message);
                }

                #[test]
                fn hostile_bytes_are_read_as_prost_reads_them(
                    bytes in prop_oneof![
                        sample::hostile_bytes(),
                        sample::damaged($sample().prop_map(|message| message.encode_to_vec())),
                    ]
                ) {
                    let ours = $borrowed::decode(&bytes);
                    if let Ok(message) = $message::decode(bytes.as_slice()) {
                        prop_assert_eq!(ours, Ok($borrowed::from(&message)));
                    }
                }
            }
        }
    };
}

request_tests!(range, RangeRequest, RangeRequestRef, sample::range_request);
request_tests!(put, PutRequest, PutRequestRef, sample::put_request);
request_tests!(
    delete_range,
    DeleteRangeRequest,
    DeleteRangeRequestRef,
    sample::delete_range_request
);

proptest! {
    #[test]
    fn lease_keep_alive_is_read_as_prost_reads_it(
        bytes in prop_oneof![
            sample::hostile_bytes(),
            sample::int64().prop_map(|id| LeaseKeepAliveRequest { id }.encode_to_vec()),
        ]
    ) {
        let ours = decode_lease_keep_alive(&bytes);
        if let Ok(message) = LeaseKeepAliveRequest::decode(bytes.as_slice()) {
            prop_assert_eq!(ours, Ok(message.id));
        }
    }
}

#[test]
fn keys_share_the_memory_of_their_source() {
    let source = Bytes::from_static(b"\x0a\x03foo\x12\x03bar");
    let put = PutRequestRef::decode(&source).expect("well-formed").to_message(&source);
    assert_eq!(put.value.as_ptr(), source[7..].as_ptr());
}
