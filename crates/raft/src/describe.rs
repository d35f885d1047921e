//! Text forms, equal to those of etcd's raft: logs and tests show them.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::config::{LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, NONE};
use crate::pb::{
    ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType,
    HardState, Message, Snapshot,
};
use crate::raft::SoftState;
use crate::raw_node::Ready;

/// How to show the data of an entry; [`quoted`] is the default.
pub type EntryFormatter = dyn Fn(&[u8]) -> String;

/// Bytes as a Go string literal (`%q`).
pub fn quoted(data: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in data.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_quoted(&mut text, c);
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

fn push_quoted(text: &mut String, c: char) {
    match c {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\u{7}' => text.push_str("\\a"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\u{b}' => text.push_str("\\v"),
        ' '..='~' => text.push(c),
        _ if c < ' ' || c == '\u{7f}' => text.push_str(&format!("\\x{:02x}", c as u32)),
        _ if is_print(c) => text.push(c),
        _ if c as u32 > 0xffff => text.push_str(&format!("\\U{:08x}", c as u32)),
        _ => text.push_str(&format!("\\u{:04x}", c as u32)),
    }
}

/// Go's `unicode.IsPrint`, beyond ASCII. The standard library escapes what is not printable; a mark that combines with
/// the character before only at the beginning of a text.
fn is_print(c: char) -> bool {
    let text: [u8; 5] = {
        let mut text = [b'a'; 5];
        c.encode_utf8(&mut text[1..]);
        text
    };
    let text = str::from_utf8(&text[..1 + c.len_utf8()]).unwrap_or_default();
    text.escape_debug().count() == 2
}

/// Like `Term:1 Vote:2 Commit:3`; no vote is left out.
pub fn describe_hard_state(hard_state: &HardState) -> String {
    let HardState { term, vote, commit } = hard_state;
    if *vote == NONE {
        format!("Term:{term} Commit:{commit}")
    } else {
        format!("Term:{term} Vote:{vote} Commit:{commit}")
    }
}

/// Like `Lead:1 State:StateFollower`.
pub fn describe_soft_state(soft_state: &SoftState) -> String {
    format!("Lead:{} State:{}", soft_state.lead, soft_state.raft_state)
}

/// Like `Voters:[1 2] VotersOutgoing:[] Learners:[] LearnersNext:[] AutoLeave:false`.
pub fn describe_conf_state(conf_state: &ConfState) -> String {
    let ids = |ids: &[u64]| {
        let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
        format!("[{}]", ids.join(" "))
    };
    format!(
        "Voters:{} VotersOutgoing:{} Learners:{} LearnersNext:{} AutoLeave:{}",
        ids(&conf_state.voters),
        ids(&conf_state.voters_outgoing),
        ids(&conf_state.learners),
        ids(&conf_state.learners_next),
        conf_state.is_auto_leave()
    )
}

/// Where the snapshot stands, and its configuration.
pub fn describe_snapshot(snapshot: &Snapshot) -> String {
    let metadata = &snapshot.metadata;
    format!(
        "Index:{} Term:{} ConfState:{}",
        metadata.index,
        metadata.term,
        describe_conf_state(&metadata.conf_state)
    )
}

/// Everything in a `Ready`, over several lines.
pub fn describe_ready(ready: &Ready, format: &EntryFormatter) -> String {
    let mut text = String::new();
    if let Some(soft_state) = &ready.soft_state {
        text += &format!("{}\n", describe_soft_state(soft_state));
    }
    if let Some(hard_state) = &ready.hard_state {
        text += &format!("HardState {}\n", describe_hard_state(hard_state));
    }
    if !ready.read_states.is_empty() {
        let states = ready.read_states.iter().map(|state| {
            let context: Vec<_> = state.request_ctx.iter().map(u8::to_string).collect();
            format!("{{{} [{}]}}", state.index, context.join(" "))
        });
        text += &format!("ReadStates [{}]\n", states.collect::<Vec<_>>().join(" "));
    }
    if !ready.entries.is_empty() {
        text += &format!("Entries:\n{}", describe_entries(&ready.entries, format));
    }
    if let Some(snapshot) = &ready.snapshot {
        text += &format!("Snapshot {}\n", describe_snapshot(snapshot));
    }
    if !ready.committed_entries.is_empty() {
        let entries = describe_entries(&ready.committed_entries, format);
        text += &format!("CommittedEntries:\n{entries}");
    }
    if !ready.messages.is_empty() {
        text += "Messages:\n";
        for m in &ready.messages {
            text += &format!("{}\n", describe_message(m, format));
        }
    }
    if text.is_empty() {
        return "<empty Ready>".to_owned();
    }
    format!("Ready MustSync={}:\n{text}", ready.must_sync)
}

/// A message, on one line unless it has several entries, a snapshot or responses.
pub fn describe_message(m: &Message, format: &EntryFormatter) -> String {
    describe_indented("", m, format)
}

fn describe_indented(indent: &str, m: &Message, format: &EntryFormatter) -> String {
    let mut text = format!(
        "{indent}{}->{} {} Term:{} Log:{}/{}",
        describe_target(m.from),
        describe_target(m.to),
        m.msg_type,
        m.term,
        m.log_term,
        m.index
    );
    if m.reject {
        text += &format!(" Rejected (Hint: {})", m.reject_hint);
    }
    if m.commit != 0 {
        text += &format!(" Commit:{}", m.commit);
    }
    if m.vote != 0 {
        text += &format!(" Vote:{}", m.vote);
    }
    match &m.entries[..] {
        [] => {}
        [entry] => text += &format!(" Entries:[{}]", describe_entry(entry, format)),
        entries => {
            text += " Entries:[";
            for entry in entries {
                text += &format!("\n{indent}  {}", describe_entry(entry, format));
            }
            text += &format!("\n{indent}]");
        }
    }
    if let Some(snapshot) = m.snapshot.as_ref().filter(|snapshot| !snapshot.is_empty()) {
        text += &format!("\n{indent}  Snapshot: {}", describe_snapshot(snapshot));
    }
    if !m.responses.is_empty() {
        text += " Responses:[";
        for response in &m.responses {
            text += "\n";
            text += &describe_indented(&format!("{indent}  "), response, format);
        }
        text += &format!("\n{indent}]");
    }
    text
}

fn describe_target(id: u64) -> String {
    match id {
        NONE => "None".to_owned(),
        LOCAL_APPEND_THREAD => "AppendThread".to_owned(),
        LOCAL_APPLY_THREAD => "ApplyThread".to_owned(),
        _ => format!("{id:x}"),
    }
}

/// Like `1/2 EntryNormal "data"`; a configuration change like `1/3 EntryConfChangeV2 v4 r5`.
pub fn describe_entry(entry: &Entry, format: &EntryFormatter) -> String {
    let changes = |change: Result<ConfChangeV2, crate::DecodeError>| match change {
        Ok(change) => conf_changes_to_string(&change.changes),
        Err(error) => error.to_string(),
    };
    let data = || Bytes::clone(&entry.data);
    let mut text = match entry.entry_type {
        EntryType::Normal => format(&entry.data),
        EntryType::ConfChange => changes(ConfChange::decode(data()).map(|change| change.to_v2())),
        EntryType::ConfChangeV2 => changes(ConfChangeV2::decode(data())),
    };
    if !text.is_empty() {
        text.insert(0, ' ');
    }
    format!("{}/{} {}{text}", entry.term, entry.index, entry.entry_type)
}

/// One entry a line.
pub fn describe_entries(entries: &[Entry], format: &EntryFormatter) -> String {
    entries.iter().map(|entry| describe_entry(entry, format) + "\n").collect()
}

/// A configuration change as log lines show it.
pub fn describe_conf_change(change: &ConfChangeV2) -> String {
    let mut text = format!("transition:{}", change.transition);
    for ConfChangeSingle { change_type, node_id } in &change.changes {
        text += &format!(" changes:{{type:{change_type} node_id:{node_id}}}");
    }
    if !change.context.is_empty() {
        text += &format!(" context:{}", quoted(&change.context));
    }
    text
}

/// The short form `v1 l2 r3 u4`: make 1 a voter and 2 a learner, remove 3, update 4.
pub fn conf_changes_to_string(changes: &[ConfChangeSingle]) -> String {
    let mut text = String::new();
    for (i, ConfChangeSingle { change_type, node_id }) in changes.iter().enumerate() {
        let separator = if i > 0 { " " } else { "" };
        let letter = match change_type {
            ConfChangeType::AddNode => 'v',
            ConfChangeType::AddLearnerNode => 'l',
            ConfChangeType::RemoveNode => 'r',
            ConfChangeType::UpdateNode => 'u',
        };
        // writing to a String does not fail
        let _ = write!(text, "{separator}{letter}{node_id}");
    }
    text
}

/// Reads the short form. The error is a message for whoever wrote it.
pub fn conf_changes_from_string(text: &str) -> Result<Vec<ConfChangeSingle>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parse = |token: &str| {
        let mut chars = token.chars();
        let letter = chars.next();
        let number = chars.as_str();
        if number.is_empty() {
            return Err(format!("unknown token {token}"));
        }
        let change_type = match letter {
            Some('v') => ConfChangeType::AddNode,
            Some('l') => ConfChangeType::AddLearnerNode,
            Some('r') => ConfChangeType::RemoveNode,
            Some('u') => ConfChangeType::UpdateNode,
            _ => return Err(format!("unknown input: {token}")),
        };
        let syntax = |_| {
            let number = quoted(number.as_bytes());
            format!("strconv.ParseUint: parsing {number}: invalid syntax")
        };
        let node_id = number.parse().map_err(syntax)?;
        Ok(ConfChangeSingle { change_type, node_id })
    };
    text.split(' ').map(parse).collect()
}
