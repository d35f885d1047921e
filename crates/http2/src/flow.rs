//! Flow-control windows (RFC 9113 5.2, 6.9), for either role.

/// The largest window there may be.
pub(crate) const WINDOW_MAX: u32 = (1 << 31) - 1;

/// A stream's or connection's window before SETTINGS say otherwise.
pub(crate) const WINDOW_DEFAULT: u32 = 65_535;

/// A window went above [`WINDOW_MAX`], or more was sent than it allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowError;

/// What one side may still send. Negative after SETTINGS shrank it under what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window(i64);

impl Window {
    pub(crate) fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(self) -> usize {
        self.0.max(0) as usize
    }

    /// Uses up `bytes`; an error, and no change, if there are not so many.
    pub(crate) fn consume(&mut self, bytes: usize) -> Result<(), FlowError> {
        if bytes > self.available() {
            return Err(FlowError);
        }
        self.0 -= bytes as i64;
        Ok(())
    }

    /// Adds what WINDOW_UPDATE, or a change of the initial window, gives or takes.
    pub(crate) fn adjust(&mut self, by: i64) -> Result<(), FlowError> {
        let size = self.0.saturating_add(by);
        if size > i64::from(WINDOW_MAX) {
            return Err(FlowError);
        }
        self.0 = size;
        Ok(())
    }
}

/// A window that we grant, and what of it we have not yet told the peer. Small returns are told together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    window: Window,
    untold: u32,
}

impl Grant {
    pub(crate) fn new(size: u32) -> Self {
        Self { window: Window::new(size), untold: 0 }
    }

    /// The peer sent `bytes`.
    pub(crate) fn consume(&mut self, bytes: usize) -> Result<(), FlowError> {
        self.window.consume(bytes)
    }

    /// Our SETTINGS changed the initial window, and the peer has acknowledged it. Our own numbers cannot overflow.
    pub(crate) fn adjust(&mut self, by: i64) {
        let _ = self.window.adjust(by);
    }

    /// Returns `bytes` to the peer; `Some` is the WINDOW_UPDATE to send, once half of `size` has come together.
    pub(crate) fn release(&mut self, bytes: u32, size: u32) -> Option<u32> {
        self.untold = self.untold.saturating_add(bytes);
        if self.untold == 0 || self.untold < size / 2 {
            return None;
        }
        let update = std::mem::take(&mut self.untold);
        let adjusted = self.window.adjust(i64::from(update));
        // Before the peer acknowledges a smaller window, it has the default one.
        let granted = self.window.available() <= size.max(WINDOW_DEFAULT) as usize;
        assert!(adjusted.is_ok() && granted, "only what the peer has sent is returned to it");
        Some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_go_negative_but_not_be_overdrawn() {
        let mut window = Window::new(10);
        assert_eq!(window.consume(11), Err(FlowError));
        assert_eq!(window.consume(10), Ok(()));
        assert_eq!(window.adjust(-5), Ok(()));
        assert_eq!(window.available(), 0);
        assert_eq!(window.consume(0), Ok(()), "an empty frame needs no window");
        assert_eq!(window.adjust(6), Ok(()));
        assert_eq!(window.available(), 1);
    }

    #[test]
    fn a_window_may_not_exceed_two_to_the_31_minus_1() {
        let mut window = Window::new(WINDOW_MAX);
        assert_eq!(window.adjust(1), Err(FlowError));
        assert_eq!(window.available(), WINDOW_MAX as usize);
    }

    #[test]
    fn returns_are_told_by_halves() {
        let mut grant = Grant::new(100);
        assert_eq!(grant.consume(60), Ok(()));
        assert_eq!(grant.release(40, 100), None);
        assert_eq!(grant.consume(41), Err(FlowError), "what is untold is not granted");
        assert_eq!(grant.release(10, 100), Some(50));
        assert_eq!(grant.consume(90), Ok(()));
    }
}
