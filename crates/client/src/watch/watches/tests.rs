use std::fmt::Write as _;
use std::sync::Arc;

use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use api::mvccpb::{Event, KeyValue};

use super::super::Command;
use super::super::queue::Queue;
use super::Watches;
use crate::error::Error;

/// A stream that is played: what goes in, and as text what comes out.
#[derive(Default)]
struct Played {
    watches: Watches,
    queues: Vec<Arc<Queue>>,
    log: String,
}

impl Played {
    fn watch(&mut self, key: &'static str, start_revision: i64) {
        let queue = Arc::new(Queue::new(self.queues.len() as u64, false));
        let request =
            WatchCreateRequest { key: key.into(), start_revision, ..WatchCreateRequest::default() };
        self.queues.push(Arc::clone(&queue));
        self.command(Command::Create(queue, request));
    }

    fn command(&mut self, command: Command) {
        self.watches.command(command);
        self.requests();
    }

    fn requests(&mut self) {
        while let Some(request) = self.watches.next_request() {
            let text = match request.request_union.expect("a request") {
                RequestUnion::CreateRequest(create) => {
                    let key = String::from_utf8_lossy(&create.key).into_owned();
                    format!("create {key} from {}", create.start_revision)
                }
                RequestUnion::CancelRequest(cancel) => format!("cancel {}", cancel.watch_id),
                RequestUnion::ProgressRequest(_) => "progress".to_owned(),
            };
            writeln!(self.log, "{text}").expect("a string");
        }
    }

    fn response(&mut self, response: WatchResponse) {
        let wants_login = |error: &Error| error.is(api::Error::InvalidAuthToken);
        if let Err(error) = self.watches.handle(response, wants_login) {
            writeln!(self.log, "again: {error}").expect("a string");
        }
        self.requests();
        self.deliveries();
    }

    fn created(&mut self, watch_id: i64, revision: i64) {
        self.response(WatchResponse { created: true, ..response(watch_id, revision) });
    }

    fn events(&mut self, watch_id: i64, fragment: bool, revisions: &[i64]) {
        let event = |&mod_revision: &i64| Event {
            kv: Some(KeyValue { mod_revision, ..KeyValue::default() }),
            ..Event::default()
        };
        let events = revisions.iter().map(event).collect();
        let revision = revisions.last().copied().unwrap_or(0);
        self.response(WatchResponse { events, fragment, ..response(watch_id, revision) });
    }

    fn broken(&mut self) {
        self.watches.broken();
        writeln!(self.log, "--").expect("a string");
        self.requests();
    }

