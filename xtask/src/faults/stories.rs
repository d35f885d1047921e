//! The stories: what strikes whom, and when it ends.

use std::time::Duration;

use tokio::time::sleep;

use super::disk::{Injection, SmallDisk};
use super::network::Link;
use super::story::{FAR, Story};

/// How long a fault lasts at least, where nothing else ends it: longer than an election takes.
const WHILE: Duration = Duration::from_millis(2500);
/// How often a storm strikes.
const STRIKES_COUNT: u64 = 16;
/// How long each sync takes of a disk that stalls.
const STALL_US: u64 = 8_000_000;
/// Bytes of a value where the disk is to fill.
const HEAVY: usize = 8 << 10;

/// A kind of story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// How many members there are.
    pub(super) members: usize,
    /// Whether it makes disks fail.
    pub(super) needs_disk: bool,
    /// Bytes of each value beside its number.
    pub(super) padding: usize,
    plot: Plot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plot {
    Kill(Role),
    KillAll,
    Pause(Role),
    Isolate(Role),
    /// The leader and a follower do not hear of each other, a third hears both.
    Bridge,
    /// Nothing that the member sends arrives.
    Mute(Role),
    /// Nothing arrives at the member.
    Deaf(Role),
    Halves,
    Slow,
    Lossy,
    /// There is no room on the leader's disk, then on a follower's.
    Full,
    FailedSync(Role),
    StalledSync,
    /// So many followers need a snapshot.
    Behind(usize),
    /// One after another and several at a time, as the seed has it.
    Storm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leader,
    Follower,
}

/// What a storm does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    Kill,
    Start,
    Pause,
    Resume,
    Mute,
    Deafen,
    Disturb,
    Reset,
    Heal,
    Calm,
}

const STRIKES: [Strike; 10] = [
    Strike::Kill,
    Strike::Start,
    Strike::Pause,
    Strike::Resume,
    Strike::Mute,
    Strike::Deafen,
    Strike::Disturb,
    Strike::Reset,
    Strike::Heal,
    Strike::Calm,
];

const fn kind(name: &'static str, plot: Plot) -> Kind {
    Kind { name, members: 3, needs_disk: false, padding: 0, plot }
}

const fn disk(name: &'static str, plot: Plot) -> Kind {
    Kind { needs_disk: true, ..kind(name, plot) }
}

/// All kinds. The longest are first, so that none is left alone at the end.
pub(super) const KINDS: &[Kind] = &[
    Kind { members: 5, ..kind("two-snapshots", Plot::Behind(2)) },
    Kind { members: 5, ..kind("halves", Plot::Halves) },
    Kind { padding: HEAVY, ..disk("disk-full", Plot::Full) },
    kind("storm", Plot::Storm),
    disk("sync-stalls-leader", Plot::StalledSync),
    disk("sync-fails-leader", Plot::FailedSync(Role::Leader)),
    disk("sync-fails-follower", Plot::FailedSync(Role::Follower)),
    kind("snapshot", Plot::Behind(1)),
    kind("kill-leader", Plot::Kill(Role::Leader)),
    kind("kill-follower", Plot::Kill(Role::Follower)),
    kind("kill-all", Plot::KillAll),
    kind("pause-leader", Plot::Pause(Role::Leader)),
    kind("pause-follower", Plot::Pause(Role::Follower)),
    kind("isolate-leader", Plot::Isolate(Role::Leader)),
    kind("isolate-follower", Plot::Isolate(Role::Follower)),
    kind("bridge", Plot::Bridge),
    kind("mute-leader", Plot::Mute(Role::Leader)),
    kind("mute-follower", Plot::Mute(Role::Follower)),
    kind("deaf-leader", Plot::Deaf(Role::Leader)),
    kind("deaf-follower", Plot::Deaf(Role::Follower)),
    kind("slow-links", Plot::Slow),
    kind("lossy-links", Plot::Lossy),
];

