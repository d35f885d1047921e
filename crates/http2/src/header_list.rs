//! A header list, decoded into one buffer and checked against RFC 9113 8.

use crate::{ErrorCode, Name, hpack::ENTRY_OVERHEAD, hpack::FieldRef};

/// The head of a request or an answer, or trailers, decoded and checked. A connection has one of each, overwritten by
/// the next, so that decoding allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct HeaderList {
    /// Values, and the names that are not known, one after another.
    bytes: Vec<u8>,
    fields: Vec<FieldSpan>,
    method: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    path: Option<Span>,
    status: Option<u16>,
    content_length: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct FieldSpan {
    name: Name,
    /// Empty if the name is known.
    text: Span,
    value: Span,
}

impl HeaderList {
    /// `:method`; never empty in [`crate::Event::Headers`].
    pub fn method(&self) -> &[u8] {
        self.span(self.method)
    }

    /// `:path`, as sent; never empty in [`crate::Event::Headers`] unless the method is CONNECT.
    pub fn path(&self) -> &[u8] {
        self.span(self.path)
    }

    /// `:scheme`.
    pub fn scheme(&self) -> &[u8] {
        self.span(self.scheme)
    }

    /// `:authority`, or else `host`; empty when neither was sent.
    pub fn authority(&self) -> &[u8] {
        match self.authority {
            Some(_) => self.span(self.authority),
            None => self.get(Name::Host).unwrap_or_default(),
        }
    }

    /// Whether `:authority` was sent.
    pub fn has_authority(&self) -> bool {
        self.authority.is_some()
    }

    /// `:status`, three digits; 0 if this is not an answer's head.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(0)
    }

    /// `content-length`; the body is checked against it.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The first value of a known field (not of a pseudo-header).
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        Some(self.span(Some(field.value)))
    }

    /// The first value of the field with this (lowercase) name, known or not.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(_, text, _)| *text == name).map(|(_, _, value)| value)
    }

    /// All fields but the pseudo-headers, in the order sent: name, its text, value.
    pub fn fields(&self) -> impl Iterator<Item = (Name, &str, &[u8])> {
        self.fields.iter().map(|field| {
            let text = match field.name {
                // Only lowercase tokens, hence ASCII, get here.
                Name::Other => std::str::from_utf8(self.span(Some(field.text))).unwrap_or_default(),
                known => known.text(),
            };
            (field.name, text, self.span(Some(field.value)))
        })
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.fields.capacity() * size_of::<FieldSpan>()
    }

    fn span(&self, span: Option<Span>) -> &[u8] {
        let Some(Span { start, len }) = span else { return &[] };
        self.bytes.get(start as usize..start as usize + len as usize).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.method = None;
        self.scheme = None;
        self.authority = None;
        self.path = None;
        self.status = None;
        self.content_length = None;
    }

    fn push(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }
}

/// Which list a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    Request,
    Answer,
    Trailers,
}

/// Why a list that decoded well cannot be used. A stream error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Malformed,
    TooLarge,
}

/// What is wrong with a message whose head is this one, if anything is. `end`: there is no body, so that none may be
/// announced.
pub(crate) fn fault_of_head(
    verdict: Result<(), Unusable>,
    end: bool,
    announced: Option<u64>,
) -> Option<ErrorCode> {
    match verdict {
        // As grpc-go answers a list above its limit.
        Err(Unusable::TooLarge) => Some(ErrorCode::FRAME_SIZE_ERROR),
        Err(Unusable::Malformed) => Some(ErrorCode::PROTOCOL_ERROR),
        Ok(()) if end && announced.is_some_and(|length| length > 0) => {
            Some(ErrorCode::PROTOCOL_ERROR)
        }
        Ok(()) => None,
    }
}

/// Takes a block's fields one by one into a head, checking each.
pub(crate) struct ListBuilder<'a> {
    head: &'a mut HeaderList,
    kind: ListKind,
    /// Bytes of the list limit that are left.
    room: usize,
    saw_regular: bool,
    unusable: Option<Unusable>,
}

