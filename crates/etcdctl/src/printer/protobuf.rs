//! Serialized messages, for programs.

use api::etcdserverpb as pb;
use prost::Message;

use crate::answer::{Answer, Watched};

/// The bytes; the error is the reason where etcd's tool has one.
pub(super) fn print(answer: &Answer<'_>) -> Result<Vec<u8>, Option<String>> {
    let message: &dyn Encode = match *answer {
        Answer::Put(message) => message,
        Answer::Get(message) => message,
        Answer::Delete(message) => message,
        Answer::Txn(message) => message,
        Answer::Watch(watched) => return Ok(watch(watched).encode_to_vec()),
        Answer::MemberAdd(message) => message,
        Answer::MemberRemove(_, message) => message,
        Answer::MemberUpdate(_, message) => message,
        Answer::MemberPromote(_, message) => message,
        Answer::MemberList(message) => message,
        Answer::MoveLeader(_, _, message) => message,
        Answer::Downgrade(_, message) => message,
        Answer::Alarm(message) => message,
        Answer::RoleAdd(_, message) => message,
        Answer::RoleGet(_, message) => message,
        Answer::RoleDelete(_, message) => message,
        Answer::RoleList(message) => message,
        Answer::RoleGrant(_, message) => message,
        Answer::RoleRevoke(_, _, _, message) => message,
        Answer::UserAdd(_, message) => message,
        Answer::UserGet(_, message) => message,
        Answer::UserList(message) => message,
        Answer::UserPassword(message) => message,
        Answer::UserGrant(_, _, message) => message,
        Answer::UserRevoke(_, _, message) => message,
        Answer::UserDelete(_, message) => message,
        Answer::AuthStatus(message) => message,
        Answer::Grant(_)
        | Answer::Revoke(..)
        | Answer::KeepAlive(_)
        | Answer::TimeToLive(..)
        | Answer::Leases(_) => return Err(Some(unsupported(answer))),
        Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) => return Err(None),
    };
    Ok(message.encode())
}

/// A message of any type.
trait Encode {
    fn encode(&self) -> Vec<u8>;
}

impl<M: Message> Encode for M {
    fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

fn watch(watched: &Watched) -> pb::WatchResponse {
    pb::WatchResponse {
        header: Some(watched.header),
        events: watched.events.clone(),
        compact_revision: watched.compact_revision,
        canceled: watched.canceled,
        created: watched.created,
        ..pb::WatchResponse::default()
    }
}

/// Answers about leases are not messages in etcd's client library, and its tool says so with the answer itself in Go's
/// notation.
fn unsupported(answer: &Answer<'_>) -> String {
    let header = |header: Option<&pb::ResponseHeader>| {
        let header = header.copied().unwrap_or_default();
        let fields = [
            ("cluster_id", header.cluster_id),
            ("member_id", header.member_id),
            ("revision", header.revision.cast_unsigned()),
            ("raft_term", header.raft_term),
        ];
        let fields = fields.iter().filter(|(_, value)| *value != 0);
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name}:{value}")).collect();
        fields.join(" ")
    };
    let (name, value) = match answer {
        Answer::Grant(answer) => (
            "LeaseGrantResponse",
            format!(
                "&{{{} {} {} {}}}",
                header(answer.header.as_ref()),
                answer.id,
                answer.ttl,
                answer.error
            ),
        ),
        Answer::KeepAlive(answer) => (
            "LeaseKeepAliveResponse",
            format!("&{{{} {} {}}}", header(answer.header.as_ref()), answer.id, answer.ttl),
        ),
        Answer::TimeToLive(answer, _) => {
            let keys: Vec<String> = answer
                .keys
                .iter()
                .map(|key| {
                    let bytes: Vec<String> = key.iter().map(u8::to_string).collect();
                    format!("[{}]", bytes.join(" "))
                })
                .collect();
            let (header, keys) = (header(answer.header.as_ref()), keys.join(" "));
            let value = format!(
                "&{{{header} {} {} {} [{keys}]}}",
                answer.id, answer.ttl, answer.granted_ttl
            );
            ("LeaseTimeToLiveResponse", value)
        }
        Answer::Leases(answer) => {
            let ids: Vec<String> =
                answer.leases.iter().map(|lease| format!("{{{}}}", lease.id)).collect();
            let value = format!("&{{{} [{}]}}", header(answer.header.as_ref()), ids.join(" "));
            ("LeaseLeasesResponse", value)
        }
        Answer::Revoke(_, answer) => {
            let header = header(answer.header.as_ref());
            ("LeaseRevokeResponse", format!("&{{{header}}}"))
        }
        _ => unreachable!("only answers about leases are not messages"),
    };
    format!("marshal unsupported for type *clientv3.{name} ({value})")
}
