//! The data of a log entry.

pub fn run(data: &[u8]) {
    let _ = api::internal::InternalRequestRef::decode(data);
}
