//! A connection with its calls.

use api::frame;
use api::{Code, Status};
use bytes::{Buf, Bytes};
use http2::{Client, Config, ErrorCode, Event, Field, Output, Request, StreamId, Unopened};
use rustc_hash::FxHashMap;

use crate::call::{Call, End, Kind, Next};
use crate::status;

/// Bytes of whole messages that may wait for somebody to take them before the server is held back.
pub const UNTAKEN_MAX: usize = 1 << 20;

/// What may be under way to this client before it has read anything: of one call, and of all.
const WINDOW_BYTES: (u32, u32) = (4 << 20, 16 << 20);

/// The largest head or trailers taken, for the texts of errors.
const HEADER_LIST_MAX: u32 = 1 << 20;

/// Messages up to this size are copied into the output, larger ones are not.
const COPIED_MAX: usize = 16 << 10;

/// A call, by the number of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(StreamId);

/// A connection to a server, with its calls. Methods that name a call that has ended do nothing.
#[derive(Debug)]
pub struct Connection {
    http2: Client,
    authority: Box<str>,
    calls: FxHashMap<CallId, Call>,
    is_going_away: bool,
    /// The message that is being framed.
    framed: Vec<u8>,
}

impl Connection {
    /// A connection to the server of this name; the first words to it are in the output.
    pub fn new(authority: &str) -> Self {
        let config = Config {
            initial_window: WINDOW_BYTES.0,
            connection_window: WINDOW_BYTES.1,
            max_header_list: HEADER_LIST_MAX,
            ..Config::default()
        };
        Self {
            http2: Client::new(&config),
            authority: authority.into(),
            calls: FxHashMap::default(),
            is_going_away: false,
            framed: Vec::new(),
        }
    }

    /// Begins a call. `length_max` is that of a message of the answer.
    ///
    /// # Errors
    /// Why it can't be begun; nothing has happened then.
    pub fn start(
        &mut self,
        path: &str,
        metadata: &[Field<'_>],
        kind: Kind,
        length_max: usize,
    ) -> Result<CallId, Unopened> {
        let request = Request {
            method: "POST",
            scheme: "http",
            authority: &self.authority,
            path,
            fields: metadata,
        };
        let stream = self.http2.open(&request, false)?;
        if kind == Kind::Streaming {
            self.http2.hold_window(stream);
        }
        self.calls.insert(CallId(stream), Call::new(kind, length_max));
        Ok(CallId(stream))
    }

    /// Whether a call could be begun now.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn can_start(&self) -> Result<(), Unopened> {
        self.http2.can_open()
    }

    /// Queues a message; with `end`, the last one. A message that no frame can hold ends the call.
    pub fn send(&mut self, call: CallId, message: &impl prost::Message, end: bool) {
        if !self.http2.is_open(call.0) {
            return;
        }
        self.framed.clear();
        if let Err(frame::TooLarge { len }) = frame::encode_message(&mut self.framed, message) {
            let status = api::error::transport::sending_message_larger_than_max(
                len as u64,
                frame::MESSAGE_BYTES_MAX as u64,
            );
            self.fail(call, status);
        } else if self.framed.len() <= COPIED_MAX {
            self.http2.send_data(call.0, &self.framed, end);
        } else {
            self.http2.send_bytes(call.0, [Bytes::from(std::mem::take(&mut self.framed))], end);
        }
    }

    /// No more messages follow.
    pub fn half_close(&mut self, call: CallId) {
        self.http2.send_data(call.0, &[], true);
    }

    /// Gives a call up. Nothing more is said about it.
    pub fn cancel(&mut self, call: CallId) {
        if self.calls.remove(&call).is_some() {
            self.http2.reset(call.0, ErrorCode::CANCEL);
        }
    }

    /// The server has begun to answer, or the call has ended.
    pub fn has_begun(&self, call: CallId) -> bool {
        self.calls.get(&call).is_none_or(|call| call.has_begun)
    }

    /// How the call ended, if it did with nothing but a status that is not OK; it is forgotten then.
    pub fn take_failure(&mut self, call: CallId) -> Option<End> {
        let known = self.calls.get(&call)?;
        let has_failed = known.end.as_ref().is_some_and(|end| end.status.code != Code::Ok);
        if !has_failed || known.untaken() > 0 {
            return None;
        }
        self.calls.remove(&call)?.end
    }

