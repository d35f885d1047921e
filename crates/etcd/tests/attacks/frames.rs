//! HTTP/2 as bytes, for clients that do not keep to its rules.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prost::Message;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
/// However slow the machine is, what somebody waits for comes in this time.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a server that does not read is written to.
const HELD_BACK: Duration = Duration::from_millis(300);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn settings(parameters: &[(u16, u32)]) -> Vec<u8> {
    let parameter =
        |(key, value): &(u16, u32)| [&key.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &parameters.iter().flat_map(parameter).collect::<Vec<u8>>())
}

pub(crate) fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// Literals that enter no table.
pub(crate) fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), *value] {
            // A length in seven bits, and what is beyond in seven bits each.
            match text.len().checked_sub(127) {
                None => block.push(text.len() as u8),
                Some(mut rest) => {
                    block.push(127);
                    while rest >= 128 {
                        block.push(rest as u8 | 128);
                        rest >>= 7;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend(text);
        }
    }
    block
}

/// The head of a call, with more fields.
pub(crate) fn head(method: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let path = format!("/etcdserverpb.{method}");
    let fields: [(&str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"etcd"),
        (":path", path.as_bytes()),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    [block(&fields), block(more)].concat()
}

/// Opens a call.
pub(crate) fn call(stream: u32, method: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head(method, &[]))
}

/// DATA with a message.
pub(crate) fn message(stream: u32, message: &impl Message, flags: u8) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    frame(DATA, flags, stream, &[&[0], &length[..], &message].concat())
}

/// What a server had to say on a connection.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Code and text of its GOAWAY.
    pub(crate) go_away: Option<(u32, String)>,
    /// Its RST_STREAMs' code, as long as all are the same.
    pub(crate) resets: Vec<u32>,
    /// Bytes of its DATA.
    pub(crate) data: usize,
}

impl Heard {
    fn take(&mut self, kind: u8, payload: &[u8]) {
        let number =
            |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match kind {
            DATA => self.data += payload.len(),
            RST_STREAM if !self.resets.contains(&number(0)) => self.resets.push(number(0)),
            GOAWAY if self.go_away.is_none() => {
                let text = String::from_utf8_lossy(&payload[8..]).into_owned();
                self.go_away = Some((number(4), text));
            }
            _ => {}
        }
    }

    /// Reads all there is, until the server hangs up.
    fn listen(mut socket: impl Read) -> Self {
        let mut heard = Self::default();
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = socket.read(&mut buffer) {
            bytes.extend(&buffer[..read]);
            let mut rest = &bytes[..];
            while let Some((head, after)) = rest.split_at_checked(9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let Some((payload, after)) = after.split_at_checked(length) else { break };
                heard.take(head[3], payload);
                rest = after;
            }
            let used = bytes.len() - rest.len();
            bytes.drain(..used);
        }
        heard
    }
}

/// One connection of somebody who means no good.
pub(crate) struct Attacker {
    socket: TcpStream,
    listener: Option<JoinHandle<Heard>>,
    /// The server takes no more.
    pub(crate) is_over: bool,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Attacker {
    /// Connects and says nothing.
    pub(crate) fn silent(address: &str) -> Self {
        let socket = TcpStream::connect(address).expect("connect");
        socket.set_nodelay(true).expect("TCP");
        socket.set_write_timeout(Some(HELD_BACK)).expect("a timeout");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket, listener: None, is_over: false, frames: 0, bytes: 0 }
    }

    /// Connects, greets with these settings and reads all answers.
    pub(crate) fn greet(address: &str, parameters: &[(u16, u32)]) -> Self {
        let mut attacker = Self::deaf(address, parameters);
        attacker.listen();
        attacker
    }

    /// As [`Attacker::greet`], and reads nothing.
    pub(crate) fn deaf(address: &str, parameters: &[(u16, u32)]) -> Self {
        let mut attacker = Self::silent(address);
        attacker.say(&[PREFACE, &settings(parameters)].concat());
        attacker
    }

    /// Waits for a server that does not read for a while: all that is said is to arrive.
    pub(crate) fn be_patient(&self) {
        self.socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    }

    fn listen(&mut self) {
        let socket = self.socket.try_clone().expect("a descriptor");
        self.listener = Some(thread::spawn(move || Heard::listen(socket)));
    }

    /// The bytes of one frame, or of a few.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        if !self.is_over {
            self.is_over = self.socket.write_all(bytes).is_err();
            self.bytes += bytes.len() as u64;
            self.frames += 1;
        }
    }

    /// Says something again and again, until the server has enough or this many times.
    pub(crate) fn flood(&mut self, times: u32, mut bytes: impl FnMut(u32) -> Vec<u8>) {
        const AT_ONCE: u32 = 64;
        for begin in (0..times).step_by(AT_ONCE as usize) {
            let end = times.min(begin + AT_ONCE);
            let many: Vec<u8> = (begin..end).flat_map(&mut bytes).collect();
            self.say(&many);
            self.frames += u64::from(end - begin - 1);
            if self.is_over {
                return;
            }
        }
    }

    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) {
        self.socket.read_exact(buffer).expect("something to read");
    }

    /// The next frame of the server: kind, stream and payload.
    pub(crate) fn next_frame(&mut self) -> (u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.read_exact(&mut head);
        let [l0, l1, l2, kind, _, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.read_exact(&mut payload);
        (kind, u32::from_be_bytes(stream), payload)
    }

    /// Goes away in good order, and tells what the server had to say.
    pub(crate) fn leave(mut self) -> Heard {
        if self.listener.is_none() {
            self.listen();
        }
        let _ = self.socket.shutdown(Shutdown::Write);
        self.listener.take().expect("set above").join().expect("the listener")
    }
}
