//! A member of one whose log is a counter: what is proposed is applied at once, in order.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::error::Error;
use apply::{Applier, Input, Output};
use backend::{Backend, Committer};
use cluster::Cluster;
use env::{Clock as _, MemDisk, OsClock};
use mvcc::watch::Hub;
use raft::{ConfChange, ConfChangeType, ConfState, Entry, EntryType};
use replica::{Event, Proposal};
use rpc::{
    AskLeader, Core, Delivery, Inbox, LeaderAnswer, LeaderRequest, Limits, Link, Metrics,
    RequestIds, Socket, State, Tally, WatchInput,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A running member; it stops when it is dropped.
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) metrics: Arc<Metrics>,
    connections: Tally,
    inbox: Arc<Inbox>,
    core: Option<JoinHandle<()>>,
}

/// What applies, and whether it may.
pub(crate) struct Machine {
    inner: Mutex<Inner>,
    resumed: Condvar,
}

struct Inner {
    state: Arc<State>,
    /// What the leader is asked, when that is another member, and what it says.
    leader_asked: Vec<LeaderRequest>,
    leader_answer: Result<LeaderAnswer, Error>,
    /// What becomes of a promotion, by raft's progress.
    learner: Result<(), Error>,
    transfers: Vec<u64>,
    applier: Applier,
    hub: Hub,
    committer: Committer<MemDisk>,
    clock: OsClock,
    index: u64,
    is_paused: bool,
    refusal: Option<Error>,
    /// Requests that consensus has seen, whatever came of them.
    proposed: usize,
    reads: usize,
    /// Sizes of the batches they came in.
    batches: Vec<usize>,
}

/// How many requests a queue of the member holds.
const QUEUE_MAX: usize = 1024;

impl Member {
    /// A member that, when it is dropped, does not wait for its clients.
    pub(crate) fn start() -> Self {
        let drain_timeout = Duration::ZERO;
        Self::with_limits(Limits { drain_timeout, ..Limits::default() })
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let state = Arc::new(State::new(7, 1, "3.7.3"));
        let machine = Arc::new(Machine::new(Arc::clone(&state)));
        state.leader.store(1, std::sync::atomic::Ordering::Relaxed);
        state.term.store(2, std::sync::atomic::Ordering::Relaxed);
        *state.cluster_version.write() = Some("3.7.0".to_owned());
        *state.storage_version.write() = Some("3.7.0".to_owned());
        let inbox = Arc::new(Inbox::new());
        let (consensus, events) = sync_channel(QUEUE_MAX);
        let (apply, commands) = sync_channel(QUEUE_MAX);
        let (watch, watches) = sync_channel(QUEUE_MAX);
        let (leader, questions) = tokio::sync::mpsc::channel(QUEUE_MAX);
        let metrics = Arc::new(Metrics::new());
        let link = Link {
            consensus,
            apply,
            watch,
            leader,
            reader: machine.lock().applier.reader(),
            state: Arc::clone(&state),
            limits: Arc::new(limits),
            metrics: Arc::clone(&metrics),
        };
        spawn(&machine, &inbox, move |machine, inbox| machine.consensus(&events, &inbox));
        spawn(&machine, &inbox, move |machine, inbox| machine.commands(&commands, &inbox));
        spawn(&machine, &inbox, move |machine, inbox| machine.watches(&watches, &inbox));
        spawn(&machine, &inbox, move |machine, inbox| machine.questions(questions, &inbox));
        let connections = Tally::default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (accepted, tally) = (Arc::clone(&inbox), connections.clone());
        std::thread::spawn(move || {
            // Ends with the test's process; the connections it takes go to a core that may be gone.
            while let Ok((stream, _)) = listener.accept() {
                accepted.push(Delivery::Socket(Socket::Tcp(stream), tally.clone()));
            }
        });
        let ids = RequestIds::new(1, 0, OsClock::new().now_wall());
        let core = Core::new(link, ids, Arc::clone(&inbox));
        let core = Some(std::thread::spawn(move || core.run().expect("a runtime")));
        Self { address, state, machine, metrics, connections, inbox, core }
    }

    /// Connections that the member has open.
    pub(crate) fn connections(&self) -> usize {
        // The loop that accepts has one of its own.
        self.connections.others() - 1
    }

    /// A connection on which each read takes what one write has written, if there is room for it. To be written again only
    /// when there was an answer: the member takes it for a stream, and does not look for what came behind a short read.
    pub(crate) fn connect_by_records(&self) -> UnixStream {
        let pair = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let (ours, theirs) = pair.expect("descriptors");
        self.inbox.push(Delivery::Socket(Socket::Unix(theirs.into()), self.connections.clone()));
        ours.into()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("the member listens")
    }

    /// Adds a member that was connected so many seconds ago, if it is.
    pub(crate) fn add(&self, member: &cluster::Member, connected: Option<u64>) {
        self.machine.add(member, &self.inbox);
        let since = connected.and_then(|ago| Instant::now().checked_sub(Duration::from_secs(ago)));
        if let Some(since) = since {
            self.state.active_since.write().insert(member.id, since);
        }
    }

