//! Taking input: frames are handled where they lie in the caller's buffer; only what a read cut in two is kept.
//! DATA is handed out as it comes and never kept at all.

use super::{Connection, Half, Pending};
use crate::{
    Config, Error, ErrorCode, Event, HeaderList, StreamId,
    flow::WINDOW_MAX,
    frame::{
        self, FRAME_SIZE_DEFAULT, FRAME_SIZE_MAX, FrameHeader, HEADER_LEN, flag, kind, setting,
    },
    header_list::{ListBuilder, ListKind, Unusable},
    hpack::{Decoder, TABLE_SIZE_DEFAULT},
    streams::Ended,
};

/// What HEADERS and DATA of the peer give back to the allowance for frames that move nothing.
pub(crate) const RECEIVED_RETURNS: u32 = 2;

/// Blocks longer than this are not remembered: they are not those of a client that repeats itself.
const REPEATED_BLOCK_MAX: usize = 1024;

/// The input side of a connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    settings_seen: bool,
    /// A frame of which not all has come: its header and payload so far. Never DATA beyond the header.
    partial: Vec<u8>,
    /// The DATA frame that is being handed out.
    data: Option<DataFrame>,
    /// The header block that CONTINUATION frames are to complete.
    continuation: Option<Continuation>,
    block: Vec<u8>,
    decoder: Decoder,
    pub(crate) head: HeaderList,
    trailers: HeaderList,
    /// The block that `head` was decoded from, and the table's generation then. The same block again, with the same
    /// table, is the same head: clients repeat themselves.
    head_block: Vec<u8>,
    head_generation: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct DataFrame {
    stream: u32,
    /// Bytes of the payload still to come, padding included.
    left: usize,
    padding: usize,
    /// The byte that tells the padding's length is still to come.
    padded: bool,
    /// The end of the stream is still to be reported.
    end: bool,
    /// Nobody wants the data.
    discard: bool,
}

#[derive(Clone, Copy, Debug)]
struct Continuation {
    stream: u32,
    end: bool,
}

/// An [`Event`] that does not borrow the head yet.
pub(crate) enum Notice<'i> {
    Headers { stream: u32, end: bool },
    Data { stream: u32, data: &'i [u8], end: bool },
    Trailers { stream: u32 },
    Reset { stream: u32, code: ErrorCode },
    Ping { opaque: [u8; 8] },
    PingAck { opaque: [u8; 8] },
    GoAway { code: ErrorCode },
}

/// How far a DATA frame came.
enum Step<'i> {
    Notice(Notice<'i>),
    Continue,
    InputUsedUp,
}

pub(crate) const fn protocol_error(reason: &'static str) -> Error {
    Error::new(ErrorCode::PROTOCOL_ERROR, reason)
}

impl Inbound {
    pub(super) fn new(config: &Config, preface_left: usize) -> Self {
        Self {
            preface_left,
            settings_seen: false,
            partial: Vec::new(),
            data: None,
            continuation: None,
            block: Vec::new(),
            decoder: Decoder::new(config.header_table_size.max(TABLE_SIZE_DEFAULT)),
            head: HeaderList::default(),
            trailers: HeaderList::default(),
            head_block: Vec::new(),
            head_generation: None,
        }
    }

    /// The peer's first SETTINGS have come.
    pub(crate) fn has_settings(&self) -> bool {
        self.settings_seen
    }

    pub(super) fn memory(&self) -> usize {
        self.partial.capacity()
            + self.block.capacity()
            + self.decoder.memory()
            + self.head.memory()
            + self.trailers.memory()
            + self.head_block.capacity()
    }

    /// Decodes a block into the head or the trailers; every block must pass here, to keep the table.
    pub(crate) fn decode(
        &mut self,
        kind: ListKind,
        block: &[u8],
        list_max: usize,
    ) -> Result<Result<(), Unusable>, Error> {
        let generation = self.decoder.generation();
        let is_head = kind != ListKind::Trailers;
        if is_head && self.head_generation == Some(generation) && self.head_block == block {
            return Ok(Ok(()));
        }
        let head = if is_head { &mut self.head } else { &mut self.trailers };
        let mut builder = ListBuilder::new(head, kind, list_max);
        self.decoder
            .decode(block, |field| builder.add(field))
            .map_err(|error| Error::new(ErrorCode::COMPRESSION_ERROR, error.0))?;
        let verdict = builder.finish();
        if is_head {
            self.head_generation = None;
            if verdict.is_ok() && block.len() <= REPEATED_BLOCK_MAX {
                self.head_block.clear();
                self.head_block.extend_from_slice(block);
                // A block that changed the table does not find this generation again, and is decoded.
                self.head_generation = Some(generation);
            }
        }
        Ok(verdict)
    }
}

