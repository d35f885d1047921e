//! Inputs out of a seed: frames that mean something, with faults in some of them, and bytes that were changed.

mod header;

use fastrand::Rng;

use crate::frame::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE,
    PRIORITIZED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::plan::{Half, Plan, REQUESTS};
use header::Headers;

/// Frames of one input.
const FRAMES_MAX: usize = 12;

/// Writes the input of a seed to `out`.
pub fn generate(seed: u64, out: &mut Vec<u8>) {
    let mut rng = Rng::with_seed(seed);
    out.clear();
    let (mode, limits) = (any_mode(&mut rng), any_limits(&mut rng));
    out.extend_from_slice(&[mode, limits]);
    let plan = Plan::new(mode, limits);
    if rng.u8(..) < 8 {
        let length = rng.usize(..120);
        out.extend(std::iter::repeat_with(|| rng.u8(..)).take(length));
        return;
    }
    let start = out.len();
    if !plan.shaken {
        if plan.half == Half::Server {
            out.extend_from_slice(PREFACE);
        }
        if rng.u8(..) < 240 {
            frame::put(out, SETTINGS, 0, 0, &[]);
        }
    }
    let mut writer = Writer {
        headers: Headers::new(plan.half),
        next: 1,
        open: match plan.half {
            Half::Server => Vec::new(),
            Half::Client => (0..REQUESTS).map(|number| (number * 2 + 1, false)).collect(),
        },
        plan,
        payload: Vec::new(),
        rng: &mut rng,
        out,
    };
    for _ in 0..=writer.rng.usize(..FRAMES_MAX) {
        writer.put_any();
    }
    if rng.u8(..) < 40 {
        mutate(&mut rng, out, start);
    }
}

/// Most inputs begin as they should.
fn any_mode(rng: &mut Rng) -> u8 {
    let mode = rng.u8(..);
    if rng.u8(..) < 240 { mode | 2 } else { mode & !2 }
}

/// Most inputs have the usual limits.
fn any_limits(rng: &mut Rng) -> u8 {
    let mut limits = rng.u8(..) & 0xe0;
    for bit in [1, 2, 4, 8, 16] {
        if rng.u8(..) < 30 {
            limits |= bit;
        }
    }
    limits
}

/// Changes some bytes behind `start`.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, start: usize) {
    for _ in 0..=rng.usize(..3) {
        if bytes.len() <= start {
            return;
        }
        let at = rng.usize(start..bytes.len());
        let end = (at + rng.usize(1..12)).min(bytes.len());
        match rng.u8(..6) {
            0 => bytes[at] ^= 1 << rng.u8(..8),
            1 => bytes[at] = rng.u8(..),
            2 => bytes.insert(at, rng.u8(..)),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            _ => bytes.truncate(at),
        }
    }
}

struct Writer<'a> {
    rng: &'a mut Rng,
    out: &'a mut Vec<u8>,
    plan: Plan,
    headers: Headers,
    /// The next stream that a client would open.
    next: u32,
    /// Streams on which there may be more, and whether they have their head.
    open: Vec<(u32, bool)>,
    payload: Vec<u8>,
}

