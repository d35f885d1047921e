//! Calls that are worked off by a task of their own, in steps that are calls themselves.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::{Code, Status};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::call::{Step, Stream};
use crate::desk::{CallInfo, CallKey, Desk, Local, Next};
use crate::inside::Caller;
use crate::message::Frame;
use crate::service::unary_too_large;

/// Responses that a task may be ahead of its client.
const AHEAD_MAX: usize = 8;

/// Ties a task to its call: when this is dropped, the task learns that the call was given up.
#[derive(Debug)]
pub(crate) struct Leash(#[expect(dead_code, reason = "its drop is what counts")] Sender);

type Sender = oneshot::Sender<Infallible>;

/// The task's end of a [`Leash`].
#[derive(Debug)]
pub(crate) struct GivenUp(oneshot::Receiver<Infallible>);

impl GivenUp {
    /// Waits until the call was given up.
    pub(crate) async fn wait(&mut self) {
        let _ = (&mut self.0).await;
    }
}

/// Ties work on another thread to its call: when this is dropped, the flag is set that the work looks at.
#[derive(Debug, Default)]
pub(crate) struct Tether(Arc<AtomicBool>);

impl Drop for Tether {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What work says that ended early. Nobody hears it.
pub(crate) fn given_up() -> Status {
    Status::fixed(Code::Canceled, "context canceled")
}

/// Works a response out on another thread. `job` ends with [`given_up`] when the call is over, and does not begin then: it
/// may have to wait for a thread.
pub(crate) fn elsewhere(
    core: mpsc::UnboundedSender<Local>,
    call: CallInfo,
    job: impl FnOnce(&mut Frame, &AtomicBool) -> Result<(), Status> + Send + 'static,
) -> Tether {
    let tether = Tether::default();
    let is_over = Arc::clone(&tether.0);
    tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut frame = Frame::default();
        let result = if is_over.load(Ordering::Relaxed) {
            Err(given_up())
        } else {
            job(&mut frame, &is_over).map(|()| frame)
        };
        // The core may be gone.
        let _ = core.send(Local::Worked(call, begun.elapsed(), result));
    });
    tether
}

/// Takes the responses of a call with many from its task.
#[derive(Debug)]
pub(crate) struct Messages {
    frames: mpsc::Sender<Result<Frame, Status>>,
    core: mpsc::UnboundedSender<Local>,
    call: CallKey,
}

impl Messages {
    /// Has the call's connection see whether there is something to do.
    #[cfg(feature = "interop")]
    pub(crate) fn pump(&self) {
        let _ = self.core.send(Local::Pump(self.call));
    }

    /// Ends the call.
    #[cfg(feature = "interop")]
    pub(crate) async fn fail(&self, status: Status) {
        let _ = self.frames.send(Err(status)).await;
    }

    /// Sends a response when the client is ready for it; whether the client is still there.
    pub(crate) async fn send(&self, message: &impl prost::Message) -> bool {
        let sent = self.frames.send(frame(message)).await.is_ok();
        let _ = self.core.send(Local::Pump(self.call));
        sent
    }
}

/// The responses of a call with many, as its connection takes them.
#[derive(Debug)]
pub(crate) struct TaskStream {
    frames: mpsc::Receiver<Result<Frame, Status>>,
    #[expect(dead_code, reason = "its drop is what counts")]
    leash: Leash,
}

impl TaskStream {
    /// Puts the next response into the desk's frame, if there is one.
    pub(crate) fn advance(&mut self, desk: &mut Desk) -> Result<Step, Status> {
        match self.frames.try_recv() {
            Ok(frame) => {
                desk.frame = frame?;
                Ok(Step::Message)
            }
            Err(mpsc::error::TryRecvError::Empty) => Ok(Step::Idle),
            Err(mpsc::error::TryRecvError::Disconnected) => Ok(Step::End),
        }
    }
}

/// Lets a task work out the one response of a call.
pub(crate) fn unary<M: prost::Message, F>(
    desk: &Desk,
    call: &CallInfo,
    job: impl FnOnce(Caller, GivenUp) -> F,
) -> Next
where
    F: Future<Output = Result<M, Status>> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let (core, call) = (desk.local.clone(), call.key);
    let work = job(desk.caller.clone(), GivenUp(receiver));
    tokio::spawn(async move {
        let result = work.await.and_then(|message| frame(&message));
        let _ = core.send(Local::Served(call, result));
    });
    Next::Task(Leash(sender))
}

