//! Request ids, read ids and command tokens: each says which core waits for it.

use std::time::Duration;

/// The core number of proposals that the server makes itself; no front-door core has it.
pub const SERVER_CORE: u8 = 15;

/// The core number of what the server asks for other members; no front-door core has it.
pub const PEER_CORE: u8 = 14;

const MEMBER_SHIFT: u32 = 48;
const CORE_SHIFT: u32 = 44;
const COUNTER_BITS: u32 = 44;

/// Gives out request ids that no other member, core or life of this member gives out.
///
/// From the top: 16 bits of the member id, 4 bits of the core, 36 bits of milliseconds since the
/// Unix epoch at the start, 8 bits of counter. The lower 44 bits simply count up from the start,
/// so ids stay unique as long as fewer than 256 a millisecond are taken on average.
#[derive(Clone, Debug)]
pub struct RequestIds {
    high: u64,
    low: u64,
}

impl RequestIds {
    /// Ids of `core` (0 to 15) of the member, from `wall`, the time since the Unix epoch.
    ///
    /// # Panics
    /// If `core` does not fit into four bits.
    #[must_use]
    pub fn new(member_id: u64, core: u8, wall: Duration) -> Self {
        assert!(core <= SERVER_CORE, "a core number has four bits");
        let millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self {
            high: (member_id << MEMBER_SHIFT) | (u64::from(core) << CORE_SHIFT),
            low: (millis << 8) & low_mask(),
        }
    }

    /// The next id; never 0.
    pub fn next_id(&mut self) -> u64 {
        self.low = self.low.wrapping_add(1) & low_mask();
        let id = self.high | self.low;
        if id == 0 { self.next_id() } else { id }
    }

    /// The core these ids belong to.
    #[must_use]
    pub fn core(&self) -> u8 {
        core_of(self.high)
    }
}

/// The core that waits for this request id.
#[must_use]
pub fn core_of(id: u64) -> u8 {
    u8::try_from((id >> CORE_SHIFT) & 0xf).unwrap_or(SERVER_CORE)
}

const fn low_mask() -> u64 {
    (1 << COUNTER_BITS) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_member_core_and_time() {
        let mut ids = RequestIds::new(0xabc_1234, 5, Duration::from_millis(0x12_3456_789a));
        assert_eq!(ids.next_id(), 0x1234_5234_5678_9a01, "36 bits of milliseconds");
        assert_eq!(ids.next_id(), 0x1234_5234_5678_9a02);
        assert_eq!((ids.core(), core_of(0x1234_5234_5678_9a01)), (5, 5));
    }

    #[test]
    fn the_counter_does_not_run_into_the_core() {
        let mut ids = RequestIds::new(1, SERVER_CORE, Duration::from_millis((1 << 36) - 1));
        let last: Vec<u64> = (0..300).map(|_| ids.next_id()).collect();
        assert!(last.iter().all(|id| core_of(*id) == SERVER_CORE && id >> 48 == 1));
        let mut unique = last.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), last.len());
    }

    #[test]
    fn no_id_is_zero() {
        let mut ids = RequestIds::new(0, 0, Duration::from_millis((1 << 36) - 1));
        assert!((0..300).all(|_| ids.next_id() != 0));
    }
}