impl Kind {
    /// Lets it happen, and undoes it.
    pub(super) async fn tell(&self, story: &mut Story) -> Result<(), String> {
        match self.plot {
            Plot::Kill(role) => story.kill(role).await,
            Plot::KillAll => story.kill_all().await,
            Plot::Pause(role) => story.pause(role).await,
            Plot::Isolate(role) => story.isolate(role).await,
            Plot::Bridge => story.bridge().await,
            Plot::Mute(role) => story.one_way(role, true).await,
            Plot::Deaf(role) => story.one_way(role, false).await,
            Plot::Halves => story.halves().await,
            Plot::Slow => story.slow().await,
            Plot::Lossy => story.lossy().await,
            Plot::Full => story.full().await,
            Plot::FailedSync(role) => story.failed_sync(role).await,
            Plot::StalledSync => story.stalled_sync().await,
            Plot::Behind(count) => story.behind(count).await,
            Plot::Storm => story.storm().await,
        }
    }
}

impl Story {
    async fn find(&self, role: Role) -> Result<usize, String> {
        let leader = self.leader().await?;
        Ok(match role {
            Role::Leader => leader,
            Role::Follower => self.cluster.others(&[leader])[0],
        })
    }

    async fn kill(&mut self, role: Role) -> Result<(), String> {
        for _ in 0..2 {
            let member = self.find(role).await?;
            let others = self.cluster.others(&[member]);
            self.say(&format!("m{member} is killed"));
            self.cluster.kill(member);
            self.serve(&others).await?;
            self.say(&format!("m{member} starts"));
            self.cluster.start(member).await?;
            self.serve(&[member]).await?;
        }
        Ok(())
    }

