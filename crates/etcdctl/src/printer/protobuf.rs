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
        // These are no messages in etcd's client library, but have the header's methods, and so its bytes.
        Answer::Grant(answer) => return Ok(header(answer.header.as_ref())),
        Answer::KeepAlive(answer) => return Ok(header(answer.header.as_ref())),
        Answer::TimeToLive(answer, _) => return Ok(header(answer.header.as_ref())),
        Answer::Leases(answer) => return Ok(header(answer.header.as_ref())),
        Answer::Revoke(_, answer) => return Err(Some(unsupported(answer))),
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

fn header(header: Option<&pb::ResponseHeader>) -> Vec<u8> {
    header.copied().unwrap_or_default().encode_to_vec()
}

/// The answer to a revocation is a message, but not for etcd's tool, which says so with the answer itself in Go's notation. The
/// address in it is another one each time.
fn unsupported(answer: &pb::LeaseRevokeResponse) -> String {
    let header = answer.header.unwrap_or_default();
    let fields = [
        ("cluster_id", header.cluster_id),
        ("member_id", header.member_id),
        ("revision", header.revision.cast_unsigned()),
        ("raft_term", header.raft_term),
    ];
    let fields = fields.iter().filter(|(_, value)| *value != 0);
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name}:{value}")).collect();
    let value = format!("&{{{{{{}} [] [] 0xc000000000}} {} [] 0}}", fields.join(" "));
    format!("marshal unsupported for type *clientv3.LeaseRevokeResponse ({value})")
}
