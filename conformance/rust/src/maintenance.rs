//! The server itself.

use etcd_client::{AlarmAction, AlarmType, Client};

use crate::{Failure, equal, fail};

pub(crate) async fn status(mut client: Client) -> Result<(), Failure> {
    let status = client.status().await.map_err(fail)?;
    equal("version", status.version(), "3.7.3")?;
    equal("storage version", status.storage_version(), "3.7.0")?;
    equal("leader", status.leader() != 0 && !status.is_learner(), true)?;
    equal("applied", status.raft_applied_index() <= status.raft_index(), true)?;
    equal("size", status.db_size() >= status.raft_used_db_size(), true)?;
    equal("errors", status.errors().len(), 0)?;
    let (first, second) = (client.hash_kv(0).await, client.hash_kv(0).await);
    equal("same hash", first.map_err(fail)?.hash(), second.map_err(fail)?.hash())?;
    client.hash().await.map_err(fail).map(drop)
}

pub(crate) async fn snapshot(mut client: Client) -> Result<(), Failure> {
    const DIGEST_BYTES: u64 = 32;
    let size = client.status().await.map_err(fail)?.db_size();
    let mut stream = client.snapshot().await.map_err(fail)?;
    let (mut bytes, mut left) = (0_u64, None);
    while let Some(part) = stream.message().await.map_err(fail)? {
        bytes += part.blob().len() as u64;
        left = Some(part.remaining_bytes());
    }
    equal("remaining", left, Some(0))?;
    equal("whole pages and a digest", (bytes - DIGEST_BYTES) % 4096, 0)?;
    equal("size", bytes > u64::try_from(size).unwrap_or(0) / 2, true)
}

pub(crate) async fn defragment(mut client: Client) -> Result<(), Failure> {
    let before = client.hash_kv(0).await.map_err(fail)?.hash();
    client.defragment().await.map_err(fail)?;
    equal("same keys", client.hash_kv(0).await.map_err(fail)?.hash(), before)?;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.map_err(fail)?;
    equal("alarms", alarms.alarms().len(), 0)
}

pub(crate) async fn members(mut client: Client) -> Result<(), Failure> {
    let list = client.member_list().await.map_err(fail)?;
    let [member] = list.members() else {
        return Err(format!("{} members", list.members().len()));
    };
    let header = list.header().ok_or("no header")?;
    equal("id", member.id(), header.member_id())?;
    equal("urls", (member.peer_urls().len(), member.client_urls().len()), (1, 1))?;
    equal("learner", member.is_learner(), false)
}
