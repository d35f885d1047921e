//! etcd 3.5.1 in a cluster with ours: while there is one, the cluster and its data stay at version 3.5, and who has moved
//! may move back.

use env::OsDisk;

use super::super::process::http_get;
use super::{Cluster, Kind, Writers};

impl Cluster<'_> {
    /// A cluster moves from 3.5.1 to ours, a member at a time, with writers. The first moves back once, since it can.
    pub(super) fn move_from_old(&mut self) -> Result<(), String> {
        self.found(&[Kind::Old; 3])?;
        let record = self.folder.join("record");
        let writers = Writers::start(self.tools, &self.endpoints(), &record)?;
        self.becomes(0, Kind::Ours, &writers)?;
        self.stays_old("one of ours")?;
        // A start is what could change the data, too.
        self.becomes(0, Kind::Ours, &writers)?;
        self.becomes(0, Kind::Old, &writers)?;
        self.becomes(0, Kind::Ours, &writers)?;
        self.becomes(1, Kind::Ours, &writers)?;
        self.lead(1)?;
        self.stays_old("one of 3.5.1")?;
        self.becomes(2, Kind::Ours, &writers)?;
        let result = self.running().into_iter().try_for_each(|number| {
            let server = self.nodes[number].server.as_ref().ok_or("it is down")?;
            server.wait_version("3.7.0")
        });
        self.case("all are ours: cluster and storage come to 3.7", result);
        self.finish_move(writers, &record)
    }

    /// A case: everybody says that the cluster is of 3.5. Those of ours say so of their data.
    fn stays_old(&mut self, title: &str) -> Result<(), String> {
        let result = self.running().into_iter().try_for_each(|number| {
            let node = &self.nodes[number];
            let page = http_get(node.member.client_port, "/version").map_err(|e| e.to_string())?;
            let versions = match node.kind {
                Kind::Old => "\"etcdcluster\":\"3.5.0\"",
                _ => "\"etcdcluster\":\"3.5.0\",\"storage\":\"3.5.0\"",
            };
            if page.contains(versions) { Ok(()) } else { Err(page) }
        });
        self.case(&format!("{title}: the version is 3.5"), result);
        Ok(())
    }

    /// What the database of a member that is down says of its version; 3.5 writes nothing.
    pub(super) fn storage_version(&self, number: usize) -> Result<Option<Vec<u8>>, String> {
        let path = self.nodes[number].member.dir.join("member/snap/db");
        let failed = |err: bolt::Error| format!("{}: {err}", path.display());
        let db = bolt::Db::open(OsDisk, &path, bolt::Options::default()).map_err(failed)?;
        let tx = db.begin_read();
        let found = tx.get(b"meta", b"storageVersion").map_err(failed)?;
        Ok(found.map(<[u8]>::to_vec))
    }
}
