//! `etcdserverpb.Maintenance`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::etcdserverpb as pb;
use api::internal::OpRef;
use api::{Code, Error, Status};
use bytes::Bytes;
use pb::alarm_request::AlarmAction;
use prost::Message as _;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Result, answer, decode, refuse_learner, store_error, unary_too_large};
use crate::call::Stream;
use crate::desk::{CallInfo, CallKey, Desk, Local, Next};

/// Bytes of a snapshot in one message, as in etcd.
const BLOB_BYTES: usize = 32 << 10;
/// Messages that are read in one go on another thread.
const BLOBS_AHEAD: usize = 8;

/// `Alarm`: all of its actions travel through the log.
pub(crate) fn alarm(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let alarm: pb::AlarmRequest = decode(request)?;
    refuse_learner(desk)?;
    // DIFF(etcd): an unknown action makes etcd's servers panic when they apply it.
    if AlarmAction::try_from(alarm.action).is_err() {
        return Err(Error::UnknownMethod.into());
    }
    desk.propose(call, OpRef::Alarm(request))
}

/// Raises this member's alarm that there is no space, unless it is raised.
pub(crate) fn raise_no_space(desk: &mut Desk) {
    let member_id = desk.link.state.member_id;
    let raised = apply::Alarm { member_id, alarm: pb::AlarmType::Nospace.into() };
    if desk.link.state.alarms.read().contains(&raised) {
        return;
    }
    let request = pb::AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id,
        alarm: pb::AlarmType::Nospace.into(),
    };
    desk.propose_silently(OpRef::Alarm(&request.encode_to_vec()));
}

/// `Status`: this member's own view.
pub(crate) fn status(desk: &mut Desk, request: &[u8]) -> Result<Next> {
    let _: pb::StatusRequest = decode(request)?;
    let header = desk.header(desk.link.reader.current_revision());
    let state = &desk.link.state;
    let leader = state.leader.load(Ordering::Relaxed);
    let mut errors = Vec::new();
    if leader == 0 {
        errors.push(Error::NoLeader.message().to_owned());
    }
    for alarm in state.alarms.read().iter() {
        let kind = match pb::AlarmType::try_from(alarm.alarm) {
            Ok(kind) => kind.as_str_name().to_owned(),
            Err(_) => alarm.alarm.to_string(),
        };
        errors.push(format!("memberID:{} alarm:{kind}", alarm.member_id));
    }
    let response = pb::StatusResponse {
        header: Some(header),
        version: state.version.to_owned(),
        db_size: state.db_size.load(Ordering::Relaxed),
        leader,
        raft_index: state.committed.load(Ordering::Relaxed),
        raft_term: state.term.load(Ordering::Relaxed),
        raft_applied_index: state.applied.load(Ordering::Relaxed),
        errors,
        db_size_in_use: state.db_size_in_use.load(Ordering::Relaxed),
        is_learner: state.is_learner.load(Ordering::Relaxed),
        storage_version: state.storage_version.read().clone().unwrap_or_default(),
        db_size_quota: desk.link.limits.quota_bytes,
        downgrade_info: Some(pb::DowngradeInfo::default()),
    };
    answer(desk, &response)
}

/// `Defragment`.
pub(crate) fn defragment(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let _: pb::DefragmentRequest = decode(request)?;
    refuse_learner(desk)?;
    desk.command(call, apply::Command::Defragment, 0)
}

/// `MoveLeader`: answered when the target leads.
pub(crate) fn move_leader(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let pb::MoveLeaderRequest { target_id } = decode(request)?;
    refuse_learner(desk)?;
    if !desk.link.state.is_leader() {
        return Err(Error::NotLeader.into());
    }
    if desk.link.state.cluster().member(target_id).is_none_or(|member| member.is_learner) {
        return Err(Error::BadLeaderTransferee.into());
    }
    tracing::info!(
        "current-leader-member-id" = format!("{:x}", desk.link.state.member_id),
        "transferee-member-id" = format!("{target_id:x}"),
        "leadership transfer starting"
    );
    desk.transfer_leader(call, target_id)
}

/// The answer to `MoveLeader` has no header, as in etcd.
pub(crate) fn moved_leader(desk: &mut Desk) -> Result<Next> {
    answer(desk, &pb::MoveLeaderResponse { header: None })
}

/// `Hash`: of the whole backend.
pub(crate) fn hash(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let _: pb::HashRequest = decode(request)?;
    refuse_learner(desk)?;
    desk.command(call, apply::Command::View, 0)
}

/// `HashKV`: reads every row, and so on another thread.
pub(crate) fn hash_kv(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: pb::HashKvRequest = decode(request)?;
    refuse_learner(desk)?;
    let reader = desk.link.reader.clone();
    let metrics = Arc::clone(&desk.link.metrics);
    let header = desk.header(0);
    Ok(desk.work(call, move |frame, _| {
        let begun = Instant::now();
        let (hash, revision) =
            reader.hash_kv(request.revision).map_err(|error| store_error(&error))?;
        metrics.mvcc_hash_rev_duration_seconds.observe(begun.elapsed().as_secs_f64());
        let response = pb::HashKvResponse {
            header: Some(pb::ResponseHeader { revision, ..header }),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.revision,
        };
        frame.set_message(&response).map(|_| ()).map_err(unary_too_large)
    }))
}

