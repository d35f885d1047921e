//! The cluster of an interaction script: members, their storage, messages in flight, and the output.

use std::any::Any;
use std::collections::VecDeque;

use bytes::Bytes;

use super::Failure;
use crate::config::{Config, NO_LIMIT, is_local_target};
use crate::describe::{describe_entries, describe_message, describe_ready, quoted};
use crate::logger::Level;
use crate::pb::{
    ConfChange, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType,
    Snapshot,
};
use crate::raw_node::RawNode;
use crate::storage::{MemoryStorage, Storage, StorageError};
use crate::trace::{TraceEvent, Tracer};

/// Names of the output's levels; the last one silences everything but errors.
const LEVELS: [&str; 6] = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"];

/// The output of a command, and the level below which nothing is printed.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) text: String,
    pub(super) level: usize,
}

impl Output {
    pub(super) fn is_quiet(&self) -> bool {
        self.level == LEVELS.len() - 1
    }

    pub(super) fn write(&mut self, text: &str) {
        if !self.is_quiet() {
            self.text.push_str(text);
        }
    }

    pub(super) fn set_level(&mut self, name: &str) -> Result<(), Failure> {
        let level = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(name));
        let unknown = || {
            let levels = LEVELS.join(" ");
            Failure::reported(format!("log levels must be either of [{levels}]"))
        };
        self.level = level.ok_or_else(unknown)?;
        Ok(())
    }
}

/// A memory storage whose newest snapshot is always that of the last applied entry.
#[derive(Debug)]
pub(super) struct HistoryStorage {
    log: MemoryStorage,
    /// The state after each applied entry: its data are the contexts and payloads so far, one after another.
    history: Vec<Snapshot>,
}

impl HistoryStorage {
    fn newest(&self) -> &Snapshot {
        self.history.last().expect("a member starts with one")
    }
}

impl Storage for HistoryStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.log.initial_state()
    }

    fn entries(&self, lo: u64, hi: u64, max_size: u64) -> Result<Vec<Entry>, StorageError> {
        self.log.entries(lo, hi, max_size)
    }

    fn term(&self, index: u64) -> Result<u64, StorageError> {
        self.log.term(index)
    }

    fn first_index(&self) -> u64 {
        self.log.first_index()
    }

    fn last_index(&self) -> u64 {
        self.log.last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.newest().clone())
    }
}

#[derive(Debug)]
struct Member {
    node: RawNode<HistoryStorage>,
    config: Config,
    append_work: VecDeque<Message>,
    apply_work: VecDeque<Message>,
}

/// Whose messages to handle, and whether to drop them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    pub(super) id: u64,
    pub(super) is_dropped: bool,
}

#[derive(Debug, Default)]
pub(super) struct Cluster {
    members: Vec<Member>,
    messages: Vec<Message>,
    pub(super) output: Output,
    /// The trace of all members, if it is wanted.
    pub(super) events: Option<Vec<String>>,
}

/// Keeps one member's events until the end of a call.
#[derive(Debug, Default)]
struct KeepEvents(Vec<String>);

impl Tracer for KeepEvents {
    fn trace(&mut self, event: &TraceEvent) {
        self.0.push(event.to_string());
    }
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn traced() -> Self {
        Self { events: Some(Vec::new()), ..Self::default() }
    }

    pub(super) const fn len(&self) -> usize {
        self.members.len()
    }

    fn member(&mut self, id: u64) -> Result<&mut Member, Failure> {
        let at = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let member = at.and_then(|at| self.members.get_mut(at));
        member.ok_or_else(|| Failure::fatal(format!("no member {id}")))
    }

