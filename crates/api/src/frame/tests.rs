//! Frames: prefix and message in one buffer.

use super::{MESSAGE_BYTES_MAX, TooLarge, append_prefix, encode, encode_bytes, encode_message};
use crate::etcdserverpb::ResponseHeader;
use crate::response::PutResponseRef;

#[test]
fn a_frame_is_prefix_and_message() {
    let header = ResponseHeader { revision: 300, ..ResponseHeader::default() };
    let put = PutResponseRef { header: Some(header), prev_kv: None };
    let mut out = b"before".to_vec();
    assert_eq!(encode(&mut out, &put), Ok(5));
    assert_eq!(encode_message(&mut out, &header), Ok(3));
    assert_eq!(encode_bytes(&mut out, b"raw"), Ok(3));
    let expected = b"before\0\0\0\0\x05\x0a\x03\x18\xac\x02\0\0\0\0\x03\x18\xac\x02\0\0\0\0\x03raw";
    assert_eq!(out, expected);
}

#[test]
fn a_message_beyond_the_limit_leaves_the_buffer_alone() {
    let mut out = Vec::new();
    let len = MESSAGE_BYTES_MAX + 1;
    assert_eq!(append_prefix(&mut out, len), Err(TooLarge { len }));
    assert!(out.is_empty());
}
