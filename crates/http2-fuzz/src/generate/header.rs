//! Header blocks: lists that are good or have one fault, in any of HPACK's representations.

use fastrand::Rng;

use crate::plan::Half;

/// Fields with their places in the static table: of name and value together, and of the name.
type Entry = (&'static str, &'static str, u8, u8);

const REQUEST: [Entry; 4] = [
    (":method", "POST", 3, 2),
    (":scheme", "http", 6, 6),
    (":path", "/a", 0, 4),
    (":authority", "h", 0, 1),
];

const CONNECT: Entry = (":method", "CONNECT", 0, 2);

const ANSWER: [Entry; 1] = [(":status", "200", 8, 8)];

const FIELDS: [Entry; 14] = [
    ("te", "trailers", 0, 0),
    ("content-type", "application/grpc", 0, 31),
    ("grpc-timeout", "1S", 0, 0),
    ("user-agent", "x", 0, 58),
    ("accept-encoding", "gzip, deflate", 16, 16),
    ("host", "h", 0, 38),
    ("cookie", "a=b", 0, 32),
    ("x-a", "1", 0, 0),
    ("x-a", "2", 0, 0),
    ("x-b", "", 0, 0),
    ("content-length", "0", 0, 28),
    ("content-length", "5", 0, 28),
    ("grpc-status", "0", 0, 0),
    ("x-long", "0123456789012345678901234567890123456789012345678901234567890123456789", 0, 0),
];

/// Lists with one of these are not good, or good for some.
const ODD: [Entry; 58] = [
    (":method", "GET", 2, 2),
    (":method", "A B", 0, 2),
    (":method", "", 0, 2),
    (":method", "CONNECT", 0, 2),
    (":method", "OPTIONS", 0, 2),
    (":scheme", "https", 7, 6),
    (":scheme", "", 0, 6),
    (":scheme", "a b", 0, 6),
    (":scheme", "ftp", 0, 6),
    (":path", "/", 4, 4),
    (":path", "", 0, 4),
    (":path", "a", 0, 4),
    (":path", "*", 0, 4),
    (":path", "/a?b=c", 0, 4),
    (":path", "/a#b", 0, 4),
    (":path", "/a b", 0, 4),
    (":path", "/\u{e9}", 0, 4),
    (":authority", "", 1, 1),
    (":authority", "a b", 0, 1),
    (":authority", "u@h:1", 0, 1),
    (":status", "200", 8, 8),
    (":status", "204", 9, 8),
    (":status", "304", 11, 8),
    (":status", "404", 13, 8),
    (":status", "100", 0, 8),
    (":status", "101", 0, 8),
    (":status", "103", 0, 8),
    (":status", "99", 0, 8),
    (":status", "2000", 0, 8),
    (":status", "20x", 0, 8),
    (":protocol", "websocket", 0, 0),
    (":other", "x", 0, 0),
    (":", "", 0, 0),
    ("", "x", 0, 0),
    ("X-A", "x", 0, 0),
    ("x a", "x", 0, 0),
    ("x:a", "x", 0, 0),
    ("x\u{e9}", "x", 0, 0),
    ("x-c", "a\tb", 0, 0),
    ("x-c", " a ", 0, 0),
    ("x-c", "a\nb", 0, 0),
    ("x-c", "a\0b", 0, 0),
    ("x-c", "\u{7f}", 0, 0),
    ("x-c", "\u{e9}", 0, 0),
    ("te", "gzip", 0, 0),
    ("te", "", 0, 0),
    ("connection", "close", 0, 0),
    ("keep-alive", "1", 0, 0),
    ("proxy-connection", "x", 0, 0),
    ("transfer-encoding", "chunked", 0, 57),
    ("upgrade", "h2c", 0, 0),
    ("content-length", "", 0, 28),
    ("content-length", "+5", 0, 28),
    ("content-length", "05", 0, 28),
    ("content-length", "00000000000000000005", 0, 28),
    ("content-length", "18446744073709551616", 0, 28),
    ("host", "other", 0, 38),
    ("!#$%&'*+-.^_`|~", "x", 0, 0),
];

/// Strings as RFC 7541 C.4 and C.6 code them with Huffman's code.
const CODED: [&[u8]; 8] = [
    b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    b"\xa8\xeb\x10\x64\x9c\xbf",
    b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f",
    b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
    b"\x64\x02",
    b"\xae\xc3\x77\x1a\x4b",
    b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
    b"\x9b\xd9\xab",
];

/// Writes the blocks of one direction.
#[derive(Debug)]
pub(super) struct Headers {
    half: Half,
    /// About so many entries are in the dynamic table.
    entries: u32,
}

impl Headers {
    pub(super) fn new(reader: Half) -> Self {
        Self { half: reader, entries: 0 }
    }

    /// A block: a head's, or more likely trailers.
    pub(super) fn block(&mut self, rng: &mut Rng, is_head: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let list = self.list(rng, is_head);
        if rng.u8(..12) == 0 {
            self.put_update(rng, &mut out);
        }
        for entry in list {
            self.put(rng, entry, &mut out);
            if rng.u8(..16) == 0 {
                self.put_odd(rng, &mut out);
            }
        }
        if !out.is_empty() && rng.u8(..60) == 0 {
            let at = rng.usize(..out.len());
            match rng.u8(..3) {
                0 => out.truncate(at),
                1 => out[at] ^= 1 << rng.u8(..8),
                _ => out.insert(at, rng.u8(..)),
            }
        }
        out
    }

