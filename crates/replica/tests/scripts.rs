//! Event scripts in, effects out as text: `tests/scripts/*.txt`. `UPDATE=1` rewrites them.
//!
//! A line is a command, `----` follows, then what it did up to an empty line. `persist` and
//! `apply` finish the oldest unfinished effect of their kind; nothing happens by itself.
#![expect(clippy::disallowed_methods, reason = "scripts are files")]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use raft::{ConfChange, ConfState, Entry, EntryType, HardState, Message, MessageType, Peer};
use replica::{Boot, Effect, Event, INFLIGHT_MESSAGES_MAX, Options, Proposal, Replica};

#[derive(Default)]
struct Member {
    replica: Option<Replica>,
    persisting: VecDeque<Vec<Message>>,
    applying: VecDeque<Vec<Entry>>,
    entries: Vec<Entry>,
    hard_state: HardState,
    applied: u64,
}

fn options() -> Options {
    Options {
        id: 1,
        election_ticks: 10,
        pre_vote: true,
        change_ticks: 70,
        catchup_entries: 2,
        inflight_messages_max: INFLIGHT_MESSAGES_MAX,
        seed: 7,
        log_level: None,
    }
}

impl Member {
    fn run(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let command = words.next().expect("a command");
        let arguments: Vec<&str> = words.collect();
        let mut out = Vec::new();
        if command == "new" || command == "restart" {
            match self.boot(command, &arguments) {
                Ok(replica) => self.replica = Some(replica),
                Err(err) => return format!("error: {err}\n"),
            }
        } else {
            let Some(event) = self.event(command, &arguments) else {
                return "nothing to do\n".to_owned();
            };
            self.replica.as_mut().expect("booted").handle(event, &mut out);
        }
        self.replica.as_mut().expect("booted").flush(&mut out);
        out.into_iter().map(|effect| self.describe(effect)).collect()
    }

    fn boot(&mut self, command: &str, arguments: &[&str]) -> Result<Replica, replica::BootError> {
        if command == "new" {
            let peers = arguments
                .iter()
                .map(|id| Peer { id: id.parse().expect("id"), context: Bytes::new() })
                .collect();
            return Replica::new(options(), Boot::New(peers));
        }
        self.persisting.clear();
        self.applying.clear();
        let applied = arguments.first().map_or(self.applied, |at| at.parse().expect("index"));
        Replica::new(
            options(),
            Boot::Restart {
                hard_state: self.hard_state,
                before_first: (0, 0),
                entries: self.entries.clone(),
                conf_state: ConfState::from_voters(vec![1]),
                applied,
            },
        )
    }

    fn event(&mut self, command: &str, arguments: &[&str]) -> Option<Event> {
        Some(match command {
            "tick" => Event::Tick,
            "propose" => Event::Propose(
                arguments
                    .iter()
                    .map(|text| Proposal {
                        id: text.bytes().map(u64::from).sum(),
                        data: Bytes::copy_from_slice(text.as_bytes()),
                    })
                    .collect(),
            ),
            "read" => Event::Read { id: arguments[0].parse().expect("id") },
            "persist" => Event::Persisted(self.persisting.pop_front()?),
            "apply" => self.finish_apply(arguments)?,
            "gone" => Event::Gone(arguments[0].parse().expect("id")),
            "heartbeat" => {
                let [from, term] = [0, 1].map(|at| arguments[at].parse().expect("a number"));
                let msg_type = MessageType::Heartbeat;
                Event::Peer(Message { msg_type, from, to: 1, term, ..Message::default() })
            }
            "stop" => Event::Stop,
            other => panic!("unknown command {other}"),
        })
    }

    fn finish_apply(&mut self, arguments: &[&str]) -> Option<Event> {
        let entries = self.applying.pop_front()?;
        let conf_changes: Vec<(u64, raft::ConfChangeV2)> = entries
            .iter()
            .filter(|entry| entry.entry_type == EntryType::ConfChange)
            .map(|entry| {
                let change = ConfChange::decode(entry.data.clone()).expect("a change");
                (entry.index, change.to_v2())
            })
            .collect();
        let last = entries.last().expect("never empty");
        self.applied = last.index;
        let snapshot = (arguments == ["snapshot"]).then(|| raft::Snapshot {
            data: Bytes::new(),
            metadata: raft::SnapshotMetadata {
                conf_state: ConfState::from_voters(vec![1]),
                index: last.index,
                term: last.term,
            },
        });
        Some(Event::Applied { index: self.applied, conf_changes, snapshot })
    }

    fn describe(&mut self, effect: Effect) -> String {
        let mut text = String::new();
        match effect {
            Effect::Persist(persist) => {
                let _ = write!(text, "persist{}", if persist.must_sync { " sync" } else { "" });
                if let Some(state) = persist.hard_state {
                    let HardState { term, vote, commit } = state;
                    let _ = write!(text, " term={term} vote={vote} commit={commit}");
                    self.hard_state = state;
                }
                for entry in persist.entries {
                    let _ = write!(text, " {}", name(&entry));
                    self.entries.truncate(entry.index as usize - 1);
                    self.entries.push(entry);
                }
                self.persisting.push_back(persist.responses);
            }
            Effect::Apply(entries) => {
                text.push_str("apply");
                for entry in &entries {
                    let _ = write!(text, " {}", name(entry));
                }
                self.applying.push_back(entries);
            }
            Effect::Send(message) => {
                let _ = write!(text, "send {} to {}", message.msg_type, message.to);
            }
            Effect::ReadReady(ids) => {
                let _ = write!(text, "read ready {ids:?}");
            }
            Effect::Refused(ids, error) => {
                let _ = write!(text, "refused {ids:?}: {error}");
            }
            Effect::Role { term, leader, is_leader } => {
                let _ = write!(text, "role term={term} leader={leader} is_leader={is_leader}");
            }
            Effect::SaveSnapshot(snapshot) => {
                let _ = write!(text, "save snapshot {}", snapshot.metadata.index);
            }
            Effect::SendSnapshot(message) => {
                let _ = write!(text, "send snapshot to {}", message.to);
            }
            Effect::Install(snapshot) => {
                let _ = write!(text, "install {}", snapshot.metadata.index);
            }
            Effect::Fatal(err) => {
                let _ = write!(text, "fatal: {err}");
            }
            Effect::Log(_) => return text,
        }
        text.push('\n');
        text
    }
}

fn name(entry: &Entry) -> String {
    let data = match entry.entry_type {
        EntryType::Normal => String::from_utf8_lossy(&entry.data).into_owned(),
        _ => "conf-change".to_owned(),
    };
    format!("{}/{}:{data:?}", entry.term, entry.index)
}

/// The script again, with what each command does now.
fn replay(script: &str) -> String {
    let mut member = Member::default();
    let mut text = String::new();
    for block in script.split("\n\n") {
        let command = block.split("----").next().expect("a block").trim();
        if command.is_empty() {
            continue;
        }
        if command.starts_with('#') && !command.contains('\n') {
            let _ = writeln!(text, "{command}\n");
            continue;
        }
        let mut output = String::new();
        for line in command.lines().filter(|line| !line.starts_with('#')) {
            output.push_str(&member.run(line));
        }
        let _ = writeln!(text, "{command}\n----\n{output}");
    }
    text
}

#[test]
fn scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for file in fs::read_dir(dir).expect("scripts") {
        let path = file.expect("script").path();
        let script = fs::read_to_string(&path).expect("script");
        let replayed = replay(&script);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, replayed).expect("script");
        } else {
            assert_eq!(replayed, script, "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 4, "scripts are missing");
}
