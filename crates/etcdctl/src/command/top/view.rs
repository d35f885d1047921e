//! What two looks come to: tables for people, an object for each member for programs.

use std::time::Duration;

use api::etcdserverpb::StatusResponse;

use super::{Look, Picture};
use crate::gojson::{self, Array, Object};
use crate::printer::size;
use crate::terminal::{Paint, Style};

const UNKNOWN: &str = "-";

/// Counters whose rates are shown: the title, the field and the metric.
const RATES: [(&str, &str, &str); 5] = [
    ("PROPOSALS/S", "proposals_per_second", "etcd_server_proposals_committed_total"),
    ("PUTS/S", "puts_per_second", "etcd_mvcc_put_total"),
    ("DELETES/S", "deletes_per_second", "etcd_mvcc_delete_total"),
    ("TXNS/S", "txns_per_second", "etcd_mvcc_txn_total"),
    ("RANGES/S", "ranges_per_second", "etcd_mvcc_range_total"),
];

/// Numbers that are shown as they are.
const LEVELS: [(&str, &str, &str); 3] = [
    ("PENDING", "proposals_pending", "etcd_server_proposals_pending"),
    ("WATCHERS", "watchers", "etcd_debugging_mvcc_watcher_total"),
    ("SLOW", "slow_watchers", "etcd_debugging_mvcc_slow_watcher_total"),
];

/// Times of which the middle and the slowest hundredth are shown.
const LATENCIES: [(&str, &str, &str); 3] = [
    ("REQUEST", "request", "etcd_server_request_duration_seconds"),
    ("FSYNC", "wal_fsync", "etcd_disk_wal_fsync_duration_seconds"),
    ("COMMIT", "backend_commit", "etcd_disk_backend_commit_duration_seconds"),
];

#[derive(Clone, Debug)]
struct Cell {
    text: String,
    style: Style,
    /// Numbers stand at the right.
    is_number: bool,
}

impl Cell {
    fn word(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Style::Plain, is_number: false }
    }

    fn number(text: impl Into<String>) -> Self {
        Self { is_number: true, ..Self::word(text) }
    }

    fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

/// The numbers of one member over the interval.
struct Rates<'p> {
    before: Option<&'p Look>,
    now: &'p Look,
}

impl<'p> Rates<'p> {
    fn of(picture: &'p Picture, now: &'p Look) -> Self {
        let before = picture.before.iter().find(|look| look.endpoint == now.endpoint);
        Self { before: before.filter(|look| look.metrics.is_some()), now }
    }

    /// A second. Nothing if the member was started anew.
    fn rate(&self, name: &str) -> Option<f64> {
        let before = self.before?;
        let since = self.now.metrics.as_ref()?.value(name)?
            - before.metrics.as_ref()?.value(name).unwrap_or_default();
        let seconds = self.now.at.duration_since(before.at).as_secs_f64();
        (since >= 0.0 && seconds > 0.0).then_some(since / seconds)
    }

    fn level(&self, name: &str) -> Option<f64> {
        self.now.metrics.as_ref()?.value(name)
    }

    fn quantile(&self, name: &str, part: f64) -> Option<f64> {
        let before = self.before?.metrics.as_ref();
        self.now.metrics.as_ref()?.quantile(name, before, part)
    }
}

