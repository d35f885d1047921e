//! `check`: what a cluster can take, by trying.

use std::cell::RefCell;
use std::process;
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::Client;
use cobra::go;
use tokio::task::LocalSet;

use crate::exit::{BAD_FEATURE, ERROR, Exit, INVALID_INPUT};
use crate::metrics::Metrics;
use crate::output;
use crate::session::Session;
use crate::terminal::{self, Unit};

/// How much work, and by how many.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Writes a second, or keys.
    limit: u64,
    clients: usize,
}

const fn load(limit: u64, clients: usize) -> Load {
    Load { limit, clients }
}

/// Small, medium, large, extra large.
const PERF: [Load; 4] = [load(150, 50), load(1000, 200), load(8000, 500), load(15_000, 1000)];
const DATASCALE: [Load; 4] =
    [load(10_000, 50), load(100_000, 200), load(1_000_000, 500), load(3_000_000, 1000)];

const PERF_TIME: Duration = Duration::from_secs(60);
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of keys behind the prefix, and of values.
const PERF_SIZES: (usize, usize) = (256, 1024);
const DATASCALE_SIZES: (usize, usize) = (512, 512);

fn load_of(session: &Session, loads: [Load; 4]) -> Result<Load, Exit> {
    let name = session.input.text("load");
    let index = match name.as_str() {
        "s" | "small" => 0,
        "m" | "medium" => 1,
        "l" | "large" => 2,
        "xl" | "xLarge" => 3,
        _ => return Err(Exit::new(BAD_FEATURE, format!("unknown load option {name}"))),
    };
    Ok(loads[index])
}

/// What was measured, in seconds.
#[derive(Debug, Default)]
struct Report {
    latencies: Vec<f64>,
    errors: Vec<(String, u64)>,
}

impl Report {
    fn add(&mut self, begun: Instant, result: client::Result<()>) {
        match result {
            Ok(()) => self.latencies.push(begun.elapsed().as_secs_f64()),
            Err(error) => {
                let text = error.to_string();
                match self.errors.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, count)) => *count += 1,
                    None => self.errors.push((text, 1)),
                }
            }
        }
    }

    fn slowest(&self) -> f64 {
        self.latencies.iter().copied().fold(0.0, f64::max)
    }

    fn deviation(&self) -> f64 {
        let count = self.latencies.len().max(1) as f64;
        let mean = self.latencies.iter().sum::<f64>() / count;
        let squares: f64 = self.latencies.iter().map(|value| (value - mean).powi(2)).sum();
        (squares / count).sqrt()
    }

    fn print_errors(&self) -> bool {
        if !self.errors.is_empty() {
            output::line("FAIL: too many errors");
        }
        for (text, count) in &self.errors {
            output::line(&format!("FAIL: ERROR({text}) -> {count}"));
        }
        self.errors.is_empty()
    }
}

/// Clients with a connection each.
fn clients(session: &mut Session, load: Load) -> Result<Vec<Client>, Exit> {
    session.configure(&[])?;
    let endpoints = session.endpoints().to_vec();
    (0..load.clients).map(|_| session.connect(&endpoints)).collect()
}

/// There must be nothing yet under the prefix: it is deleted in the end.
fn check_empty(session: &Session, client: &Client, hint: &str) -> Result<(), Exit> {
    let prefix = session.input.bytes("prefix");
    let answer = session.ask("KV/Range", client.get(prefix).prefix().limit(1))?;
    if answer.kvs.is_empty() {
        return Ok(());
    }
    let (quoted, prefix) = (go::quote(prefix), String::from_utf8_lossy(prefix));
    let hint = hint.replace('*', &prefix);
    Err(Exit::new(INVALID_INPUT, format!("prefix {quoted} has keys. Delete with {hint} first")))
}

