//! The open streams of a connection, for either role: a slab, an index over it, and the queue of those that have
//! data to send and a window to send it in.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use bytes::{Buf, Bytes};

use crate::{
    Field, Indexing, Output,
    flow::{Grant, Window},
};

/// Recently closed streams that are remembered, to tell a late frame from a wrong one.
const RESET_MEMORY: usize = 256;
const CLOSED_MEMORY: usize = 8;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// The peer has not ended its side.
    pub(crate) receiving: bool,
    /// The peer's head has come.
    pub(crate) head_received: bool,
    /// Our head is sent.
    pub(crate) head_sent: bool,
    /// A request that is answered in full and goes on: what comes is checked, and dropped.
    pub(crate) lingers: bool,
    /// Data handed out is returned to the peer by [`crate::Connection::release`] only.
    pub(crate) held: bool,
    /// Bytes handed out and not yet returned.
    pub(crate) held_bytes: u32,
    /// What of `content-length` is still to come.
    pub(crate) length_left: Option<u64>,
    /// The place in the output where the stream begins, if we opened it.
    pub(crate) opened_at: u64,
    pub(crate) grant: Grant,
    pub(crate) window: Window,
    pub(crate) queue: SendQueue,
    /// The queue went above the mark, and Writable is owed.
    pub(crate) above_mark: bool,
    /// Invariant: whether the stream stands in the ready queue.
    ready: bool,
}

impl Stream {
    pub(crate) fn new(id: u32, grant: Grant, window: Window) -> Self {
        Self {
            id,
            receiving: true,
            head_received: false,
            head_sent: false,
            lingers: false,
            held: false,
            held_bytes: 0,
            length_left: None,
            opened_at: 0,
            grant,
            window,
            queue: SendQueue::default(),
            above_mark: false,
            ready: false,
        }
    }

    fn can_send(&self) -> bool {
        self.queue.bytes > 0 && self.window.available() > 0
    }
}

/// The part of a body that waits, and what comes behind it.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    /// Invariant: none is empty.
    pieces: VecDeque<Bytes>,
    /// Invariant: the sum of the pieces' lengths.
    bytes: usize,
    pub(crate) end: End,
}

/// What follows the last queued byte.
#[derive(Debug, Default)]
pub(crate) enum End {
    /// More, perhaps.
    #[default]
    Open,
    /// END_STREAM on the last DATA frame.
    Data,
    /// Trailers. Kept as text, since a block must be encoded when it is sent.
    Trailers(Box<[OwnedField]>),
    /// Nothing, all is sent.
    Sent,
}

#[derive(Debug)]
pub(crate) struct OwnedField {
    name: Box<str>,
    value: Box<[u8]>,
    indexing: Indexing,
}

impl OwnedField {
    pub(crate) fn copy(field: &Field<'_>) -> Self {
        Self { name: field.name.into(), value: field.value.into(), indexing: field.indexing }
    }

    pub(crate) fn borrow(&self) -> Field<'_> {
        Field { name: &self.name, value: &self.value, indexing: self.indexing }
    }
}

impl SendQueue {
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Copies the pieces into one.
    pub(crate) fn own(&mut self) {
        if self.is_empty() {
            return;
        }
        let mut whole = Vec::with_capacity(self.bytes);
        self.pieces.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
        self.pieces.push_back(whole.into());
    }

    /// Moves the first `count` bytes to `output`.
    pub(crate) fn pop_to(&mut self, count: usize, output: &mut Output) {
        self.bytes -= count;
        let mut left = count;
        while left > 0 {
            let Some(front) = self.pieces.front_mut() else { break };
            if front.len() <= left {
                left -= front.len();
                if let Some(piece) = self.pieces.pop_front() {
                    output.push(piece);
                }
            } else if left < crate::output::CHUNK_MIN {
                output.small().extend_from_slice(front.get(..left).unwrap_or_default());
                front.advance(left);
                left = 0;
            } else {
                output.push(front.split_to(left));
                left = 0;
            }
        }
    }
}

/// A slot of the slab, valid until its stream is removed.
pub(crate) type Slot = u32;

