//! How the answer of a call is written: its head, its messages, and its end if all went well.

use http2::{Field, Server, StreamId};

use crate::grpc::{self, Head, TRAILERS_OK};
use crate::message::Frame;
#[cfg(feature = "interop")]
use crate::service::interop::Echo;

/// What the head of a request says about the form of the answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    proto_subtype: bool,
    /// Messages are compressed.
    compresses: bool,
    #[cfg(feature = "interop")]
    pub(crate) echo: Echo,
}

impl Answer {
    pub(crate) fn new(head: &Head) -> Self {
        Self {
            proto_subtype: head.proto_subtype,
            compresses: head.allows_gzip,
            #[cfg(feature = "interop")]
            echo: Echo::default(),
        }
    }

    pub(crate) fn content_type(&self) -> Field<'static> {
        grpc::content_type(self.proto_subtype)
    }

    /// Whether messages are compressed, each for itself.
    pub(crate) fn compresses(&self) -> bool {
        self.compresses
    }

    /// Sends the head of an answer that has messages.
    pub(crate) fn send_head(&self, engine: &mut Server, stream: StreamId) {
        let fields = [self.content_type(), grpc::GZIP];
        let count = if self.compresses { 2 } else { 1 };
        let fields = fields.get(..count).unwrap_or_default();
        #[cfg(feature = "interop")]
        let fields = &self.echo.head(fields);
        engine.send_headers(stream, 200, fields, false);
    }

    /// Sends what is in the frame: one message if they are compressed.
    pub(crate) fn send_message(&self, engine: &mut Server, stream: StreamId, frame: &mut Frame) {
        if self.compresses {
            frame.compress();
        }
        match frame.small() {
            Some(frame) => engine.send_data(stream, frame, false),
            None => engine.send_bytes(stream, frame.take(), false),
        }
    }

    /// Sends the end of an answer whose head is sent.
    pub(crate) fn send_end(&self, engine: &mut Server, stream: StreamId) {
        let fields = TRAILERS_OK.as_slice();
        #[cfg(feature = "interop")]
        let fields = &self.echo.trailers(fields);
        engine.send_trailers(stream, fields);
    }
}
