//! The format of the stream `message`, and of what precedes a database: length, message.

use bytes::Bytes;
use raft::Message;

use super::{Arrived, CodecError, MESSAGE_BYTES_MAX, SNAPSHOT_MESSAGE_BYTES_MAX};

/// Writes messages: eight bytes of length, big-endian, and the encoded message.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageEncoder;

impl MessageEncoder {
    /// Appends `message` to `buf`.
    pub fn encode(message: &Message, buf: &mut Vec<u8>) {
        let len = message.encoded_len();
        buf.reserve(8 + len);
        buf.extend_from_slice(&(len as u64).to_be_bytes());
        message.encode(buf);
    }
}

/// Reads what [`MessageEncoder`] writes.
#[derive(Debug)]
pub struct MessageDecoder {
    arrived: Arrived,
    bytes_max: u64,
}

impl MessageDecoder {
    /// For a stream of messages.
    #[must_use]
    pub fn stream() -> Self {
        Self { arrived: Arrived::default(), bytes_max: MESSAGE_BYTES_MAX }
    }

    /// For the one message in front of a database.
    #[must_use]
    pub fn snapshot() -> Self {
        Self { arrived: Arrived::default(), bytes_max: SNAPSHOT_MESSAGE_BYTES_MAX }
    }

    /// Takes bytes that arrived.
    pub fn push(&mut self, part: &[u8]) {
        self.arrived.push(part);
    }

    /// The next message, `None` while it is not complete.
    ///
    /// # Errors
    /// [`CodecError::LimitExceeded`], [`CodecError::Malformed`]; the stream is of no use then.
    pub fn next_message(&mut self) -> Result<Option<Message>, CodecError> {
        let Some(bytes) = self.arrived.sized(self.bytes_max)? else { return Ok(None) };
        Ok(Some(Message::decode(bytes)?))
    }

    /// Whether an end of the bytes here is one between a length and a message, or before both, and not within one.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.arrived.0.len(), 0 | 8)
    }

    /// What arrived behind the last message: the beginning of the database.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.arrived.0.freeze()
    }
}
