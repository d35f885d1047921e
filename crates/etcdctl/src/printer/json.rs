//! JSON as Go's encoder makes it of etcd's structures: fields in the order of the structure, those that are zero left out,
//! bytes in base64, numbers as numbers.

use api::authpb::Permission;
use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::{Event, KeyValue};

use crate::answer::Answer;
use crate::gojson::{Array, Object};

pub(super) fn print(hex: bool, answer: &Answer<'_>) -> Vec<u8> {
    let mut text = value(hex, answer);
    text.push('\n');
    text.into_bytes()
}

fn value(hex: bool, answer: &Answer<'_>) -> String {
    match *answer {
        Answer::Put(answer) => put(answer),
        Answer::Get(answer) => get(answer),
        Answer::Delete(answer) => delete(answer),
        Answer::Txn(answer) => txn(answer),
        Answer::Watch(watched) => Object::new()
            .raw("Header", &header(&watched.header))
            .raw("Events", &some_array(&watched.events, event))
            .raw("CompactRevision", &watched.compact_revision.to_string())
            .raw("Canceled", &watched.canceled.to_string())
            .raw("Created", &watched.created.to_string())
            .text("CancelReason", &watched.cancel_reason)
            .end(),
        Answer::Grant(answer) => embedded(answer.header.as_ref())
            .raw("ID", &answer.id.to_string())
            .raw("TTL", &answer.ttl.to_string())
            .text("Error", &answer.error)
            .end(),
        Answer::Revoke(_, answer) => only_header(answer.header.as_ref()),
        Answer::KeepAlive(answer) => embedded(answer.header.as_ref())
            .raw("ID", &answer.id.to_string())
            .raw("TTL", &answer.ttl.to_string())
            .end(),
        Answer::TimeToLive(answer, _) => embedded(answer.header.as_ref())
            .raw("id", &answer.id.to_string())
            .raw("ttl", &answer.ttl.to_string())
            .raw("granted-ttl", &answer.granted_ttl.to_string())
            .raw("keys", &some_array(&answer.keys, |key| crate::gojson::bytes(key)))
            .end(),
        Answer::Leases(answer) => {
            let lease =
                |lease: &pb::LeaseStatus| Object::new().raw("id", &lease.id.to_string()).end();
            // The client library makes a list of its own, which is never absent.
            let leases = Array::of(&answer.leases, lease).end();
            embedded(answer.header.as_ref()).raw("leases", &leases).end()
        }
        Answer::MemberAdd(_)
        | Answer::MemberRemove(..)
        | Answer::MemberUpdate(..)
        | Answer::MemberPromote(..)
        | Answer::MemberList(_) => members(hex, answer),
        Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) => endpoints(answer),
        Answer::MoveLeader(_, _, answer) => only_header(answer.header.as_ref()),
        Answer::Downgrade(_, answer) => {
            with_header(answer.header.as_ref()).some_text("version", &answer.version).end()
        }
        Answer::Alarm(answer) => {
            let alarm = |alarm: &pb::AlarmMember| {
                Object::new()
                    .some_number("memberID", alarm.member_id)
                    .some_number("alarm", alarm.alarm)
                    .end()
            };
            with_header(answer.header.as_ref()).some_array("alarms", &answer.alarms, alarm).end()
        }
        _ => auth(answer),
    }
}

fn auth(answer: &Answer<'_>) -> String {
    let text = |text: &String| crate::gojson::text(text);
    match *answer {
        Answer::RoleAdd(_, answer) => only_header(answer.header.as_ref()),
        Answer::RoleGet(_, answer) => {
            with_header(answer.header.as_ref()).some_array("perm", &answer.perm, permission).end()
        }
        Answer::RoleDelete(_, answer) => only_header(answer.header.as_ref()),
        Answer::RoleList(answer) => {
            with_header(answer.header.as_ref()).some_array("roles", &answer.roles, text).end()
        }
        Answer::RoleGrant(_, answer) => only_header(answer.header.as_ref()),
        Answer::RoleRevoke(_, _, _, answer) => only_header(answer.header.as_ref()),
        Answer::UserAdd(_, answer) => only_header(answer.header.as_ref()),
        Answer::UserGet(_, answer) => {
            with_header(answer.header.as_ref()).some_array("roles", &answer.roles, text).end()
        }
        Answer::UserList(answer) => {
            with_header(answer.header.as_ref()).some_array("users", &answer.users, text).end()
        }
        Answer::UserPassword(answer) => only_header(answer.header.as_ref()),
        Answer::UserGrant(_, _, answer) => only_header(answer.header.as_ref()),
        Answer::UserRevoke(_, _, answer) => only_header(answer.header.as_ref()),
        Answer::UserDelete(_, answer) => only_header(answer.header.as_ref()),
        Answer::AuthStatus(answer) => with_header(answer.header.as_ref())
            .some_bool("enabled", answer.enabled)
            .some_number("authRevision", answer.auth_revision)
            .end(),
        _ => unreachable!("the caller has the others"),
    }
}

