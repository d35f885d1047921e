//! Tables with lines around the cells, and the rows that the simple format prints with commas between.

use api::etcdserverpb as pb;

use crate::answer::{Answer, Health};

pub(super) type Rows = Vec<Vec<String>>;

const MEMBERS: &[&str] = &["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"];
const HEALTH: &[&str] = &["endpoint", "health", "took", "error"];
const HASHES: &[&str] = &["endpoint", "hash", "hash_revision"];
const STATUS: &[&str] = &[
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

/// The answer as a table; only lists have one.
pub(super) fn print(answer: &Answer<'_>) -> Option<Vec<u8>> {
    let (header, rows) = match answer {
        Answer::MemberList(list) => (MEMBERS, members(list)),
        Answer::Health(list) => (HEALTH, healths(list)),
        Answer::Status(list) => (STATUS, statuses(list)),
        Answer::HashKv(list) => (HASHES, hashes(list)),
        _ => return None,
    };
    Some(draw(header, &rows).into_bytes())
}

pub(super) fn members(list: &pb::MemberListResponse) -> Rows {
    let row = |member: &pb::Member| {
        vec![
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
            member.name.clone(),
            member.peer_urls.join(","),
            member.client_urls.join(","),
            member.is_learner.to_string(),
        ]
    };
    list.members.iter().map(row).collect()
}

fn healths(list: &[Health]) -> Rows {
    let row = |health: &Health| {
        let Health { endpoint, healthy, took, error } = health;
        vec![endpoint.clone(), healthy.to_string(), took.clone(), error.clone()]
    };
    list.iter().map(row).collect()
}

pub(super) fn hashes(list: &[(String, pb::HashKvResponse)]) -> Rows {
    let row = |(endpoint, answer): &(String, pb::HashKvResponse)| {
        vec![endpoint.clone(), answer.hash.to_string(), answer.hash_revision.to_string()]
    };
    list.iter().map(row).collect()
}

pub(super) fn statuses(list: &[(String, pb::StatusResponse)]) -> Rows {
    list.iter().map(|(endpoint, answer)| status(endpoint, answer)).collect()
}

fn status(endpoint: &str, answer: &pb::StatusResponse) -> Vec<String> {
    let member = answer.header.as_ref().map_or(0, |header| header.member_id);
    let downgrade = answer.downgrade_info.clone().unwrap_or_default();
    // DIFF(etcd): its tool divides by the size, and ends with a trace when a server says 0.
    let used = answer.db_size_in_use.saturating_mul(100).checked_div(answer.db_size);
    vec![
        endpoint.to_owned(),
        format!("{member:x}"),
        answer.version.clone(),
        answer.storage_version.clone(),
        size(answer.db_size),
        size(answer.db_size_in_use),
        format!("{}%", 100 - used.unwrap_or(100)),
        size(answer.db_size_quota),
        (answer.leader == member).to_string(),
        answer.is_learner.to_string(),
        answer.raft_term.to_string(),
        answer.raft_index.to_string(),
        answer.raft_applied_index.to_string(),
        answer.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

/// A number of bytes in thousands, with one digit behind the point below ten.
pub(crate) fn size(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // Go converts to unsigned without a look.
    let bytes = bytes.cast_unsigned();
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog(1000) as usize;
    let unit = UNITS.get(exponent).copied().unwrap_or("EB");
    let value = bytes as f64 / 1000_f64.powi(exponent as i32);
    let rounded = (value * 10.0 + 0.5).floor() / 10.0;
    if rounded < 10.0 { format!("{rounded:.1} {unit}") } else { format!("{rounded:.0} {unit}") }
}

fn draw(header: &[&str], rows: &Rows) -> String {
    let titles: Vec<String> =
        header.iter().map(|title| title.to_uppercase().replace('_', " ")).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.chain(titles.get(column)).map(|cell| cell.chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let rule = |left: char, middle: &str, right: char| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let centred = titles.iter().zip(&widths).map(|(title, width)| format!("{title:^width$}"));
    let mut out = rule('┌', "┬", '┐') + &line(centred.collect());
    if !rows.is_empty() {
        out += &rule('├', "┼", '┤');
    }
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        out += &line(cells.collect());
    }
    out + &rule('└', "┴", '┘')
}