    fn list(&self, rng: &mut Rng, is_head: bool) -> Vec<&'static Entry> {
        let mut list: Vec<&Entry> = match self.half {
            _ if !is_head => Vec::new(),
            Half::Server => REQUEST.iter().collect(),
            Half::Client => ANSWER.iter().collect(),
        };
        let pseudo = list.len();
        for _ in 0..rng.usize(..4) {
            list.push(&FIELDS[rng.usize(..FIELDS.len())]);
        }
        match rng.u8(..10) {
            0 => list.push(&ODD[rng.usize(..ODD.len())]),
            1 if pseudo > 0 => {
                // One pseudo-header is another.
                let odd = &ODD[rng.usize(..32)];
                let place = list.iter().position(|entry| entry.0 == odd.0);
                match place {
                    Some(at) => list[at] = odd,
                    None => list.insert(0, odd),
                }
            }
            2 if pseudo > 0 && rng.bool() => drop(list.remove(rng.usize(..pseudo))),
            3 if list.len() > 1 && rng.bool() => {
                let (a, b) = (rng.usize(..list.len()), rng.usize(..list.len()));
                list.swap(a, b);
            }
            4 if pseudo > 0 && rng.bool() => list.insert(0, list[rng.usize(..pseudo)]),
            5 if pseudo > 1 && rng.u8(..8) == 0 => {
                list.drain(..pseudo - usize::from(rng.bool()));
                list.insert(0, &CONNECT);
            }
            _ => {}
        }
        list
    }

    fn put(&mut self, rng: &mut Rng, entry: &Entry, out: &mut Vec<u8>) {
        let &(name, value, whole, by_name) = entry;
        if whole != 0 && rng.u8(..8) > 0 {
            return put_integer(rng, out, 0x80, 7, u32::from(whole));
        }
        let by_name = if rng.u8(..5) == 0 { 0 } else { by_name };
        self.put_literal(rng, u32::from(by_name), out);
        if by_name == 0 {
            put_string(rng, out, 0, name.as_bytes());
        }
        if rng.u8(..30) == 0 {
            put_coded(rng, out);
        } else {
            put_string(rng, out, 0, value.as_bytes());
        }
    }

    /// A literal's first byte, with the index of its name.
    fn put_literal(&mut self, rng: &mut Rng, by_name: u32, out: &mut Vec<u8>) {
        match rng.u8(..5) {
            0..3 => {
                self.entries += 1;
                put_integer(rng, out, 0x40, 6, by_name);
            }
            3 => put_integer(rng, out, 0, 4, by_name),
            _ => put_integer(rng, out, 0x10, 4, by_name),
        }
    }

    /// What makes use of the tables, or is wrong.
    fn put_odd(&mut self, rng: &mut Rng, out: &mut Vec<u8>) {
        let newest = 62 + rng.u32(..self.entries + 2);
        match rng.u8(..16) {
            0..8 => put_integer(rng, out, 0x80, 7, newest),
            8 => {
                self.put_literal(rng, newest, out);
                put_string(rng, out, 0, b"y");
            }
            9 => {
                let index = rng.u32(1..62);
                put_integer(rng, out, 0x80, 7, index);
            }
            10 => {
                self.put_literal(rng, 0, out);
                put_coded(rng, out);
                put_coded(rng, out);
            }
            11 => {
                self.put_literal(rng, 0, out);
                let length = rng.usize(..6);
                let text: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
                put_string(rng, out, 0, b"x-h");
                put_string(rng, out, 0x80, &text);
            }
            12 => self.put_update(rng, out),
            13 => out.push(0x80),
            14 => {
                let index = 1 << rng.u32(..32);
                put_integer(rng, out, 0x80, 7, index);
            }
            _ => out.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        }
    }

    fn put_update(&mut self, rng: &mut Rng, out: &mut Vec<u8>) {
        // Few of the fields have room in most of these, or just one.
        let size = [0, 36, 38, 39, 75, 100, 200, 4095, 4096, 4097, 1 << 20][rng.usize(..11)];
        put_integer(rng, out, 0x20, 5, size);
    }
}

/// An integer, seldom longer than it need be.
fn put_integer(rng: &mut Rng, out: &mut Vec<u8>, first: u8, bits: u32, value: u32) {
    let mask = (1u32 << bits) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    if rng.u8(..30) == 0 {
        out.push(0x80 | rest as u8);
        out.extend(std::iter::repeat_n(0x80, rng.usize(..4)));
        rest = 0;
    }
    out.push(rest as u8);
}

fn put_string(rng: &mut Rng, out: &mut Vec<u8>, huffman: u8, text: &[u8]) {
    put_integer(rng, out, huffman, 7, text.len() as u32);
    out.extend_from_slice(text);
}

fn put_coded(rng: &mut Rng, out: &mut Vec<u8>) {
    let text = CODED[rng.usize(..CODED.len())];
    put_string(rng, out, 0x80, text);
}