/// `Snapshot`.
pub(crate) fn snapshot(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let _: pb::SnapshotRequest = decode(request)?;
    desk.command(call, apply::Command::View, 0)
}

/// Goes on with a call that wanted a view of the backend.
pub(crate) fn with_view(
    desk: &mut Desk,
    call: &CallInfo,
    view: apply::SnapshotView,
) -> Result<Next> {
    if call.rpc == api::service::Rpc::MaintenanceSnapshot {
        let cursor = SnapshotCursor::new(view.tx, desk);
        return Ok(Next::Stream(Stream::Snapshot(SnapshotStream { cursor: Some(cursor) })));
    }
    let metrics = Arc::clone(&desk.link.metrics);
    let header = Some(desk.header(view.revision));
    Ok(desk.work(call, move |frame, _| {
        let begun = Instant::now();
        let hash = backend::hash(&view.tx, |bucket, key| {
            bucket == b"meta" && matches!(key, b"consistent_index" | b"term" | b"storageVersion")
        })
        .map_err(|error| Status::new(Code::Unknown, error.to_string()))?;
        metrics.mvcc_hash_duration_seconds.observe(begun.elapsed().as_secs_f64());
        let response = pb::HashResponse { header, hash };
        frame.set_message(&response).map(|_| ()).map_err(unary_too_large)
    }))
}

/// The answer to `Defragment` has no header, as in etcd.
pub(crate) fn defragmented(
    desk: &mut Desk,
    result: std::result::Result<(), String>,
) -> Result<Next> {
    result.map_err(|why| Status::new(Code::Unknown, why))?;
    answer(desk, &pb::DefragmentResponse { header: None })
}

/// A `Snapshot` under way.
#[derive(Debug)]
pub(crate) struct SnapshotStream {
    /// Absent while another thread reads on.
    cursor: Option<Box<SnapshotCursor>>,
}

/// How far a snapshot is read.
#[derive(Debug)]
pub(crate) struct SnapshotCursor {
    tx: Arc<bolt::ReadTx>,
    offset: u64,
    sha: Sha256,
    version: String,
    begun: Instant,
    /// Read and not yet sent, each with the bytes that remain after it.
    blobs: Vec<(Bytes, u64)>,
    is_done: bool,
}

impl SnapshotStream {
    /// Lets another thread read on, if it does not already.
    pub(crate) fn read_on(&mut self, desk: &Desk, call: CallKey) {
        let Some(mut cursor) = self.cursor.take() else { return };
        let local = desk.local.clone();
        tokio::task::spawn_blocking(move || {
            let result = cursor.read().map(|()| cursor);
            let _ = local.send(Local::Snapshot(call, result));
        });
    }

    /// Takes the cursor back when its messages are sent.
    pub(crate) fn resume(&mut self, cursor: Box<SnapshotCursor>) {
        self.cursor = Some(cursor);
    }
}

impl SnapshotCursor {
    fn new(tx: Arc<bolt::ReadTx>, desk: &Desk) -> Box<Self> {
        Box::new(Self {
            tx,
            offset: 0,
            sha: Sha256::new(),
            version: desk.link.state.storage_version.read().clone().unwrap_or_default(),
            begun: desk.now,
            blobs: Vec::new(),
            is_done: false,
        })
    }

    fn read(&mut self) -> Result<()> {
        let size = self.tx.size();
        while self.blobs.len() < BLOBS_AHEAD && self.offset < size {
            let mut blob = vec![0; BLOB_BYTES];
            let read = self
                .tx
                .read_copy_at(self.offset, &mut blob)
                .map_err(|error| Status::new(Code::Unknown, error.to_string()))?;
            if read == 0 {
                break;
            }
            blob.truncate(read);
            self.sha.update(&blob);
            self.offset += read as u64;
            self.blobs.push((blob.into(), size.saturating_sub(self.offset)));
        }
        if self.offset >= size && self.blobs.len() < BLOBS_AHEAD {
            let sum = std::mem::take(&mut self.sha).finalize();
            self.blobs.push((Bytes::copy_from_slice(&sum), 0));
            self.is_done = true;
        }
        Ok(())
    }

    /// What was read, as messages in order.
    fn take_messages(&mut self) -> Vec<pb::SnapshotResponse> {
        let blobs = std::mem::take(&mut self.blobs).into_iter();
        let version = &self.version;
        blobs
            .map(|(blob, remaining_bytes)| pb::SnapshotResponse {
                header: None,
                remaining_bytes,
                blob,
                version: version.clone(),
            })
            .collect()
    }

    /// Whether the hash was among the messages; if so, how long the whole took.
    fn took(&self) -> Option<std::time::Duration> {
        self.is_done.then(|| self.begun.elapsed())
    }

    /// Puts what was read into the desk's frame, a message at a time, for `send`. Whether that was all.
    pub(crate) fn respond(&mut self, desk: &mut Desk, mut send: impl FnMut(&mut Desk)) -> bool {
        for message in self.take_messages() {
            if desk.frame.set_message(&message).is_ok() {
                send(desk);
            }
        }
        let Some(took) = self.took() else { return false };
        desk.link.metrics.disk_backend_snapshot_duration_seconds.observe(took.as_secs_f64());
        true
    }
}