/// How a recently closed stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By us, before the peer was done: frames that were on their way are no fault.
    ByUs,
    /// By both sides or the peer's reset.
    ByPeer,
    /// Never opened, or so long ago that it is forgotten.
    Unknown,
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    slab: Vec<Option<Stream>>,
    free: Vec<Slot>,
    index: HashMap<u32, Slot, BuildHasherDefault<IdHasher>>,
    ready: VecDeque<u32>,
    /// Ids in `ready` whose stream is gone.
    ready_stale: usize,
    ended_by_us: VecDeque<u32>,
    ended_by_peer: [u32; CLOSED_MEMORY],
    ended_by_peer_next: usize,
    /// Invariant: the sum of the queues' bytes.
    unsent: usize,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    pub(crate) fn memory(&self) -> usize {
        self.slab.capacity() * size_of::<Option<Stream>>()
            + self.index.capacity() * 9
            + (self.ready.capacity() + self.free.capacity() + self.ended_by_us.capacity()) * 4
            + self.unsent
    }

    pub(crate) fn find(&self, id: u32) -> Option<Slot> {
        self.index.get(&id).copied()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Stream> {
        self.slab.get(self.find(id)? as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let slot = self.find(id)?;
        self.slab.get_mut(slot as usize)?.as_mut()
    }

    /// The stream in a slot just found.
    pub(crate) fn at(&mut self, slot: Slot) -> &mut Stream {
        let stream = self.slab.get_mut(slot as usize).and_then(Option::as_mut);
        stream.expect("a slot is used before its stream is removed")
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slab.iter_mut().flatten()
    }

    pub(crate) fn insert(&mut self, stream: Stream) {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slab.push(None);
                (self.slab.len() - 1) as Slot
            }
        };
        if let Some(place) = self.slab.get_mut(slot as usize) {
            *place = Some(stream);
        }
        let earlier = self.index.insert(id, slot);
        assert!(earlier.is_none(), "a stream's id is used once");
    }

    pub(crate) fn remove(&mut self, id: u32, how: Ended) -> Option<Stream> {
        let slot = self.index.remove(&id)?;
        let stream = self.slab.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.unsent -= stream.queue.bytes;
        self.note_ended(id, how);
        if stream.ready {
            self.ready_stale += 1;
            if self.ready_stale > 64 && self.ready_stale > self.ready.len() / 2 {
                let index = &self.index;
                self.ready.retain(|id| index.contains_key(id));
                self.ready_stale = 0;
            }
        }
        Some(stream)
    }

    /// Remembers, for a while, how a stream ended.
    pub(crate) fn note_ended(&mut self, id: u32, how: Ended) {
        match how {
            Ended::ByUs => {
                if self.ended_by_us.len() == RESET_MEMORY {
                    self.ended_by_us.pop_front();
                }
                self.ended_by_us.push_back(id);
            }
            Ended::ByPeer | Ended::Unknown => {
                self.ended_by_peer_next = (self.ended_by_peer_next + 1) % CLOSED_MEMORY;
                if let Some(place) = self.ended_by_peer.get_mut(self.ended_by_peer_next) {
                    *place = id;
                }
            }
        }
    }

    pub(crate) fn how_ended(&self, id: u32) -> Ended {
        if self.ended_by_us.contains(&id) {
            Ended::ByUs
        } else if self.ended_by_peer.contains(&id) {
            Ended::ByPeer
        } else {
            Ended::Unknown
        }
    }

    /// Queues a piece of a stream's body.
    pub(crate) fn push(&mut self, slot: Slot, piece: Bytes) {
        self.unsent += piece.len();
        self.at(slot).queue.push(piece);
        self.wake(slot);
    }

    /// Moves `count` queued bytes of a stream to the output.
    pub(crate) fn pop_to(&mut self, slot: Slot, count: usize, output: &mut Output) {
        self.unsent -= count;
        self.at(slot).queue.pop_to(count, output);
    }

    /// Puts a stream in the ready queue if it has data and a window and is not there yet.
    pub(crate) fn wake(&mut self, slot: Slot) {
        let stream = self.at(slot);
        if stream.can_send() && !stream.ready {
            stream.ready = true;
            let id = stream.id;
            self.ready.push_back(id);
        }
    }

    pub(crate) fn wake_all(&mut self) {
        for slot in 0..self.slab.len() as Slot {
            if matches!(self.slab.get(slot as usize), Some(Some(_))) {
                self.wake(slot);
            }
        }
    }

    /// No stream waits for its turn.
    pub(crate) fn is_none_ready(&self) -> bool {
        self.ready.len() == self.ready_stale
    }

    /// The stream whose turn it is.
    pub(crate) fn next_ready(&mut self) -> Option<Slot> {
        loop {
            let id = self.ready.pop_front()?;
            let Some(slot) = self.find(id) else {
                self.ready_stale -= 1;
                continue;
            };
            let stream = self.at(slot);
            stream.ready = false;
            if stream.can_send() {
                return Some(slot);
            }
        }
    }
}

/// Spreads stream ids with one multiplication. The peer chooses ids, ascending ones, so the worst it can do is to
/// lengthen probes among its own streams.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The table takes its bucket from the low bits and its tag from the high ones.
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream {
        Stream::new(id, Grant::new(10), Window::new(10))
    }

    #[test]
    fn slots_are_used_again_and_ids_found() {
        let mut streams = Streams::default();
        for id in [1, 3, 5] {
            streams.insert(stream(id));
        }
        assert!(streams.remove(3, Ended::ByUs).is_some());
        assert!(streams.remove(3, Ended::ByUs).is_none());
        streams.insert(stream(7));
        assert_eq!(streams.slab.len(), 3);
        assert_eq!(streams.get(7).map(|s| s.id), Some(7));
        assert_eq!(streams.how_ended(3), Ended::ByUs);
        streams.remove(5, Ended::ByPeer);
        assert_eq!(streams.how_ended(5), Ended::ByPeer);
        assert_eq!(streams.how_ended(9), Ended::Unknown);
    }

    #[test]
    fn turns_go_round_and_gone_streams_lose_theirs() {
        let mut streams = Streams::default();
        for id in [1, 3, 5] {
            streams.insert(stream(id));
            let slot = streams.find(id).expect("inserted");
            streams.push(slot, Bytes::from_static(b"ab"));
            streams.wake(slot);
        }
        streams.remove(3, Ended::ByPeer);
        assert_eq!(streams.unsent(), 4);
        let mut order = Vec::new();
        let mut output = Output::default();
        while let Some(slot) = streams.next_ready() {
            order.push(streams.at(slot).id);
            streams.pop_to(slot, 1, &mut output);
            streams.wake(slot);
        }
        assert_eq!(order, [1, 5, 1, 5]);
        assert!(streams.is_none_ready());
        assert_eq!(output.chunk(), b"aabb");
    }

    #[test]
    fn the_ready_queue_does_not_grow_with_streams_that_come_and_go() {
        let mut streams = Streams::default();
        for id in (1..20_000).step_by(2) {
            streams.insert(stream(id));
            let slot = streams.find(id).expect("inserted");
            streams.push(slot, Bytes::from_static(b"a"));
            streams.remove(id, Ended::ByPeer);
        }
        assert!(streams.ready.len() <= 128);
        assert!(streams.memory() < 8192, "{}", streams.memory());
    }
}
