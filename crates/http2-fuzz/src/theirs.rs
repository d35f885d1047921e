//! h2's side: its server or its client over a pipe in memory, polled by hand.

mod client;
mod pipe;
mod server;

use std::task::{Context, Poll, Waker};

use h2::RecvStream;
use http::HeaderMap;

pub(crate) use client::TheirClient;
pub(crate) use pipe::Wire;
pub(crate) use server::TheirServer;

use crate::step::{self, Step, put_text};

/// Nobody waits: the judge polls whenever there is something new.
fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// The body of a message, and whether its end has come.
struct Body {
    stream: RecvStream,
    ended: bool,
    /// Bytes are not given back to the peer's windows.
    holds: bool,
}

/// What ended a stream early.
enum Broken {
    /// The peer's reset, or that it went away.
    ByPeer,
    /// A fault of the peer, with the code.
    Failed(u32),
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        if error.is_remote() {
            return Self::ByPeer;
        }
        Self::Failed(error.reason().map_or(0, u32::from))
    }
}

impl Body {
    fn new(stream: RecvStream, holds: bool) -> Self {
        Self { ended: stream.is_end_stream(), stream, holds }
    }

    /// Tells what of it is there.
    fn read(&mut self, id: u32, step: &mut Step) -> Result<(), Broken> {
        if self.ended {
            return Ok(());
        }
        let cx = &mut context();
        loop {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    if !self.holds {
                        let _ = self.stream.flow_control().release_capacity(data.len());
                    }
                    step.tell_body(id, &data);
                }
                Poll::Ready(Some(Err(error))) => return Err(error.into()),
                Poll::Ready(None) => break,
                Poll::Pending => return Ok(()),
            }
        }
        match self.stream.poll_trailers(cx) {
            Poll::Ready(Ok(Some(fields))) => {
                step.tell(step::TRAILERS, id, |out| put_fields(out, &fields));
            }
            Poll::Ready(Ok(None)) => step.tell(step::END, id, |_| {}),
            Poll::Ready(Err(error)) => return Err(error.into()),
            Poll::Pending => return Ok(()),
        }
        self.ended = true;
        Ok(())
    }
}

/// Notes how a stream broke.
fn tell_broken(broken: &Broken, id: u32, step: &mut Step) {
    match broken {
        Broken::ByPeer => step.tell(step::RESET, id, |_| {}),
        Broken::Failed(code) => {
            step.failed.get_or_insert((id, *code));
        }
    }
}

fn put_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        put_text(out, name.as_str().as_bytes());
        put_text(out, value.as_bytes());
    }
}
