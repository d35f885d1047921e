//! `etcdserverpb.Watch`: requests to the hub, and its responses as messages.

use std::collections::VecDeque;

use api::error::transport;
use api::etcdserverpb as pb;
use api::frame::{MESSAGE_BYTES_MAX, TooLarge};
use api::mvccpb::event::EventType;
use api::response::{EventRef, WatchResponseRef};
use api::wire::Encode as _;
use mvcc::watch::{Command, Create, Kind, Response};
use mvcc::{Event, EventKind};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

use super::{Result, decode};
use crate::desk::Desk;

/// A stream of watches.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Its name for the hub.
    pub(crate) hub_stream: u64,
    /// Responses that were made messages of, and of which the hub does not know that they were taken.
    pub(crate) unacked: u32,
    /// Responses that wait until those before are taken; the hub sees to it that they are few. As messages they would
    /// take more memory: what they say is shared by all whom it concerns.
    pub(crate) waiting: VecDeque<Response>,
    /// It is among those that the owner of the calls looks after at the end of a turn.
    pub(crate) is_listed: bool,
}

impl Stream {
    pub(crate) fn new(hub_stream: u64) -> Self {
        Self { hub_stream, unacked: 0, waiting: VecDeque::new(), is_listed: false }
    }

    /// Tells the hub that all that was sent was taken.
    pub(crate) fn acknowledge(&mut self, desk: &mut Desk) {
        let responses = std::mem::take(&mut self.unacked);
        if responses > 0 {
            desk.watch(Command::Ack { stream: self.hub_stream, responses });
        }
    }
}

/// A message of the client.
pub(crate) fn request(desk: &mut Desk, stream: &Stream, request: &[u8]) -> Result<()> {
    let request: pb::WatchRequest = decode(request)?;
    let stream = stream.hub_stream;
    match request.request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            let has = |filter: FilterType| create.filters.contains(&filter.into());
            desk.watch(Command::Create(Create {
                stream,
                watch_id: create.watch_id,
                no_put: has(FilterType::Noput),
                no_delete: has(FilterType::Nodelete),
                key: create.key,
                range_end: create.range_end,
                start_revision: create.start_revision,
                progress_notify: create.progress_notify,
                prev_kv: create.prev_kv,
                fragment: create.fragment,
            }));
        }
        Some(RequestUnion::CancelRequest(cancel)) => {
            desk.watch(Command::Cancel { stream, watch_id: cancel.watch_id });
        }
        Some(RequestUnion::ProgressRequest(_)) => desk.watch(Command::Progress { stream }),
        None => {}
    }
    Ok(())
}

/// Appends the messages of a response, one after another, to the desk's frame, and lets `send` know of each of them.
pub(crate) fn respond(
    desk: &mut Desk,
    response: &Response,
    mut send: impl FnMut(&mut Desk),
) -> Result<()> {
    let mut message = Message {
        header: Some(desk.header(response.revision)),
        watch_id: response.watch_id,
        ..Message::default()
    };
    let reason;
    match &response.kind {
        Kind::Created => message.created = true,
        Kind::Refused(refusal) => {
            message.created = true;
            message.canceled = true;
            reason = refusal.to_string();
            message.cancel_reason = &reason;
        }
        Kind::Canceled => message.canceled = true,
        Kind::Compacted { compact_revision } => {
            message.canceled = true;
            message.compact_revision = *compact_revision;
        }
        Kind::Progress => {}
        Kind::Events { events, prev_kv, fragment } => {
            let max = desk.link.limits.max_receive_bytes();
            if !*fragment || events.len() < 2 {
                let message =
                    Message { events: event_refs(events, *prev_kv), ..message_head(&message) };
                desk.frame.add(&message).map_err(too_large)?;
                send(desk);
                return Ok(());
            }
            for piece in pieces(&message, events, *prev_kv, max) {
                let message = Message {
                    fragment: piece.end < events.len(),
                    events: event_refs(&events[piece], *prev_kv),
                    ..message_head(&message)
                };
                desk.frame.add(&message).map_err(too_large)?;
                send(desk);
            }
            return Ok(());
        }
    }
    desk.frame.add(&message).map_err(too_large)?;
    send(desk);
    Ok(())
}

