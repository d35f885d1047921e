//! A message's bytes as JSON.

use std::fmt::Write as _;

use super::{base64, string};
use crate::error::Status;
use crate::schema::{Field, Kind, Message};
use crate::wire::{DecodeError, Reader, Value};

/// Appends a message as an object: fields in the order of their declaration, those with default values left out. With
/// `for_html`, as in streams, its strings are safe inside HTML.
///
/// # Errors
/// If the bytes are no message.
pub fn encode(
    message: &Message,
    bytes: &[u8],
    for_html: bool,
    out: &mut String,
) -> Result<(), DecodeError> {
    out.push('{');
    let mut is_first = true;
    for field in message.fields {
        write_field(field, bytes, for_html, &mut is_first, out)?;
    }
    out.push('}');
    Ok(())
}

/// Appends a status that is not OK, as an object.
pub fn encode_status(status: &Status, for_html: bool, out: &mut String) {
    let _ = write!(out, "{{\"code\":{},\"message\":", status.code as u32);
    string::write(&status.message, for_html, out);
    out.push('}');
}

fn write_field(
    field: &Field,
    bytes: &[u8],
    for_html: bool,
    is_first: &mut bool,
    out: &mut String,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut last = None;
    let mut count = 0_usize;
    while let Some(found) = reader.next_field()? {
        if found.number != field.number {
            continue;
        }
        if !field.is_list {
            last = Some(found.value);
            continue;
        }
        if count == 0 {
            begin(field, is_first, out);
        }
        out.push(if count == 0 { '[' } else { ',' });
        write_value(field, found.value, for_html, out)?;
        count += 1;
    }
    if count > 0 {
        out.push(']');
    }
    let Some(value) = last else { return Ok(()) };
    let is_shown = field.oneof.is_some() || matches!(field.kind, Kind::Message(_));
    if is_shown || !matches!(value, Value::Varint(0) | Value::Bytes([])) {
        begin(field, is_first, out);
        write_value(field, value, for_html, out)?;
    }
    Ok(())
}

fn begin(field: &Field, is_first: &mut bool, out: &mut String) {
    if !std::mem::take(is_first) {
        out.push(',');
    }
    let _ = write!(out, "\"{}\":", field.name);
}

#[expect(clippy::cast_possible_truncation, reason = "the wire has 64 bits for each integer")]
fn write_value(
    field: &Field,
    value: Value<'_>,
    for_html: bool,
    out: &mut String,
) -> Result<(), DecodeError> {
    let _ = match (field.kind, value) {
        (Kind::Bool, Value::Varint(value)) => write!(out, "{}", value != 0),
        (Kind::Int32, Value::Varint(value)) => write!(out, "{}", value as i32),
        (Kind::Uint32, Value::Varint(value)) => write!(out, "{}", value as u32),
        (Kind::Int64, Value::Varint(value)) => write!(out, "\"{}\"", value.cast_signed()),
        (Kind::Uint64, Value::Varint(value)) => write!(out, "\"{value}\""),
        (Kind::Enum(values), Value::Varint(value)) => {
            let value = value as i32;
            match values.values.iter().find(|(_, number)| *number == value) {
                Some((name, _)) => write!(out, "\"{name}\""),
                None => write!(out, "{value}"),
            }
        }
        (Kind::Bytes, Value::Bytes(bytes)) => {
            out.reserve(bytes.len() / 3 * 4 + 6);
            out.push('"');
            base64::encode(bytes, out);
            out.push('"');
            Ok(())
        }
        (Kind::String, Value::Bytes(bytes)) => {
            string::write(&String::from_utf8_lossy(bytes), for_html, out);
            Ok(())
        }
        (Kind::Message(message), Value::Bytes(bytes)) => {
            return encode(message, bytes, for_html, out);
        }
        _ => {
            out.push_str("null");
            Ok(())
        }
    };
    Ok(())
}
