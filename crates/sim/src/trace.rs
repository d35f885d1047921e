//! What happened, as one number: two runs of a seed must agree in it.

/// A checksum over everything that happens, and the story if somebody wants to read it.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    steps: u64,
    story: Option<Vec<String>>,
}

impl Trace {
    /// A trace that also keeps the story.
    #[must_use]
    pub fn telling() -> Self {
        Self { story: Some(Vec::new()), ..Self::default() }
    }

    /// Something happens at a time.
    pub fn add(&mut self, at: u64, what: &[u64]) {
        self.steps += 1;
        self.mix(at);
        what.iter().for_each(|number| self.mix(*number));
    }

    fn mix(&mut self, number: u64) {
        // FNV-1a over words, with a rotation so that high bits count.
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    /// Tells what happens, to whom wants to know.
    pub fn say(&mut self, at: u64, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let (seconds, micros) = (at / 1_000_000_000, at / 1000 % 1_000_000);
            story.push(format!("{seconds:4}.{micros:06} {}", what()));
        }
    }

    /// The checksum.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things happened.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The story.
    #[must_use]
    pub fn story(self) -> Vec<String> {
        self.story.unwrap_or_default()
    }
}
