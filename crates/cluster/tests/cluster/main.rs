//! The membership over a backend in memory.

mod initial;
mod membership;
mod stored;

use std::path::Path;

use backend::Backend;
use bytes::Bytes;
use cluster::{Cluster, InitialCluster, Member};
use env::{Disk, MemDisk};
use raft::{ConfChange, ConfChangeType};

fn backend() -> Backend {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/snap"), 0o700).expect("no fault");
    let options = backend::Options {
        map_bytes: 16 << 20,
        alloc_bytes: 64 << 10,
        ..backend::Options::default()
    };
    Backend::open(disk, Path::new("/snap/db"), options).expect("opened").0
}

fn initial(text: &str) -> InitialCluster {
    InitialCluster::parse(text).expect("an initial cluster")
}

fn member(id: u64, name: &str) -> Member {
    Member {
        id,
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        name: name.to_owned(),
        ..Member::default()
    }
}

fn change(change_type: ConfChangeType, node_id: u64, context: impl Into<Bytes>) -> ConfChange {
    ConfChange { change_type, node_id, context: context.into(), id: 0 }
}

fn add(member: &Member) -> ConfChange {
    let kind =
        if member.is_learner { ConfChangeType::AddLearnerNode } else { ConfChangeType::AddNode };
    change(kind, member.id, member.to_json())
}

/// A cluster to which these members were added one by one.
fn cluster_of(members: &[Member], backend: &mut Backend) -> Cluster {
    let mut cluster = Cluster::restore(backend).expect("restored");
    cluster.set_ids(1, 100);
    for member in members {
        cluster.apply_conf_change(&add(member), backend).expect("added");
    }
    cluster
}