/// Three tables, each as wide as a terminal mostly is, and a line above them.
pub(super) fn text(picture: &Picture, pause: Duration, paint: Paint) -> String {
    let mut state = vec![titles(
        &["MEMBER", "ENDPOINT", "VERSION", "ROLE"],
        &["TERM", "INDEX", "BEHIND", "DB SIZE", "IN USE", "QUOTA"],
    )];
    let numbers: Vec<&str> = RATES.iter().chain(&LEVELS).map(|(title, ..)| *title).collect();
    let mut load = vec![titles(&["MEMBER"], &numbers)];
    let times = LATENCIES.iter().flat_map(|(title, ..)| [format!("{title} P50"), "P99".to_owned()]);
    let times: Vec<String> = times.collect();
    let times: Vec<&str> = times.iter().map(String::as_str).collect();
    let mut latency = vec![titles(&["MEMBER"], &times)];
    let mut troubles = String::new();
    for look in &picture.now {
        state.push(state_row(picture, look));
        load.push(load_row(picture, look));
        latency.push(latency_row(picture, look));
        for trouble in trouble_of(look) {
            let line = format!("{}: {trouble}", look.endpoint);
            troubles += &format!("{}\n", paint.on(Style::Bad, &line));
        }
    }
    let summary = summary(picture, pause, paint);
    let tables = [&state, &load, &latency].map(|table| lay_out(table, paint)).join("\n");
    format!("{summary}\n{troubles}\n{tables}")
}

/// What is wrong, by the member itself or since it does not answer.
fn trouble_of(look: &Look) -> Vec<&str> {
    match &look.status {
        Ok(status) => status.errors.iter().map(|error| error.trim()).collect(),
        Err(why) => vec![why],
    }
}

fn titles(words: &[&str], numbers: &[&str]) -> Vec<Cell> {
    let words = words.iter().map(|title| Cell::word(*title));
    let numbers = numbers.iter().map(|title| Cell::number(*title));
    words.chain(numbers).map(|cell| cell.styled(Style::Bold)).collect()
}

fn summary(picture: &Picture, pause: Duration, paint: Paint) -> String {
    let statuses = || picture.now.iter().filter_map(|look| look.status.as_ref().ok());
    let newest = statuses().max_by_key(|status| status.raft_term);
    let leader = newest.map(|status| status.leader).filter(|leader| *leader != 0);
    let leader = match leader {
        Some(id) => paint.on(Style::Good, &name(picture, id)),
        None => paint.on(Style::Bad, "none"),
    };
    let term = newest.map_or(UNKNOWN.to_owned(), |status| status.raft_term.to_string());
    let (all, there) = (picture.now.len(), statuses().count());
    let style = if there == all { Style::Plain } else { Style::Bad };
    let reached = paint.on(style, &format!("{there} of {all} members answer"));
    let pause = cobra::go::duration(i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX));
    format!("leader {leader}, term {term}, {reached}, interval {pause}")
}

/// The name of a member, or its id where it has none.
fn name(picture: &Picture, id: u64) -> String {
    let name = picture.names.get(&id).filter(|name| !name.is_empty());
    name.cloned().unwrap_or_else(|| format!("{id:x}"))
}

fn name_of(picture: &Picture, look: &Look) -> String {
    // One that has answered before is known still.
    let before = picture.before.iter().find(|old| old.endpoint == look.endpoint);
    let id = look.id().or_else(|| before.and_then(Look::id));
    id.map_or(UNKNOWN.to_owned(), |id| name(picture, id))
}

fn role(status: &StatusResponse) -> (&'static str, Style) {
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    match status.leader {
        0 => ("no leader", Style::Bad),
        leader if leader == id => ("leader", Style::Good),
        _ if status.is_learner => ("learner", Style::Plain),
        _ => ("follower", Style::Plain),
    }
}

fn state_row(picture: &Picture, look: &Look) -> Vec<Cell> {
    let mut row = vec![Cell::word(name_of(picture, look)), Cell::word(look.endpoint.as_str())];
    let Ok(status) = &look.status else {
        row.push(Cell::word(UNKNOWN));
        row.push(Cell::word("down").styled(Style::Bad));
        row.extend((0..6).map(|_| Cell::number(UNKNOWN)));
        return row;
    };
    let (role, style) = role(status);
    row.push(Cell::word(status.version.as_str()));
    row.push(Cell::word(role).styled(style));
    row.push(Cell::number(status.raft_term.to_string()));
    row.push(Cell::number(status.raft_index.to_string()));
    let behind = status.raft_index.saturating_sub(status.raft_applied_index);
    row.push(Cell::number(behind.to_string()));
    row.push(Cell::number(size(status.db_size)));
    row.push(Cell::number(size(status.db_size_in_use)));
    row.push(Cell::number(match status.db_size_quota {
        0 => UNKNOWN.to_owned(),
        quota => format!("{:.0}%", 100.0 * status.db_size as f64 / quota as f64),
    }));
    row
}

