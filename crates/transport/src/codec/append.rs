//! The format `msgappv2` of the stream `msgapp`, which carries `MsgApp` only.
//!
//! ```text
//! 00                                                         the link is alive
//! 01 | count u64 | count * (length u64 | Entry) | commit u64  entries that continue what came before
//! 02 | length u64 | Message                                   any other MsgApp
//! ```
//!
//! Both ends remember the term and the last index. A message that continues them, in a leader's own
//! term, need not say where it belongs.

use raft::{Entry, Message, MessageType};

use super::{
    Arrived, CodecError, ENTRIES_MAX, MESSAGE_BYTES_MAX, is_link_heartbeat, link_heartbeat,
};

const LINK_HEARTBEAT: u8 = 0;
const APP_ENTRIES: u8 = 1;
const APP: u8 = 2;

/// Where the stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Context {
    term: u64,
    index: u64,
}

impl Context {
    fn after(message: &Message) -> Self {
        let index = message.entries.last().map_or(message.index, |entry| entry.index);
        Self { term: message.term, index }
    }

    const fn continues(self, message: &Message) -> bool {
        self.index == message.index
            && self.term == message.log_term
            && message.log_term == message.term
    }
}

/// Writes messages to a stream.
#[derive(Debug, Default)]
pub struct AppendEncoder {
    context: Context,
}

impl AppendEncoder {
    /// Appends `message` to `buf`, in the shorter form where it continues the one before.
    pub fn encode(&mut self, message: &Message, buf: &mut Vec<u8>) {
        if is_link_heartbeat(message) {
            buf.push(LINK_HEARTBEAT);
        } else if self.context.continues(message) {
            buf.push(APP_ENTRIES);
            buf.extend_from_slice(&(message.entries.len() as u64).to_be_bytes());
            for entry in &message.entries {
                let len = entry.encoded_len();
                buf.reserve(16 + len);
                buf.extend_from_slice(&(len as u64).to_be_bytes());
                entry.encode(buf);
            }
            self.context.index = self.context.index.wrapping_add(message.entries.len() as u64);
            buf.extend_from_slice(&message.commit.to_be_bytes());
        } else {
            let len = message.encoded_len();
            buf.reserve(9 + len);
            buf.push(APP);
            buf.extend_from_slice(&(len as u64).to_be_bytes());
            message.encode(buf);
            self.context = Context::after(message);
        }
    }
}

/// How far the message at the front is read.
#[derive(Debug, Default)]
enum Step {
    #[default]
    Type,
    Count,
    Entries {
        entries: Vec<Entry>,
        left: u64,
        /// Bytes that the message may still have.
        room: u64,
    },
    Message,
}

/// Reads what [`AppendEncoder`] writes.
#[derive(Debug)]
pub struct AppendDecoder {
    arrived: Arrived,
    step: Step,
    context: Context,
    local: u64,
    remote: u64,
}

impl AppendDecoder {
    /// For a stream from `remote` to `local`; a message in the short form does not say that.
    #[must_use]
    pub fn new(local: u64, remote: u64) -> Self {
        Self {
            arrived: Arrived::default(),
            step: Step::Type,
            context: Context::default(),
            local,
            remote,
        }
    }

    /// Takes bytes that arrived.
    pub fn push(&mut self, part: &[u8]) {
        self.arrived.push(part);
    }

    /// The next message, `None` while it is not complete.
    ///
    /// # Errors
    /// See [`CodecError`]; the stream is of no use then.
    pub fn next_message(&mut self) -> Result<Option<Message>, CodecError> {
        loop {
            match &mut self.step {
                Step::Type => match self.arrived.byte() {
                    None => return Ok(None),
                    Some(LINK_HEARTBEAT) => return Ok(Some(link_heartbeat())),
                    Some(APP_ENTRIES) => self.step = Step::Count,
                    Some(APP) => self.step = Step::Message,
                    Some(other) => return Err(CodecError::UnknownType(other)),
                },
                Step::Count => {
                    let Some(left) = self.arrived.number() else { return Ok(None) };
                    if left > ENTRIES_MAX {
                        return Err(CodecError::LimitExceeded);
                    }
                    let entries = Vec::new();
                    self.step = Step::Entries { entries, left, room: MESSAGE_BYTES_MAX };
                }
                Step::Entries { left: 0, entries, .. } => {
                    let Some(commit) = self.arrived.number() else { return Ok(None) };
                    let entries = std::mem::take(entries);
                    self.step = Step::Type;
                    return self.continued(entries, commit).map(Some);
                }
                Step::Entries { entries, left, room } => {
                    let Some(bytes) = self.arrived.sized(*room)? else { return Ok(None) };
                    *room -= bytes.len() as u64;
                    *left -= 1;
                    entries.push(Entry::decode(bytes)?);
                }
                Step::Message => {
                    let Some(bytes) = self.arrived.sized(MESSAGE_BYTES_MAX)? else {
                        return Ok(None);
                    };
                    self.step = Step::Type;
                    let message = Message::decode(bytes)?;
                    self.context = Context::after(&message);
                    return Ok(Some(message));
                }
            }
        }
    }

    /// The message that `entries` stand for.
    fn continued(&mut self, entries: Vec<Entry>, commit: u64) -> Result<Message, CodecError> {
        let Context { term, index } = self.context;
        let last = index.checked_add(entries.len() as u64).ok_or(CodecError::IndexOverflow)?;
        self.context.index = last;
        Ok(Message {
            msg_type: MessageType::App,
            from: self.remote,
            to: self.local,
            term,
            log_term: term,
            index,
            entries,
            commit,
            ..Message::default()
        })
    }
}
