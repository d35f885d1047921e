//! The socket that h2 thinks it has.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug, Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
}

/// One end for h2, and one for the judge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Rc<RefCell<Pipe>>);

impl Wire {
    pub(crate) fn feed(&self, bytes: &[u8]) {
        let mut pipe = self.0.borrow_mut();
        if pipe.read == pipe.input.len() {
            pipe.input.clear();
            pipe.read = 0;
        }
        pipe.input.extend_from_slice(bytes);
    }

    /// Looks at what was written, and forgets it.
    pub(crate) fn take(&self, look: impl FnOnce(&[u8])) {
        let mut pipe = self.0.borrow_mut();
        look(&pipe.output);
        pipe.output.clear();
    }
}

impl Wire {
    /// Takes so many of the bytes that were written at the most.
    pub(crate) fn take_some(&self, most: usize, out: &mut Vec<u8>) {
        let output = &mut self.0.borrow_mut().output;
        out.extend(output.drain(..most.min(output.len())));
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self.0.borrow_mut();
        let waiting = &pipe.input[pipe.read..];
        let count = waiting.len().min(buffer.remaining());
        if count == 0 {
            return Poll::Pending;
        }
        buffer.put_slice(&waiting[..count]);
        pipe.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