    /// Calls `f` on a member and prints the lines it logs.
    pub(super) fn with_node<T>(
        &mut self,
        id: u64,
        f: impl FnOnce(&mut RawNode<HistoryStorage>) -> T,
    ) -> Result<T, Failure> {
        let member = self.member(id)?;
        let result = f(&mut member.node);
        let tracer: Option<&mut dyn Any> = member.node.tracer_mut().map(|tracer| tracer as _);
        let kept = tracer.and_then(|tracer| tracer.downcast_mut::<KeepEvents>());
        let kept = kept.map(std::mem::take).unwrap_or_default();
        let lines = member.node.take_log_lines();
        if let Some(events) = &mut self.events {
            events.extend(kept.0);
        }
        for line in lines {
            let level = match line.level {
                Level::Debug => 0,
                Level::Info => 1,
                Level::Warning => 2,
                Level::Error => 3,
            };
            if level >= self.output.level {
                self.output.write(&format!("{} {}\n", line.level, line.text));
            }
        }
        Ok(result)
    }

    pub(super) fn config(&mut self, id: u64) -> Result<&Config, Failure> {
        self.member(id).map(|member| &member.config)
    }

    /// Indents what `f` prints.
    pub(super) fn indented(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let outer = std::mem::take(&mut self.output.text);
        let result = f(self);
        let inner = std::mem::replace(&mut self.output.text, outer);
        for line in inner.lines() {
            self.output.text.push_str(&format!("  {line}\n"));
        }
        result
    }

    // ---- members ----

    pub(super) fn add_nodes(
        &mut self,
        count: usize,
        config: &Config,
        mut snapshot: Snapshot,
    ) -> Result<(), Failure> {
        let mut empty = Snapshot::default();
        empty.metadata.conf_state.auto_leave = Some(false);
        let has_snapshot = snapshot != empty;
        for _ in 0..count {
            let id = self.members.len() as u64 + 1;
            let mut log = MemoryStorage::new();
            if has_snapshot {
                if snapshot.metadata.index <= 1 {
                    return Err(Failure::reported(
                        "index must be specified as > 1 due to bootstrap",
                    ));
                }
                snapshot.metadata.term = 1;
                log.apply_snapshot(snapshot.clone()).map_err(Failure::reported)?;
            }
            let storage = HistoryStorage { log, history: vec![snapshot.clone()] };
            let config = Config { id, log_level: Some(Level::Debug), ..config.clone() };
            let node = match self.events {
                None => RawNode::new(config.clone(), storage),
                Some(_) => {
                    let tracer = Box::<KeepEvents>::default();
                    RawNode::with_tracer(config.clone(), storage, tracer)
                }
            };
            let mut node = node.map_err(|error| Failure::fatal(error.to_string()))?;
            node.win_by_any_quorum();
            let (append_work, apply_work) = (VecDeque::new(), VecDeque::new());
            self.members.push(Member { node, config, append_work, apply_work });
            self.with_node(id, |_| ())?;
        }
        Ok(())
    }

    pub(super) fn compact(&mut self, id: u64, index: u64) -> Result<(), Failure> {
        let storage = self.member(id)?.node.storage_mut();
        storage.log.compact(index).map_err(Failure::reported)?;
        self.raft_log(id)
    }

    pub(super) fn raft_log(&mut self, id: u64) -> Result<(), Failure> {
        let log = &self.member(id)?.node.storage().log;
        let (first, last) = (log.first_index(), log.last_index());
        let text = if last < first {
            format!("log is empty: first index={first}, last index={last}")
        } else {
            let entries = log.entries(first, last + 1, NO_LIMIT).map_err(Failure::reported)?;
            describe_entries(&entries, &quoted)
        };
        self.output.write(&text);
        Ok(())
    }

    pub(super) fn raft_state(&mut self) {
        for member in &self.members {
            let status = member.node.status();
            let basic = status.basic;
            let voter = if status.config.voters.contains(basic.id) { "Voter" } else { "Non-Voter" };
            self.output.write(&format!(
                "{}: {} ({voter}) Term:{} Lead:{}\n",
                basic.id, basic.soft_state.raft_state, basic.hard_state.term, basic.soft_state.lead
            ));
        }
    }

    pub(super) fn status(&mut self, id: u64) -> Result<(), Failure> {
        let status = self.member(id)?.node.status();
        let text = status.progress.map(ToString::to_string).unwrap_or_default();
        self.output.write(&text);
        Ok(())
    }