/// A key that nobody else draws: a number like Go's variable-length ones need not be, only as long.
fn key(prefix: &[u8], length: usize, number: u64) -> Vec<u8> {
    let mut key = prefix.to_vec();
    // Spread over the whole range, so that the tree does not grow at its end alone.
    key.extend(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key.resize(prefix.len() + length, 0);
    key
}

pub(crate) fn perf(session: &mut Session) -> Result<(), Exit> {
    let load = load_of(session, PERF)?;
    let clients = clients(session, load)?;
    check_empty(session, &clients[0], "'etcdctl del --prefix *'")?;
    let begun = Instant::now();
    let report = session.wait(put_for_a_while(session, &clients, load));
    let seconds = begun.elapsed().as_secs_f64();
    cleanup(session, &clients[0]);
    defragment_after(session, &clients[0])?;
    let rate = report.latencies.len() as f64 / seconds;
    let mut passed = report.print_errors();
    let mut say = |good: bool, pass: String, fail: String| {
        passed &= good;
        output::line(if good { &pass } else { &fail });
    };
    let writes = rate as u64 + 1;
    say(
        rate / load.limit as f64 > 0.9,
        format!("PASS: Throughput is {writes} writes/s"),
        format!("FAIL: Throughput too low: {writes} writes/s"),
    );
    let slowest = report.slowest();
    say(
        slowest <= 0.5,
        format!("PASS: Slowest request took {slowest:.6}s"),
        format!("Slowest request took too long: {slowest:.6}s"),
    );
    let deviation = report.deviation();
    say(
        deviation <= 0.1,
        format!("PASS: Stddev is {deviation:.6}s"),
        format!("Stddev too high: {deviation:.6}s"),
    );
    output::line(if passed { "PASS" } else { "FAIL" });
    if passed { Ok(()) } else { Err(Exit::silent(ERROR)) }
}

/// Each client puts as soon as its turn has come and its last put is answered; turns come at the rate of the load.
async fn put_for_a_while(session: &Session, clients: &[Client], load: Load) -> Report {
    let prefix = session.input.bytes("prefix").to_vec();
    let seed = u64::from(process::id()) << 32;
    let report = Rc::new(RefCell::new(Report::default()));
    let turns = Rc::new(RefCell::new(0_u64));
    let begun = Instant::now();
    let tasks = LocalSet::new();
    for client in clients {
        let (client, prefix) = (client.clone(), prefix.clone());
        let (report, turns) = (Rc::clone(&report), Rc::clone(&turns));
        tasks.spawn_local(async move {
            loop {
                let turn = turns.replace_with(|turn| *turn + 1);
                let at = Duration::from_secs_f64(turn as f64 / load.limit as f64);
                if at >= PERF_TIME {
                    return;
                }
                tokio::time::sleep(at.saturating_sub(begun.elapsed())).await;
                let sent = Instant::now();
                if sent.duration_since(begun) >= PERF_TIME {
                    return;
                }
                let (key_bytes, value_bytes) = PERF_SIZES;
                let key = key(&prefix, key_bytes, seed + turn);
                let result = client.put(key, vec![0; value_bytes]).await;
                report.borrow_mut().add(sent, result.map(drop));
            }
        });
    }
    tasks.spawn_local(async move {
        let bar = terminal::bar("check perf", Unit::Seconds);
        bar.set_length(PERF_TIME.as_secs());
        for second in 1..=PERF_TIME.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bar.set_position(second);
        }
        bar.finish_and_clear();
    });
    tasks.await;
    report.take()
}

fn cleanup(session: &Session, client: &Client) {
    let client = client.with_timeout(CLEANUP_TIMEOUT);
    let prefix = session.input.bytes("prefix");
    match session.ask("KV/DeleteRange", client.delete(prefix).prefix()) {
        Ok(answer) => {
            let revision = answer.header.map_or(0, |header| header.revision);
            if session.input.bool("auto-compact")
                && let Err(exit) = compact(session, &client, revision)
            {
                output::stderr(&format!("Error: {}\n", exit.message.unwrap_or_default()));
            }
        }
        Err(error) => {
            output::line(&format!("FAIL: Cleanup failed during key deletion: ERROR({error})"));
        }
    }
}

fn compact(session: &Session, client: &Client, revision: i64) -> Result<(), Exit> {
    output::line(&format!("Compacting with revision {revision}"));
    let client = client.with_timeout(CLEANUP_TIMEOUT);
    session.ask("KV/Compact", client.compact(revision, true))?;
    output::line(&format!("Compacted with revision {revision}"));
    Ok(())
}

fn defragment_after(session: &Session, client: &Client) -> Result<(), Exit> {
    if !session.input.bool("auto-defrag") {
        return Ok(());
    }
    let client = client.with_timeout(CLEANUP_TIMEOUT);
    for endpoint in session.endpoints() {
        let quoted = go::quote(endpoint.as_bytes());
        output::line(&format!("Defragmenting {quoted}"));
        session.ask("Maintenance/Defragment", client.defragment(endpoint))?;
        output::line(&format!("Defragmented {quoted}"));
    }
    Ok(())
}