    async fn kill_all(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            self.say("all are killed");
            for member in self.cluster.members() {
                self.cluster.kill(member);
            }
            self.cluster.start_all().await?;
            self.serve(&self.cluster.members()).await?;
        }
        Ok(())
    }

    async fn pause(&mut self, role: Role) -> Result<(), String> {
        for _ in 0..2 {
            let member = self.find(role).await?;
            let others = self.cluster.others(&[member]);
            self.say(&format!("m{member} is paused"));
            self.cluster.pause(member);
            self.serve(&others).await?;
            sleep(WHILE).await;
            self.say(&format!("m{member} goes on"));
            self.cluster.resume(member);
            self.serve(&[member]).await?;
        }
        Ok(())
    }

    /// First what was held back arrives late, then never.
    async fn isolate(&mut self, role: Role) -> Result<(), String> {
        for is_reset in [false, true] {
            let member = self.find(role).await?;
            let others = self.cluster.others(&[member]);
            self.say(&format!("m{member} is alone"));
            self.network()?.cut(&[member], &others);
            self.network()?.cut(&others, &[member]);
            self.serve(&others).await?;
            sleep(WHILE).await;
            self.serve(&others).await?;
            self.heal(is_reset)?;
            self.serve(&[member]).await?;
        }
        Ok(())
    }

    fn heal(&self, is_reset: bool) -> Result<(), String> {
        self.say("the network heals");
        if is_reset {
            self.network()?.reset();
        }
        self.network()?.heal();
        Ok(())
    }

    async fn bridge(&mut self) -> Result<(), String> {
        for is_reset in [false, true] {
            let (leader, follower) = self.two().await?;
            self.say(&format!("m{leader} leads, and does not hear m{follower}"));
            self.network()?.cut(&[leader], &[follower]);
            self.network()?.cut(&[follower], &[leader]);
            let third = self.cluster.others(&[leader, follower]);
            sleep(WHILE).await;
            self.serve(&third).await?;
            self.heal(is_reset)?;
            self.serve(&[leader, follower]).await?;
        }
        Ok(())
    }

    async fn one_way(&mut self, role: Role, is_mute: bool) -> Result<(), String> {
        for is_reset in [false, true] {
            let member = self.find(role).await?;
            let others = self.cluster.others(&[member]);
            self.say(&format!("m{member} is {}", if is_mute { "mute" } else { "deaf" }));
            if is_mute {
                self.network()?.cut(&[member], &others);
            } else {
                self.network()?.cut(&others, &[member]);
            }
            sleep(WHILE).await;
            self.serve(&others).await?;
            self.heal(is_reset)?;
            self.serve(&[member]).await?;
        }
        Ok(())
    }

    /// The leader is on the smaller side.
    async fn halves(&mut self) -> Result<(), String> {
        let (leader, follower) = self.two().await?;
        let small = [leader, follower];
        let large = self.cluster.others(&small);
        self.say(&format!("{small:?} and {large:?} are apart"));
        self.network()?.cut(&small, &large);
        self.network()?.cut(&large, &small);
        self.serve(&large).await?;
        sleep(WHILE).await;
        self.heal(false)?;
        self.serve(&small).await
    }

    async fn slow(&mut self) -> Result<(), String> {
        let members = self.cluster.members();
        let link = Link { delay_ms: (25, 125), ..Link::default() };
        self.network()?.set(&members, &members, link);
        self.serve(&members).await?;
        let (leader, _) = self.two().await?;
        // So slow that the leader's own messages do not keep pace with the load.
        let link = Link { bytes_per_10_ms: 256, ..Link::default() };
        self.network()?.set(&[leader], &members, link);
        sleep(WHILE).await;
        self.heal(false)?;
        self.serve(&members).await
    }

    async fn lossy(&mut self) -> Result<(), String> {
        let members = self.cluster.members();
        for (lost, reset) in [(30, 0), (5, 10)] {
            let link = Link { lost, reset, delay_ms: (0, 20), ..Link::default() };
            self.network()?.set(&members, &members, link);
            sleep(2 * WHILE).await;
            self.heal(false)?;
            self.serve(&members).await?;
        }
        Ok(())
    }

    /// Its process has ended by itself, and says why; the others serve; it comes back.
    async fn come_back(&mut self, member: usize, why: &str) -> Result<(), String> {
        let code = self.cluster.wait_end(member).await?;
        if code == 0 {
            return Err(format!("m{member} ended as if all were well"));
        }
        let log = self.cluster.log(member);
        if !log.to_lowercase().contains(why) {
            let tail = crate::conformance::process::last_lines(&log, 3);
            return Err(format!("m{member} does not tell of {why:?}: {tail}"));
        }
        self.serve(&self.cluster.others(&[member])).await
    }

    async fn failed_sync(&mut self, role: Role) -> Result<(), String> {
        let member = self.find(role).await?;
        let pid = self.cluster.pid(member).ok_or("it is down")?;
        self.say(&format!("m{member} cannot sync"));
        let injection = Injection::start(pid, "fsync,fdatasync", "error=EIO")?;
        self.come_back(member, "input/output error").await?;
        drop(injection);
        self.cluster.start(member).await?;
        self.serve(&[member]).await
    }

    /// A leader whose disk does not answer is not the leader for long, and nobody who asks the others need notice.
    async fn stalled_sync(&mut self) -> Result<(), String> {
        let leader = self.leader().await?;
        let others = self.cluster.others(&[leader]);
        let pid = self.cluster.pid(leader).ok_or("it is down")?;
        self.say(&format!("m{leader} waits for each sync"));
        let fault = format!("delay_enter={STALL_US}");
        let injection = Injection::start(pid, "fsync,fdatasync", &fault)?;
        self.serve(&others).await?;
        let next = self.cluster.leader(&others).await?;
        self.say(&format!("m{next} leads"));
        sleep(WHILE).await;
        self.serve(&others).await?;
        self.say("syncs work again");
        drop(injection);
        self.serve(&[leader]).await
    }

    async fn full(&mut self) -> Result<(), String> {
        let leader = self.leader().await?;
        self.no_room(leader).await?;
        // On a file system of its own that is really full.
        let member = self.find(Role::Follower).await?;
        self.cluster.kill(member);
        let disk = SmallDisk::take(self.cluster.folder(member), self.cluster.binary())?;
        let Some(disk) = disk else {
            self.say("no small file system can be mounted here: ENOSPC is injected instead");
            self.cluster.start(member).await?;
            return self.no_room(member).await;
        };
        self.cluster.wrap(member, disk.wrapper.clone());
        self.cluster.start(member).await?;
        self.serve(&[member]).await?;
        self.say(&format!("the disk of m{member} is full"));
        disk.fill()?;
        self.come_back(member, "no space left on device").await?;
        disk.free()?;
        self.cluster.start(member).await?;
        self.serve(&[member]).await?;
        self.disk = Some(disk);
        Ok(())
    }

    /// A member's writes to its files find no room.
    async fn no_room(&mut self, member: usize) -> Result<(), String> {
        let pid = self.cluster.pid(member).ok_or("it is down")?;
        self.say(&format!("m{member} finds no room"));
        let injection = Injection::start(pid, "pwrite64,pwritev", "error=ENOSPC")?;
        self.come_back(member, "no space left on device").await?;
        drop(injection);
        self.cluster.start(member).await?;
        self.serve(&[member]).await
    }

    async fn behind(&mut self, count: usize) -> Result<(), String> {
        let leader = self.leader().await?;
        let behind: Vec<usize> = self.cluster.others(&[leader]).into_iter().take(count).collect();
        let others = self.cluster.others(&behind);
        let told = |story: &Self, member: usize| {
            story.cluster.log(member).matches("applied snapshot").count()
        };
        // Once while they run, with watchers, and once while they are down.
        for is_down in [false, true] {
            let before: Vec<usize> = behind.iter().map(|member| told(self, *member)).collect();
            self.network()?.cut(&others, &behind);
            self.network()?.cut(&behind, &others);
            if is_down {
                behind.iter().for_each(|member| self.cluster.kill(*member));
            }
            self.say(&format!("{behind:?} are cut off, down: {is_down}"));
            self.write_on(FAR).await?;
            self.heal(true)?;
            if is_down {
                for member in &behind {
                    self.cluster.spawn(*member).await?;
                }
                for member in &behind {
                    self.cluster.wait_healthy(*member).await?;
                }
            }
            self.serve(&behind).await?;
            for (member, before) in behind.iter().zip(before) {
                if told(self, *member) == before {
                    return Err(format!("m{member} has got no snapshot"));
                }
            }
        }
        Ok(())
    }

    /// While it lasts, only what is answered must be right; then all is undone, and all must serve.
    async fn storm(&mut self) -> Result<(), String> {
        let members = self.cluster.members();
        let mut rng = self.rng.fork();
        for _ in 0..STRIKES_COUNT {
            let member = *rng.pick(&members);
            let others = self.cluster.others(&[member]);
            let strike = *rng.pick(&STRIKES);
            self.say(&format!("{strike:?} m{member}"));
            match strike {
                Strike::Kill => self.cluster.kill(member),
                Strike::Start if self.cluster.pid(member).is_none() => {
                    self.cluster.spawn(member).await?;
                }
                Strike::Start | Strike::Resume => self.cluster.resume(member),
                Strike::Pause => self.cluster.pause(member),
                Strike::Mute => self.network()?.cut(&[member], &others),
                Strike::Deafen => self.network()?.cut(&others, &[member]),
                Strike::Disturb => {
                    let (lost, reset) = (rng.below(50), rng.below(20));
                    let link = Link { lost, reset, delay_ms: (0, 50), ..Link::default() };
                    self.network()?.set(&members, &[member], link);
                }
                Strike::Reset => self.network()?.reset(),
                Strike::Heal => self.heal(rng.below(2) == 0)?,
                Strike::Calm => self.calm().await?,
            }
            sleep(Duration::from_millis(rng.between(100, 1500))).await;
        }
        self.calm().await?;
        self.serve(&members).await
    }

    /// Undoes all that a storm has done.
    async fn calm(&mut self) -> Result<(), String> {
        self.heal(false)?;
        for member in self.cluster.members() {
            match self.cluster.pid(member) {
                None => self.cluster.spawn(member).await?,
                Some(_) => self.cluster.resume(member),
            }
        }
        Ok(())
    }
}
