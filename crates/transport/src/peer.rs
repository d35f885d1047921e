//! One other member: which way a message to it takes, and the tasks that keep the ways open.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use raft::{Message, MessageType, SnapshotStatus};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::Config;
use crate::event::Event;
use crate::hex;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::probe;
use crate::reader::Reader;
use crate::shared::Shared;
use crate::status::{Failure, Status};
use crate::url::{PeerUrl, Picker};
use crate::writer::{Sent, StreamType, Writer};

/// A member of the cluster.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) picker: Arc<Picker>,
    pub(crate) status: Arc<Status>,
    shared: Arc<Shared>,
    appends: Writer,
    messages: Writer,
    /// `None` once stopped.
    pipeline: Mutex<Option<mpsc::Sender<Message>>>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// Tasks that know the URLs.
    probes: Mutex<Vec<AbortHandle>>,
    /// Whether it has been connected since it was last said to be gone.
    has_arrived: AtomicBool,
}

impl Peer {
    pub(crate) fn start(shared: &Arc<Shared>, id: u64, urls: Vec<PeerUrl>) -> Arc<Self> {
        info!("remote-peer-id" = hex(id), "starting remote peer");
        let picker = Arc::new(Picker::new(urls));
        let status = Arc::new(Status::new(shared.config.id, id, shared.metrics.clone()));
        let pipeline = Pipeline {
            shared: Arc::clone(shared),
            to: id,
            picker: Arc::clone(&picker),
            status: Arc::clone(&status),
        };
        let peer = Arc::new(Self {
            id,
            picker,
            status,
            shared: Arc::clone(shared),
            appends: Writer::default(),
            messages: Writer::default(),
            pipeline: Mutex::new(Some(pipeline.start())),
            tasks: Mutex::default(),
            probes: Mutex::default(),
            has_arrived: AtomicBool::new(false),
        });
        for stream in [StreamType::Append, StreamType::Message] {
            let reader = Reader::new(Arc::clone(&peer), stream);
            peer.tasks.lock().push(shared.handle.spawn(reader.run()).abort_handle());
        }
        peer.probe();
        info!("remote-peer-id" = hex(id), "started remote peer");
        peer
    }

    fn probe(&self) {
        let mut probes = self.probes.lock();
        probes.drain(..).for_each(|probe| probe.abort());
        *probes = probe::start(&self.shared, self.id, &self.picker.all());
    }

    pub(crate) fn update(&self, urls: Vec<PeerUrl>) {
        self.picker.update(urls);
        self.probe();
    }

    pub(crate) fn stop(&self) {
        info!("remote-peer-id" = hex(self.id), "stopping remote peer");
        self.tasks
            .lock()
            .drain(..)
            .chain(self.probes.lock().drain(..))
            .for_each(|task| task.abort());
        self.appends.finish();
        self.messages.finish();
        *self.pipeline.lock() = None;
        self.status.forget();
        info!("remote-peer-id" = hex(self.id), "stopped remote peer");
    }

    /// Has a task end with the peer.
    pub(crate) fn own(&self, task: AbortHandle) {
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn local_id(&self) -> u64 {
        self.shared.config.id
    }

    pub(crate) const fn writer(&self, stream: StreamType) -> &Writer {
        match stream {
            StreamType::Append => &self.appends,
            StreamType::Message => &self.messages,
        }
    }

    pub(crate) fn open_streams(&self) -> usize {
        usize::from(self.appends.is_attached()) + usize::from(self.messages.is_attached())
    }

    /// Sends by the way that fits, or drops the message and says so.
    pub(crate) fn send(&self, message: Message) {
        let (msg_type, from) = (message.msg_type, message.from);
        let mut name = "pipeline";
        let mut sent = Sent::NotAttached(message);
        // A snapshot would hold up what comes behind it in a stream.
        if msg_type != MessageType::Snap {
            if msg_type == MessageType::App
                && let Sent::NotAttached(message) = sent
            {
                name = "streamMsgAppV2";
                sent = self.appends.send(message);
            }
            if let Sent::NotAttached(message) = sent {
                name = "streamMsg";
                sent = self.messages.send(message);
            }
        }
        if let Sent::NotAttached(message) = sent {
            name = "pipeline";
            let pipeline = self.pipeline.lock();
            let Some(pipeline) = &*pipeline else { return };
            sent = match pipeline.try_send(message) {
                Ok(()) => Sent::Yes,
                Err(_) => Sent::Full,
            };
        }
        if matches!(sent, Sent::Yes) {
            return;
        }
        self.shared.report(Event::Unreachable(self.id));
        if msg_type == MessageType::Snap {
            let status = SnapshotStatus::Failure;
            self.shared.report(Event::Snapshot { to: self.id, status });
        }
        let to = hex(self.id);
        warn!(
            "message-type" = msg_type.name(),
            "local-member-id" = hex(self.local_id()),
            from = hex(from),
            "remote-peer-id" = to,
            "remote-peer-name" = name,
            "remote-peer-active" = self.status.is_active(),
            "dropped internal Raft message since sending buffer is full"
        );
        self.metrics().peer_sent_failures_total.with_label_values(&[&to]).inc();
    }

    pub(crate) fn deactivate(&self, failure: Failure, reason: &dyn Display) {
        self.status.deactivate(failure, reason);
    }

    /// A stream of the peer is open.
    pub(crate) fn arrived(&self) {
        self.has_arrived.store(true, Ordering::Relaxed);
    }

    /// A connection could not be opened. A refusal comes from a kernel whose process has gone.
    pub(crate) fn dial_failed(&self, err: &io::Error) {
        if err.kind() == io::ErrorKind::ConnectionRefused
            && self.has_arrived.swap(false, Ordering::Relaxed)
        {
            self.shared.report(Event::Gone(self.id));
        }
    }
}

/// A member that has sent something before this one has heard of it from the log.
#[derive(Debug)]
pub(crate) struct Remote {
    id: u64,
    status: Arc<Status>,
    pipeline: mpsc::Sender<Message>,
}

impl Remote {
    pub(crate) fn start(shared: &Arc<Shared>, id: u64, urls: Vec<PeerUrl>) -> Self {
        let status = Arc::new(Status::new(shared.config.id, id, shared.metrics.clone()));
        let pipeline = Pipeline {
            shared: Arc::clone(shared),
            to: id,
            picker: Arc::new(Picker::new(urls)),
            status: Arc::clone(&status),
        };
        Self { id, status, pipeline: pipeline.start() }
    }

    pub(crate) fn send(&self, shared: &Shared, message: Message) {
        let (msg_type, from) = (message.msg_type, message.from);
        if self.pipeline.try_send(message).is_ok() {
            return;
        }
        let to = hex(self.id);
        warn!(
            "message-type" = msg_type.name(),
            "local-member-id" = hex(shared.config.id),
            from = hex(from),
            "remote-peer-id" = to,
            "remote-peer-active" = self.status.is_active(),
            "dropped Raft message since sending buffer is full (overloaded network)"
        );
        shared.metrics.peer_sent_failures_total.with_label_values(&[&to]).inc();
    }
}
