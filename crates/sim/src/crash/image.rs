//! The ways in which a disk may have kept what was not synced when the power failed.

use env::{MemDisk, Moment, Unsynced};

use crate::rng::Rng;

/// Of a long row of operations that were not synced, so many of the last and of the first are looked
/// at one by one.
const LAST_ALONE: usize = 8;
const FIRST_ALONE: usize = 3;
/// How many ways are drawn.
const DRAWN: u64 = 8;

/// What a disk has kept of all that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// What was written, and no name.
    Contents,
    /// Names, and nothing that was written.
    Names,
    /// Names up to an operation, and all that was written.
    NamesUpTo(u64),
    /// All up to an operation.
    UpTo(u64),
    /// One operation.
    Only(u64),
    /// All but one operation.
    AllBut(u64),
    /// All before an operation, and of that one some sectors.
    Torn(u64, Sectors),
    /// Any operations, of writes any sectors; of names those that were changed first.
    Drawn(u64),
    /// Any operations, of writes any sectors; any names.
    DrawnFreely(u64),
}

/// Some of the sectors of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sectors {
    /// The first half.
    Front,
    /// The other half.
    Back,
    /// The first.
    First,
    /// The last.
    Last,
    /// Every other one.
    Odd,
}

impl Kept {
    /// All ways that are looked at for a disk with this to lose.
    #[must_use]
    pub fn ways(unsynced: &[Unsynced], seed: u64) -> Vec<Self> {
        let mut ways = vec![Self::Nothing];
        if unsynced.is_empty() {
            return ways;
        }
        ways.extend([Self::All, Self::Contents, Self::Names]);
        let count = unsynced.len();
        let alone = unsynced.iter().enumerate();
        let alone = alone
            .filter(|(at, _)| *at < FIRST_ALONE || *at + LAST_ALONE >= count)
            .map(|(_, one)| one);
        for one in alone {
            let operation = one.operation;
            ways.extend([Self::UpTo(operation), Self::Only(operation), Self::AllBut(operation)]);
            if one.is_name {
                ways.push(Self::NamesUpTo(operation));
            }
            let parts =
                [Sectors::Front, Sectors::Back, Sectors::First, Sectors::Last, Sectors::Odd];
            let parts = match one.sectors {
                1 => &parts[..0],
                2 => &parts[..2],
                3 => &parts[..4],
                _ => &parts[..],
            };
            ways.extend(parts.iter().map(|part| Self::Torn(operation, *part)));
        }
        if count > 1 {
            ways.extend((0..DRAWN).map(|number| Self::Drawn(seed.wrapping_mul(DRAWN) + number)));
            let freely = |number| Self::DrawnFreely(seed.wrapping_mul(DRAWN) + number);
            ways.extend((0..DRAWN / 2).map(freely));
        }
        ways
    }

    /// The disk as a power failure at that moment leaves it.
    #[must_use]
    pub fn image(self, moment: &Moment) -> MemDisk {
        let unsynced = moment.unsynced();
        let find = |operation: u64| {
            let at = unsynced.binary_search_by_key(&operation, |one| one.operation);
            unsynced[at.expect("listed as not synced")]
        };
        let mut rng = Rng::new(match self {
            Self::Drawn(seed) | Self::DrawnFreely(seed) => seed,
            _ => 0,
        });
        let names_until = match self {
            Self::Drawn(_) => unsynced[rng.below(unsynced.len() as u64) as usize].operation,
            _ => u64::MAX,
        };
        // What was drawn for the write whose sectors are asked for.
        let mut drawn = (0, 0);
        moment.crashed(|operation, sector| match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Contents => !find(operation).is_name,
            Self::Names => find(operation).is_name,
            Self::NamesUpTo(last) => operation <= last || !find(operation).is_name,
            Self::UpTo(last) => operation <= last,
            Self::Only(one) => operation == one,
            Self::AllBut(one) => operation != one,
            Self::Torn(one, part) if operation == one => part.has(sector, find(operation).sectors),
            Self::Torn(one, _) => operation < one,
            Self::Drawn(_) if find(operation).is_name => operation <= names_until,
            Self::Drawn(_) | Self::DrawnFreely(_) => {
                if drawn.0 != operation {
                    drawn = (operation, rng.below(4));
                }
                match drawn.1 {
                    0 => false,
                    1 => rng.below(2) == 0,
                    _ => true,
                }
            }
        })
    }
}

impl Sectors {
    fn has(self, sector: u64, count: u64) -> bool {
        match self {
            Self::Front => sector < count / 2,
            Self::Back => sector >= count / 2,
            Self::First => sector == 0,
            Self::Last => sector + 1 == count,
            Self::Odd => sector % 2 == 1,
        }
    }
}