#[expect(private_bounds, reason = "sealed: the two halves are in this crate")]
impl<H: Half> Connection<H> {
    /// Takes bytes from the front of `input` (any fragments, the preface included) until they amount to an event.
    /// `Ok(None)`: `input` is used up. With an empty `input` it hands out events that arose elsewhere (`Writable`,
    /// `Drained`). `now_ms`, from any origin, refills the budgets against floods.
    ///
    /// # Errors
    /// A connection error: all streams are dropped without further events, GOAWAY is queued, and
    /// [`Connection::wants_close`] from now on; later input is dropped unread.
    pub fn receive<'s, 'i>(
        &'s mut self,
        now_ms: u64,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'s, 'i>>, Error> {
        if now_ms > self.now_ms {
            let elapsed_ms = now_ms - self.now_ms;
            self.now_ms = now_ms;
            self.resets.refill(elapsed_ms);
            self.idle_frames.refill(elapsed_ms);
            H::after_time(self);
        }
        match self.next_notice(input) {
            Ok(Some(notice)) => Ok(Some(self.event(notice))),
            Ok(None) => Ok(self.pending.pop_front().map(Pending::event)),
            Err(error) => {
                *input = &[];
                self.go_away(error.code, error.reason.as_bytes());
                Err(error)
            }
        }
    }

    fn event<'s, 'i>(&'s self, notice: Notice<'i>) -> Event<'s, 'i> {
        match notice {
            Notice::Headers { stream, end } => {
                Event::Headers { stream: StreamId(stream), head: &self.inbound.head, end }
            }
            Notice::Data { stream, data, end } => {
                Event::Data { stream: StreamId(stream), data, end }
            }
            Notice::Trailers { stream } => {
                Event::Trailers { stream: StreamId(stream), trailers: &self.inbound.trailers }
            }
            Notice::Reset { stream, code } => {
                Event::Reset { stream: StreamId(stream), code, by_peer: true }
            }
            Notice::Ping { opaque } => Event::Ping { opaque },
            Notice::PingAck { opaque } => Event::PingAck { opaque },
            Notice::GoAway { code } => Event::GoAway { code },
        }
    }

    /// `None`: a pending event is to be handed out, or else the input is used up.
    fn next_notice<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Notice<'i>>, Error> {
        loop {
            if !self.pending.is_empty() {
                return Ok(None);
            }
            if self.is_closed {
                *input = &[];
                return Ok(None);
            }
            if self.control_queued > self.config.control_queue_max {
                return Err(Error::new(
                    ErrorCode::ENHANCE_YOUR_CALM,
                    "too many frames to answer, and none is read",
                ));
            }
            if self.inbound.data.is_some() {
                match self.continue_data(input)? {
                    Step::Notice(notice) => return Ok(Some(notice)),
                    Step::Continue => continue,
                    Step::InputUsedUp => return Ok(None),
                }
            }
            if input.is_empty() {
                return Ok(None);
            }
            if self.inbound.preface_left > 0 {
                self.take_preface(input)?;
                continue;
            }
            if !self.inbound.partial.is_empty() {
                if let Some(notice) = self.complete_partial(input)? {
                    return Ok(Some(notice));
                }
                continue;
            }
            let Some((header_bytes, rest)) = input.split_first_chunk::<HEADER_LEN>() else {
                self.keep_partial(input);
                continue;
            };
            let header = FrameHeader::parse(header_bytes);
            self.check_frame(&header)?;
            if header.kind == kind::DATA {
                *input = rest;
                self.start_data(&header)?;
            } else if let Some((payload, rest)) = rest.split_at_checked(header.length) {
                *input = rest;
                if let Some(notice) = self.handle_frame(&header, payload)? {
                    return Ok(Some(notice));
                }
            } else {
                self.keep_partial(input);
            }
        }
    }

