//! One call: what has come of its answer.

use std::collections::VecDeque;

use api::{Code, Status};
use bytes::Bytes;

use crate::assembly::{self, Assembly};

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message, or a status that is not OK.
    Unary,
    /// Any number of messages.
    Streaming,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The server's status, or the client's own if there is none.
    pub status: Status,
    /// It is certain that the server has not begun with the request.
    pub is_unsent: bool,
}

/// What a call has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet.
    Pending,
    /// A message.
    Message(Bytes),
    /// All is said; the call is forgotten.
    End(End),
}

#[derive(Debug)]
pub(crate) struct Call {
    kind: Kind,
    length_max: usize,
    assembly: Assembly,
    /// Whole messages that were not taken yet.
    messages: VecDeque<Bytes>,
    /// Invariant: what the messages take, the empty ones too.
    untaken: usize,
    /// Bytes of the window that are to be returned when there is room for more messages.
    pub(crate) held: usize,
    /// The answer's head has come.
    pub(crate) has_begun: bool,
    pub(crate) end: Option<End>,
}

impl Call {
    pub(crate) fn new(kind: Kind, length_max: usize) -> Self {
        Self {
            kind,
            length_max,
            assembly: Assembly::default(),
            messages: VecDeque::new(),
            untaken: 0,
            held: 0,
            has_begun: false,
            end: None,
        }
    }

    /// Takes a piece of the answer's body.
    ///
    /// # Errors
    /// The status of a call whose messages can't be read.
    pub(crate) fn take_data(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while let Some(message) = self.assembly.take(&mut data, self.length_max)? {
            if self.kind == Kind::Unary && !self.messages.is_empty() {
                return Err(Status::fixed(
                    Code::Internal,
                    "cardinality violation: expected <EOF> for non server-streaming RPCs, but received another message",
                ));
            }
            self.untaken += memory(&message);
            self.messages.push_back(message);
        }
        Ok(())
    }

    /// Takes the status that the server ends the call with.
    pub(crate) fn take_status(&mut self, status: Status) {
        let status = match (status.code, self.kind) {
            (Code::Ok, _) if !self.assembly.is_between_messages() => assembly::cut_short(),
            (Code::Ok, Kind::Unary) if self.messages.is_empty() => Status::fixed(
                Code::Internal,
                "cardinality violation: received no response message from non-server-streaming RPC",
            ),
            _ => status,
        };
        self.finish(End { status, is_unsent: false });
    }

    pub(crate) fn finish(&mut self, end: End) {
        self.has_begun = true;
        self.end.get_or_insert(end);
    }

    pub(crate) fn untaken(&self) -> usize {
        self.untaken
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.kind == Kind::Streaming
    }

    /// The next message. Those of a call with one answer are given out with an OK only.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let is_ok = self.end.as_ref().is_some_and(|end| end.status.code == Code::Ok);
        if self.kind == Kind::Unary && !is_ok {
            return None;
        }
        let message = self.messages.pop_front()?;
        self.untaken -= memory(&message);
        Some(message)
    }
}

fn memory(message: &Bytes) -> usize {
    size_of::<Bytes>() + message.len()
}
