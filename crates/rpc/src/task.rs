//! Calls that are worked off by a task of their own, in steps that are calls themselves.

use std::convert::Infallible;
use std::future::Future;

use api::Status;
use tokio::sync::{mpsc, oneshot};

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