    // ---- messages ----

    /// Delivers or drops the messages to each recipient, of one type or all. Returns how many there were.
    pub(super) fn deliver(
        &mut self,
        msg_type: Option<MessageType>,
        recipients: &[Recipient],
    ) -> Result<usize, Failure> {
        let mut count = 0;
        for &Recipient { id, is_dropped } in recipients {
            let messages = std::mem::take(&mut self.messages);
            let (taken, rest): (Vec<_>, _) = messages.into_iter().partition(|m| {
                is_for(m, id, is_dropped) && msg_type.is_none_or(|t| t == m.msg_type)
            });
            self.messages = rest;
            count += taken.len();
            for m in taken {
                let dropped = if is_dropped { "dropped: " } else { "" };
                self.output.write(&format!("{dropped}{}\n", describe_message(&m, &quoted)));
                if is_dropped {
                    continue;
                }
                // A request that names its sender, like that of a transferee, comes through the network.
                let is_own =
                    is_local_target(m.from) || (m.from == m.to && m.msg_type.is_response());
                let result = self
                    .with_node(id, |node| if is_own { node.step_local(m) } else { node.step(m) })?;
                if let Err(error) = result {
                    self.output.write(&format!("{error}\n"));
                }
            }
        }
        Ok(count)
    }

    pub(super) fn send_snapshot(&mut self, from: u64, to: u64) -> Result<(), Failure> {
        let node = &self.member(from)?.node;
        let m = Message {
            msg_type: MessageType::Snap,
            term: node.basic_status().hard_state.term,
            from,
            to,
            snapshot: Some(Box::new(node.storage().newest().clone())),
            ..Message::default()
        };
        self.output.write(&describe_message(&m, &quoted));
        self.messages.push(m);
        Ok(())
    }

    // ---- storage ----

    pub(super) fn process_ready(&mut self, id: u64) -> Result<(), Failure> {
        let ready = self.with_node(id, RawNode::ready)?;
        self.output.write(&describe_ready(&ready, &quoted));
        let member = self.member(id)?;
        let is_async = member.config.async_storage_writes;
        if !is_async {
            let snapshot = ready.snapshot.as_ref();
            member.append(ready.hard_state.unwrap_or_default(), &ready.entries, snapshot)?;
            self.apply(id, &ready.committed_entries)?;
        }
        let member = self.member(id)?;
        let mut to_others = Vec::new();
        for m in &ready.messages {
            match m.msg_type {
                MessageType::StorageAppend => member.append_work.push_back(m.clone()),
                MessageType::StorageApply => member.apply_work.push_back(m.clone()),
                _ => to_others.push(m.clone()),
            }
        }
        self.messages.extend(to_others);
        if !is_async {
            self.with_node(id, |node| node.advance(ready))?;
        }
        Ok(())
    }

    pub(super) fn process_append_thread(&mut self, id: u64) -> Result<(), Failure> {
        let Some(mut m) = self.member(id)?.append_work.pop_front() else {
            self.output.write("no append work to perform");
            return Ok(());
        };
        let responses = std::mem::take(&mut m.responses);
        self.output.write(&format!("Processing:\n{}\n", describe_message(&m, &quoted)));
        let hard_state = HardState { term: m.term, vote: m.vote, commit: m.commit };
        self.member(id)?.append(hard_state, &m.entries, m.snapshot.as_deref())?;
        self.respond(responses);
        Ok(())
    }

    pub(super) fn process_apply_thread(&mut self, id: u64) -> Result<(), Failure> {
        let Some(mut m) = self.member(id)?.apply_work.pop_front() else {
            self.output.write("no apply work to perform");
            return Ok(());
        };
        let responses = std::mem::take(&mut m.responses);
        self.output.write(&format!("Processing:\n{}\n", describe_message(&m, &quoted)));
        self.apply(id, &m.entries)?;
        self.respond(responses);
        Ok(())
    }

