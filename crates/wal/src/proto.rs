//! The little of protobuf's wire format that log records need.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number, which no record uses.
    Other,
}

/// Fields of a message, in order; `Err` once the bytes are malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) rest: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || number >= 1 << 29 {
            return Err(Malformed);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Malformed),
        };
        Ok(Some((number, value)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = self.rest.get(i + 1..).ok_or(Malformed)?;
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }
}

pub(crate) fn put_varint(buf: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

/// A varint field; `number` is below 16.
pub(crate) fn put_uint(buf: &mut Vec<u8>, number: u8, value: u64) {
    buf.push(number << 3);
    put_varint(buf, value);
}

/// A length-delimited field; `number` is below 16.
pub(crate) fn put_bytes(buf: &mut Vec<u8>, number: u8, value: &[u8]) {
    buf.push(number << 3 | 2);
    put_varint(buf, value.len() as u64);
    buf.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_hostile_bytes() {
        type Case<'a> = (&'a [u8], Result<Option<(u64, Value<'a>)>, Malformed>);
        let cases: &[Case<'_>] = &[
            (&[], Ok(None)),
            (&[0x08, 0x04], Ok(Some((1, Value::Varint(4))))),
            (&[0x1a, 0x01, 0xff], Ok(Some((3, Value::Bytes(&[0xff]))))),
            (&[0x1a, 0x02, 0xff], Err(Malformed)),
            (&[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Err(Malformed)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Err(Malformed)),
            (&[0x00, 0x00], Err(Malformed)),
            (&[0x0b, 0x0c], Err(Malformed)),
            (&[0x09, 0, 0, 0, 0, 0, 0, 0], Err(Malformed)),
            (&[0x0d, 0, 0, 0, 0], Ok(Some((1, Value::Other)))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(&Fields::new(bytes).next(), expected, "{bytes:x?}");
        }
    }
}