/// Lets a task work out the responses of a call with many. It is dropped when the call is given up.
pub(crate) fn stream<F>(
    desk: &Desk,
    call: &CallInfo,
    job: impl FnOnce(Caller, Messages) -> F,
) -> Next
where
    F: Future<Output = ()> + Send + 'static,
{
    let caller = desk.caller.clone();
    Next::Stream(Stream::Task(messages(desk, call.key, |messages| job(caller, messages))))
}

/// The same without calls of its own.
pub(crate) fn messages<F>(desk: &Desk, call: CallKey, job: impl FnOnce(Messages) -> F) -> TaskStream
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let (frames, taken) = mpsc::channel(AHEAD_MAX);
    let core = desk.local.clone();
    let work = job(Messages { frames, core: core.clone(), call });
    tokio::spawn(async move {
        let mut given_up = GivenUp(receiver);
        tokio::select! {
            () = work => {}
            () = given_up.wait() => {}
        }
        let _ = core.send(Local::Pump(call));
    });
    TaskStream { frames: taken, leash: Leash(sender) }
}

fn frame(message: &impl prost::Message) -> Result<Frame, Status> {
    let mut frame = Frame::default();
    frame.set_message(message).map_err(unary_too_large)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use api::service::Rpc;
    use http2::StreamId;
    use tokio::runtime::Builder;

    use super::*;
    use crate::desk::ConnectionKey;

    /// Runs a test with one thread for work.
    fn run(test: impl Future<Output = ()>) {
        let mut builder = Builder::new_current_thread();
        builder.max_blocking_threads(1).build().expect("a runtime").block_on(test);
    }

    fn call(stream: u32) -> CallInfo {
        let connection = ConnectionKey { index: 0, generation: 0 };
        let key = CallKey { connection, stream: StreamId(stream) };
        CallInfo { key, rpc: Rpc::KvRange, begun: Instant::now(), deadline: None }
    }

    /// Which call was worked off, and whether to its end.
    async fn outcome(worked: &mut mpsc::UnboundedReceiver<Local>) -> (u32, bool) {
        match worked.recv().await.expect("an outcome") {
            Local::Worked(call, _, result) => (call.key.stream.0, result.is_ok()),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Work that tells when it has begun, and ends when it is told to.
    fn long(
        core: &mpsc::UnboundedSender<Local>,
    ) -> (Tether, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (begin, has_begun) = oneshot::channel();
        let (end, may_end) = oneshot::channel();
        let tether = elsewhere(core.clone(), call(1), move |_, is_over| {
            assert!(!is_over.load(Ordering::Relaxed));
            begin.send(()).expect("the test waits");
            may_end.blocking_recv().expect("the test goes on");
            if is_over.load(Ordering::Relaxed) { Err(given_up()) } else { Ok(()) }
        });
        (tether, has_begun, end)
    }

    #[test]
    fn work_learns_that_its_call_is_over() {
        run(async {
            let (core, mut worked) = mpsc::unbounded_channel();
            for is_over in [false, true] {
                let (tether, has_begun, end) = long(&core);
                has_begun.await.expect("begun");
                let kept = (!is_over).then_some(tether);
                end.send(()).expect("it waits");
                assert_eq!(outcome(&mut worked).await, (1, !is_over));
                drop(kept);
            }
        });
    }

    #[test]
    fn work_does_not_begin_when_its_call_is_over() {
        run(async {
            let (core, mut worked) = mpsc::unbounded_channel();
            let (_first, has_begun, end) = long(&core);
            has_begun.await.expect("begun");
            drop(elsewhere(core.clone(), call(3), |_, _| panic!("nobody wants it")));
            let _last = elsewhere(core.clone(), call(5), |_, _| Ok(()));
            end.send(()).expect("it waits");
            for expected in [(1, true), (3, false), (5, true)] {
                assert_eq!(outcome(&mut worked).await, expected);
            }
        });
    }
}