    fn take_preface(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        let left = self.inbound.preface_left;
        let start = H::PEER_PREFACE.len().saturating_sub(left);
        let expected = H::PEER_PREFACE.get(start..).unwrap_or_default();
        let count = left.min(input.len());
        let (got, rest) = input.split_at(count);
        if !expected.starts_with(got) {
            return Err(protocol_error("not the HTTP/2 preface"));
        }
        *input = rest;
        self.inbound.preface_left -= count;
        Ok(())
    }

    fn keep_partial(&mut self, input: &mut &[u8]) {
        self.inbound.partial.extend_from_slice(input);
        *input = &[];
    }

    /// Adds input to the frame that was cut, and handles it when it is whole.
    fn complete_partial<'i>(&mut self, input: &mut &[u8]) -> Result<Option<Notice<'i>>, Error> {
        let mut take_to = |partial: &mut Vec<u8>, length: usize| {
            let missing = length.saturating_sub(partial.len());
            let (more, rest) = input.split_at(missing.min(input.len()));
            partial.extend_from_slice(more);
            *input = rest;
            partial.len() >= length
        };
        if !take_to(&mut self.inbound.partial, HEADER_LEN) {
            return Ok(None);
        }
        let Some(header) = self.inbound.partial.first_chunk().map(FrameHeader::parse) else {
            return Ok(None);
        };
        self.check_frame(&header)?;
        if header.kind == kind::DATA {
            self.inbound.partial.clear();
            return self.start_data(&header).map(|()| None);
        }
        if !take_to(&mut self.inbound.partial, HEADER_LEN + header.length) {
            return Ok(None);
        }
        let mut partial = std::mem::take(&mut self.inbound.partial);
        let notice = self.handle_frame(&header, partial.get(HEADER_LEN..).unwrap_or_default());
        partial.clear();
        partial.shrink_to(FRAME_SIZE_DEFAULT as usize);
        self.inbound.partial = partial;
        notice
    }

