//! Disks that lose what was synced, and what operators do about it.

use std::path::Path;

use bytes::Bytes;
use env::Losses;
use raft::ConfChangeType;

use crate::membership::Change;
use crate::nemesis::Fault;
use crate::plan::SECOND;
use crate::world::{Action, World};

/// The meta pages of the database: all of it that has checksums.
const META_BYTES: u64 = 2 * 4096;

/// Places looked at for a byte that is not zero.
const TRIES: usize = 100;

/// What power failures have taken, as the summary counts it.
pub const LOSSES: [&str; 4] =
    ["lost unsynced write", "torn write", "reordered write", "lost directory entry"];
/// What is counted when an operator puts another in the place of a member that can't start.
pub const REPLACED: &str = "damaged member replaced";

impl World {
    /// Counts what a power failure has taken.
    pub fn count_losses(&mut self, losses: Losses) {
        let Losses { changes, torn, reordered, names } = losses;
        for (name, count) in LOSSES.into_iter().zip([changes, torn, reordered, names]) {
            if count > 0 {
                *self.faults.entry(name).or_default() += count;
            }
        }
    }

    /// Turns a bit on the disk of a member, which is killed. Whether that can be borne: a majority
    /// of the voters must keep what it has synced.
    pub fn rot(&mut self, site: usize) -> bool {
        if !self.can_bear_loss(site) {
            return false;
        }
        let disk = &self.sites[site].disk;
        let mut places: Vec<_> = disk.files(Path::new("/data/member")).into_iter().collect();
        places.retain_mut(|(path, len)| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == "db" {
                *len = META_BYTES.min(*len);
            }
            // Of a database's other pages nobody can tell that they are damaged.
            *len > 0 && (name == "db" || name.ends_with(".wal") || name.ends_with(".snap"))
        });
        if places.is_empty() {
            return false;
        }
        self.end_and_restart(site, false);
        for _ in 0..TRIES {
            let (path, len) = self.rng.pick(&places);
            let (offset, bit) = (self.rng.below(*len), self.rng.below(8));
            let place = &mut self.sites[site];
            if place.disk.flip(path, offset, 1 << bit) {
                place.is_rotten = true;
                let path = path.display();
                self.trace.say(self.now, || format!("bit {bit} at {offset} of {path} turns"));
                return true;
            }
        }
        false
    }

    /// Takes all that a member has on its disk. Whether that can be borne, as with [`World::rot`].
    pub fn wipe(&mut self, site: usize) -> bool {
        if !self.can_bear_loss(site) {
            return false;
        }
        self.kill(site);
        self.sites[site].is_rotten = true;
        // With an empty disk and its old id it would have forgotten its votes.
        self.give_up(site);
        true
    }

    fn can_bear_loss(&self, site: usize) -> bool {
        let members = self.members();
        let voters: Vec<usize> = members.into_iter().filter(|site| self.is_voter(*site)).collect();
        let damaged = self.sites.iter().filter(|place| place.is_rotten).count();
        // Who is removed while another is damaged may be one too many.
        let removes = self.plan.has(Fault::Members(Change::Remove));
        voters.contains(&site) && !removes && damaged < voters.len().saturating_sub(1) / 2
    }

    /// The member does not start on what it has: its operator takes another machine.
    pub fn give_up(&mut self, site: usize) {
        self.sites[site].is_gone = true;
        self.after(SECOND, Action::Replace(site));
    }

    /// Removes the member whose disk is damaged, and when that is done adds another.
    pub fn replace(&mut self, site: usize) {
        if self.after_damage(site).is_none() {
            self.after(SECOND, Action::Replace(site));
        }
    }

    /// A step of that; `None` if there is more to do.
    fn after_damage(&mut self, site: usize) -> Option<()> {
        let id = self.sites[site].identity.metadata.node_id;
        let leader = self.leader()?;
        let process = self.sites[leader].process.as_deref()?;
        let cluster = process.applier.cluster();
        if cluster.member(id).is_some() {
            self.propose_change(leader, ConfChangeType::RemoveNode, id, Bytes::new());
            return None;
        }
        // A new leader may not have heard yet that there is such a member.
        cluster.is_removed(id).then_some(())?;
        self.add_member(Change::AddVoter, leader).then_some(())?;
        self.sites[site].is_rotten = false;
        self.count_fault(REPLACED);
        Some(())
    }
}