impl Writer<'_> {
    fn put_any(&mut self) {
        match self.rng.u8(..) {
            0..70 => self.put_message_part(true),
            70..190 => self.put_message_part(false),
            190..202 => {
                let stream = self.any_stream();
                self.open.retain(|(open, _)| *open != stream);
                let code = self.any_number();
                self.payload.clear();
                self.payload.extend_from_slice(&code.to_be_bytes());
                self.put(RST_STREAM, 0, stream);
            }
            202..218 => self.put_window_update(),
            218..230 => self.put_settings(),
            230..236 => {
                self.payload.clear();
                self.payload.extend_from_slice(b"12345678");
                let flags = self.rng.u8(..2);
                self.put(PING, flags, 0);
            }
            236..240 => {
                let stream = self.any_stream();
                self.payload.clear();
                self.push_priority(stream);
                self.put(PRIORITY, 0, stream);
            }
            240..244 => self.put_go_away(),
            244 => self.put_push_promise(),
            245 => self.put_headers_of(b"", CONTINUATION),
            246..250 => {
                self.any_payload(20);
                let (kind, flags, stream) = (self.rng.u8(10..), self.rng.u8(..), self.any_stream());
                self.put(kind, flags, stream);
            }
            250 => self.put_large(),
            251 => {
                self.any_payload(30);
                let (kind, flags, stream) = (self.rng.u8(..11), self.rng.u8(..), self.any_stream());
                self.put(kind, flags, stream);
            }
            // Where nothing is open it has to be.
            _ => {
                let (end, stream) = (self.rng.u8(..2), self.any_stream());
                self.put_data(end, stream);
            }
        }
    }

    /// The payload as it is, or with a fault.
    fn put(&mut self, kind: u8, flags: u8, stream: u32) {
        let (mut flags, mut stream) = (flags, stream);
        match self.rng.u8(..) {
            0..3 => flags ^= 1 << self.rng.u8(..8),
            3..5 => stream = self.any_number(),
            5..7 => drop(self.payload.pop()),
            7..9 => self.payload.push(self.rng.u8(..)),
            9..13 => {
                let length = self.payload.len();
                if length > 0 {
                    self.payload[self.rng.usize(..length)] ^= 1 << self.rng.u8(..8);
                }
            }
            // The bit that is reserved.
            13..16 => stream |= 1 << 31,
            _ => {}
        }
        frame::put(self.out, kind, flags, stream, &self.payload);
    }

    /// The next part of a message, mostly where one is due.
    fn put_message_part(&mut self, is_new: bool) {
        let end = if self.rng.u8(..3) == 0 { END_STREAM } else { 0 };
        let is_new = is_new || self.open.is_empty();
        if is_new && self.plan.half == Half::Server {
            let stream = self.new_stream();
            if end == 0 {
                self.open.push((stream, true));
            }
            return self.put_list(true, end, stream);
        }
        if self.open.is_empty() || self.rng.u8(..16) == 0 {
            let (is_head, stream) = (self.rng.bool(), self.any_stream());
            return self.put_list(is_head, end, stream);
        }
        let at = self.rng.usize(..self.open.len());
        let (stream, has_head) = self.open[at];
        // Trailers are the end.
        let is_trailers = has_head && self.rng.u8(..6) == 0;
        let end = if is_trailers && self.rng.u8(..8) > 0 { END_STREAM } else { end };
        if end != 0 {
            self.open.swap_remove(at);
        } else {
            self.open[at].1 = true;
        }
        if !has_head || is_trailers {
            return self.put_list(!has_head, end, stream);
        }
        self.put_data(end, stream);
    }

    fn put_list(&mut self, is_head: bool, flags: u8, stream: u32) {
        let block = self.headers.block(self.rng, is_head);
        self.payload.clear();
        self.put_block(&block, flags, stream);
    }

    fn put_data(&mut self, end: u8, stream: u32) {
        let padded = if self.rng.u8(..5) == 0 { PADDED } else { 0 };
        let longest = if self.plan.holds { 24 } else { 12 };
        self.payload.clear();
        let padding = if padded == 0 { 0 } else { self.rng.u8(..6) };
        if padded != 0 {
            let faulty = if self.rng.u8(..16) == 0 { self.rng.u8(..) } else { padding };
            self.payload.push(faulty);
        }
        let length = self.rng.usize(..longest);
        self.payload.extend(std::iter::repeat_with(|| self.rng.u8(b'a'..=b'z')).take(length));
        self.payload.extend(std::iter::repeat_n(0, usize::from(padding)));
        self.put(DATA, end | padded, stream);
    }

    /// HEADERS with a block, cut into CONTINUATION frames or not.
    fn put_block(&mut self, block: &[u8], flags: u8, stream: u32) {
        let mut flags = flags;
        let padding = if self.rng.u8(..8) == 0 { self.rng.u8(..5) } else { 0 };
        if padding > 0 {
            flags |= PADDED;
            self.payload.push(padding);
        }
        if self.rng.u8(..12) == 0 {
            flags |= PRIORITIZED;
            self.push_priority(stream);
        }
        let mut rest = block;
        let cuts = match self.rng.u8(..) {
            0 => self.rng.usize(4..9),
            1..40 => self.rng.usize(1..4),
            _ => 0,
        };
        let part = take_some(self.rng, &mut rest, cuts == 0);
        self.payload.extend_from_slice(part);
        self.payload.extend(std::iter::repeat_n(0, usize::from(padding)));
        self.put(HEADERS, flags | if cuts == 0 { END_HEADERS } else { 0 }, stream);
        for left in (0..cuts).rev() {
            let part = take_some(self.rng, &mut rest, left == 0);
            self.payload.clear();
            self.payload.extend_from_slice(part);
            self.put(CONTINUATION, if left == 0 { END_HEADERS } else { 0 }, stream);
        }
    }

    fn put_headers_of(&mut self, before: &[u8], kind: u8) {
        let stream = self.any_stream();
        let block = self.headers.block(self.rng, true);
        self.payload.clear();
        self.payload.extend_from_slice(before);
        self.payload.extend_from_slice(&block);
        self.put(kind, END_HEADERS, stream);
    }

    fn put_push_promise(&mut self) {
        let promised = self.any_number();
        self.put_headers_of(&promised.to_be_bytes(), PUSH_PROMISE);
    }

    fn put_window_update(&mut self) {
        let stream = if self.rng.u8(..4) == 0 { 0 } else { self.any_stream() };
        let by = self.any_number();
        self.payload.clear();
        self.payload.extend_from_slice(&by.to_be_bytes());
        self.put(WINDOW_UPDATE, 0, stream);
    }

    fn put_settings(&mut self) {
        self.payload.clear();
        if self.rng.u8(..4) == 0 {
            return self.put(SETTINGS, ACK, 0);
        }
        for _ in 0..self.rng.u8(..3) {
            let key = self.rng.u16(..10);
            let value = match key {
                2 | 8 => self.rng.u32(..3),
                5 => self.rng.u32(16_383..16_400),
                _ => self.any_number(),
            };
            self.payload.extend_from_slice(&key.to_be_bytes());
            self.payload.extend_from_slice(&value.to_be_bytes());
        }
        self.put(SETTINGS, 0, 0);
    }

    fn put_go_away(&mut self) {
        let last = if self.rng.bool() { self.any_stream() } else { self.any_number() };
        let code = self.any_number();
        self.payload.clear();
        self.payload.extend_from_slice(&last.to_be_bytes());
        self.payload.extend_from_slice(&code.to_be_bytes());
        self.put(GOAWAY, 0, 0);
    }

    /// A frame at the limit of its size.
    fn put_large(&mut self) {
        let length = frame::PAYLOAD_MAX - 1 + self.rng.usize(..3);
        if self.rng.u8(..4) > 0 {
            return;
        }
        self.payload.clear();
        self.payload.resize(length, b'x');
        let stream = self.any_stream();
        frame::put(self.out, DATA, 0, stream, &self.payload);
    }

    fn push_priority(&mut self, stream: u32) {
        let on = if self.rng.u8(..20) == 0 { stream } else { self.rng.u32(..6) * 2 };
        self.payload.extend_from_slice(&on.to_be_bytes());
        self.payload.push(self.rng.u8(..));
    }

    fn any_payload(&mut self, most: usize) {
        let length = self.rng.usize(..most);
        self.payload.clear();
        self.payload.extend(std::iter::repeat_with(|| self.rng.u8(..)).take(length));
    }

    fn new_stream(&mut self) -> u32 {
        let stream = self.next;
        self.next += if self.rng.u8(..12) == 0 { 4 } else { 2 };
        stream
    }

    /// Mostly one that is open.
    fn any_stream(&mut self) -> u32 {
        let newest = match self.plan.half {
            Half::Server => self.next,
            Half::Client => REQUESTS * 2 - 1,
        };
        match self.rng.u8(..40) {
            0 => self.rng.u32(..12),
            1..6 => self.rng.u32(..newest.div_ceil(2)) * 2 + 1,
            _ if self.open.is_empty() => newest.saturating_sub(2).max(1),
            _ => self.open[self.rng.usize(..self.open.len())].0,
        }
    }

    fn any_number(&mut self) -> u32 {
        match self.rng.u8(..8) {
            0..4 => self.rng.u32(..20),
            4 => 0x7fff_ffff,
            5 => 0x7fff_ffff - 65_535 + self.rng.u32(..2),
            6 => 1 << self.rng.u32(..32),
            _ => self.rng.u32(..),
        }
    }
}

fn take_some<'b>(rng: &mut Rng, rest: &mut &'b [u8], all: bool) -> &'b [u8] {
    let count = if all { rest.len() } else { rng.usize(..=rest.len()) };
    let (part, after) = rest.split_at(count);
    *rest = after;
    part
}
