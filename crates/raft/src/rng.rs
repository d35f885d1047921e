//! The source of randomized election timeouts: SplitMix64, so that a seed replays a run.

#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Members that are given one seed still draw different timeouts, because the id is mixed in.
    pub(crate) const fn new(seed: u64, id: u64) -> Self {
        Self(seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; `n` is a few ticks, so the modulo's bias does not matter.
    pub(crate) const fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "an empty range");
        (self.next() % n as u64) as u32
    }
}
