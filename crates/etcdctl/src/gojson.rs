//! Text in JSON as Go's encoder writes it.

use std::fmt::{Display, Write};

/// An object under construction; fields come out in the order in which they are given.
#[derive(Debug)]
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Self("{".to_owned())
    }

    /// A field whose value is JSON already.
    pub(crate) fn raw(mut self, name: &str, value: &str) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        write!(self.0, "{comma}\"{name}\":{value}").expect("a String grows");
        self
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.raw(name, &text(value))
    }

    /// A string with what HTML could take for its own as it is.
    pub(crate) fn plain(self, name: &str, value: &str) -> Self {
        self.raw(name, &escape(value, false))
    }

    /// Left out when it is empty.
    pub(crate) fn some_text(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.text(name, value) }
    }

    /// Left out when it is zero.
    pub(crate) fn some_number<N: Display + Default + PartialEq>(
        self,
        name: &str,
        value: N,
    ) -> Self {
        if value == N::default() { self } else { self.raw(name, &value.to_string()) }
    }

    /// Left out when it is false.
    pub(crate) fn some_bool(self, name: &str, value: bool) -> Self {
        if value { self.raw(name, "true") } else { self }
    }

    /// Left out when there are none.
    pub(crate) fn some_bytes(self, name: &str, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.raw(name, &bytes(value)) }
    }

    /// Left out when it is empty.
    pub(crate) fn some_array<T>(
        self,
        name: &str,
        items: &[T],
        show: impl Fn(&T) -> String,
    ) -> Self {
        if items.is_empty() { self } else { self.raw(name, &Array::of(items, show).end()) }
    }

    pub(crate) fn end(self) -> String {
        self.0 + "}"
    }
}

/// A list.
#[derive(Debug)]
pub(crate) struct Array(Vec<String>);

impl Array {
    pub(crate) fn of<T>(items: &[T], show: impl Fn(&T) -> String) -> Self {
        Self(items.iter().map(show).collect())
    }

    pub(crate) fn end(self) -> String {
        format!("[{}]", self.0.join(","))
    }
}

/// A string: besides what JSON asks for, Go escapes what HTML could take for its own.
pub(crate) fn text(value: &str) -> String {
    escape(value, true)
}

fn escape(value: &str, for_html: bool) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\0'..' ' => write!(out, "\\u{:04x}", u32::from(c)).expect("a String grows"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if for_html => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a String grows");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Bytes: base64 with padding.
pub(crate) fn bytes(value: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(value.len().div_ceil(3) * 4 + 2);
    out.push('"');
    for chunk in value.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for position in 0..4 {
            if position > chunk.len() {
                out.push('=');
            } else {
                let index = (bits >> (18 - 6 * position)) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            }
        }
    }
    out.push('"');
    out
}
