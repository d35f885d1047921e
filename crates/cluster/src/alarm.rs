//! Alarms: that a member is out of space or has damaged data.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use backend::{Backend, Bucket};
use bytes::Bytes;

use crate::RestoreError;

/// The alarms raised, each for one member and one type (`AlarmType` on the wire: 1 NOSPACE,
/// 2 CORRUPT).
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    /// Type and member.
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// The alarms of the backend.
    ///
    /// # Errors
    /// If the database is damaged.
    pub fn restore(backend: &Backend) -> Result<Self, RestoreError> {
        let mut alarms = Self::default();
        let mut damaged = None;
        backend.reader().scan(Bucket::Alarm, &[], &[], 0, |key, _| match decode(key) {
            Some((member_id, alarm)) => {
                alarms.raised.insert((alarm, member_id));
                ControlFlow::Continue(())
            }
            None => {
                damaged = Some(format!("{key:x?}"));
                ControlFlow::Break(())
            }
        })?;
        match damaged {
            Some(key) => Err(RestoreError::Damaged {
                bucket: "alarm",
                key,
                reason: "not an alarm".to_owned(),
            }),
            None => Ok(alarms),
        }
    }

    /// Raises an alarm. Returns whether it was not raised before.
    pub fn activate(&mut self, member_id: u64, alarm: i32, backend: &mut Backend) -> bool {
        let is_new = self.raised.insert((alarm, member_id));
        if is_new {
            backend.put(Bucket::Alarm, &encode(member_id, alarm), Bytes::new());
        }
        is_new
    }

    /// Ends an alarm of exactly this member and type. Returns whether it was raised.
    pub fn deactivate(&mut self, member_id: u64, alarm: i32, backend: &mut Backend) -> bool {
        let was_raised = self.raised.remove(&(alarm, member_id));
        if was_raised {
            backend.delete(Bucket::Alarm, &encode(member_id, alarm));
        }
        was_raised
    }

    /// Member and type of the alarms of a type, or of all for type 0, ordered by type and member.
    pub fn get(&self, alarm: i32) -> Vec<(u64, i32)> {
        let raised = self.raised.iter();
        let wanted = raised.filter(|(found, _)| alarm == 0 || *found == alarm);
        wanted.map(|&(found, member_id)| (member_id, found)).collect()
    }

    /// Whether any member has an alarm of this type.
    pub fn is_raised(&self, alarm: i32) -> bool {
        self.raised.range((alarm, 0)..).next().is_some_and(|(found, _)| *found == alarm)
    }

    /// Whether there is no alarm.
    pub fn is_empty(&self) -> bool {
        self.raised.is_empty()
    }
}

/// `AlarmMember{memberID = 1, alarm = 2}`, zeros left out.
fn encode(member_id: u64, alarm: i32) -> Vec<u8> {
    let mut buf = Vec::with_capacity(16);
    for (tag, mut value) in [(0x08, member_id), (0x10, i64::from(alarm).cast_unsigned())] {
        if value == 0 {
            continue;
        }
        buf.push(tag);
        while value >= 0x80 {
            buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        buf.push(value as u8);
    }
    buf
}

/// `None` for anything but the two fields, which is all that etcd has ever written.
fn decode(mut bytes: &[u8]) -> Option<(u64, i32)> {
    let (mut member_id, mut alarm) = (0, 0);
    while let Some((&tag, rest)) = bytes.split_first() {
        let len = rest.iter().position(|byte| byte & 0x80 == 0).filter(|&last| last < 10)? + 1;
        let (varint, rest) = rest.split_at_checked(len)?;
        let value =
            varint.iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
        match tag {
            0x08 => member_id = value,
            0x10 => alarm = value as i32,
            _ => return None,
        }
        bytes = rest;
    }
    Some((member_id, alarm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn bytes_of_etcd() {
        assert_eq!(encode(300, 1), [0x08, 0xac, 0x02, 0x10, 0x01]);
        assert_eq!(encode(0, 2), [0x10, 0x02]);
        assert_eq!(decode(&[0x08]), None);
        assert_eq!(decode(&[0x1a, 0x00]), None);
        assert_eq!(decode(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), None);
    }

    proptest! {
        #[test]
        fn round_trip(member_id: u64, alarm: i32) {
            prop_assert_eq!(decode(&encode(member_id, alarm)), Some((member_id, alarm)));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes);
        }
    }
}