    /// What the call has to say. After its end it is forgotten, and has nothing to say.
    pub fn next(&mut self, call: CallId) -> Next {
        let Some(known) = self.calls.get_mut(&call) else { return Next::Pending };
        if let Some(message) = known.pop() {
            if known.held > 0 && known.untaken() <= UNTAKEN_MAX {
                self.http2.release(call.0, std::mem::take(&mut known.held));
            }
            return Next::Message(message);
        }
        match known.end.take() {
            Some(end) => {
                self.calls.remove(&call);
                Next::End(end)
            }
            None => Next::Pending,
        }
    }

    /// Takes bytes from the front of `input` until there is news of a call. `None`: `input` is used up. `now_ms`, from
    /// any origin, is for the budgets against floods.
    ///
    /// # Errors
    /// The server broke the protocol: write the output, [`Self::close`], and close the socket.
    pub fn receive(
        &mut self,
        now_ms: u64,
        input: &mut &[u8],
    ) -> Result<Option<CallId>, http2::Error> {
        loop {
            let Some(event) = self.http2.receive(now_ms, input)? else { return Ok(None) };
            let (stream, failure) = match event {
                Event::Headers { stream, head, end } => {
                    let Some(call) = self.calls.get_mut(&CallId(stream)) else { continue };
                    call.has_begun = true;
                    match status::of_foreign_head(head) {
                        Some(status) if end => {
                            call.take_status(status);
                            (stream, None)
                        }
                        None if end => {
                            call.take_status(status::of_trailers(head));
                            (stream, None)
                        }
                        failure => (stream, failure),
                    }
                }
                Event::Data { stream, data, end } => {
                    let Some(call) = self.calls.get_mut(&CallId(stream)) else { continue };
                    let failure = call.take_data(data).err();
                    if end && failure.is_none() {
                        call.take_status(status::without_trailers());
                    }
                    if call.is_streaming() && !end {
                        call.held += data.len();
                        if call.untaken() <= UNTAKEN_MAX {
                            let held = std::mem::take(&mut call.held);
                            self.http2.release(stream, held);
                        }
                    }
                    (stream, failure)
                }
                Event::Trailers { stream, trailers } => {
                    let Some(call) = self.calls.get_mut(&CallId(stream)) else { continue };
                    call.take_status(status::of_trailers(trailers));
                    (stream, None)
                }
                Event::Reset { stream, code, by_peer } => {
                    let Some(call) = self.calls.get_mut(&CallId(stream)) else { continue };
                    let is_unsent = by_peer && code == ErrorCode::REFUSED_STREAM;
                    call.finish(End { status: status::of_reset(code), is_unsent });
                    (stream, None)
                }
                Event::GoAway { .. } => {
                    self.is_going_away = true;
                    continue;
                }
                _ => continue,
            };
            if let Some(status) = failure {
                self.fail(CallId(stream), status);
            }
            return Ok(Some(CallId(stream)));
        }
    }

    /// Ends a call for the server's fault.
    fn fail(&mut self, call: CallId, status: Status) {
        self.http2.reset(call.0, ErrorCode::CANCEL);
        if let Some(call) = self.calls.get_mut(&call) {
            call.finish(End { status, is_unsent: false });
        }
    }

    /// The connection has ended: all calls fail as unavailable, for this reason. Returns those that have news.
    pub fn close(&mut self, reason: &str) -> Vec<CallId> {
        let mut ended: Vec<CallId> = self.calls.keys().copied().collect();
        ended.sort_unstable();
        for id in &ended {
            let is_unsent = self.http2.is_unsent(id.0);
            if let Some(call) = self.calls.get_mut(id) {
                call.finish(End {
                    status: Status::new(Code::Unavailable, reason.to_owned()),
                    is_unsent,
                });
            }
        }
        self.http2.go_away(ErrorCode::NO_ERROR, b"");
        ended
    }

    /// The server has said who it is.
    pub fn is_established(&self) -> bool {
        self.http2.is_established()
    }

    /// The server takes no further calls; those that it has are answered.
    pub fn is_going_away(&self) -> bool {
        self.is_going_away
    }

    /// Nothing more will come of this connection: write the output, then close.
    pub fn wants_close(&self) -> bool {
        self.http2.wants_close()
    }

    /// Calls under way.
    pub fn is_idle(&self) -> bool {
        self.http2.open_streams() == 0
    }

    /// Asks the server for a sign of life. Anything that it sends is one.
    pub fn ping(&mut self) {
        self.http2.ping(*b"alive?\0\0");
    }

    /// What is to be written; `advance` it by what is taken. Whose request's first byte is taken counts as sent.
    pub fn output(&mut self) -> &mut Output {
        self.http2.output()
    }

    /// There is something to be written.
    pub fn has_output(&mut self) -> bool {
        self.http2.output().has_remaining()
    }
}