    /// What can be told from a frame's header alone, before any of its payload is kept.
    fn check_frame(&self, header: &FrameHeader) -> Result<(), Error> {
        if header.length > self.config.max_frame_size as usize {
            return Err(Error::new(ErrorCode::FRAME_SIZE_ERROR, "frame too long"));
        }
        if !self.inbound.settings_seen && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(protocol_error("the first frame is not SETTINGS"));
        }
        let expected = self.inbound.continuation.map(|continuation| continuation.stream);
        let continues = (header.kind == kind::CONTINUATION).then_some(header.stream);
        if expected != continues {
            return Err(protocol_error("CONTINUATION missing or misplaced"));
        }
        Ok(())
    }

    /// All frames but DATA. A `Notice` from here borrows nothing.
    fn handle_frame<'i>(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        match header.kind {
            kind::HEADERS => self.handle_headers(header, payload),
            kind::CONTINUATION => self.handle_continuation(header, payload),
            kind::RST_STREAM => self.handle_reset(header, payload),
            kind::SETTINGS => self.handle_settings(header, payload).map(|()| None),
            kind::PING => self.handle_ping(header, payload),
            kind::WINDOW_UPDATE => self.handle_window_update(header, payload).map(|()| None),
            kind::GOAWAY => self.handle_go_away(header, payload),
            kind::PUSH_PROMISE => Err(protocol_error("nobody may push")),
            kind::PRIORITY => {
                frame::exactly::<5>(payload)?;
                if header.stream == 0 {
                    return Err(protocol_error("PRIORITY on stream 0"));
                }
                self.take_idle_frames(1).map(|()| None)
            }
            _ => self.take_idle_frames(1).map(|()| None),
        }
    }

    fn handle_headers<'i>(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        if header.stream.is_multiple_of(2) {
            return Err(protocol_error("HEADERS on a stream that is not the client's"));
        }
        let fragment = frame::header_fragment(header, payload)?;
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return H::take_block(self, header.stream, end, fragment);
        }
        self.inbound.block.clear();
        self.inbound.block.extend_from_slice(fragment);
        self.inbound.continuation = Some(Continuation { stream: header.stream, end });
        Ok(None)
    }

    fn handle_continuation<'i>(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        self.take_idle_frames(1)?;
        // As grpc-go: a block that cannot be within the limit, however it is coded, is not waited for.
        let block_max = (self.config.max_header_list as usize).max(FRAME_SIZE_DEFAULT as usize) * 2;
        if self.inbound.block.len() + payload.len() > block_max {
            return Err(Error::new(ErrorCode::ENHANCE_YOUR_CALM, "header block too long"));
        }
        self.inbound.block.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Some(Continuation { stream, end }) = self.inbound.continuation.take() else {
            return Err(protocol_error("CONTINUATION missing or misplaced"));
        };
        let mut block = std::mem::take(&mut self.inbound.block);
        let notice = H::take_block(self, stream, end, &block);
        block.clear();
        block.shrink_to(FRAME_SIZE_DEFAULT as usize);
        self.inbound.block = block;
        notice
    }

    /// Trailers of a stream, whose list is decoded.
    pub(crate) fn handle_trailers<'i>(
        &mut self,
        id: u32,
        end: bool,
        verdict: Result<(), Unusable>,
    ) -> Result<Option<Notice<'i>>, Error> {
        let Some(stream) = self.streams.get_mut(id) else {
            return match H::how_ended(self, id) {
                Ended::ByUs => self.take_idle_frames(1).map(|()| None),
                Ended::ByPeer => {
                    Err(Error::new(ErrorCode::STREAM_CLOSED, "HEADERS on a closed stream"))
                }
                Ended::Unknown => Err(protocol_error("stream ids go up")),
            };
        };
        let fault = if !stream.receiving {
            Some(ErrorCode::STREAM_CLOSED)
        } else if !end || verdict.is_err() || stream.length_left.is_some_and(|left| left > 0) {
            Some(ErrorCode::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(code) = fault {
            return self.fail_stream(id, code).map(|()| None);
        }
        stream.receiving = false;
        let lingers = stream.lingers;
        H::after_received_end(self, id);
        Ok((!lingers).then_some(Notice::Trailers { stream: id }))
    }

    /// The header of a DATA frame: windows are charged for all of it at once.
    fn start_data(&mut self, header: &FrameHeader) -> Result<(), Error> {
        let id = header.stream;
        if id.is_multiple_of(2) || id > self.last_stream {
            return Err(protocol_error("DATA on a stream that is not open"));
        }
        let padded = header.has(flag::PADDED);
        let end = header.has(flag::END_STREAM);
        if padded && header.length == 0 {
            return Err(Error::new(ErrorCode::FRAME_SIZE_ERROR, "DATA frame too short"));
        }
        self.grant.consume(header.length).map_err(|_| {
            Error::new(ErrorCode::FLOW_CONTROL_ERROR, "more than the connection's window")
        })?;
        let fault = match self.streams.find(id).map(|slot| self.streams.at(slot)) {
            Some(stream) if !stream.receiving => Some(ErrorCode::STREAM_CLOSED),
            Some(stream) if !stream.head_received => Some(ErrorCode::PROTOCOL_ERROR),
            Some(stream) => {
                stream.grant.consume(header.length).err().map(|_| ErrorCode::FLOW_CONTROL_ERROR)
            }
            None => Some(self.fault_of_late_data(id)),
        };
        match fault {
            None if header.length == 0 && !end => self.take_idle_frames(1)?,
            None => self.idle_frames.give_back(RECEIVED_RETURNS),
            Some(ErrorCode::NO_ERROR) => self.take_idle_frames(1)?,
            Some(code) => self.fail_stream(id, code)?,
        }
        self.inbound.data = Some(DataFrame {
            stream: id,
            left: header.length,
            padding: 0,
            padded,
            end,
            discard: fault.is_some(),
        });
        Ok(())
    }

    /// NO_ERROR: data that was on its way when we ended the stream.
    fn fault_of_late_data(&self, id: u32) -> ErrorCode {
        match H::how_ended(self, id) {
            Ended::ByUs => ErrorCode::NO_ERROR,
            Ended::ByPeer | Ended::Unknown => ErrorCode::STREAM_CLOSED,
        }
    }

    /// Hands out as much of the DATA frame as there is.
    fn continue_data<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Error> {
        let Some(mut frame) = self.inbound.data else { return Ok(Step::Continue) };
        if frame.padded {
            let Some((&padding, rest)) = input.split_first() else {
                return Ok(Step::InputUsedUp);
            };
            *input = rest;
            self.take_padding(&mut frame, usize::from(padding))?;
        }
        let body = frame.left - frame.padding;
        let count = body.min(input.len());
        if body > 0 && count == 0 {
            self.inbound.data = Some(frame);
            return Ok(Step::InputUsedUp);
        }
        let (data, rest) = input.split_at(count);
        *input = rest;
        frame.left -= count;
        if count == body {
            let skipped = frame.padding.min(input.len());
            *input = input.split_at(skipped).1;
            frame.padding -= skipped;
            frame.left -= skipped;
        }
        let end = frame.end && count == body;
        frame.end &= !end;
        let done = frame.left == 0;
        self.inbound.data = if done { None } else { Some(frame) };
        if count == 0 && !end {
            return Ok(if done { Step::Continue } else { Step::InputUsedUp });
        }
        let notice = self.deliver(&frame, data, end)?;
        Ok(notice.map_or(Step::Continue, Step::Notice))
    }

    /// Padding is returned to the peer's windows at once: nobody will.
    fn take_padding(&mut self, frame: &mut DataFrame, padding: usize) -> Result<(), Error> {
        frame.padded = false;
        frame.left -= 1;
        if padding > frame.left {
            return Err(protocol_error("padding longer than its frame"));
        }
        frame.padding = padding;
        if frame.left == padding && !frame.end {
            self.take_idle_frames(3)?;
        }
        if !frame.discard {
            self.release_stream(frame.stream, padding as u32 + 1);
        }
        self.release_connection(padding as u32 + 1);
        Ok(())
    }

    fn deliver<'i>(
        &mut self,
        frame: &DataFrame,
        data: &'i [u8],
        end: bool,
    ) -> Result<Option<Notice<'i>>, Error> {
        let id = frame.stream;
        let length = data.len() as u32;
        let wanted = if frame.discard { None } else { self.streams.get_mut(id) };
        let Some(stream) = wanted else {
            self.release_connection(length);
            return Ok(None);
        };
        if let Some(left) = stream.length_left {
            let left = left.checked_sub(u64::from(length));
            stream.length_left = left;
            if left.is_none() || end && left != Some(0) {
                self.release_connection(length);
                return self.fail_stream(id, ErrorCode::PROTOCOL_ERROR).map(|()| None);
            }
        }
        stream.receiving = !end;
        let lingers = stream.lingers;
        if lingers {
            self.release_connection(length);
        } else if stream.held {
            stream.held_bytes += length;
        } else {
            self.release_stream(id, length);
            self.release_connection(length);
        }
        if end {
            H::after_received_end(self, id);
        }
        Ok((!lingers).then_some(Notice::Data { stream: id, data, end }))
    }

    fn handle_reset<'i>(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        let code = ErrorCode(u32::from_be_bytes(frame::exactly::<4>(payload)?));
        let id = header.stream;
        if id.is_multiple_of(2) || id > self.last_stream {
            return Err(protocol_error("RST_STREAM on a stream that was never open"));
        }
        if self.streams.find(id).is_none() {
            return self.take_idle_frames(1).map(|()| None);
        }
        self.take_reset()?;
        let lingers = self.lingers(id);
        self.close_stream(id, Ended::ByPeer);
        Ok((!lingers).then_some(Notice::Reset { stream: id, code }))
    }

    fn handle_ping<'i>(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        let opaque = frame::exactly::<8>(payload)?;
        if header.stream != 0 {
            return Err(protocol_error("PING on a stream"));
        }
        self.take_idle_frames(1)?;
        if !header.has(flag::ACK) {
            frame::put_ping(self.output.small(), flag::ACK, opaque);
            self.count_control();
            return Ok(Some(Notice::Ping { opaque }));
        }
        let is_own = H::take_ping_ack(self, opaque);
        Ok((!is_own).then_some(Notice::PingAck { opaque }))
    }

    fn handle_go_away<'i>(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Notice<'i>>, Error> {
        let Some((fixed, _debug)) = payload.split_first_chunk::<8>() else {
            return Err(Error::new(ErrorCode::FRAME_SIZE_ERROR, "GOAWAY frame too short"));
        };
        if header.stream != 0 {
            return Err(protocol_error("GOAWAY on a stream"));
        }
        self.take_idle_frames(1)?;
        let [l0, l1, l2, l3, code @ ..] = *fixed;
        H::take_go_away(self, u32::from_be_bytes([l0 & 0x7f, l1, l2, l3]));
        Ok(Some(Notice::GoAway { code: ErrorCode(u32::from_be_bytes(code)) }))
    }

    fn handle_window_update(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), Error> {
        let increment = i64::from(u32::from_be_bytes(frame::exactly::<4>(payload)?) & WINDOW_MAX);
        let id = header.stream;
        self.take_idle_frames(1)?;
        if id == 0 {
            if increment == 0 {
                return Err(protocol_error("WINDOW_UPDATE of nothing"));
            }
            return self.window.adjust(increment).map_err(|_| {
                Error::new(ErrorCode::FLOW_CONTROL_ERROR, "the connection's window overflows")
            });
        }
        if id.is_multiple_of(2) || id > self.last_stream {
            return Err(protocol_error("WINDOW_UPDATE on a stream that was never open"));
        }
        let Some(slot) = self.streams.find(id) else { return Ok(()) };
        if increment == 0 {
            return self.fail_stream(id, ErrorCode::PROTOCOL_ERROR);
        }
        if self.streams.at(slot).window.adjust(increment).is_err() {
            return self.fail_stream(id, ErrorCode::FLOW_CONTROL_ERROR);
        }
        self.streams.wake(slot);
        Ok(())
    }

    fn handle_settings(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), Error> {
        if header.stream != 0 {
            return Err(protocol_error("SETTINGS on a stream"));
        }
        let ack = header.has(flag::ACK);
        let length_ok = if ack { payload.is_empty() } else { payload.len().is_multiple_of(6) };
        if !length_ok {
            return Err(Error::new(ErrorCode::FRAME_SIZE_ERROR, "SETTINGS of the wrong length"));
        }
        self.take_idle_frames(1)?;
        if ack {
            self.apply_own_settings();
            return Ok(());
        }
        self.inbound.settings_seen = true;
        let mut initial_window = self.peer.initial_window;
        for (key, value) in frame::settings(payload) {
            match key {
                setting::HEADER_TABLE_SIZE => self.encoder.set_size_limit(value),
                setting::INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                    return Err(Error::new(
                        ErrorCode::FLOW_CONTROL_ERROR,
                        "INITIAL_WINDOW_SIZE too large",
                    ));
                }
                setting::INITIAL_WINDOW_SIZE => initial_window = value,
                setting::MAX_FRAME_SIZE => {
                    if !(FRAME_SIZE_DEFAULT..=FRAME_SIZE_MAX).contains(&value) {
                        return Err(protocol_error("MAX_FRAME_SIZE out of range"));
                    }
                    self.peer.max_frame_size = value as usize;
                }
                _ => self.half.take_setting(key, value)?,
            }
        }
        self.set_peer_window(initial_window)?;
        frame::put_settings_ack(self.output.small());
        self.count_control();
        Ok(())
    }

    /// Changes all streams' windows by the difference (RFC 9113 6.9.2): once a frame, however often it is named.
    fn set_peer_window(&mut self, initial_window: u32) -> Result<(), Error> {
        let by = i64::from(initial_window) - i64::from(self.peer.initial_window);
        self.peer.initial_window = initial_window;
        if by == 0 || self.streams.is_empty() {
            return Ok(());
        }
        self.take_idle_frames((self.streams.len() / 256) as u32)?;
        for stream in self.streams.iter_mut() {
            stream.window.adjust(by).map_err(|_| {
                Error::new(ErrorCode::FLOW_CONTROL_ERROR, "a stream's window overflows")
            })?;
        }
        if by > 0 {
            self.streams.wake_all();
        }
        Ok(())
    }

    /// The peer acknowledged our SETTINGS: what it may do shrinks to them.
    fn apply_own_settings(&mut self) {
        if self.settings_acked {
            return;
        }
        let before = self.granted_initial_window();
        self.settings_acked = true;
        let by = i64::from(self.config.initial_window) - i64::from(before);
        if by != 0 {
            for stream in self.streams.iter_mut() {
                stream.grant.adjust(by);
            }
        }
        self.inbound.decoder.set_size_limit(self.config.header_table_size);
        self.inbound.head_generation = None;
    }
}
