//! Messages out of the pieces of a body.

use api::error::transport;
use api::frame::PREFIX_BYTES;
use api::{Code, Status};
use bytes::Bytes;

/// Memory that is taken at once for a message that is announced; more is taken as it comes.
const AHEAD_MAX: usize = 64 << 10;

/// The message of which not all has come.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// The prefix, as far as it has come.
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// What is announced, once the prefix is whole.
    length: usize,
    message: Vec<u8>,
}

impl Assembly {
    /// Takes bytes from the front of `data` until they make a message.
    ///
    /// # Errors
    /// The status of a call whose messages can't be read.
    pub(crate) fn take(
        &mut self,
        data: &mut &[u8],
        length_max: usize,
    ) -> Result<Option<Bytes>, Status> {
        while self.prefix_len < PREFIX_BYTES {
            let Some((&byte, rest)) = data.split_first() else { return Ok(None) };
            *data = rest;
            if let Some(place) = self.prefix.get_mut(self.prefix_len) {
                *place = byte;
            }
            self.prefix_len += 1;
            if self.prefix_len == PREFIX_BYTES {
                self.length = announced(self.prefix, length_max)?;
                self.message.reserve_exact(self.length.min(AHEAD_MAX));
            }
        }
        let missing = self.length.saturating_sub(self.message.len());
        let (part, rest) = data.split_at(missing.min(data.len()));
        *data = rest;
        self.message.extend_from_slice(part);
        if self.message.len() < self.length {
            return Ok(None);
        }
        self.prefix_len = 0;
        Ok(Some(std::mem::take(&mut self.message).into()))
    }

    /// Nothing of a further message has come.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.prefix_len == 0
    }
}

fn announced(prefix: [u8; PREFIX_BYTES], length_max: usize) -> Result<usize, Status> {
    let [format, length @ ..] = prefix;
    match format {
        0 => {}
        1 => return Err(transport::compressed_without_encoding()),
        _ => return Err(transport::unexpected_payload_format(format)),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > length_max {
        return Err(transport::received_message_larger_than_max(length as u64, length_max as u64));
    }
    Ok(length)
}

/// The body ended within a message.
pub(crate) fn cut_short() -> Status {
    Status::fixed(Code::Internal, "unexpected EOF")
}
