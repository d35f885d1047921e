//! What each request does. One `match`, one list of checks, in the order in which etcd makes them.

use std::time::Duration;

use api::etcdserverpb as pb;
use api::internal::{InternalRequestRef, OpRef};
use api::request::{DeleteRangeRequestRef, PutRequestRef};
use api::txn::decode_txn_request_in;
use bytes::Bytes;
use mutant::mutant;
use prost::Message;

use crate::message::{Alarm, Output};
use crate::quota;
use crate::txn::{self, Writing};
use crate::{Applier, Outcome, TxnOutcome, kv};

/// `AlarmType` on the wire.
pub(crate) const NOSPACE: i32 = pb::AlarmType::Nospace as i32;
pub(crate) const CORRUPT: i32 = pb::AlarmType::Corrupt as i32;

/// The most operations that a committed transaction may list at any depth: the proposer's own limit
/// is a flag of that member, so this only keeps a damaged entry from taking all memory.
const TXN_OPS_MAX: usize = 1 << 20;

/// Whether this release knows how to apply a request. Authentication and downgrades come later: a
/// log that holds them can't be applied without them.
#[must_use]
pub fn is_supported(op: OpRef<'_>) -> bool {
    matches!(
        op,
        OpRef::Range(_)
            | OpRef::Put(_)
            | OpRef::DeleteRange(_)
            | OpRef::Txn(_)
            | OpRef::Compaction(_)
            | OpRef::LeaseGrant(_)
            | OpRef::LeaseRevoke(_)
            | OpRef::LeaseCheckpoint(_)
            | OpRef::Alarm(_)
            | OpRef::ClusterVersionSet(_)
            | OpRef::ClusterMemberAttrSet(_)
            | OpRef::DowngradeVersionTest(_)
    )
}

type Applied = Result<Outcome, api::Error>;

impl Applier {
    /// Applies a request; `None` where the answer comes later. `source` holds the request's bytes.
    pub(crate) fn execute(
        &mut self,
        request: &InternalRequestRef<'_>,
        source: &Bytes,
        is_local: bool,
        now: Duration,
        out: &mut Output,
    ) -> Option<Applied> {
        let op = request.op?;
        let applied = match self.check_alarms(op, source) {
            Ok(()) => self.dispatch(request.id, op, source, is_local, now, out),
            Err(err) => Some(Err(err)),
        };
        let succeeded = !matches!(applied, Some(Err(_)));
        self.stats.count_op(op_name(op), succeeded);
        applied
    }

    fn dispatch(
        &mut self,
        id: u64,
        op: OpRef<'_>,
        source: &Bytes,
        is_local: bool,
        now: Duration,
        out: &mut Output,
    ) -> Option<Applied> {
        Some(match op {
            OpRef::Put(message) => self.put(decoded(PutRequestRef::decode(message)), out),
            OpRef::DeleteRange(message) => {
                self.delete_range(decoded(DeleteRangeRequestRef::decode(message)), out)
            }
            OpRef::Txn(message) => {
                let txn = decoded(decode_txn_request_in(source, message, TXN_OPS_MAX));
                self.txn(&txn, is_local, out)
            }
            OpRef::Range(message) => self.read(&decoded(pb::RangeRequest::decode(message))),
            OpRef::Compaction(message) => {
                let compaction = decoded(pb::CompactionRequest::decode(message));
                match self.compact(compaction.revision) {
                    Ok(()) if compaction.physical => {
                        if is_local {
                            self.commits.wait_for_compaction(id, compaction.revision);
                        }
                        return None;
                    }
                    Ok(()) => Ok(Outcome::Compact { revision: self.store.revision() }),
                    Err(err) => Err(err),
                }
            }
            OpRef::LeaseGrant(message) => {
                self.lease_grant(&decoded(pb::LeaseGrantRequest::decode(message)), now, out)
            }
            OpRef::LeaseRevoke(message) => {
                let applied =
                    self.lease_revoke(decoded(pb::LeaseRevokeRequest::decode(message)).id, out);
                self.finish_renewals(now, out);
                applied
            }
            OpRef::LeaseCheckpoint(message) => {
                let request = decoded(pb::LeaseCheckpointRequest::decode(message));
                let applied = self.lease_checkpoint(&request, now);
                self.finish_renewals(now, out);
                applied
            }
            OpRef::Alarm(message) => self.alarm(&decoded(pb::AlarmRequest::decode(message))),
            OpRef::ClusterVersionSet(message) => {
                let set = decoded(api::membershippb::ClusterVersionSetRequest::decode(message));
                let Some(version) = cluster::Version::parse(&set.ver) else {
                    panic!("the cluster version {:?} was committed", set.ver);
                };
                self.cluster.set_version(version, &mut self.backend);
                cluster::save_storage_version(version.storage(), &mut self.backend);
                self.stats.cluster_changes += 1;
                Ok(self.done())
            }
            OpRef::ClusterMemberAttrSet(message) => {
                let set = decoded(api::membershippb::ClusterMemberAttrSetRequest::decode(message));
                let attributes = set.member_attributes.unwrap_or_default();
                self.stats.cluster_changes += 1;
                self.cluster.update_attributes(
                    set.member_id,
                    cluster::Attributes {
                        name: attributes.name,
                        client_urls: attributes.client_urls,
                    },
                    &mut self.backend,
                );
                Ok(self.done())
            }
            OpRef::DowngradeVersionTest(_) => Ok(self.done()),
            other => panic!("request {} is not supported yet by this server", other.number()),
        })
    }

