//! Go's gob encoding of one type, `struct { Key, Val string }`: what a Go raftexample proposes.
//!
//! A proposal is a stream of its own: a message that describes the type, and one with the value. Numbers are a byte below
//! 128, or the negated count of bytes that follow, big-endian; signed ones have the sign in the lowest bit. A struct is a
//! list of fields, each as the distance to the field before and its value, with a zero at the end; empty fields are
//! left out.

/// The description of the type, as Go 1.26 sends it: its name, `kv`, its number, 64, and two fields of type string.
const TYPE: &[u8] = b"\x1f\x7f\x03\x01\x01\x02kv\x01\xff\x80\x00\x01\x02\x01\x03Key\x01\x0c\x00\x01\x03Val\x01\x0c\x00\x00\x00";
/// The number that [`TYPE`] gives to the type.
const TYPE_ID: i64 = 64;
/// Go's number of the type `string`.
const STRING: i64 = 6;
/// Position of `StructT` among the fields of a description.
const STRUCT_FIELD: u64 = 3;
/// More fields than any struct here has.
const FIELDS_MAX: u64 = 64;

/// A key and its value, any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Bytes that are no such pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gob: {0}")]
pub(crate) struct Malformed(&'static str);

impl Pair {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.key.len() + self.value.len() + 16);
        put_int(&mut message, TYPE_ID);
        let mut before = 0;
        for (number, field) in [(1, &self.key), (2, &self.value)] {
            if !field.is_empty() {
                put_uint(&mut message, number - before);
                put_uint(&mut message, field.len() as u64);
                message.extend_from_slice(field);
                before = number;
            }
        }
        message.push(0);
        let mut encoded = Vec::with_capacity(TYPE.len() + message.len() + 9);
        encoded.extend_from_slice(TYPE);
        put_uint(&mut encoded, message.len() as u64);
        encoded.extend_from_slice(&message);
        encoded
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut stream = Reader(bytes);
        let mut types: Vec<(i64, Vec<Field>)> = Vec::new();
        while !stream.0.is_empty() {
            let mut message = Reader(stream.bytes()?);
            let id = message.int()?;
            if let Some(defined) = id.checked_neg().filter(|defined| *defined > 0) {
                types.push((defined, message.description()?));
                continue;
            }
            let fields = types.iter().find(|(defined, _)| *defined == id);
            let (_, fields) = fields.ok_or(Malformed("a value of an unknown type"))?;
            return message.pair(fields);
        }
        Err(Malformed("no value"))
    }
}

/// What a field of the described struct is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    /// A string that nobody here wants.
    Other,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn uint(&mut self) -> Result<u64, Malformed> {
        let first = self.take(1)?[0];
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let count = usize::from(first.wrapping_neg());
        if count > 8 {
            return Err(Malformed("a number of more than eight bytes"));
        }
        Ok(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn int(&mut self) -> Result<i64, Malformed> {
        let number = self.uint()?;
        let magnitude = (number >> 1) as i64;
        Ok(if number & 1 == 1 { !magnitude } else { magnitude })
    }

    /// As many bytes as the number before them says.
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(self.uint()?).map_err(|_| Malformed("too short"))?;
        self.take(count)
    }

    /// The numbers of a struct's fields, each followed by whatever `read` makes of its value.
    fn fields(
        &mut self,
        mut read: impl FnMut(&mut Self, u64) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut number: u64 = 0;
        loop {
            let distance = self.uint()?;
            if distance == 0 {
                return Ok(());
            }
            number = number.checked_add(distance).ok_or(Malformed("no such field"))?;
            read(self, number)?;
        }
    }

    /// The description of a struct of strings.
    fn description(&mut self) -> Result<Vec<Field>, Malformed> {
        let mut fields = Vec::new();
        self.fields(|reader, number| {
            if number != STRUCT_FIELD {
                return Err(Malformed("a type that is no struct"));
            }
            reader.fields(|reader, number| match number {
                1 => reader.common(),
                2 => reader.described_fields(&mut fields),
                _ => Err(Malformed("no such field")),
            })
        })?;
        Ok(fields)
    }

    /// Name and number of the type, which the message has told already.
    fn common(&mut self) -> Result<(), Malformed> {
        self.fields(|reader, number| match number {
            1 => reader.bytes().map(drop),
            2 => reader.int().map(drop),
            _ => Err(Malformed("no such field")),
        })
    }

    fn described_fields(&mut self, fields: &mut Vec<Field>) -> Result<(), Malformed> {
        let count = self.uint()?;
        if count > FIELDS_MAX {
            return Err(Malformed("too many fields"));
        }
        for _ in 0..count {
            let mut field = Field::Other;
            let mut kind = 0;
            self.fields(|reader, number| {
                match number {
                    1 => {
                        field = match reader.bytes()? {
                            b"Key" => Field::Key,
                            b"Val" => Field::Value,
                            _ => Field::Other,
                        }
                    }
                    2 => kind = reader.int()?,
                    _ => return Err(Malformed("no such field")),
                }
                Ok(())
            })?;
            if kind != STRING {
                return Err(Malformed("a field that is no string"));
            }
            fields.push(field);
        }
        Ok(())
    }

    fn pair(&mut self, fields: &[Field]) -> Result<Pair, Malformed> {
        let mut pair = Pair::default();
        self.fields(|reader, number| {
            let field = usize::try_from(number - 1).ok().and_then(|at| fields.get(at));
            let value = reader.bytes()?.to_vec();
            match field.ok_or(Malformed("no such field"))? {
                Field::Key => pair.key = value,
                Field::Value => pair.value = value,
                Field::Other => {}
            }
            Ok(())
        })?;
        Ok(pair)
    }
}

