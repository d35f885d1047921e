//! Bodies that come from other members, and how long they may take.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use crate::client::{to_io, within};

/// What a body must bring, at least, in each window of time that is spent waiting for it. A peer that sends a byte now
/// and then holds what it has opened for ever: DIFF(etcd), which lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many bytes.
    pub bytes: usize,
    /// In which time.
    pub window: Duration,
}

impl Default for Pace {
    /// 64 KiB a minute, which any link has that can carry heartbeats.
    fn default() -> Self {
        Self { bytes: 64 << 10, window: Duration::from_secs(60) }
    }
}

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Without a byte.
    pub(crate) silence: Duration,
    pub(crate) pace: Pace,
}

/// A body of which parts are still to come.
#[derive(Debug)]
pub(crate) struct InBody<'a> {
    body: &'a mut Incoming,
    silence: Duration,
    meter: Meter,
}

impl<'a> InBody<'a> {
    pub(crate) fn new(body: &'a mut Incoming, patience: Patience) -> Self {
        Self { body, silence: patience.silence, meter: Meter::new(patience.pace) }
    }

    /// The next part, `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let begun = Instant::now();
        let part = within(self.silence, next_part(self.body)).await?;
        if let Some(part) = &part {
            self.meter.count(part.len(), begun.elapsed())?;
        }
        Ok(part)
    }
}

/// Compares a body with its pace. What this side takes to make use of a part doesn't count.
#[derive(Debug)]
struct Meter {
    pace: Pace,
    bytes: usize,
    waited: Duration,
}

impl Meter {
    const fn new(pace: Pace) -> Self {
        Self { pace, bytes: 0, waited: Duration::ZERO }
    }

    fn count(&mut self, bytes: usize, waited: Duration) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.waited < self.pace.window {
            return Ok(());
        }
        if self.bytes < self.pace.bytes {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the body comes too slowly"));
        }
        *self = Self::new(self.pace);
        Ok(())
    }
}

/// The next part of a body, however long it takes; `None` at its end.
pub(crate) async fn next_part<B>(body: &mut B) -> io::Result<Option<Bytes>>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await;
        match frame {
            None => return Ok(None),
            Some(Err(err)) => return Err(to_io(err)),
            Some(Ok(frame)) => {
                if let Ok(part) = frame.into_data() {
                    return Ok(Some(part));
                }
            }
        }
    }
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("body longer than {0} bytes")]
    TooLong(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn read_body(
    body: &mut Incoming,
    limit: usize,
    patience: Patience,
) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    let mut body = InBody::new(body, patience);
    while let Some(part) = body.next().await? {
        if part.len() > limit - whole.len() {
            return Err(BodyError::TooLong(limit));
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_comes_at_one_byte_a_second_is_given_up() {
        let second = Duration::from_secs(1);
        let last_second = |bytes_a_second: usize| {
            let mut meter = Meter::new(Pace::default());
            (1..=300).find(|_| meter.count(bytes_a_second, second).is_err())
        };
        let enough = Pace::default().bytes / 60 + 1;
        assert_eq!(last_second(1), Some(60));
        assert_eq!(last_second(enough - 1), Some(60));
        assert_eq!(last_second(enough), None);
        assert_eq!(last_second(10 << 20), None);
    }

    #[test]
    fn each_window_counts_for_itself() {
        let mut meter = Meter::new(Pace { bytes: 10, window: Duration::from_secs(2) });
        let second = Duration::from_secs(1);
        // What came fast before does not pay for what comes slowly now.
        assert!(meter.count(1000, 3 * second).is_ok());
        assert!(meter.count(1, second).is_ok());
        assert!(meter.count(1, second).is_err());
    }
}
