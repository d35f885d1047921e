//! A member whose database somebody has altered while it was down is found by a leader of the other kind, and finds by
//! itself that it must not start.

use std::path::Path;

use api::mvccpb::KeyValue;
use env::OsDisk;
use prost::Message as _;

use super::super::process::Server;
use super::{Cluster, PATIENCE};

/// The gate of the comparison at the start.
const AT_START: [&str; 2] = ["--feature-gates", "InitialCorruptCheck=true"];
const CORRUPT: &str = "etcdserver: corrupt cluster";

/// How a leader comes to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Periodic,
    Compaction,
}

impl Check {
    pub(super) fn flags(self) -> [&'static str; 2] {
        match self {
            Self::Periodic => ["--corrupt-check-time=500ms", "--compact-hash-check-time=1m"],
            Self::Compaction => {
                ["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=500ms"]
            }
        }
    }

    /// What the leader says of what it has found.
    fn finding(self) -> &'static str {
        match self {
            Self::Periodic => "same compact revision then hashes must match",
            Self::Compaction => "Detected compaction hash mismatch",
        }
    }
}

impl Cluster<'_> {
    /// Each kind leads while one of the other kind has other data.
    pub(super) fn find_altered(&mut self, check: Check) -> Result<(), String> {
        let kinds = [super::Kind::Etcd, super::Kind::Ours, super::Kind::Etcd];
        self.found(&kinds)?;
        for (leader, altered) in [(0, 1), (1, 0)] {
            self.alter_and_heal(check, leader, altered)?;
        }
        Ok(())
    }

    fn alter_and_heal(
        &mut self,
        check: Check,
        leader: usize,
        altered: usize,
    ) -> Result<(), String> {
        let names = [leader, altered].map(|number| self.nodes[number].kind.name());
        let title = format!("{} leads, data of {} altered", names[0], names[1]);
        self.lead(leader)?;
        self.write_and_read("before")?;
        let id = self.id(altered)?;
        self.take(altered)?.stop()?;
        alter(&self.nodes[altered].member.dir)?;
        let result = self.refuses_to_start(altered, id);
        self.case(&format!("{title}: it does not start if it compares"), result);

        self.launch_again(altered)?;
        if check == Check::Compaction {
            let revision = self.revision()?.to_string();
            self.eventually("compaction", |this| {
                this.etcdctl(leader, &["compaction", &revision, "--physical"]).or_else(|why| {
                    // By the attempt before.
                    if why.contains("has been compacted") { Ok(String::new()) } else { Err(why) }
                })
            })?;
        }
        let alarm = format!("memberID:{id} alarm:CORRUPT");
        let result = self.running().into_iter().try_for_each(|through| {
            self.eventually("alarm", |this| {
                let list = this.etcdctl(through, &["alarm", "list"])?;
                // Go's text of a message has one space or two, by chance.
                let list = list.split_whitespace().collect::<Vec<_>>().join(" ");
                if list == alarm { Ok(()) } else { Err(format!("alarms: {list:?}")) }
            })
        });
        self.case(&format!("{title}: all list the alarm"), result);
        let server = self.nodes[leader].server.as_ref().ok_or("the leader is down")?;
        let has_found = server.log().contains(check.finding());
        let result = if has_found { Ok(()) } else { Err(server.log_tail()) };
        self.case(&format!("{title}: the leader has found it"), result);
        let result = self.running().into_iter().try_for_each(|through| {
            match self.etcdctl(through, &["put", "k", "v"]) {
                Err(why) if why.contains(CORRUPT) => Ok(()),
                other => Err(format!("a write through member {through}: {other:?}")),
            }
        });
        self.case(&format!("{title}: all refuse writes"), result);

        self.take(altered)?.stop()?;
        alter(&self.nodes[altered].member.dir)?;
        self.launch_again(altered)?;
        let result = self.eventually("write", |this| {
            this.etcdctl(leader, &["alarm", "disarm"])?;
            this.write_and_read("healed")
        });
        self.case(&format!("{title}: what was undone is forgotten"), result);
        self.agree(&title)
    }

    /// Starts a member that is not healthy while there is the alarm.
    fn launch_again(&mut self, number: usize) -> Result<(), String> {
        let flags = self.flags(number, "existing");
        let node = &self.nodes[number];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = Server::launch(&self.binary(node.kind), &node.member, &flags)?;
        self.nodes[number].server = Some(server);
        Ok(())
    }

    fn refuses_to_start(&self, number: usize, id: u64) -> Result<(), String> {
        let mut flags = self.flags(number, "existing");
        flags.extend(AT_START.map(str::to_owned));
        let node = &self.nodes[number];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut server = Server::launch(&self.binary(node.kind), &node.member, &flags)?;
        let code = server.wait(PATIENCE)?;
        let wanted = format!("{id:x} found data inconsistency with peers");
        if code == 1 && server.log().contains(&wanted) {
            Ok(())
        } else {
            Err(format!("ended with {code}: {}", server.log_tail()))
        }
    }
}

/// Changes each value of a database that nobody has open; a second time, it undoes that.
fn alter(dir: &Path) -> Result<(), String> {
    let path = dir.join("member/snap/db");
    let failed = |err: bolt::Error| format!("{}: {err}", path.display());
    let mut db = bolt::Db::open(OsDisk, &path, bolt::Options::default()).map_err(failed)?;
    let mut rows = Vec::new();
    {
        let tx = db.begin_read();
        let mut cursor = tx.cursor(b"key").map_err(failed)?.ok_or("no bucket of keys")?;
        let mut next = cursor.first().map_err(failed)?;
        while let Some(item) = next {
            let mut kv = KeyValue::decode(item.value).map_err(|err| err.to_string())?;
            kv.value = kv.value.iter().map(|byte| byte ^ 1).collect();
            rows.push((item.key.to_vec(), kv.encode_to_vec()));
            next = cursor.next().map_err(failed)?;
        }
    }
    let mut tx = db.begin_write().map_err(failed)?;
    let mut bucket = tx.bucket(b"key").map_err(failed)?.ok_or("no bucket of keys")?;
    for (key, value) in rows {
        bucket.put(&key, &value).map_err(failed)?;
    }
    tx.commit().map_err(failed)
}