    fn respond(&mut self, responses: Vec<Message>) {
        self.output.write("Responses:\n");
        for m in &responses {
            self.output.write(&format!("{}\n", describe_message(m, &quoted)));
        }
        self.messages.extend(responses);
    }

    fn apply(&mut self, id: u64, entries: &[Entry]) -> Result<(), Failure> {
        for entry in entries {
            let change = match entry.entry_type {
                EntryType::Normal => None,
                EntryType::ConfChange => {
                    Some(ConfChange::decode(entry.data.clone()).map(|change| change.to_v2()))
                }
                EntryType::ConfChangeV2 => Some(ConfChangeV2::decode(entry.data.clone())),
            };
            let change = change.transpose().map_err(Failure::reported)?;
            let conf_state = match &change {
                Some(change) => Some(
                    self.with_node(id, |node| node.apply_conf_change(change))?
                        .map_err(|error| Failure::fatal(error.to_string()))?,
                ),
                None => None,
            };
            let update = change.map_or_else(|| entry.data.clone(), |change| change.context);
            let storage = self.member(id)?.node.storage_mut();
            let mut snapshot = storage.newest().clone();
            snapshot.data = Bytes::from([&snapshot.data[..], &update[..]].concat());
            snapshot.metadata.index = entry.index;
            snapshot.metadata.term = entry.term;
            if let Some(conf_state) = conf_state {
                snapshot.metadata.conf_state = conf_state;
            }
            storage.history.push(snapshot);
        }
        Ok(())
    }

    // ---- until nothing is left to do ----

    pub(super) fn stabilize(&mut self, ids: &[u64]) -> Result<(), Failure> {
        loop {
            let mut is_done = true;
            for &id in ids {
                if self.member(id)?.node.has_ready() {
                    self.output.write(&format!("> {id} handling Ready\n"));
                    self.indented(|env| env.process_ready(id))?;
                    is_done = false;
                }
            }
            for &id in ids {
                if self.messages.iter().any(|m| is_for(m, id, false)) {
                    self.output.write(&format!("> {id} receiving messages\n"));
                    let recipient = Recipient { id, is_dropped: false };
                    self.indented(|env| env.deliver(None, &[recipient]).map(|_| ()))?;
                    is_done = false;
                }
            }
            for &id in ids {
                if !self.member(id)?.append_work.is_empty() {
                    self.output.write(&format!("> {id} processing append thread\n"));
                    while !self.member(id)?.append_work.is_empty() {
                        self.indented(|env| env.process_append_thread(id))?;
                    }
                    is_done = false;
                }
            }
            for &id in ids {
                if !self.member(id)?.apply_work.is_empty() {
                    self.output.write(&format!("> {id} processing apply thread\n"));
                    while !self.member(id)?.apply_work.is_empty() {
                        self.indented(|env| env.process_apply_thread(id))?;
                    }
                    is_done = false;
                }
            }
            if is_done {
                return Ok(());
            }
        }
    }

    pub(super) fn all_ids(&self) -> Vec<u64> {
        (1..=self.members.len() as u64).collect()
    }
}

impl Member {
    fn append(
        &mut self,
        hard_state: HardState,
        entries: &[Entry],
        snapshot: Option<&Snapshot>,
    ) -> Result<(), Failure> {
        let log = &mut self.node.storage_mut().log;
        if !hard_state.is_empty() {
            log.set_hard_state(hard_state);
        }
        let Some(snapshot) = snapshot.filter(|snapshot| !snapshot.is_empty()) else {
            log.append(entries);
            return Ok(());
        };
        if !entries.is_empty() {
            return Err(Failure::reported("can't apply snapshot and entries at the same time"));
        }
        log.apply_snapshot(snapshot.clone()).map_err(Failure::reported)
    }
}

/// Messages to a member's own storage are never dropped.
fn is_for(m: &Message, id: u64, is_dropped: bool) -> bool {
    let is_local = m.from == m.to || is_local_target(m.from) || is_local_target(m.to);
    m.to == id && !(is_dropped && is_local)
}