    /// What the owners find.
    fn deliveries(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for (number, queue) in self.queues.iter().enumerate() {
            while let Some(Some(popped)) = runtime.block_on(async {
                tokio::select! {
                    biased;
                    popped = queue.pop() => Some(popped),
                    () = std::future::ready(()) => None,
                }
            }) {
                let text = match popped.response {
                    Ok(response) if response.events.is_empty() => {
                        format!("progress {}", response.header.revision)
                    }
                    Ok(response) => {
                        let revisions =
                            response.events.iter().filter_map(|event| event.kv.as_ref());
                        format!("{:?}", revisions.map(|kv| kv.mod_revision).collect::<Vec<_>>())
                    }
                    Err(error) => error.to_string(),
                };
                writeln!(self.log, "  {number}: {text}").expect("a string");
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, expected: &str) {
        let lines = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(lines(&std::mem::take(&mut self.log)), expected);
    }
}

fn response(watch_id: i64, revision: i64) -> WatchResponse {
    let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    WatchResponse { header, watch_id, ..WatchResponse::default() }
}

#[test]
fn watchers_are_made_one_by_one_and_go_on_behind_what_they_heard() {
    let mut played = Played::default();
    played.watch("a", 0);
    played.watch("b", 0);
    played.watch("c", 100);
    played.expect("create a from 0");
    played.created(7, 10);
    played.created(8, 11);
    played.created(9, 11);
    played.expect("create b from 0\ncreate c from 100");
    played.events(7, false, &[12, 12, 14]);
    played.response(response(8, 20));
    played.response(response(9, 20));
    played.expect("  0: [12, 12, 14]\n  1: progress 20\n  2: progress 20");
    // The first has heard up to 14, the second is known to have missed nothing up to 20.
    played.broken();
    played.created(1, 30);
    played.created(2, 30);
    played.created(3, 30);
    played.expect("--\ncreate a from 15\ncreate b from 21\ncreate c from 100");
    // What was heard already is not told again.
    played.events(1, false, &[14, 15]);
    played.events(3, false, &[99]);
    played.expect("  0: [15]");
    // Nothing has happened yet.
    played.broken();
    played.expect("--\ncreate a from 16");
}

#[test]
fn one_that_heard_nothing_goes_on_where_it_was_made() {
    let mut played = Played::default();
    played.watch("a", 0);
    played.created(0, 10);
    played.broken();
    played.expect("create a from 0\n--\ncreate a from 11");
}

#[test]
fn parts_are_put_together_or_not_told() {
    let mut played = Played::default();
    played.watch("a", 1);
    played.created(0, 10);
    played.events(0, true, &[3, 4]);
    played.events(0, true, &[4]);
    played.broken();
    played.created(0, 10);
    played.events(0, true, &[3, 4]);
    played.events(0, false, &[4, 5]);
    played.broken();
    played.expect("create a from 1\n--\ncreate a from 1\n  0: [3, 4, 4, 5]\n--\ncreate a from 6");
}

#[test]
fn progress_of_the_stream_is_told_to_those_that_are_there() {
    let mut played = Played::default();
    played.command(Command::Progress);
    played.watch("a", 0);
    played.watch("b", 0);
    played.created(0, 10);
    played.command(Command::Progress);
    played.response(response(-1, 15));
    played.created(1, 16);
    played.broken();
    played.created(0, 20);
    played.expect(
        "create a from 0\ncreate b from 0\nprogress\n  0: progress 15\n--\ncreate a from 16\n\
         create b from 17",
    );
}

#[test]
fn those_that_are_gone_are_cancelled() {
    let mut played = Played::default();
    played.watch("a", 0);
    played.watch("b", 0);
    played.watch("c", 0);
    // One is being made, one is there, and one was not asked for yet.
    played.command(Command::Cancel(2));
    played.command(Command::Cancel(0));
    played.created(5, 10);
    played.created(6, 10);
    played.command(Command::Cancel(1));
    played.expect("create a from 0\ncancel 5\ncreate b from 0\ncancel 6");
    assert!(played.watches.is_empty());
    played.events(6, false, &[11]);
    played.expect("cancel 6");
    let canceled = WatchResponse { canceled: true, ..response(6, 11) };
    played.response(canceled);
    played.broken();
    played.expect("--");
}

#[test]
fn the_server_says_why_it_ends_a_watcher() {
    let mut played = Played::default();
    let reasons = [
        ("", 5),
        ("rpc error: code = PermissionDenied desc = etcdserver: permission denied", 0),
        ("etcdserver: permission denied", 0),
        ("mvcc: watcher range is empty", 0),
    ];
    for (number, (cancel_reason, compact_revision)) in reasons.into_iter().enumerate() {
        played.watch("a", 1);
        let (watch_id, cancel_reason) = (number as i64, cancel_reason.to_owned());
        if number == 0 {
            played.created(watch_id, 10);
        }
        let end = WatchResponse {
            // Those that were never made have no id.
            watch_id: if number == 0 { watch_id } else { -1 },
            created: number != 0,
            canceled: true,
            compact_revision,
            cancel_reason,
            ..response(watch_id, 10)
        };
        played.response(end);
    }
    played.expect(
        "create a from 1\n  0: etcdserver: mvcc: required revision has been compacted\n\
         create a from 1\n  1: etcdserver: permission denied\n\
         create a from 1\n  2: etcdserver: permission denied\n\
         create a from 1\n  3: etcdserver: watch canceled: mvcc: watcher range is empty",
    );
    assert!(played.watches.is_empty());
    played.watch("a", 1);
    let old = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token".to_owned();
    let end = WatchResponse { created: true, canceled: true, ..response(-1, 10) };
    played.response(WatchResponse { cancel_reason: old, ..end });
    played.broken();
    played.expect("create a from 1\nagain: etcdserver: invalid auth token\n--\ncreate a from 1");
}

#[test]
fn one_that_does_not_keep_up_is_taken_off_and_comes_back() {
    let mut played = Played::default();
    played.watch("a", 1);
    played.created(0, 10);
    let value = bytes::Bytes::from(vec![0; 5 << 20]);
    let large = |mod_revision| WatchResponse {
        events: vec![Event {
            kv: Some(KeyValue { mod_revision, value: value.clone(), ..KeyValue::default() }),
            ..Event::default()
        }],
        ..response(0, mod_revision)
    };
    let no_login = |_: &Error| false;
    played.watches.handle(large(2), no_login).expect("taken");
    played.requests();
    played.expect("create a from 1");
    played.watches.handle(large(3), no_login).expect("taken");
    played.requests();
    played.expect("cancel 0");
    // While it is away a new stream does not bring it back.
    played.broken();
    played.expect("--");
    played.deliveries();
    played.expect("  0: [2]\n  0: [3]");
    played.command(Command::Resume(0));
    played.expect("create a from 4");
    // Told twice, since a stream broke at the same time, it is made once.
    played.command(Command::Resume(0));
    played.created(1, 10);
    played.expect("");
}