type Message<'a, Events = std::iter::Empty<EventRef<'a>>> = WatchResponseRef<'a, Events>;

fn message_head<'a, Events: Default>(message: &Message<'a>) -> Message<'a, Events>
where
{
    WatchResponseRef {
        header: message.header,
        watch_id: message.watch_id,
        created: message.created,
        canceled: message.canceled,
        compact_revision: message.compact_revision,
        cancel_reason: message.cancel_reason,
        fragment: message.fragment,
        events: Events::default(),
    }
}

fn event_refs(events: &[Event], prev_kv: bool) -> EventRefs<'_> {
    EventRefs { events: events.iter(), prev_kv }
}

/// Events as they are written.
#[derive(Clone, Debug, Default)]
struct EventRefs<'a> {
    events: std::slice::Iter<'a, Event>,
    prev_kv: bool,
}

impl<'a> Iterator for EventRefs<'a> {
    type Item = EventRef<'a>;

    fn next(&mut self) -> Option<EventRef<'a>> {
        let event = self.events.next()?;
        Some(EventRef {
            event_type: match event.kind {
                EventKind::Put => EventType::Put,
                EventKind::Delete => EventType::Delete,
            },
            kv: &event.kv,
            prev_kv: event.prev_kv.as_ref().filter(|_| self.prev_kv),
        })
    }
}

/// How etcd cuts a response into messages of less than `max` bytes: all in one if it is small
/// enough, else as many events as fit into each, but at least one.
fn pieces(
    message: &Message<'_>,
    events: &[Event],
    prev_kv: bool,
    max: usize,
) -> Vec<std::ops::Range<usize>> {
    // Tag and flag of `fragment`, which all pieces but the last have and which is counted for all.
    let empty = message.encoded_len();
    let with_flag = empty + 2;
    let sizes: Vec<usize> = event_refs(events, prev_kv)
        .map(|event| {
            let len = event.encoded_len();
            1 + varint_len(len) + len
        })
        .collect();
    if empty + sizes.iter().sum::<usize>() < max {
        return std::iter::once(0..events.len()).collect();
    }
    let mut pieces = Vec::new();
    let (mut start, mut size) = (0, with_flag);
    for (index, event_size) in sizes.iter().enumerate() {
        if index > start && size + event_size >= max {
            pieces.push(start..index);
            (start, size) = (index, with_flag);
        }
        size += event_size;
    }
    pieces.push(start..events.len());
    pieces
}

fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(1)
}

fn too_large(error: TooLarge) -> api::Status {
    transport::streaming_message_larger_than_max(error.len as u64, MESSAGE_BYTES_MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn events(sizes: &[usize]) -> Vec<Event> {
        sizes
            .iter()
            .map(|size| Event {
                kind: EventKind::Put,
                kv: Bytes::from(vec![0; *size]),
                prev_kv: None,
            })
            .collect()
    }

    fn cut(sizes: &[usize], max: usize) -> String {
        let pieces = pieces(&Message::default(), &events(sizes), false, max);
        pieces.iter().map(|piece| format!("{}..{} ", piece.start, piece.end)).collect()
    }

    #[test]
    fn responses_are_cut_where_the_next_event_would_reach_the_limit() {
        // An event of n bytes takes n + 4 in a message of less than 128; the flag takes 2.
        assert_eq!(cut(&[10, 10, 10], 43), "0..3 ");
        assert_eq!(cut(&[10, 10, 10], 42), "0..2 2..3 ");
        assert_eq!(cut(&[10, 10, 10], 31), "0..2 2..3 ");
        assert_eq!(cut(&[10, 10, 10], 30), "0..1 1..2 2..3 ");
        assert_eq!(cut(&[10, 10, 10], 1), "0..1 1..2 2..3 ");
        assert_eq!(cut(&[100], 1), "0..1 ");
        assert_eq!(cut(&[50, 1, 1, 50], 60), "0..1 1..3 3..4 ");
        assert_eq!(cut(&[50, 1, 1, 50], 62), "0..2 2..4 ");
    }

    #[test]
    fn varints_are_counted() {
        let counted = [0, 1, 127, 128, 16383, 16384, usize::MAX].map(varint_len);
        assert_eq!(counted, [1, 1, 1, 2, 2, 3, 10]);
    }
}