impl<'a> ListBuilder<'a> {
    pub(crate) fn new(head: &'a mut HeaderList, kind: ListKind, list_max: usize) -> Self {
        head.clear();
        Self { head, kind, room: list_max, saw_regular: false, unusable: None }
    }

    pub(crate) fn add(&mut self, field: FieldRef<'_>) {
        let size = field.text.len() + field.value.len() + ENTRY_OVERHEAD;
        match self.room.checked_sub(size) {
            Some(room) => self.room = room,
            None => {
                self.room = 0;
                self.unusable = Some(Unusable::TooLarge);
            }
        }
        if self.unusable.is_some() {
            return;
        }
        if self.accept(field).is_none() {
            self.unusable = Some(Unusable::Malformed);
        }
    }

    /// The verdict, once all fields are in.
    pub(crate) fn finish(mut self) -> Result<(), Unusable> {
        let is_complete = match self.kind {
            ListKind::Request => self.is_request_complete(),
            ListKind::Answer => self.head.status.is_some(),
            ListKind::Trailers => true,
        };
        if !is_complete {
            self.unusable = self.unusable.or(Some(Unusable::Malformed));
        }
        self.unusable.map_or(Ok(()), Err)
    }

    /// `None`: the field makes the list malformed.
    fn accept(&mut self, field: FieldRef<'_>) -> Option<()> {
        if !field.value_allowed {
            return None;
        }
        if field.text.first() == Some(&b':') {
            return self.accept_pseudo(field);
        }
        if !field.name_allowed {
            return None;
        }
        self.saw_regular = true;
        match field.name {
            Name::Te if field.value != b"trailers" => return None,
            Name::ContentLength => {
                let length = parse_decimal(field.value)?;
                if self.head.content_length.is_some_and(|other| other != length) {
                    return None;
                }
                self.head.content_length = Some(length);
            }
            _ => {}
        }
        let text = match field.name {
            Name::Other => self.head.push(field.text),
            _ => Span { start: 0, len: 0 },
        };
        let value = self.head.push(field.value);
        self.head.fields.push(FieldSpan { name: field.name, text, value });
        Some(())
    }

    /// Pseudo-headers come first, each at most once, and only those of this kind of list (RFC 9113 8.3).
    fn accept_pseudo(&mut self, field: FieldRef<'_>) -> Option<()> {
        if self.saw_regular || self.kind == ListKind::Trailers {
            return None;
        }
        if self.kind == ListKind::Answer {
            let is_first = field.name == Name::Status && self.head.status.is_none();
            self.head.status = Some(parse_status(field.value).filter(|_| is_first)?);
            return Some(());
        }
        let value = self.head.push(field.value);
        let slot = match field.name {
            Name::Method => &mut self.head.method,
            Name::Scheme => &mut self.head.scheme,
            Name::Authority => &mut self.head.authority,
            Name::Path => &mut self.head.path,
            _ => return None,
        };
        slot.replace(value).is_none().then_some(())
    }

    fn is_request_complete(&self) -> bool {
        let head = &*self.head;
        let filled = |span: Option<Span>| span.is_some_and(|span| span.len > 0);
        if head.method() == b"CONNECT" {
            return filled(head.authority) && head.scheme.is_none() && head.path.is_none();
        }
        filled(head.method) && filled(head.scheme) && filled(head.path)
    }
}

/// Three digits, the first of them not 0. 101 has no place in HTTP/2.
fn parse_status(text: &[u8]) -> Option<u16> {
    let digits = <[u8; 3]>::try_from(text).ok()?;
    let status = parse_decimal(&digits).and_then(|status| u16::try_from(status).ok())?;
    (status >= 100 && status != 101).then_some(status)
}

fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field;

    fn check(kind: ListKind, fields: &[(&str, &str)]) -> Result<HeaderList, Unusable> {
        let mut head = HeaderList::default();
        let mut builder = ListBuilder::new(&mut head, kind, 1000);
        for (name, value) in fields {
            builder.add(FieldRef {
                name: Name::of(name.as_bytes()),
                text: name.as_bytes(),
                value: value.as_bytes(),
                name_allowed: field::is_name_allowed(name.as_bytes()),
                value_allowed: field::is_value_allowed(value.as_bytes()),
            });
        }
        builder.finish().map(|()| head)
    }

    const CALL: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "b")];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        CALL.iter().chain(more).copied().collect()
    }

    #[test]
    fn a_request_reads_back() {
        let fields = with(&[("te", "trailers"), ("x-a", "1"), ("token", "t"), ("x-a", "2")]);
        let head = check(ListKind::Request, &fields).expect("a good list");
        assert_eq!(
            (head.method(), head.scheme(), head.path(), head.authority()),
            (&b"POST"[..], &b"http"[..], &b"/a"[..], &b"b"[..])
        );
        assert_eq!(head.get(Name::Token), Some(&b"t"[..]));
        assert_eq!(head.get(Name::UserAgent), None);
        assert_eq!(head.find("x-a"), Some(&b"1"[..]));
        let names: Vec<&str> = head.fields().map(|(_, text, _)| text).collect();
        assert_eq!(names, ["te", "x-a", "token", "x-a"]);
    }

    #[test]
    fn host_stands_in_for_authority() {
        let fields = [CALL[0], CALL[1], CALL[2], ("host", "h")];
        assert_eq!(check(ListKind::Request, &fields).expect("a good list").authority(), b"h");
    }

    #[test]
    fn malformed_requests() {
        for (list, why) in [
            (vec![CALL[0], CALL[1]], "no path"),
            (vec![CALL[0], CALL[2]], "no scheme"),
            (vec![CALL[1], CALL[2]], "no method"),
            (vec![CALL[0], CALL[1], (":path", "")], "empty path"),
            (with(&[(":path", "/b")]), "path twice"),
            (with(&[(":status", "200")]), "an answer's pseudo-header"),
            (with(&[(":protocol", "x")]), "unknown pseudo-header"),
            (with(&[("a", "b"), (":authority", "b")]), "pseudo-header after a field"),
            (with(&[("A", "b")]), "uppercase"),
            (with(&[("", "b")]), "empty name"),
            (with(&[("a", "b\n")]), "control byte"),
            (with(&[("connection", "close")]), "about the connection"),
            (with(&[("transfer-encoding", "chunked")]), "about the connection"),
            (with(&[("te", "gzip")]), "te"),
            (with(&[("content-length", "1"), ("content-length", "2")]), "two lengths"),
            (with(&[("content-length", "+1")]), "not a number"),
            (with(&[("content-length", "18446744073709551616")]), "too large a number"),
            (vec![(":method", "CONNECT"), (":authority", "a"), (":path", "/")], "CONNECT"),
        ] {
            assert_eq!(check(ListKind::Request, &list).err(), Some(Unusable::Malformed), "{why}");
        }
        let connect = [(":method", "CONNECT"), (":authority", "a")];
        assert!(check(ListKind::Request, &connect).is_ok());
        assert!(check(ListKind::Request, &with(&[("content-length", "7")])).is_ok());
    }

    #[test]
    fn trailers_hold_no_pseudo_headers() {
        assert!(check(ListKind::Trailers, &[("a", "b")]).is_ok());
        assert!(check(ListKind::Trailers, &[]).is_ok());
        assert_eq!(check(ListKind::Trailers, &CALL).err(), Some(Unusable::Malformed));
    }

    #[test]
    fn the_list_limit_counts_32_a_field() {
        let fits = with(&[("a", "b"); 24]);
        assert!(check(ListKind::Request, &fits).is_ok());
        let list = with(&[("a", "b"); 25]);
        assert_eq!(check(ListKind::Request, &list).err(), Some(Unusable::TooLarge));
    }
}
