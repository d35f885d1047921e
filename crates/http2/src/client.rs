//! The client's half: makes requests, takes their answers, and tells which requests nobody has begun with.

mod repeated;

use crate::{
    Config, Connection, Error, ErrorCode, Field, Indexing, StreamId,
    connection::{Half, Notice, Pending, RECEIVED_RETURNS, protocol_error, put_block},
    flow::WINDOW_MAX,
    frame::{self, setting},
    header_list::{ListKind, fault_of_head},
    streams::{End, Ended, Slot},
};
use repeated::Repeated;

/// The largest number that a stream can have.
const STREAM_MAX: u32 = WINDOW_MAX;

/// The client's side of one connection.
pub type Client = Connection<ClientHalf>;

/// What only the client's half of a connection has.
#[derive(Debug)]
pub struct ClientHalf {
    /// Streams the server lets us have open at a time.
    streams_max: u32,
    /// The last stream that the server handles, once it has said that it goes away.
    served_max: Option<u32>,
    repeated: Repeated,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:scheme`: http or https.
    pub scheme: &'a str,
    /// `:authority`: whom the request is for.
    pub authority: &'a str,
    /// `:path`; not empty.
    pub path: &'a str,
    /// The fields.
    pub fields: &'a [Field<'a>],
}

impl<'a> Request<'a> {
    /// The head as the list that it is sent as.
    fn list(&self) -> impl Iterator<Item = Field<'a>> + Clone {
        [
            (":method", self.method),
            (":scheme", self.scheme),
            (":path", self.path),
            (":authority", self.authority),
        ]
        .into_iter()
        .map(|(name, value)| Field { name, value: value.as_bytes(), indexing: Indexing::Index })
        .chain(self.fields.iter().copied())
    }
}

/// Why a stream can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// As many are open as the server allows. When one has ended there is room.
    Full,
    /// No more streams will be opened on this connection.
    Ending,
}

impl Connection<ClientHalf> {
    /// A new connection; the preface, SETTINGS and the connection's window are queued in the output at once. Limits
    /// outside what the protocol allows are brought into it.
    pub fn new(config: &Config) -> Self {
        let half =
            ClientHalf { streams_max: u32::MAX, served_max: None, repeated: Repeated::default() };
        let mut client = Self::with_half(config, half);
        client.output.small().extend_from_slice(frame::PREFACE);
        client.put_settings((setting::ENABLE_PUSH, 0), 1);
        client
    }

    /// Queues a request's head. With `end`, it has no body. The answer comes as [`crate::Event`]s; once its end has
    /// come the stream is gone, and what was still to be sent is not.
    ///
    /// # Errors
    /// Why no stream can be opened. Nothing is queued then.
    pub fn open(&mut self, request: &Request<'_>, end: bool) -> Result<StreamId, Unopened> {
        self.can_open()?;
        let id = if self.last_stream == 0 { 1 } else { self.last_stream + 2 };
        self.last_stream = id;
        let mut stream = self.new_stream(id);
        stream.head_sent = true;
        stream.opened_at = self.output.end();
        if end {
            stream.queue.end = End::Sent;
        }
        self.streams.insert(stream);
        // What the server may reset, it is asked for.
        self.resets.give_back(1);
        let frame_max = self.peer.max_frame_size;
        put_block(self.output.small(), id, end, frame_max, |out| {
            self.half.repeated.encode(out, &mut self.encoder, request.list());
        });
        Ok(StreamId(id))
    }

    /// Whether a stream could be opened now.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn can_open(&self) -> Result<(), Unopened> {
        if self.is_closed() || self.half.served_max.is_some() || self.last_stream >= STREAM_MAX {
            return Err(Unopened::Ending);
        }
        if self.streams.len() >= self.half.streams_max as usize {
            return Err(Unopened::Full);
        }
        Ok(())
    }

    /// The server has begun to speak: its SETTINGS are here.
    pub fn is_established(&self) -> bool {
        self.inbound.has_settings()
    }

    /// No byte of the request was taken from the output, so that the server can't know of it.
    pub fn is_unsent(&self, stream: StreamId) -> bool {
        self.streams.get(stream.0).is_some_and(|stream| stream.opened_at >= self.output.taken())
    }

    /// An answer's head.
    fn take_answer<'i>(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        let list_max = self.config.max_header_list as usize;
        let verdict = self.inbound.decode(ListKind::Answer, block, list_max)?;
        let (status, length) = (self.inbound.head.status(), self.inbound.head.content_length());
        let is_interim = status < 200;
        // These have no content, whatever they say of its length (RFC 9113 8.1.1).
        let length = length.filter(|_| !(end && matches!(status, 204 | 304)));
        let Some(stream) = self.streams.get_mut(id) else { return Ok(None) };
        match fault_of_head(verdict, end, length) {
            Some(fault) => self.fail_stream(id, fault)?,
            None if end && is_interim => self.fail_stream(id, ErrorCode::PROTOCOL_ERROR)?,
            // There is more to come, which is the answer.
            None if is_interim => self.take_idle_frames(1)?,
            None => {
                stream.head_received = true;
                stream.receiving = !end;
                stream.length_left = length;
                self.idle_frames.give_back(RECEIVED_RETURNS);
                if end {
                    ClientHalf::after_received_end(self, id);
                }
                return Ok(Some(Notice::Headers { stream: id, end }));
            }
        }
        Ok(None)
    }
}

impl Half for ClientHalf {
    const PEER_PREFACE: &'static [u8] = b"";

    fn take_block<'i>(
        client: &mut Client,
        id: u32,
        end: bool,
        block: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        if id > client.last_stream {
            return Err(protocol_error("HEADERS on a stream that was never opened"));
        }
        if client.streams.get(id).is_some_and(|stream| !stream.head_received) {
            return client.take_answer(id, end, block);
        }
        let list_max = client.config.max_header_list as usize;
        let verdict = client.inbound.decode(ListKind::Trailers, block, list_max)?;
        client.handle_trailers(id, end, verdict)
    }

    /// The answer is still to come.
    fn after_sent_end(_: &mut Client, _: Slot) {}

    fn after_time(_: &mut Client) {}

    /// The stream is done, whether or not the request came to its end.
    fn after_received_end(client: &mut Client, id: u32) {
        let Some(stream) = client.streams.get(id) else { return };
        if matches!(stream.queue.end, End::Sent) {
            client.close_stream(id, Ended::ByPeer);
        } else {
            frame::put_reset(client.output.small(), id, ErrorCode::NO_ERROR);
            client.close_stream(id, Ended::ByUs);
        }
    }

    fn after_close(_: &mut Client) {}

    /// With many calls given up at once their answers may come when it is forgotten that they were.
    fn how_ended(client: &Client, id: u32) -> Ended {
        match client.streams.how_ended(id) {
            Ended::Unknown => Ended::ByUs,
            known => known,
        }
    }

    fn take_ping_ack(_: &mut Client, _: [u8; 8]) -> bool {
        false
    }

    /// Streams beyond `last` are as good as refused.
    fn take_go_away(client: &mut Client, last: u32) {
        let last = client.half.served_max.map_or(last, |before| before.min(last));
        client.half.served_max = Some(last);
        let mut refused: Vec<u32> = client.streams.iter_mut().map(|stream| stream.id).collect();
        refused.retain(|id| *id > last);
        refused.sort_unstable();
        for stream in refused {
            client.close_stream(stream, Ended::ByUs);
            let code = ErrorCode::REFUSED_STREAM;
            client.pending.push_back(Pending::Reset { stream, code, by_peer: true });
        }
    }

    fn take_setting(&mut self, key: u16, value: u32) -> Result<(), Error> {
        match key {
            setting::ENABLE_PUSH if value != 0 => Err(protocol_error("a server may not push")),
            setting::MAX_CONCURRENT_STREAMS => {
                self.streams_max = value;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The server has opened none.
    fn last_stream(_: &Client) -> u32 {
        0
    }

    fn is_done(client: &Client) -> bool {
        client.half.served_max.is_some() && client.streams.is_empty()
    }

    fn memory(&self) -> usize {
        self.repeated.memory()
    }
}
