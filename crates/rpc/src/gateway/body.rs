//! Bodies of HTTP answers: whole texts, and streams of lines.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use api::json;
use api::schema::Message;
use api::{Code, Status};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::inside::Responses;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it is there.
    Full(Full<Bytes>),
    /// It is made line by line.
    Lines(Box<Lines>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Full(Full::default())
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        Self::Full(Full::new(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx),
            Self::Lines(lines) => lines.poll_line(cx).map(|line| Some(Ok(Frame::data(line?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}

/// A stream of responses as lines of JSON. The call is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Lines {
    output: &'static Message,
    first: Option<Bytes>,
    responses: Responses,
    is_over: bool,
    /// Sends requests meanwhile.
    #[expect(dead_code, reason = "its drop ends the task")]
    requests: Option<AbortOnDrop>,
}

impl Lines {
    pub(super) fn new(
        output: &'static Message,
        first: Bytes,
        responses: Responses,
        requests: Option<AbortOnDrop>,
    ) -> Self {
        Self { output, first: Some(first), responses, is_over: false, requests }
    }

    /// The lines of a call that has ended without a response.
    pub(super) fn empty(output: &'static Message, responses: Responses) -> Self {
        Self { output, first: None, responses, is_over: true, requests: None }
    }

    pub(super) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let response = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => std::task::ready!(self.responses.poll_next(cx)),
        };
        Poll::Ready(match response {
            Some(Ok(response)) => Some(self.line(&response)),
            Some(Err(status)) => {
                self.is_over = true;
                Some(error_line(&status).into())
            }
            None => {
                self.is_over = true;
                None
            }
        })
    }

    fn line(&mut self, response: &[u8]) -> Bytes {
        let mut line = String::from("{\"result\":");
        match json::encode(self.output, response, true, &mut line) {
            Ok(()) => {
                line.push_str("}\n");
                line.into()
            }
            Err(error) => {
                self.is_over = true;
                error_line(&Status::new(Code::Internal, error.to_string())).into()
            }
        }
    }
}

/// A status that ends a stream.
pub(super) fn error_line(status: &Status) -> String {
    let mut line = String::from("{\"error\":");
    json::encode_status(status, true, &mut line);
    line.push_str("}\n");
    line
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
