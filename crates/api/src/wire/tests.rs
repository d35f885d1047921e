//! The reader against every form of bad bytes, by example.

use super::{DecodeError, Field, Reader, Value};

/// All fields of a message, or the error that ends it.
fn read(bytes: &[u8]) -> Result<Vec<Field<'_>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut fields = Vec::new();
    while let Some(field) = reader.next_field()? {
        fields.push(field);
    }
    Ok(fields)
}

#[test]
fn reads_each_wire_type() {
    let field = |number, value| Field { number, value };
    assert_eq!(read(&[]), Ok(vec![]));
    assert_eq!(read(&[0x08, 0x96, 0x01]), Ok(vec![field(1, Value::Varint(150))]));
    assert_eq!(read(&[0x12, 2, 7, 8]), Ok(vec![field(2, Value::Bytes(&[7, 8]))]));
    assert_eq!(read(&[0x19, 1, 2, 3, 4, 5, 6, 7, 8]), Ok(vec![field(3, Value::Other)]));
    assert_eq!(read(&[0x25, 1, 2, 3, 4]), Ok(vec![field(4, Value::Other)]));
    let group = [0x2b, 0x08, 1, 0x33, 0x34, 0x12, 0, 0x2c, 0x08, 9];
    assert_eq!(read(&group), Ok(vec![field(5, Value::Other), field(1, Value::Varint(9))]));
}

#[test]
fn refuses_what_is_no_message() {
    let check = |bytes: &[u8], error| assert_eq!(read(bytes), Err(error), "{bytes:?}");
    check(&[0x08], DecodeError::Truncated);
    check(&[0x08, 0x80], DecodeError::Truncated);
    check(&[0x12, 3, 1, 2], DecodeError::Truncated);
    check(&[0x19, 1, 2, 3], DecodeError::Truncated);
    check(&[0x25, 1, 2, 3], DecodeError::Truncated);
    check(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], DecodeError::Truncated);
    check(&[0x00, 0], DecodeError::Tag);
    check(&[0x0e, 0], DecodeError::Tag);
    check(&[0x0f, 0], DecodeError::Tag);
    check(&[0x80, 0x80, 0x80, 0x80, 0x10, 0], DecodeError::Tag);
    check(&[0x0c], DecodeError::Group);
    check(&[0x0b, 0x14], DecodeError::Group);
    check(&[0x0b], DecodeError::Truncated);
    let mut overlong = vec![0x08];
    overlong.extend([0xff; 9]);
    overlong.push(2);
    check(&overlong, DecodeError::Varint);
}

#[test]
fn longest_varint_is_minus_one() {
    let mut bytes = vec![0x08];
    bytes.extend([0xff; 9]);
    bytes.push(1);
    let expected = Field { number: 1, value: Value::Varint(u64::MAX) };
    assert_eq!(read(&bytes), Ok(vec![expected]));
}

#[test]
fn groups_nest_to_a_limit() {
    let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
    assert!(read(&nested(100)).is_ok());
    assert_eq!(read(&nested(101)), Err(DecodeError::Group));
    assert_eq!(read(&vec![0x0b; 1_000_000]), Err(DecodeError::Group));
}