fn load_row(picture: &Picture, look: &Look) -> Vec<Cell> {
    let rates = Rates::of(picture, look);
    let mut row = vec![Cell::word(name_of(picture, look))];
    let show = |value: Option<f64>| Cell::number(value.map_or(UNKNOWN.to_owned(), short));
    row.extend(RATES.iter().map(|(_, _, metric)| show(rates.rate(metric))));
    for (title, _, metric) in LEVELS {
        let level = rates.level(metric);
        let is_bad = title == "SLOW" && level.is_some_and(|level| level > 0.0);
        row.push(show(level).styled(if is_bad { Style::Bad } else { Style::Plain }));
    }
    row
}

fn latency_row(picture: &Picture, look: &Look) -> Vec<Cell> {
    let rates = Rates::of(picture, look);
    let mut row = vec![Cell::word(name_of(picture, look))];
    for (_, _, metric) in LATENCIES {
        for part in [0.5, 0.99] {
            let value = rates.quantile(metric, part).map_or(UNKNOWN.to_owned(), duration);
            row.push(Cell::number(value));
        }
    }
    row
}

/// With a digit behind the point where that tells anything.
fn short(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        ..0.001 => return format!("{:.0}µs", seconds * 1e6),
        ..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// Columns are as wide as their widest cell, with two blanks between.
fn lay_out(rows: &[Vec<Cell>], paint: Paint) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        let last = row.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let blanks = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let text = paint.on(cell.style, &cell.text);
            line += &match (cell.is_number, column == last) {
                (true, _) => format!("{blanks}{text}"),
                (false, true) => text,
                (false, false) => format!("{text}{blanks}"),
            };
            if column != last {
                line += "  ";
            }
        }
        out += &line;
        out.push('\n');
    }
    out
}

/// An array with an object for each member. What is not known is null.
pub(super) fn json(picture: &Picture) -> String {
    Array::of(&picture.now, |look| member_json(picture, look)).end()
}

fn member_json(picture: &Picture, look: &Look) -> String {
    let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| value.to_string());
    let mut object = Object::new().text("endpoint", &look.endpoint);
    object = match &look.status {
        Ok(status) => object
            .text("name", &name_of(picture, look))
            .raw("member_id", &look.id().unwrap_or_default().to_string())
            .text("version", &status.version)
            .text("role", role(status).0)
            .raw("leader", &status.leader.to_string())
            .raw("raft_term", &status.raft_term.to_string())
            .raw("raft_index", &status.raft_index.to_string())
            .raw("raft_applied_index", &status.raft_applied_index.to_string())
            .raw("db_size", &status.db_size.to_string())
            .raw("db_size_in_use", &status.db_size_in_use.to_string())
            .raw("db_size_quota", &status.db_size_quota.to_string())
            .raw("errors", &Array::of(&status.errors, |error| gojson::text(error.trim())).end()),
        Err(why) => object.text("error", why),
    };
    let rates = Rates::of(picture, look);
    for (_, field, metric) in RATES {
        object = object.raw(field, &number(rates.rate(metric)));
    }
    for (_, field, metric) in LEVELS {
        object = object.raw(field, &number(rates.level(metric)));
    }
    for (_, field, metric) in LATENCIES {
        for (part, which) in [(0.5, "p50"), (0.99, "p99")] {
            let field = format!("{field}_{which}_seconds");
            object = object.raw(&field, &number(rates.quantile(metric, part)));
        }
    }
    object.end()
}

#[cfg(test)]
mod tests;
