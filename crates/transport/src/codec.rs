//! The two formats of a stream: bytes in, messages out, and back. No sockets here.
//!
//! A decoder is fed as bytes arrive and holds no more than it was fed: a length that announces much
//! costs nothing until the bytes are there.

mod append;
mod message;

pub use append::{AppendDecoder, AppendEncoder};
pub use message::{MessageDecoder, MessageEncoder};

use bytes::{Buf, Bytes, BytesMut};
use raft::{DecodeError, Message, MessageType};

/// Longest message on a stream or in a pipeline, as in etcd.
pub const MESSAGE_BYTES_MAX: u64 = 512 << 20;

/// Longest message in front of a database, as in etcd. The database itself has no limit.
pub const SNAPSHOT_MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// Most entries in one message. An honest leader sends 1 MiB of entries, and an entry has four bytes at least.
pub const ENTRIES_MAX: u64 = 1 << 20;

/// Why the bytes of a stream are not messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A length beyond the limit.
    #[error("rafthttp: error limit exceeded")]
    LimitExceeded,
    /// The bytes of a message or an entry are malformed.
    #[error("proto: cannot parse invalid wire-format data ({0})")]
    Malformed(#[from] DecodeError),
    /// The first byte of a message on a `msgappv2` stream is none of those known.
    #[error("failed to parse type {0} in msgappv2 stream")]
    UnknownType(u8),
    /// The index of an entry does not fit in 64 bits.
    #[error("index overflows in msgappv2 stream")]
    IndexOverflow,
}

/// The message that keeps a stream alive: nobody's heartbeat to nobody. Raft never sees it.
#[must_use]
pub fn link_heartbeat() -> Message {
    Message { msg_type: MessageType::Heartbeat, ..Message::default() }
}

/// Whether it only keeps a stream alive.
#[must_use]
pub fn is_link_heartbeat(message: &Message) -> bool {
    message.msg_type == MessageType::Heartbeat && message.from == 0 && message.to == 0
}

/// Bytes that arrived and are not decoded yet.
#[derive(Debug, Default)]
struct Arrived(BytesMut);

impl Arrived {
    fn push(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
    }

    /// Takes a big-endian number, if it is there.
    fn number(&mut self) -> Option<u64> {
        let number = self.peek_number()?;
        self.0.advance(8);
        Some(number)
    }

    fn peek_number(&self) -> Option<u64> {
        self.0.first_chunk().copied().map(u64::from_be_bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.first()?;
        self.0.advance(1);
        Some(byte)
    }

    /// Takes a length and as many bytes behind it, if all are there. A length beyond `max` is an error
    /// as soon as it is seen.
    fn sized(&mut self, max: u64) -> Result<Option<Bytes>, CodecError> {
        let Some(len) = self.peek_number() else { return Ok(None) };
        if len > max {
            return Err(CodecError::LimitExceeded);
        }
        let len = usize::try_from(len).map_err(|_| CodecError::LimitExceeded)?;
        if self.0.len() - 8 < len {
            return Ok(None);
        }
        self.0.advance(8);
        Ok(Some(self.0.split_to(len).freeze()))
    }
}