    /// A raised alarm refuses what could make things worse: CORRUPT all changes of keys and leases,
    /// NOSPACE those that take room.
    fn check_alarms(&self, op: OpRef<'_>, source: &Bytes) -> Result<(), api::Error> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        let changes = matches!(
            op,
            OpRef::Put(_)
                | OpRef::DeleteRange(_)
                | OpRef::Txn(_)
                | OpRef::Compaction(_)
                | OpRef::LeaseGrant(_)
                | OpRef::LeaseRevoke(_)
        );
        if changes && self.alarms.is_raised(CORRUPT) {
            return Err(api::Error::Corrupt);
        }
        if self.alarms.is_raised(NOSPACE) {
            let takes_room = match op {
                OpRef::Put(_) | OpRef::LeaseGrant(_) => true,
                OpRef::Txn(message) => {
                    let txn = decoded(decode_txn_request_in(source, message, TXN_OPS_MAX));
                    quota::txn_cost(&txn) > 0
                }
                _ => false,
            };
            if takes_room {
                return Err(api::Error::NoSpace);
            }
        }
        Ok(())
    }

    fn done(&self) -> Outcome {
        Outcome::Done { revision: self.store.revision() }
    }

    fn put(&mut self, request: PutRequestRef<'_>, out: &mut Output) -> Applied {
        let cost = quota::put_cost(request.key, request.value);
        let fits = self.fits(cost);
        self.stats.puts += 1;
        self.stats.put_bytes += (request.key.len() + request.value.len()) as u64;
        let mut txn = self.store.begin(&mut self.backend, self.want_prev.get());
        let result = kv::put(&mut txn, &mut self.lessor, &request.into());
        let events = txn.finish();
        if let Some(batch) = events {
            self.publish(batch, out);
        }
        let (revision, prev_kv) = result?;
        self.over_quota(fits, out)?;
        Ok(Outcome::Put { revision, prev_kv })
    }

    fn delete_range(&mut self, request: DeleteRangeRequestRef<'_>, out: &mut Output) -> Applied {
        self.stats.deletes += 1;
        let mut txn = self.store.begin(&mut self.backend, self.want_prev.get());
        let (revision, deleted, prev_kvs) = kv::delete_range(
            &mut txn,
            &mut self.lessor,
            request.key,
            request.range_end,
            request.prev_kv,
        );
        if let Some(batch) = txn.finish() {
            self.publish(batch, out);
        }
        Ok(Outcome::DeleteRange { revision, deleted, prev_kvs })
    }

    fn txn(&mut self, request: &pb::TxnRequest, is_local: bool, out: &mut Output) -> Applied {
        let fits = self.fits(quota::txn_cost(request));
        self.stats.txns += 1;
        let compact_revision = self.store.compact_revision();
        let mut txn = self.store.begin(&mut self.backend, self.want_prev.get());
        let view = Writing { txn: &txn, compact_revision };
        let choices = txn::choose(&view, request);
        if let Err(err) = txn::check(&view, &self.lessor, request, &choices)
            && !(mutant!("18667") && err == api::Error::Compacted && !is_local)
        {
            if mutant!("18799") {
                txn::execute_first(&mut txn, &mut self.lessor, request, &choices);
                let batch = txn.finish();
                batch.into_iter().for_each(|batch| self.publish(batch, out));
                return Err(err);
            }
            assert!(txn.finish().is_none(), "a transaction that was refused changes nothing");
            return Err(err);
        }
        let (succeeded, responses) = txn::execute(
            &mut txn,
            &mut self.lessor,
            request,
            &mut choices.into_iter(),
            compact_revision,
            is_local,
        );
        let revision = txn.revision();
        if let Some(batch) = txn.finish() {
            self.publish(batch, out);
        }
        self.over_quota(fits, out)?;
        Ok(Outcome::Txn(TxnOutcome { revision, succeeded, responses }))
    }

    /// Old releases sent reads through the log; they change nothing.
    fn read(&self, _: &pb::RangeRequest) -> Applied {
        Ok(self.done())
    }

    fn compact(&mut self, revision: i64) -> Result<(), api::Error> {
        self.store.compact(&mut self.backend, revision).map_err(kv::read_error)?;
        self.commits.compaction_began();
        Ok(())
    }

    fn lease_grant(
        &mut self,
        request: &pb::LeaseGrantRequest,
        now: Duration,
        out: &mut Output,
    ) -> Applied {
        let fits = self.fits(quota::LEASE_COST);
        let granted = self.lessor.grant(&mut self.backend, request.id, request.ttl, now);
        let ttl = granted.map_err(|err| match err {
            lease::Error::Exists => api::Error::LeaseExist,
            lease::Error::TtlTooLarge => api::Error::LeaseTtlTooLarge,
            lease::Error::NotFound => api::Error::LeaseNotFound,
        })?;
        self.stats.leases_granted += 1;
        out.granted_ttls.push(ttl);
        if !fits {
            return Err(api::Error::NoSpace);
        }
        Ok(Outcome::LeaseGrant { revision: self.store.revision(), id: request.id, ttl })
    }

    /// Deletes the lease's keys, sorted, under one revision, and the lease.
    fn lease_revoke(&mut self, id: i64, out: &mut Output) -> Applied {
        let keys =
            self.lessor.revoke(&mut self.backend, id).map_err(|_| api::Error::LeaseNotFound)?;
        self.stats.leases_revoked += 1;
        let mut txn = self.store.begin(&mut self.backend, self.want_prev.get());
        for key in &keys {
            if let Err(err) = txn.delete_range(key, &[], false) {
                panic!("revoking lease {id:016x}: {err}");
            }
        }
        if let Some(batch) = txn.finish() {
            self.publish(batch, out);
        }
        Ok(Outcome::LeaseRevoke { revision: self.store.revision() })
    }

    fn lease_checkpoint(&mut self, request: &pb::LeaseCheckpointRequest, now: Duration) -> Applied {
        for checkpoint in &request.checkpoints {
            self.lessor.apply_checkpoint(
                &mut self.backend,
                checkpoint.id,
                checkpoint.remaining_ttl,
                self.options.lease_checkpoint_persist,
                now,
            );
        }
        Ok(self.done())
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> Applied {
        let alarm = Alarm { member_id: request.member_id, alarm: request.alarm };
        let affected = match pb::alarm_request::AlarmAction::try_from(request.action) {
            Ok(pb::alarm_request::AlarmAction::Get) => self.alarms.get(request.alarm),
            Ok(pb::alarm_request::AlarmAction::Activate) if request.alarm == 0 => Vec::new(),
            Ok(pb::alarm_request::AlarmAction::Activate) => {
                self.alarms.activate(alarm.member_id, alarm.alarm, &mut self.backend);
                vec![(alarm.member_id, alarm.alarm)]
            }
            Ok(pb::alarm_request::AlarmAction::Deactivate) => {
                if self.alarms.deactivate(alarm.member_id, alarm.alarm, &mut self.backend) {
                    vec![(alarm.member_id, alarm.alarm)]
                } else {
                    Vec::new()
                }
            }
            // The front door refuses an unknown action; in the log it must not stop the member.
            Err(_) => Vec::new(),
        };
        self.stats.alarm_changes += 1;
        let alarms =
            affected.into_iter().map(|(member_id, alarm)| Alarm { member_id, alarm }).collect();
        Ok(Outcome::Alarm { revision: self.store.revision(), alarms })
    }

    fn fits(&self, cost: u64) -> bool {
        quota::has_room(self.options.quota, self.backend.size(), cost)
    }

    /// What went over the quota was applied, as on every other member; its client is told, and the
    /// alarm stops the next one.
    fn over_quota(&mut self, fits: bool, out: &mut Output) -> Result<(), api::Error> {
        if fits {
            return Ok(());
        }
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate as i32,
            member_id: self.options.member_id,
            alarm: NOSPACE,
        };
        self.propose(OpRef::Alarm(&request.encode_to_vec()), out);
        Err(api::Error::NoSpace)
    }
}

/// The name under which the metrics count a request.
pub fn op_name(op: OpRef<'_>) -> &'static str {
    match op {
        OpRef::Range(_) => "Range",
        OpRef::Put(_) => "Put",
        OpRef::DeleteRange(_) => "DeleteRange",
        OpRef::Txn(_) => "Txn",
        OpRef::Compaction(_) => "Compaction",
        OpRef::LeaseGrant(_) => "LeaseGrant",
        OpRef::LeaseRevoke(_) => "LeaseRevoke",
        OpRef::LeaseCheckpoint(_) => "LeaseCheckpoint",
        OpRef::Alarm(_) => "Alarm",
        OpRef::ClusterVersionSet(_) => "ClusterVersionSet",
        OpRef::ClusterMemberAttrSet(_) => "ClusterMemberAttrSet",
        OpRef::DowngradeInfoSet(_) => "DowngradeInfoSet",
        OpRef::Authenticate(_) => "Authenticate",
        _ => "unknown",
    }
}

/// A part of a committed entry.
///
/// # Panics
/// If it can't be decoded: the proposer checked it, so the log is damaged.
fn decoded<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(message) => message,
        Err(err) => panic!("a committed request can't be decoded: {err}"),
    }
}
