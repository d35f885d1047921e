//! Lines for people, and for scripts that cut them.

use std::io::Write;

use api::authpb::Permission;
use api::authpb::permission::Type;
use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;

use super::{Printer, table};
use crate::answer::{Answer, Health};
use crate::terminal::Style;

/// Appends a line; a vector takes all that is written to it.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {
        writeln!($out, $($text)*).expect("a vector grows")
    };
}

pub(super) fn print(printer: Printer, answer: &Answer<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let out = &mut out;
    match *answer {
        Answer::Put(answer) => put(printer, out, answer),
        Answer::Get(answer) => pairs(printer, out, &answer.kvs),
        Answer::Delete(answer) => delete(printer, out, answer),
        Answer::Txn(answer) => txn(printer, out, answer),
        Answer::Watch(watched) => {
            for event in &watched.events {
                let style = match event.r#type() {
                    EventType::Put => Style::Good,
                    EventType::Delete => Style::Bad,
                };
                line!(out, "{}", printer.paint.on(style, event_name(event.r#type())));
                pairs(printer, out, event.prev_kv.as_slice());
                pairs(printer, out, &[event.kv.clone().unwrap_or_default()]);
            }
        }
        Answer::Grant(a) => line!(out, "lease {} granted with TTL({}s)", id16(a.id), a.ttl),
        Answer::Revoke(id, _) => line!(out, "lease {} revoked", id16(id)),
        Answer::KeepAlive(a) => line!(out, "lease {} keepalived with TTL({})", id16(a.id), a.ttl),
        Answer::TimeToLive(answer, keys) => time_to_live(out, answer, keys),
        Answer::Leases(answer) => {
            line!(out, "found {} leases", answer.leases.len());
            answer.leases.iter().for_each(|lease| line!(out, "{}", id16(lease.id)));
        }
        Answer::MemberAdd(answer) => {
            let member = answer.member.clone().unwrap_or_default();
            let role = if member.is_learner { " as learner " } else { " " };
            let cluster = cluster(answer.header.as_ref());
            line!(out, "Member {:16x} added{role}to cluster {cluster:16x}", member.id);
        }
        Answer::MemberRemove(id, answer) => {
            let cluster = cluster(answer.header.as_ref());
            line!(out, "Member {id:16x} removed from cluster {cluster:16x}");
        }
        Answer::MemberUpdate(id, answer) => {
            let cluster = cluster(answer.header.as_ref());
            line!(out, "Member {id:16x} updated in cluster {cluster:16x}");
        }
        Answer::MemberPromote(id, answer) => {
            let cluster = cluster(answer.header.as_ref());
            line!(out, "Member {id:16x} promoted in cluster {cluster:16x}");
        }
        Answer::MemberList(list) => rows(out, &table::members(list)),
        Answer::Health(list) => {
            // Those in trouble are named on standard error, by the command.
            for health in list.iter().filter(|health| health.error.is_empty()) {
                let Health { endpoint, took, .. } = health;
                let text = format!(
                    "{endpoint} is healthy: successfully committed proposal: took = {took}"
                );
                line!(out, "{}", printer.paint.on(Style::Good, &text));
            }
        }
        Answer::Status(list) => rows(out, &table::statuses(list)),
        Answer::HashKv(list) => rows(out, &table::hashes(list)),
        Answer::MoveLeader(from, to, _) => {
            line!(out, "Leadership transferred from {from:x} to {to:x}");
        }
        Answer::Downgrade(what, answer) => {
            line!(out, "Downgrade {what} success, cluster version {}", answer.version);
        }
        Answer::Alarm(answer) => answer.alarms.iter().for_each(|alarm| alarm_line(out, alarm)),
        _ => auth(out, answer),
    }
    std::mem::take(out)
}

fn auth(out: &mut Vec<u8>, answer: &Answer<'_>) {
    match *answer {
        Answer::RoleAdd(role, _) => line!(out, "Role {role} created"),
        Answer::RoleGet(role, answer) => permissions(out, role, answer),
        Answer::RoleDelete(role, _) => line!(out, "Role {role} deleted"),
        Answer::RoleList(answer) => answer.roles.iter().for_each(|role| line!(out, "{role}")),
        Answer::RoleGrant(role, _) => line!(out, "Role {role} updated"),
        Answer::RoleRevoke(role, key, end, _) => {
            out.extend(b"Permission of ");
            match end {
                b"" => join(out, &[b"key ", key]),
                b"\0" => join(out, &[b"range [", key, b", <open ended>"]),
                end => join(out, &[b"range [", key, b", ", end, b")"]),
            }
            line!(out, " is revoked from role {role}");
        }
        Answer::UserAdd(user, _) => line!(out, "User {user} created"),
        Answer::UserGet(user, answer) => {
            let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
            line!(out, "User: {user}\nRoles:{roles}");
        }
        Answer::UserList(answer) => answer.users.iter().for_each(|user| line!(out, "{user}")),
        Answer::UserPassword(_) => line!(out, "Password updated"),
        Answer::UserGrant(user, role, _) => {
            line!(out, "Role {role} is granted to user {user}");
        }
        Answer::UserRevoke(user, role, _) => {
            line!(out, "Role {role} is revoked from user {user}");
        }
        Answer::UserDelete(user, _) => line!(out, "User {user} deleted"),
        Answer::AuthStatus(answer) => {
            line!(out, "Authentication Status: {}", answer.enabled);
            line!(out, "AuthRevision: {}", answer.auth_revision);
        }
        _ => unreachable!("the caller has the others"),
    }
}

fn join(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend(*part));
}

/// `%016x` of a signed number.
fn id16(id: i64) -> String {
    if id < 0 { format!("-{:015x}", id.unsigned_abs()) } else { format!("{id:016x}") }
}

fn cluster(header: Option<&pb::ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

pub(super) fn event_name(kind: EventType) -> &'static str {
    match kind {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

fn rows(out: &mut Vec<u8>, rows: &table::Rows) {
    rows.iter().for_each(|row| line!(out, "{}", row.join(", ")));
}

fn pairs(printer: Printer, out: &mut Vec<u8>, kvs: &[KeyValue]) {
    let mut text = |bytes: &[u8]| {
        if printer.hex {
            bytes.iter().for_each(|byte| write!(out, "\\x{byte:02x}").expect("a vector grows"));
        } else {
            out.extend(bytes);
        }
        out.push(b'\n');
    };
    for kv in kvs {
        if !printer.values_only {
            text(&kv.key);
        }
        text(&kv.value);
    }
}

fn put(printer: Printer, out: &mut Vec<u8>, answer: &pb::PutResponse) {
    line!(out, "OK");
    pairs(printer, out, answer.prev_kv.as_slice());
}

fn delete(printer: Printer, out: &mut Vec<u8>, answer: &pb::DeleteRangeResponse) {
    line!(out, "{}", answer.deleted);
    pairs(printer, out, &answer.prev_kvs);
}

fn txn(printer: Printer, out: &mut Vec<u8>, answer: &pb::TxnResponse) {
    let (style, word) =
        if answer.succeeded { (Style::Good, "SUCCESS") } else { (Style::Bad, "FAILURE") };
    line!(out, "{}", printer.paint.on(style, word));
    for op in &answer.responses {
        out.push(b'\n');
        match &op.response {
            Some(Response::ResponseRange(answer)) => pairs(printer, out, &answer.kvs),
            Some(Response::ResponsePut(answer)) => put(printer, out, answer),
            Some(Response::ResponseDeleteRange(answer)) => delete(printer, out, answer),
            // The command has no way to ask for one.
            Some(Response::ResponseTxn(_)) | None => line!(out, "unexpected response"),
        }
    }
}

fn time_to_live(out: &mut Vec<u8>, answer: &pb::LeaseTimeToLiveResponse, keys: bool) {
    let (id, ttl, granted) = (id16(answer.id), answer.ttl, answer.granted_ttl);
    if granted == 0 && ttl == -1 {
        return line!(out, "lease {id} already expired");
    }
    out.extend(format!("lease {id} granted with TTL({granted}s), remaining({ttl}s)").as_bytes());
    if keys {
        let keys: Vec<&[u8]> = answer.keys.iter().map(AsRef::as_ref).collect();
        join(out, &[b", attached keys([", &keys.join(&b' '), b"])"]);
    }
    out.push(b'\n');
}

fn alarm_line(out: &mut Vec<u8>, alarm: &pb::AlarmMember) {
    let mut parts = Vec::new();
    if alarm.member_id != 0 {
        parts.push(format!("memberID:{}", alarm.member_id));
    }
    if alarm.alarm != 0 {
        parts.push(format!("alarm:{}", alarm_name(alarm.alarm)));
    }
    line!(out, "{}", parts.join(" "));
}

/// An alarm's name, or the number of one that is not known here.
pub(super) fn alarm_name(number: i32) -> String {
    match pb::AlarmType::try_from(number) {
        Ok(pb::AlarmType::None) => "NONE".to_owned(),
        Ok(pb::AlarmType::Nospace) => "NOSPACE".to_owned(),
        Ok(pb::AlarmType::Corrupt) => "CORRUPT".to_owned(),
        Err(_) => number.to_string(),
    }
}

fn permissions(out: &mut Vec<u8>, role: &str, answer: &pb::AuthRoleGetResponse) {
    line!(out, "Role {role}");
    let everything = role == "root" && answer.perm.is_empty();
    for (title, wanted) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
        line!(out, "{title}");
        if everything {
            line!(out, "\t[, <open ended>");
        }
        let fits =
            |perm: &&Permission| perm.perm_type() == wanted || perm.perm_type() == Type::Readwrite;
        answer.perm.iter().filter(fits).for_each(|perm| permission(out, perm));
    }
}

fn permission(out: &mut Vec<u8>, permission: &Permission) {
    let (key, end) = (&permission.key[..], &permission.range_end[..]);
    match end {
        b"" => join(out, &[b"\t", key]),
        b"\0" => join(out, &[b"\t[", key, b", <open ended>"]),
        end => join(out, &[b"\t[", key, b", ", end, b")"]),
    }
    if !key.is_empty() && !end.is_empty() && client::prefix_end(key) == end {
        join(out, &[b" (prefix ", key, b")"]);
    }
    out.push(b'\n');
}
