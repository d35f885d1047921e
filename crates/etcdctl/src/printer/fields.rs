//! One line for each field of an answer.

use std::io::Write;

use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::KeyValue;
use cobra::go::quote;

use super::simple::{alarm_name, event_name};
use crate::answer::Answer;

/// Appends `"Name" : value`; a vector takes all that is written to it.
macro_rules! field {
    ($out:expr, $name:expr, $($value:tt)*) => {{
        write!($out, "\"{}\" : ", $name).expect("a vector grows");
        writeln!($out, $($value)*).expect("a vector grows");
    }};
}

/// The lines, or nothing where etcd's tool has none for this answer.
pub(super) fn print(hex: bool, answer: &Answer<'_>) -> Option<Vec<u8>> {
    let mut printer = Fields { hex, out: Vec::new() };
    printer.answer(answer)?;
    Some(printer.out)
}

struct Fields {
    hex: bool,
    out: Vec<u8>,
}

impl Fields {
    fn answer(&mut self, answer: &Answer<'_>) -> Option<()> {
        match *answer {
            Answer::Put(answer) => self.put(answer),
            Answer::Get(answer) => self.get(answer),
            Answer::Delete(answer) => self.delete(answer),
            Answer::Txn(answer) => self.txn(answer),
            Answer::Watch(watched) => {
                self.header(Some(&watched.header));
                for event in &watched.events {
                    field!(self.out, "Type", "{}", event_name(event.r#type()));
                    event.prev_kv.iter().for_each(|kv| self.pair("Prev", kv));
                    self.pair("", &event.kv.clone().unwrap_or_default());
                }
            }
            Answer::Grant(answer) => {
                self.header(answer.header.as_ref());
                self.lease(answer.id);
                field!(self.out, "TTL", "{}", answer.ttl);
            }
            Answer::Revoke(_, answer) => self.header(answer.header.as_ref()),
            Answer::KeepAlive(answer) => {
                self.header(answer.header.as_ref());
                self.lease(answer.id);
                field!(self.out, "TTL", "{}", answer.ttl);
            }
            Answer::TimeToLive(answer, _) => {
                self.header(answer.header.as_ref());
                self.lease(answer.id);
                field!(self.out, "TTL", "{}", answer.ttl);
                field!(self.out, "GrantedTTL", "{}", answer.granted_ttl);
                for key in &answer.keys {
                    field!(self.out, "Key", "{}", quote(key));
                }
            }
            Answer::Leases(answer) => {
                self.header(answer.header.as_ref());
                answer.leases.iter().for_each(|lease| self.lease(lease.id));
            }
            Answer::MemberList(answer) => {
                self.header(answer.header.as_ref());
                answer.members.iter().for_each(|member| self.member(member));
            }
            Answer::Health(list) => {
                for health in list {
                    field!(self.out, "Endpoint", "{}", quote(health.endpoint.as_bytes()));
                    field!(self.out, "Health", "{}", health.healthy);
                    field!(self.out, "Took", "{}", health.took);
                    field!(self.out, "Error", "{}", health.error);
                    self.out.push(b'\n');
                }
            }
            Answer::Status(list) => {
                list.iter().for_each(|(endpoint, answer)| self.status(endpoint, answer));
            }
            Answer::HashKv(list) => {
                for (endpoint, answer) in list {
                    self.header(answer.header.as_ref());
                    field!(self.out, "Endpoint", "{}", quote(endpoint.as_bytes()));
                    field!(self.out, "Hash", "{}", answer.hash);
                    field!(self.out, "HashRevision", "{}", answer.hash_revision);
                    self.out.push(b'\n');
                }
            }
            Answer::Alarm(answer) => {
                self.header(answer.header.as_ref());
                for alarm in &answer.alarms {
                    self.id("MemberID", alarm.member_id);
                    field!(self.out, "AlarmType", "{}", alarm_name(alarm.alarm));
                    self.out.push(b'\n');
                }
            }
            _ => return self.auth(answer),
        }
        Some(())
    }

    fn auth(&mut self, answer: &Answer<'_>) -> Option<()> {
        match *answer {
            Answer::RoleAdd(_, answer) => self.header(answer.header.as_ref()),
            Answer::RoleGet(_, answer) => {
                self.header(answer.header.as_ref());
                for permission in &answer.perm {
                    let kind = permission.perm_type().as_str_name();
                    field!(self.out, "PermType", " {kind}");
                    field!(self.out, "Key", "{}", quote(&permission.key));
                    field!(self.out, "RangeEnd", "{}", quote(&permission.range_end));
                }
            }
            Answer::RoleDelete(_, answer) => self.header(answer.header.as_ref()),
            Answer::RoleList(answer) => {
                self.header(answer.header.as_ref());
                let roles: String = answer
                    .roles
                    .iter()
                    .map(|role| format!(" {}", quote(role.as_bytes())))
                    .collect();
                writeln!(self.out, "\"Roles\" :{roles}").expect("a vector grows");
            }
            Answer::RoleGrant(_, answer) => self.header(answer.header.as_ref()),
            Answer::RoleRevoke(_, _, _, answer) => self.header(answer.header.as_ref()),
            Answer::UserAdd(_, answer) => self.header(answer.header.as_ref()),
            Answer::UserPassword(answer) => self.header(answer.header.as_ref()),
            Answer::UserGrant(_, _, answer) => self.header(answer.header.as_ref()),
            Answer::UserRevoke(_, _, answer) => self.header(answer.header.as_ref()),
            Answer::UserDelete(_, answer) => self.header(answer.header.as_ref()),
            _ => return None,
        }
        Some(())
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex {
            field!(self.out, name, "{id:x}");
        } else {
            field!(self.out, name, "{id}");
        }
    }

    fn lease(&mut self, id: i64) {
        if self.hex {
            field!(self.out, "ID", "{id:016x}");
        } else {
            field!(self.out, "ID", "{id}");
        }
    }

    fn header(&mut self, header: Option<&pb::ResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            field!(self.out, "Revision", "{}", header.revision);
        }
        field!(self.out, "RaftTerm", "{}", header.raft_term);
    }

    fn pair(&mut self, prefix: &str, kv: &KeyValue) {
        let out = &mut self.out;
        field!(out, format_args!("{prefix}Key"), "{}", quote(&kv.key));
        field!(out, format_args!("{prefix}CreateRevision"), "{}", kv.create_revision);
        field!(out, format_args!("{prefix}ModRevision"), "{}", kv.mod_revision);
        field!(out, format_args!("{prefix}Version"), "{}", kv.version);
        field!(out, format_args!("{prefix}Value"), "{}", quote(&kv.value));
        if self.hex {
            field!(out, format_args!("{prefix}Lease"), "{:016x}", kv.lease);
        } else {
            field!(out, format_args!("{prefix}Lease"), "{}", kv.lease);
        }
    }

    fn put(&mut self, answer: &pb::PutResponse) {
        self.header(answer.header.as_ref());
        answer.prev_kv.iter().for_each(|kv| self.pair("Prev", kv));
    }

    fn get(&mut self, answer: &pb::RangeResponse) {
        self.header(answer.header.as_ref());
        answer.kvs.iter().for_each(|kv| self.pair("", kv));
        field!(self.out, "More", "{}", answer.more);
        field!(self.out, "Count", "{}", answer.count);
    }

    fn delete(&mut self, answer: &pb::DeleteRangeResponse) {
        self.header(answer.header.as_ref());
        field!(self.out, "Deleted", "{}", answer.deleted);
        answer.prev_kvs.iter().for_each(|kv| self.pair("Prev", kv));
    }

    fn txn(&mut self, answer: &pb::TxnResponse) {
        self.header(answer.header.as_ref());
        field!(self.out, "Succeeded", "{}", answer.succeeded);
        for op in &answer.responses {
            match &op.response {
                Some(Response::ResponseRange(answer)) => self.get(answer),
                Some(Response::ResponsePut(answer)) => self.put(answer),
                Some(Response::ResponseDeleteRange(answer)) => self.delete(answer),
                // The command has no way to ask for one.
                Some(Response::ResponseTxn(_)) | None => field!(self.out, "Unknown", "\"\""),
            }
        }
    }

    fn member(&mut self, member: &pb::Member) {
        self.id("ID", member.id);
        field!(self.out, "Name", "{}", quote(member.name.as_bytes()));
        for url in &member.peer_urls {
            field!(self.out, "PeerURL", "{}", quote(url.as_bytes()));
        }
        for url in &member.client_urls {
            field!(self.out, "ClientURL", "{}", quote(url.as_bytes()));
        }
        field!(self.out, "IsLearner", "{}", member.is_learner);
        self.out.push(b'\n');
    }

    fn status(&mut self, endpoint: &str, answer: &pb::StatusResponse) {
        let downgrade = answer.downgrade_info.clone().unwrap_or_default();
        self.header(answer.header.as_ref());
        let out = &mut self.out;
        field!(out, "Version", "{}", quote(answer.version.as_bytes()));
        field!(out, "StorageVersion", "{}", quote(answer.storage_version.as_bytes()));
        field!(out, "DBSize", "{}", answer.db_size);
        field!(out, "DBSizeInUse", "{}", answer.db_size_in_use);
        field!(out, "DBSizeQuota", "{}", answer.db_size_quota);
        field!(out, "Leader", "{}", answer.leader);
        field!(out, "IsLearner", "{}", answer.is_learner);
        field!(out, "RaftIndex", "{}", answer.raft_index);
        field!(out, "RaftAppliedIndex", "{}", answer.raft_applied_index);
        field!(out, "Errors", "[{}]", answer.errors.join(" "));
        field!(out, "Endpoint", "{}", quote(endpoint.as_bytes()));
        field!(out, "DowngradeTargetVersion", "{}", quote(downgrade.target_version.as_bytes()));
        field!(out, "DowngradeEnabled", "{}", downgrade.enabled);
        out.push(b'\n');
    }
}