/// A list that is `null` when it is empty: a field without "omitempty".
fn some_array<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    if items.is_empty() { "null".to_owned() } else { Array::of(items, show).end() }
}

fn header_fields(object: Object, header: &pb::ResponseHeader) -> Object {
    object
        .some_number("cluster_id", header.cluster_id)
        .some_number("member_id", header.member_id)
        .some_number("revision", header.revision)
        .some_number("raft_term", header.raft_term)
}

fn header(header: &pb::ResponseHeader) -> String {
    header_fields(Object::new(), header).end()
}

/// A structure that has the header's fields as its own.
fn embedded(header: Option<&pb::ResponseHeader>) -> Object {
    header_fields(Object::new(), &header.copied().unwrap_or_default())
}

fn with_header(answer: Option<&pb::ResponseHeader>) -> Object {
    match answer {
        Some(answer) => Object::new().raw("header", &header(answer)),
        None => Object::new(),
    }
}

fn only_header(header: Option<&pb::ResponseHeader>) -> String {
    with_header(header).end()
}

fn pair(kv: &KeyValue) -> String {
    Object::new()
        .some_bytes("key", &kv.key)
        .some_number("create_revision", kv.create_revision)
        .some_number("mod_revision", kv.mod_revision)
        .some_number("version", kv.version)
        .some_bytes("value", &kv.value)
        .some_number("lease", kv.lease)
        .end()
}