pub(crate) fn datascale(session: &mut Session) -> Result<(), Exit> {
    let load = load_of(session, DATASCALE)?;
    let clients = clients(session, load)?;
    check_empty(session, &clients[0], "etcdctl del --prefix *")?;
    let endpoint = session.endpoints()[0].clone();
    let memory = |when: &str| {
        session.wait(resident_bytes(&endpoint)).map_err(|why| {
            output::line(&why);
            output::line(&format!(
                "FAIL: Could not read process_resident_memory_bytes {when} the put operations."
            ));
            Exit::silent(ERROR)
        })
    };
    let before = memory("before")?;
    output::line(&format!(
        "Start data scale check for work load [{} key-value pairs, 1024 bytes per key-value, {} concurrent clients].",
        load.limit, load.clients
    ));
    let report = session.wait(put_all(session, &clients, load));
    let after = memory("after")?;
    let prefix = session.input.bytes("prefix");
    let answer = session.ask("KV/DeleteRange", clients[0].delete(prefix).prefix())?;
    if session.input.bool("auto-compact") {
        let revision = answer.header.map_or(0, |header| header.revision);
        compact(session, &clients[0], revision)?;
    }
    defragment_after(session, &clients[0])?;
    if !report.print_errors() {
        return Err(Exit::silent(ERROR));
    }
    let megabytes = (after - before) / (1024.0 * 1024.0);
    output::line(&format!("PASS: Approximate system memory used : {megabytes:.2} MB."));
    Ok(())
}

/// Each client takes the next key as soon as its last one is there.
async fn put_all(session: &Session, clients: &[Client], load: Load) -> Report {
    let prefix = session.input.bytes("prefix").to_vec();
    let seed = u64::from(process::id()) << 32;
    let report = Rc::new(RefCell::new(Report::default()));
    let next = Rc::new(RefCell::new(0_u64));
    let bar = terminal::bar("check datascale", Unit::Count);
    bar.set_length(load.limit);
    let tasks = LocalSet::new();
    for client in clients {
        let (client, prefix) = (client.clone(), prefix.clone());
        let (report, next, bar) = (Rc::clone(&report), Rc::clone(&next), bar.clone());
        tasks.spawn_local(async move {
            loop {
                let number = next.replace_with(|number| *number + 1);
                if number >= load.limit {
                    return;
                }
                let (key_bytes, value_bytes) = DATASCALE_SIZES;
                let key = key(&prefix, key_bytes, seed + number);
                let sent = Instant::now();
                let result = client.put(key, vec![0; value_bytes]).await;
                report.borrow_mut().add(sent, result.map(drop));
                bar.inc(1);
            }
        });
    }
    tasks.await;
    bar.finish_and_clear();
    report.take()
}

/// What the server says in its metrics of the memory that it has. The error is a line.
async fn resident_bytes(endpoint: &str) -> Result<f64, String> {
    const NAME: &str = "process_resident_memory_bytes";
    let metrics = Metrics::fetch(endpoint, FETCH_TIMEOUT).await;
    let metrics = metrics.map_err(|error| format!("fetch error: {error}"))?;
    metrics.value(NAME).ok_or_else(|| format!("could not find: {NAME}"))
}

#[cfg(test)]
mod tests {
    use super::{Report, key};
    use std::time::Instant;

    #[test]
    fn keys_differ_and_are_as_long_as_said() {
        let keys: Vec<_> = (0..1000).map(|number| key(b"p/", 256, number)).collect();
        assert!(keys.iter().all(|key| key.len() == 258 && key.starts_with(b"p/")));
        let mut sorted = keys.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), keys.len());
    }

    #[test]
    fn a_report_counts_errors_by_text() {
        let mut report = Report::default();
        for error in
            [client::Error::NoEndpoints, client::Error::KeyExists, client::Error::NoEndpoints]
        {
            report.add(Instant::now(), Err(error));
        }
        let counts: Vec<u64> = report.errors.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1]);
        report.latencies = vec![1.0, 3.0];
        assert_eq!((report.slowest(), report.deviation()), (3.0, 1.0));
    }
}
