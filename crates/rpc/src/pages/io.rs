//! A client's socket and the clock, as hyper wants them.

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::ReadBufCursor;

use crate::transport::Transport;

/// A socket of which the first bytes were read already.
#[derive(Debug)]
pub(super) struct Stream {
    transport: Transport,
    prefix: Vec<u8>,
}

impl Stream {
    pub(super) fn new(transport: Transport, prefix: Vec<u8>) -> Self {
        Self { transport, prefix }
    }

    /// Reads what is there; 0 at the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.prefix.is_empty() {
            let len = self.prefix.len().min(buffer.len());
            buffer[..len].copy_from_slice(&self.prefix[..len]);
            self.prefix.drain(..len);
            return Ok(len);
        }
        std::future::poll_fn(|cx| self.transport.poll_read(cx, buffer)).await
    }

    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let slices = [IoSlice::new(bytes)];
            let written = std::future::poll_fn(|cx| self.transport.poll_write(cx, &slices)).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.prefix.is_empty() {
            let len = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..len]);
            self.prefix.drain(..len);
            return Poll::Ready(Ok(()));
        }
        let mut chunk = [0; 8192];
        let len = chunk.len().min(buffer.remaining());
        self.transport.poll_read(cx, &mut chunk[..len]).map_ok(|read| {
            buffer.put_slice(&chunk[..read]);
        })
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.transport.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}

/// tokio's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer;

#[derive(Debug)]
struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }
}