    /// Asks the core to end, without waiting for it.
    pub(crate) fn begin_shutdown(&self) {
        self.inbox.push(Delivery::Shutdown);
    }

    /// Waits for the core's end.
    pub(crate) fn join(mut self) {
        self.begin_shutdown();
        self.core.take().expect("running").join().expect("the core did not panic");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.machine.resume();
        self.begin_shutdown();
        if let Some(core) = self.core.take() {
            let ended = core.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the core panicked");
        }
    }
}

fn spawn(
    machine: &Arc<Machine>,
    inbox: &Arc<Inbox>,
    run: impl FnOnce(Arc<Machine>, Arc<Inbox>) + Send + 'static,
) {
    let (machine, inbox) = (Arc::clone(machine), Arc::clone(inbox));
    std::thread::spawn(move || run(machine, inbox));
}

impl Machine {
    fn new(state: Arc<State>) -> Self {
        let disk = MemDisk::new();
        let (backend, committer) =
            Backend::open(disk, Path::new("db"), backend::Options::default()).expect("backend");
        let mut cluster = Cluster::restore(&backend).expect("cluster");
        cluster.set_ids(1, 7);
        let options = apply::Options {
            member_id: 1,
            quota: None,
            snapshot_count: 1_000_000,
            lease_ttl_min: 2,
            election_timeout: Duration::from_secs(1),
            lease_checkpoint: false,
            lease_checkpoint_persist: false,
            compaction_batch_limit: 1000,
            compaction_sleep_interval: Duration::from_millis(1),
            auto_compaction: None,
            attributes: cluster::Attributes::default(),
            cluster_version: cluster::Version::new(3, 7, 0),
            first_request_id: 15 << 44,
            watch: mvcc::watch::Options::default(),
        };
        let voters = ConfState::from_voters(vec![1]);
        let (applier, hub) =
            Applier::restore(backend, options, cluster, voters, 0, Duration::ZERO).expect("state");
        let mut inner = Inner {
            state,
            leader_asked: Vec::new(),
            leader_answer: Err(Error::NoLeader),
            learner: Ok(()),
            transfers: Vec::new(),
            applier,
            hub,
            committer,
            clock: OsClock::new(),
            index: 0,
            is_paused: false,
            refusal: None,
            proposed: 0,
            reads: 0,
            batches: Vec::new(),
        };
        // Its name and the cluster's version, which it would propose now, are told by `State`.
        inner.applier.handle(
            Input::Role { term: 2, leader: 1 },
            Duration::ZERO,
            &mut Output::default(),
        );
        Self { inner: Mutex::new(inner), resumed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets consensus answer nothing until [`Machine::resume`].
    pub(crate) fn pause(&self) {
        self.lock().is_paused = true;
    }

    pub(crate) fn resume(&self) {
        self.lock().is_paused = false;
        self.resumed.notify_all();
    }

    /// Lets consensus refuse everything.
    pub(crate) fn refuse(&self, error: Option<Error>) {
        self.lock().refusal = error;
    }

    /// Proposals and read indexes that consensus was asked for.
    pub(crate) fn asked(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.proposed, inner.reads)
    }

    /// Streams of watches that are open.
    pub(crate) fn watch_streams(&self) -> usize {
        self.lock().hub.stats().streams
    }

    pub(crate) fn batches(&self) -> Vec<usize> {
        self.lock().batches.clone()
    }

    fn consensus(&self, events: &Receiver<Event>, inbox: &Inbox) {
        while let Ok(event) = events.recv() {
            let inner = self.lock();
            let mut inner = self
                .resumed
                .wait_while(inner, |inner| inner.is_paused)
                .unwrap_or_else(PoisonError::into_inner);
            let refusal = inner.refusal;
            match (event, refusal) {
                (Event::Propose(proposals), None) => {
                    inner.proposed += proposals.len();
                    inner.batches.push(proposals.len());
                    inner.propose(proposals, inbox);
                }
                (Event::Propose(proposals), Some(error)) => {
                    inner.proposed += proposals.len();
                    let ids = proposals.iter().map(|proposal| proposal.id).collect();
                    inbox.push(Delivery::Refused(ids, error));
                }
                (Event::Read { id }, refusal) => {
                    inner.reads += 1;
                    let result = refusal.map_or(Ok(()), Err);
                    inbox.push(Delivery::ReadReady { id, result });
                }
                (Event::ProposeConfChange(proposal), None) => {
                    let refusal = inner.learner.err().filter(|_| proposal.needs_ready_learner);
                    match refusal {
                        None => inner.change(&proposal.change, inbox),
                        Some(error) => {
                            inbox.push(Delivery::Refused(vec![proposal.change.id], error));
                        }
                    }
                }
                (Event::TransferLeader(target), None) => inner.transfers.push(target),
                (other, _) => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Adds a member as founders are added.
    pub(crate) fn add(&self, member: &cluster::Member, inbox: &Inbox) {
        let change_type = if member.is_learner {
            ConfChangeType::AddLearnerNode
        } else {
            ConfChangeType::AddNode
        };
        let context = member.to_json().into();
        let change = ConfChange { change_type, node_id: member.id, context, id: 0 };
        self.lock().change(&change, inbox);
    }

    /// What raft says of learners, when they are to be promoted.
    pub(crate) fn set_learner(&self, learner: Result<(), Error>) {
        self.lock().learner = learner;
    }

    /// What the leader says, when that is another member.
    pub(crate) fn set_leader_answer(&self, answer: Result<LeaderAnswer, Error>) {
        self.lock().leader_answer = answer;
    }

    /// What the leader was asked since the last time.
    pub(crate) fn leader_asked(&self) -> Vec<LeaderRequest> {
        std::mem::take(&mut self.lock().leader_asked)
    }

    /// Whom consensus was asked to hand leadership to.
    pub(crate) fn transfers(&self) -> Vec<u64> {
        self.lock().transfers.clone()
    }

    fn questions(&self, mut questions: tokio::sync::mpsc::Receiver<AskLeader>, inbox: &Inbox) {
        while let Some(AskLeader { token, request, .. }) = questions.blocking_recv() {
            let mut inner = self.lock();
            inner.leader_asked.push(request);
            inbox.push(Delivery::Leader { token, result: inner.leader_answer.clone() });
        }
    }

    fn commands(&self, commands: &Receiver<Input>, inbox: &Inbox) {
        while let Ok(command) = commands.recv() {
            self.lock().apply(command, inbox);
        }
    }

    fn watches(&self, watches: &Receiver<WatchInput>, inbox: &Inbox) {
        loop {
            match watches.recv_timeout(Duration::from_millis(10)) {
                Ok(WatchInput::Commands(commands)) => self.lock().watch(commands, inbox),
                Ok(WatchInput::Events(_) | WatchInput::Restored(_)) => {
                    panic!("the front door sends no events")
                }
                Err(RecvTimeoutError::Timeout) => self.lock().tick(inbox),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Inner {
    fn propose(&mut self, proposals: Vec<Proposal>, inbox: &Inbox) {
        let entries = proposals
            .into_iter()
            .map(|proposal| {
                self.index += 1;
                Entry {
                    term: 2,
                    index: self.index,
                    entry_type: EntryType::Normal,
                    data: proposal.data,
                }
            })
            .collect();
        self.apply(Input::Entries(entries), inbox);
    }

    fn change(&mut self, change: &ConfChange, inbox: &Inbox) {
        self.index += 1;
        let entry = Entry {
            term: 2,
            index: self.index,
            entry_type: EntryType::ConfChange,
            data: change.encode_to_vec().into(),
        };
        self.apply(Input::Entries(vec![entry]), inbox);
    }

    fn apply(&mut self, input: Input, inbox: &Inbox) {
        let mut out = Output::default();
        self.applier.handle(input, self.clock.now_mono(), &mut out);
        self.settle(out, inbox);
    }

    fn tick(&mut self, inbox: &Inbox) {
        let mut out = Output::default();
        self.applier.tick(self.clock.now_mono(), &mut out);
        self.settle(out, inbox);
        self.watch(Vec::new(), inbox);
    }

    fn settle(&mut self, mut out: Output, inbox: &Inbox) {
        if !out.membership.is_empty() {
            *self.state.cluster.write() = Arc::new(self.applier.cluster().clone());
        }
        let now = self.clock.now_mono();
        // Batches are written when somebody waits for the file.
        while out.commit.is_some() || out.defragment {
            if let Some(batch) = out.commit.take() {
                let done = self.committer.commit(batch).expect("memory");
                self.applier.handle(Input::Committed(done), now, &mut out);
            }
            if std::mem::take(&mut out.defragment) {
                let done = self.committer.defrag().map_err(|error| error.to_string());
                self.applier.handle(Input::Defragmented(done), now, &mut out);
            }
        }
        let backend = self.applier.backend();
        for (told, bytes) in [
            (&self.state.db_size, backend.size()),
            (&self.state.db_size_in_use, backend.size_in_use()),
        ] {
            told.store(bytes.cast_signed(), std::sync::atomic::Ordering::Relaxed);
        }
        let mut responses = Vec::new();
        for batch in out.events.drain(..) {
            self.hub.notify(&batch, &mut responses);
        }
        deliver(responses, inbox);
        if !out.replies.is_empty() {
            inbox.push(Delivery::Replies(out.replies));
        }
        for (token, answer) in out.answers {
            inbox.push(Delivery::Answer { token, answer });
        }
    }

    fn watch(&mut self, commands: Vec<mvcc::watch::Command>, inbox: &Inbox) {
        let now = self.clock.now_mono();
        let mut responses = Vec::new();
        for command in commands {
            self.hub.command(command, &mut responses);
        }
        while self.hub.has_work() {
            self.hub.sync(now, &mut responses).expect("memory");
        }
        self.hub.tick(now, &mut responses);
        deliver(responses, inbox);
    }
}

fn deliver(responses: Vec<mvcc::watch::Response>, inbox: &Inbox) {
    if !responses.is_empty() {
        inbox.push(Delivery::Watch(responses));
    }
}
