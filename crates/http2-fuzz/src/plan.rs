//! What the first two bytes of an input say: which half is judged, with which limits, and how its application behaves.

use http2::Config;

/// Which side of a connection reads the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Server,
    Client,
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Nothing,
    /// Answers when the request is complete.
    Answer,
    /// Answers as soon as it has the head.
    Early,
    /// Resets each stream at once.
    Reset,
}

/// How the bytes are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) half: Half,
    /// The judge says what comes first: the preface and SETTINGS.
    pub(crate) shaken: bool,
    /// And acknowledges the other side's SETTINGS.
    pub(crate) acked: bool,
    pub(crate) policy: Policy,
    /// Into what pieces each frame is cut for our side.
    pub(crate) cut: usize,
    /// What is received is not released, and windows are small.
    pub(crate) holds: bool,
    pub(crate) streams: Option<u32>,
    pub(crate) table: Option<u32>,
    pub(crate) list: Option<u32>,
    /// Which of a client's requests are complete, a bit each.
    pub(crate) ends: u8,
}

/// The window of a stream where data is held.
pub(crate) const WINDOW: u32 = 16;
/// Requests that a client opens.
pub(crate) const REQUESTS: u32 = 3;

impl Plan {
    pub(crate) fn new(mode: u8, limits: u8) -> Self {
        let policy = [Policy::Nothing, Policy::Answer, Policy::Early, Policy::Reset];
        let cuts = [usize::MAX, usize::MAX, 1, 2, 5, 9, 10, 40];
        Self {
            half: if mode & 1 == 0 { Half::Server } else { Half::Client },
            shaken: mode & 2 != 0,
            acked: mode & 4 != 0,
            policy: policy[usize::from(mode >> 3 & 3)],
            cut: cuts[usize::from(mode >> 5)],
            holds: limits & 1 != 0,
            streams: (limits & 2 != 0).then_some(2),
            table: [None, None, Some(0), Some(100)][usize::from(limits >> 2 & 3)],
            list: (limits & 16 != 0).then_some(200),
            ends: limits >> 5,
        }
    }

    /// Whether a client's request is sent to its end, the first being 0.
    pub(crate) fn is_complete(&self, number: u32) -> bool {
        self.ends.checked_shr(number).unwrap_or(0) & 1 == 0
    }

    /// Our limits, of which those against floods are no matter here.
    pub(crate) fn config(&self) -> Config {
        let usual = Config::default();
        Config {
            max_concurrent_streams: self.streams.unwrap_or(u32::MAX),
            initial_window: if self.holds { WINDOW } else { 65_535 },
            connection_window: 65_535,
            max_header_list: self.list.unwrap_or(16 << 20),
            header_table_size: self.table.unwrap_or(usual.header_table_size),
            idle_frame_burst: u32::MAX,
            reset_burst: u32::MAX,
            control_queue_max: u32::MAX,
            ..usual
        }
    }
}
