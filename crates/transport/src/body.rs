//! Bodies that this side sends, in requests and in answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::writer::StreamBody;

/// A body that is sent.
#[derive(Debug)]
pub(crate) enum OutBody {
    /// Known as a whole; its length is announced.
    Full(Option<Bytes>),
    /// Parts as they are read from elsewhere; an error breaks the connection off.
    Parts(mpsc::Receiver<io::Result<Bytes>>),
    /// Messages for as long as the connection lives.
    Stream(Box<StreamBody>),
}

impl OutBody {
    pub(crate) const fn empty() -> Self {
        Self::Full(None)
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Parts(parts) => {
                parts.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
            }
            Self::Stream(stream) => {
                stream.poll_part(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Parts(_) | Self::Stream(_) => SizeHint::default(),
        }
    }
}