fn event(event: &Event) -> String {
    let mut object = Object::new().some_number("type", event.r#type);
    if let Some(kv) = &event.kv {
        object = object.raw("kv", &pair(kv));
    }
    if let Some(kv) = &event.prev_kv {
        object = object.raw("prev_kv", &pair(kv));
    }
    object.end()
}

fn put(answer: &pb::PutResponse) -> String {
    let object = with_header(answer.header.as_ref());
    match &answer.prev_kv {
        Some(kv) => object.raw("prev_kv", &pair(kv)).end(),
        None => object.end(),
    }
}

fn get(answer: &pb::RangeResponse) -> String {
    with_header(answer.header.as_ref())
        .some_array("kvs", &answer.kvs, pair)
        .some_bool("more", answer.more)
        .some_number("count", answer.count)
        .end()
}

fn delete(answer: &pb::DeleteRangeResponse) -> String {
    with_header(answer.header.as_ref())
        .some_number("deleted", answer.deleted)
        .some_array("prev_kvs", &answer.prev_kvs, pair)
        .end()
}

fn txn(answer: &pb::TxnResponse) -> String {
    let op = |op: &pb::ResponseOp| {
        let (name, value) = match &op.response {
            Some(Response::ResponseRange(answer)) => ("response_range", get(answer)),
            Some(Response::ResponsePut(answer)) => ("response_put", put(answer)),
            Some(Response::ResponseDeleteRange(answer)) => {
                ("response_delete_range", delete(answer))
            }
            Some(Response::ResponseTxn(answer)) => ("response_txn", txn(answer)),
            None => return Object::new().raw("Response", "{}").end(),
        };
        let response = Object::new().raw(name, &value).end();
        Object::new().raw("Response", &response).end()
    };
    with_header(answer.header.as_ref())
        .some_bool("succeeded", answer.succeeded)
        .some_array("responses", &answer.responses, op)
        .end()
}

fn permission(permission: &Permission) -> String {
    Object::new()
        .some_number("permType", permission.perm_type)
        .some_bytes("key", &permission.key)
        .some_bytes("range_end", &permission.range_end)
        .end()
}

fn member(member: &pb::Member) -> String {
    member_fields(Object::new().some_number("ID", member.id), member)
}

fn member_hex(member: &pb::Member) -> String {
    member_fields(Object::new().text("ID", &format!("{:x}", member.id)), member)
}

fn member_fields(object: Object, member: &pb::Member) -> String {
    let text = |text: &String| crate::gojson::text(text);
    object
        .some_text("name", &member.name)
        .some_array("peerURLs", &member.peer_urls, text)
        .some_array("clientURLs", &member.client_urls, text)
        .some_bool("isLearner", member.is_learner)
        .end()
}

/// With `--hex`, ids are texts, and no field is left out.
fn members(hex: bool, answer: &Answer<'_>) -> String {
    let (header, added, members) = match *answer {
        Answer::MemberAdd(answer) => (answer.header, answer.member.as_ref(), &answer.members),
        Answer::MemberRemove(_, answer) => (answer.header, None, &answer.members),
        Answer::MemberUpdate(_, answer) => (answer.header, None, &answer.members),
        Answer::MemberPromote(_, answer) => (answer.header, None, &answer.members),
        Answer::MemberList(answer) => (answer.header, None, &answer.members),
        _ => unreachable!("the caller has the others"),
    };
    if !hex {
        let mut object = with_header(header.as_ref());
        if let Some(added) = added {
            object = object.raw("member", &member(added));
        }
        return object.some_array("members", members, member).end();
    }
    let header = header.unwrap_or_default();
    let header = Object::new()
        .text("cluster_id", &format!("{:x}", header.cluster_id))
        .text("member_id", &format!("{:x}", header.member_id))
        .some_number("revision", header.revision)
        .some_number("raft_term", header.raft_term)
        .end();
    let mut object = Object::new().raw("header", &header);
    if let Some(added) = added {
        object = object.raw("member", &member_hex(added));
    }
    object.raw("members", &Array::of(members, member_hex).end()).end()
}

fn endpoints(answer: &Answer<'_>) -> String {
    match *answer {
        Answer::Health(list) => some_array(list, |health| {
            Object::new()
                .text("endpoint", &health.endpoint)
                .raw("health", &health.healthy.to_string())
                .text("took", &health.took)
                .some_text("error", &health.error)
                .end()
        }),
        Answer::Status(list) => some_array(list, |(endpoint, answer)| {
            Object::new().text("Endpoint", endpoint).raw("Status", &status(answer)).end()
        }),
        Answer::HashKv(list) => some_array(list, |(endpoint, answer)| {
            let hash = with_header(answer.header.as_ref())
                .some_number("hash", answer.hash)
                .some_number("compact_revision", answer.compact_revision)
                .some_number("hash_revision", answer.hash_revision)
                .end();
            Object::new().text("Endpoint", endpoint).raw("HashKV", &hash).end()
        }),
        _ => unreachable!("the caller has the others"),
    }
}

fn status(answer: &pb::StatusResponse) -> String {
    let text = |text: &String| crate::gojson::text(text);
    let mut object = with_header(answer.header.as_ref())
        .some_text("version", &answer.version)
        .some_number("dbSize", answer.db_size)
        .some_number("leader", answer.leader)
        .some_number("raftIndex", answer.raft_index)
        .some_number("raftTerm", answer.raft_term)
        .some_number("raftAppliedIndex", answer.raft_applied_index)
        .some_array("errors", &answer.errors, text)
        .some_number("dbSizeInUse", answer.db_size_in_use)
        .some_bool("isLearner", answer.is_learner)
        .some_text("storageVersion", &answer.storage_version)
        .some_number("dbSizeQuota", answer.db_size_quota);
    if let Some(downgrade) = &answer.downgrade_info {
        let info = Object::new()
            .some_bool("enabled", downgrade.enabled)
            .some_text("targetVersion", &downgrade.target_version)
            .end();
        object = object.raw("downgradeInfo", &info);
    }
    object.end()
}
