//! `InternalRaftRequest`, the data of a normal log entry, around a request's own bytes.
//!
//! A proposal is the client's request under the number of its operation, and a header. Neither
//! writing nor reading one looks into the request: the front door splices the bytes it received,
//! and apply gets them back as a slice.

use crate::wire::{DecodeError, Encode, Field, Reader, Sink, Value};

/// Declares [`OpRef`] from rows `Name = field number`.
macro_rules! op_table {
    ($($name:ident = $number:literal, $message:literal;)+) => {
        /// The request inside an [`InternalRequestRef`]: which one it is, and its encoded message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum OpRef<'a> {
            $(
                #[doc = concat!("A `", $message, "`.")]
                $name(&'a [u8]),
            )+
        }

        impl<'a> OpRef<'a> {
            /// The operation of a field of `InternalRaftRequest`; `None` for any other number.
            #[must_use]
            pub const fn new(number: u32, message: &'a [u8]) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name(message)),)+
                    _ => None,
                }
            }

            /// The number of its field in `InternalRaftRequest`.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$name(_) => $number,)+
                }
            }

            /// The encoded request.
            #[must_use]
            pub const fn message(self) -> &'a [u8] {
                match self {
                    $(Self::$name(message) => message,)+
                }
            }
        }
    };
}

op_table! {
    Range = 3, "RangeRequest";
    Put = 4, "PutRequest";
    DeleteRange = 5, "DeleteRangeRequest";
    Txn = 6, "TxnRequest";
    Compaction = 7, "CompactionRequest";
    LeaseGrant = 8, "LeaseGrantRequest";
    LeaseRevoke = 9, "LeaseRevokeRequest";
    Alarm = 10, "AlarmRequest";
    LeaseCheckpoint = 11, "LeaseCheckpointRequest";
    AuthEnable = 1000, "AuthEnableRequest";
    AuthDisable = 1011, "AuthDisableRequest";
    Authenticate = 1012, "InternalAuthenticateRequest";
    AuthStatus = 1013, "AuthStatusRequest";
    AuthUserAdd = 1100, "AuthUserAddRequest";
    AuthUserDelete = 1101, "AuthUserDeleteRequest";
    AuthUserGet = 1102, "AuthUserGetRequest";
    AuthUserChangePassword = 1103, "AuthUserChangePasswordRequest";
    AuthUserGrantRole = 1104, "AuthUserGrantRoleRequest";
    AuthUserRevokeRole = 1105, "AuthUserRevokeRoleRequest";
    AuthUserList = 1106, "AuthUserListRequest";
    AuthRoleList = 1107, "AuthRoleListRequest";
    AuthRoleAdd = 1200, "AuthRoleAddRequest";
    AuthRoleDelete = 1201, "AuthRoleDeleteRequest";
    AuthRoleGet = 1202, "AuthRoleGetRequest";
    AuthRoleGrantPermission = 1203, "AuthRoleGrantPermissionRequest";
    AuthRoleRevokePermission = 1204, "AuthRoleRevokePermissionRequest";
    ClusterVersionSet = 1300, "membershippb.ClusterVersionSetRequest";
    ClusterMemberAttrSet = 1301, "membershippb.ClusterMemberAttrSetRequest";
    DowngradeInfoSet = 1302, "membershippb.DowngradeInfoSetRequest";
    DowngradeVersionTest = 9900, "DowngradeVersionTestRequest";
}

/// The field that holds the header.
const HEADER: u32 = 100;

/// An [`crate::etcdserverpb::InternalRaftRequest`] around borrowed bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InternalRequestRef<'a> {
    /// The request id, by which the proposer finds who waits for it. Written into the header; read
    /// from the field of the oldest releases where that is set.
    pub id: u64,
    /// The user who asked, empty without authentication.
    pub username: &'a str,
    /// The revision of the auth store at which the user was checked.
    pub auth_revision: u64,
    /// What to do; `None` in an entry from a release that knows more requests than this one.
    pub op: Option<OpRef<'a>>,
}

impl<'a> InternalRequestRef<'a> {
    /// Reads a log entry's data, without looking into the operation.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are no message, or hold two headers or two operations, which
    /// no member writes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        let mut legacy_id = 0;
        let mut header = None;
        let mut reader = Reader::new(bytes);
        while let Some(Field { number, value }) = reader.next_field()? {
            match (number, value) {
                (1, Value::Varint(id)) => legacy_id = id,
                (HEADER, Value::Bytes(_)) if header.is_some() => {
                    return Err(DecodeError::Ambiguous);
                }
                (HEADER, Value::Bytes(message)) => header = Some(message),
                (number, Value::Bytes(message)) => {
                    if let Some(op) = OpRef::new(number, message)
                        && request.op.replace(op).is_some()
                    {
                        return Err(DecodeError::Ambiguous);
                    }
                }
                _ => {}
            }
        }
        request.merge_header(header.unwrap_or_default())?;
        if legacy_id != 0 {
            request.id = legacy_id;
        }
        Ok(request)
    }

    fn merge_header(&mut self, header: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(header);
        while let Some(Field { number, value }) = reader.next_field()? {
            match (number, value) {
                (1, Value::Varint(id)) => self.id = id,
                (2, Value::Bytes(name)) => {
                    self.username = std::str::from_utf8(name).map_err(|_| DecodeError::Utf8)?;
                }
                (3, Value::Varint(revision)) => self.auth_revision = revision,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes the operation under its number and the header under 100, in the order of the numbers.
/// The operation's bytes are trusted: the front door has read them before.
impl Encode for InternalRequestRef<'_> {
    fn write(&self, sink: &mut impl Sink) {
        let header = Header { id: self.id, username: self.username, revision: self.auth_revision };
        let (before, after) = match self.op {
            Some(op) if op.number() < HEADER => (Some(op), None),
            op => (None, op),
        };
        if let Some(op) = before {
            sink.present_bytes(op.number(), op.message());
        }
        sink.message(HEADER, &header);
        if let Some(op) = after {
            sink.present_bytes(op.number(), op.message());
        }
    }
}

/// A `RequestHeader`.
struct Header<'a> {
    id: u64,
    username: &'a str,
    revision: u64,
}

impl Encode for Header<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.uint64(1, self.id);
        sink.bytes(2, self.username.as_bytes());
        sink.uint64(3, self.revision);
    }
}

#[cfg(test)]
mod tests;