fn put_uint(buf: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        buf.push(number as u8);
        return;
    }
    let bytes = number.to_be_bytes();
    let used = &bytes[number.leading_zeros() as usize / 8..];
    buf.push((used.len() as u8).wrapping_neg());
    buf.extend_from_slice(used);
}

fn put_int(buf: &mut Vec<u8>, number: i64) {
    let shifted = (number as u64) << 1;
    put_uint(buf, if number < 0 { !shifted } else { shifted });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(key: &str, value: &str) -> Pair {
        Pair { key: key.into(), value: value.into() }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What Go 1.26 writes.
    #[test]
    fn as_go_writes_it() {
        let head = "1f7f030101026b7601ff8000010201034b6579010c00010356616c010c000000";
        for (pair, expected) in [
            (pair("/k", "v"), "0aff8001022f6b01017600".to_owned()),
            (pair("", ""), "03ff8000".to_owned()),
            (pair("/k", ""), "07ff8001022f6b00".to_owned()),
            (pair("", "v"), "06ff8002017600".to_owned()),
            (
                pair("/é", &"x".repeat(300)),
                format!("fe0138ff8001032fc3a901fe012c{}00", "78".repeat(300)),
            ),
        ] {
            let encoded = pair.encode();
            assert_eq!(hex(&encoded), format!("{head}{expected}"));
            assert_eq!(Pair::decode(&encoded), Ok(pair));
        }
    }

    /// An older Go numbers types from 65 on, and another program may have the fields in another order.
    #[test]
    fn other_descriptions_of_the_type() {
        let older = b"\x1f\xff\x81\x03\x01\x01\x02kv\x01\xff\x82\x00\x01\x02\x01\x03Key\x01\x0c\x00\x01\x03Val\x01\x0c\x00\x00\x00";
        let mut bytes = older.to_vec();
        bytes[0] = (older.len() - 1) as u8;
        bytes.extend_from_slice(b"\x0a\xff\x82\x01\x02/k\x01\x01v\x00");
        assert_eq!(Pair::decode(&bytes), Ok(pair("/k", "v")));

        let turned = b"\x28\x7f\x03\x01\x01\x02kv\x01\xff\x80\x00\x01\x03\x01\x03Val\x01\x0c\x00\x01\x03Key\x01\x0c\x00\x01\x04More\x01\x0c\x00\x00\x00";
        let mut bytes = turned.to_vec();
        bytes[0] = (turned.len() - 1) as u8;
        bytes.extend_from_slice(b"\x0d\xff\x80\x01\x01v\x01\x02/k\x01\x01m\x00");
        assert_eq!(Pair::decode(&bytes), Ok(pair("/k", "v")));
    }

    #[test]
    fn what_is_no_pair() {
        for (bytes, why) in [
            (&b""[..], "no value"),
            (TYPE, "no value"),
            (b"\x03\xff\x80\x00", "a value of an unknown type"),
            (b"\x05\x7f\x01", "too short"),
            (b"\x80", "a number of more than eight bytes"),
            (b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff", "too short"),
            (b"\x04\x7f\x01\x01\x00", "a type that is no struct"),
        ] {
            assert_eq!(Pair::decode(bytes), Err(Malformed(why)), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_goes_in_comes_out(key in ".{0,40}", value in prop::collection::vec(any::<u8>(), 0..400)) {
            let pair = Pair { key: key.into_bytes(), value };
            prop_assert_eq!(Pair::decode(&pair.encode()), Ok(pair));
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
            at in 0_usize..80,
            is_ours in any::<bool>(),
        ) {
            if is_ours {
                let good = pair("/key", "value").encode();
                let byte = bytes.first().copied().unwrap_or(0xff);
                bytes = good;
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = Pair::decode(&bytes);
        }
    }
}
