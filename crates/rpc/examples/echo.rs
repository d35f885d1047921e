//! A front door with nothing behind it, on one thread: `echo ADDRESS`. A serializable Range is answered out of an empty
//! store; what a turn proposes comes back as if it were applied. With `echo ADDRESS hand-over` another thread says so, as
//! in a member. `cargo xtask bench --only echo` measures what that costs beside the same on tonic.

use std::future::poll_fn;
use std::net::TcpListener;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::Poll;

use apply::{Outcome, Reply};
use backend::Backend;
use env::{Clock, MemDisk, OsClock};
use mvcc::Store;
use replica::Event;
use rpc::{Core, Delivery, Inbox, Limits, Link, Metrics, RequestIds, Socket, State, Tally};

/// What a queue holds.
const QUEUE_MAX: usize = 1024;

fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("usage: echo ADDRESS [hand-over]");
    let hands_over = args.next().is_some_and(|word| word == "hand-over");
    let listener = TcpListener::bind(&address).expect("the address is free");
    let (mut backend, _committer) =
        Backend::open(MemDisk::new(), Path::new("db"), backend::Options::default())
            .expect("memory does not fail");
    let (store, _) = Store::restore(&mut backend, mvcc::Options::default()).expect("it is empty");
    let state = Arc::new(State::new(7, 1, "3.7.3"));
    state.leader.store(1, Ordering::Relaxed);
    state.term.store(2, Ordering::Relaxed);
    *state.cluster_version.write() = Some("3.7.0".to_owned());
    let inbox = Arc::new(Inbox::new());
    let (consensus, events) = sync_channel(QUEUE_MAX);
    // Nobody asks for these.
    let (apply, _commands) = sync_channel(QUEUE_MAX);
    let (watch, _watches) = sync_channel(QUEUE_MAX);
    let (leader, _questions) = tokio::sync::mpsc::channel(QUEUE_MAX);
    let link = Link {
        consensus,
        apply,
        watch,
        leader,
        reader: store.reader(),
        state,
        limits: Arc::new(Limits::default()),
        metrics: Arc::new(Metrics::new()),
    };
    let accepted = Arc::clone(&inbox);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            accepted.push(Delivery::Socket(Socket::Tcp(stream), Tally::default()));
        }
    });
    let ids = RequestIds::new(1, 0, OsClock::new().now_wall());
    let core = Core::new(link, ids, Arc::clone(&inbox));
    if hands_over {
        std::thread::spawn(move || events.iter().for_each(|event| reply(event, &inbox)));
        core.run().expect("a runtime");
    } else {
        run_with_replies(core, &events, &inbox).expect("a runtime");
    }
}

/// Runs the core, and after each of its turns answers what the turn has asked for.
fn run_with_replies(core: Core, events: &Receiver<Event>, inbox: &Inbox) -> std::io::Result<()> {
    let mut core = pin!(core.serve());
    let turns = poll_fn(|cx| {
        loop {
            if core.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let asked = events.try_iter().map(|event| reply(event, inbox)).count();
            if asked == 0 {
                return Poll::Pending;
            }
        }
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(turns);
    Ok(())
}

/// Says of all that is proposed that it is done.
fn reply(event: Event, inbox: &Inbox) {
    match event {
        Event::Propose(proposals) => {
            let put = |id| Reply { id, result: Ok(Outcome::Put { revision: 1, prev_kv: None }) };
            let replies = proposals.into_iter().map(|it| put(it.id)).collect();
            inbox.push(Delivery::Replies(replies));
        }
        Event::Read { id } => inbox.push(Delivery::ReadReady { id, result: Ok(()) }),
        _ => {}
    }
}
