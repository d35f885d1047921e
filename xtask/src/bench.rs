//! `cargo xtask bench`: etcd v3.7.3 and ours on the same machine under the same load, in turn.
//!
//! The load comes from etcd's own benchmark tool. The figures are the tool's rate and percentiles, the CPU time of the
//! server processes per operation, its anonymous memory with many keys, and the times of a first start and of a restart
//! after SIGKILL. `echo` measures the front door alone, beside tonic.

mod echo;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::conformance::process::{self, Member, Server};
use crate::conformance::tools::{self, Tools};
use crate::conformance::{Outcome, our_binary};

const USAGE: &str =
    "usage: cargo xtask bench [--quick] [--ours PATH] [--markdown FILE] [--only NAME,...]";

struct Options {
    ours: Option<PathBuf>,
    markdown: Option<PathBuf>,
    only: Vec<String>,
    quick: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|it| it == name)
    }
}

/// One load of the benchmark tool: its size in a full and in a quick run, and its arguments, in which `{total}` stands
/// for the size.
struct Load {
    name: &'static str,
    title: &'static str,
    /// Members of the cluster, all of them endpoints of the tool.
    members: usize,
    full: u64,
    quick: u64,
    /// Operations counted per unit of the size: a put to a key with 1,000 watchers is 1,000 events.
    weight: u64,
    args: &'static str,
}

const LOADS: &[Load] = &[
    Load {
        name: "put1",
        title: "put, 1 client",
        members: 1,
        full: 10_000,
        quick: 3_000,
        weight: 1,
        args: "--conns 1 --clients 1 put --key-size 32 --val-size 256 --key-space-size 1000000 --total {total}",
    },
    Load {
        name: "put100",
        title: "put, 100 clients, 100 connections",
        members: 1,
        full: 100_000,
        quick: 20_000,
        weight: 1,
        args: "--conns 100 --clients 100 put --key-size 32 --val-size 256 --key-space-size 1000000 --total {total}",
    },
    Load {
        name: "put1000",
        title: "put, 1,000 clients, 100 connections",
        members: 1,
        full: 300_000,
        quick: 50_000,
        weight: 1,
        args: "--conns 100 --clients 1000 put --key-size 32 --val-size 256 --key-space-size 1000000 --total {total}",
    },
    Load {
        name: "rangel",
        title: "linearizable range, 1,000 clients",
        members: 1,
        full: 300_000,
        quick: 60_000,
        weight: 1,
        args: "--conns 100 --clients 1000 range bench --consistency l --total {total}",
    },
    Load {
        name: "ranges",
        title: "serializable range, 1,000 clients",
        members: 1,
        full: 300_000,
        quick: 60_000,
        weight: 1,
        args: "--conns 100 --clients 1000 range bench --consistency s --total {total}",
    },
    Load {
        name: "watch",
        title: "watch events, 1,000 watchers of one key",
        members: 1,
        full: 4_000,
        quick: 1_000,
        weight: 1_000,
        args: "--conns 10 --clients 10 watch --streams 10 --watch-per-stream 100 --watched-key-total 1 --put-total {total}",
    },
    Load {
        name: "three",
        title: "put, three members, 1,000 clients",
        members: 3,
        full: 100_000,
        quick: 30_000,
        weight: 1,
        args: "--conns 100 --clients 1000 put --key-size 32 --val-size 256 --key-space-size 1000000 --total {total}",
    },
];

/// What the CPU time of all members for a put through three members may be, as a part of etcd's.
const THREE_CPU_MAX: f64 = 0.5;

/// A measured quantity of both servers.
struct Row {
    what: String,
    unit: &'static str,
    etcd: f64,
    ours: f64,
}

/// What one load did to one server.
#[derive(Default)]
struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
}

struct Side {
    name: &'static str,
    binary: PathBuf,
}

/// Measures, prints the table, and writes it as Markdown when asked.
///
/// # Errors
/// A wrong argument, a missing tool, or a server that does not start; a load that fails is counted in the outcome.
pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let options = parse(args)?;
    let mut outcome = Outcome::default();
    let tools = tools::prepare(&mut outcome.skipped)?;
    if !tools.bin("benchmark").exists() {
        return Err("etcd's benchmark tool is not there".to_owned());
    }
    let begun = Instant::now();
    let mut tables = String::new();
    if options.only.iter().any(|name| name != "echo") || options.only.is_empty() {
        let rows = measure(&tools, &options, &mut outcome)?;
        print_table(&rows);
        tables = markdown(&rows, options.quick);
    }
    if options.wants("echo") {
        let table = echo::run(&tools, options.quick, &mut outcome)?;
        println!("{table}");
        let _ = write!(tables, "\n{table}");
    }
    if let Some(path) = &options.markdown {
        fs::write(path, tables).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("written to {}", path.display());
    }
    println!(
        "bench: {} passed, {} failed in {:.0} s",
        outcome.passed,
        outcome.failed,
        begun.elapsed().as_secs_f64()
    );
    Ok(outcome)
}

/// etcd and ours, whole.
fn measure(tools: &Tools, options: &Options, outcome: &mut Outcome) -> Result<Vec<Row>, String> {
    let sides = [
        Side { name: "etcd", binary: tools.bin("etcd") },
        Side { name: "ours", binary: our_binary(options.ours.clone())? },
    ];
    let work = tools.work.join("bench");
    let _ = fs::remove_dir_all(&work);
    let mut rows = Vec::new();
    for members in [1, 3] {
        let loads = LOADS.iter().filter(|load| load.members == members && options.wants(load.name));
        let loads: Vec<&Load> = loads.collect();
        measure_loads(tools, &sides, &work, &loads, options.quick, &mut rows, outcome)?;
    }
    if options.wants("start") {
        measure_start(&sides, &work, &mut rows)?;
    }
    if options.wants("keys") {
        measure_keys(tools, &sides, &work, options.quick, &mut rows, outcome)?;
    }
    let _ = fs::remove_dir_all(&work);
    Ok(rows)
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { ours: None, markdown: None, only: Vec::new(), quick: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--ours" => options.ours = Some(PathBuf::from(value()?)),
            "--markdown" => options.markdown = Some(PathBuf::from(value()?)),
            "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
            _ => return Err(format!("unknown argument {arg}\n{USAGE}")),
        }
    }
    Ok(options)
}

/// Both servers stay up, idle while the other is loaded; each load goes to one and then to the other, so that both meet
/// the machine in the same mood.
fn measure_loads(
    tools: &Tools,
    sides: &[Side; 2],
    work: &Path,
    loads: &[&Load],
    quick: bool,
    rows: &mut Vec<Row>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let Some(members) = loads.first().map(|load| load.members) else { return Ok(()) };
    let mut clusters = Vec::new();
    for side in sides {
        let member = |number| {
            let folder = work.join(format!("{}-{members}-{number}", side.name));
            Member::named(&format!("n{number}"), folder)
        };
        let members: Vec<Member> = (1..=members).map(member).collect();
        let cluster = Server::start_cluster(&side.binary, &members)?;
        let value = "v".repeat(256);
        let mut put = tools.etcdctl(&endpoints(&cluster));
        put.args(["put", "bench", &value]);
        process::run(&mut put, b"", Duration::from_secs(10))?.success("etcdctl put")?;
        clusters.push(cluster);
    }
    for load in loads {
        let mut both = Vec::new();
        for (side, cluster) in sides.iter().zip(&clusters) {
            eprintln!("bench: {} against {}", load.title, side.name);
            let figures = drive(tools, cluster, load, quick);
            let name = format!("{} against {}", load.title, side.name);
            outcome.case(&name, figures.as_ref().map(drop).map_err(Clone::clone));
            both.push(figures.unwrap_or_default());
        }
        let (Some(ours), Some(etcd)) = (both.pop(), both.pop()) else { continue };
        let mut row = |what, unit, etcd, ours| {
            rows.push(Row { what: format!("{}: {what}", load.title), unit, etcd, ours });
        };
        row("rate", "1/s", etcd.rate, ours.rate);
        if load.weight == 1 {
            row("p50", "ms", etcd.p50_ms, ours.p50_ms);
            row("p99", "ms", etcd.p99_ms, ours.p99_ms);
        }
        let what = if members > 1 { "CPU of all each" } else { "server CPU each" };
        row(what, "us", etcd.cpu_us, ours.cpu_us);
        if members > 1 {
            let part = ours.cpu_us / etcd.cpu_us;
            let result = if part <= THREE_CPU_MAX { Ok(()) } else { Err(format!("{part:.2}")) };
            outcome.case(&format!("{}: at most {THREE_CPU_MAX} of etcd's CPU", load.title), result);
        }
    }
    Ok(())
}

fn endpoints(cluster: &[Server]) -> String {
    let all: Vec<String> = cluster.iter().map(Server::endpoint).collect();
    all.join(",")
}

fn drive(tools: &Tools, cluster: &[Server], load: &Load, quick: bool) -> Result<Figures, String> {
    let total = if quick { load.quick } else { load.full };
    let spent = || cluster.iter().map(|server| cpu_seconds(server.pid())).sum::<Result<f64, _>>();
    let before = spent()?;
    let report =
        benchmark(tools, &endpoints(cluster), &load.args.replace("{total}", &total.to_string()))?;
    // What was acknowledged is still being committed to the backend: the next 100 ms belong to the load.
    thread::sleep(Duration::from_millis(300));
    let cpu = spent()? - before;
    let mut figures = read_report(&report)?;
    figures.cpu_us = cpu * 1e6 / (total * load.weight) as f64;
    Ok(figures)
}

fn benchmark(tools: &Tools, endpoints: &str, args: &str) -> Result<String, String> {
    let mut command = Command::new(tools.bin("benchmark"));
    command.args(["--precise", "--endpoints", endpoints]).args(args.split(' '));
    let report = process::run(&mut command, b"", Duration::from_secs(900))?;
    report.success("benchmark")
}

/// Reads the last report in the tool's output: a watch run prints one for the creation of its watches first.
fn read_report(text: &str) -> Result<Figures, String> {
    if text.contains("Error distribution") {
        return Err(format!("requests failed: {}", process::last_lines(text, 3)));
    }
    let number_after = |mark: &str| {
        let rest = &text[text.rfind(mark)? + mark.len()..];
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let rate = number_after("Requests/sec:").ok_or("no rate in the benchmark's report")?;
    let p50 = number_after("50% in").unwrap_or_default();
    let p99 = number_after("99% in").unwrap_or_default();
    Ok(Figures { rate, p50_ms: p50 * 1e3, p99_ms: p99 * 1e3, cpu_us: 0.0 })
}

fn measure_start(sides: &[Side; 2], work: &Path, rows: &mut Vec<Row>) -> Result<(), String> {
    const STARTS: usize = 5;
    let mut medians = Vec::new();
    for side in sides {
        eprintln!("bench: first start of {}", side.name);
        let mut times = Vec::new();
        for i in 0..STARTS {
            let member = Member::new(work.join(format!("start-{}-{i}", side.name)));
            let server = Server::start(&side.binary, &member, &[])?;
            times.push(server.started_in.as_secs_f64());
            server.kill();
        }
        medians.push(median(&mut times));
    }
    let what = "first start to serving".to_owned();
    rows.push(Row { what, unit: "s", etcd: medians[0], ours: medians[1] });
    Ok(())
}

/// Many keys: memory, and the time from SIGKILL to healthy.
fn measure_keys(
    tools: &Tools,
    sides: &[Side; 2],
    work: &Path,
    quick: bool,
    rows: &mut Vec<Row>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let keys = if quick { 100_000 } else { 1_000_000 };
    let (mut memory, mut restart) = (Vec::new(), Vec::new());
    for side in sides {
        eprintln!("bench: {keys} keys in {}", side.name);
        let member = Member::new(work.join(format!("keys-{}", side.name)));
        let mut server = Server::start(&side.binary, &member, &[])?;
        let fill = format!(
            "--conns 100 --clients 1000 put --key-size 32 --val-size 256 --sequential-keys --key-space-size {keys} --total {keys}"
        );
        let filled =
            benchmark(tools, &server.endpoint(), &fill).and_then(|text| read_report(&text));
        outcome.case(&format!("{keys} keys in {}", side.name), filled.map(drop));
        thread::sleep(Duration::from_secs(1));
        memory.push(anonymous_memory(server.pid())? / 1e6);
        let mut times = Vec::new();
        for _ in 0..3 {
            server.kill();
            let limit = Duration::from_secs(120);
            server = Server::start_within(&side.binary, &member, &[], limit)?;
            times.push(server.started_in.as_secs_f64());
        }
        restart.push(median(&mut times));
        server.kill();
        let _ = fs::remove_dir_all(&member.dir);
    }
    let mut row = |what: &str, unit, values: &[f64]| {
        let what = format!("{keys} keys of 32+256 bytes: {what}");
        rows.push(Row { what, unit, etcd: values[0], ours: values[1] });
    };
    row("anonymous memory", "MB", &memory);
    row("SIGKILL to healthy", "s", &restart);
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> Result<f64, String> {
    // Linux counts these in USER_HZ, which is 100 on every architecture that runs etcd.
    const TICKS: f64 = 100.0;
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    // The name in parentheses may hold blanks; the fields after it do not. utime and stime are fields 14 and 15.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = fields.split(' ').skip(12).take(2).filter_map(|f| f.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

fn anonymous_memory(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.map(|kb| kb * 1024.0).ok_or_else(|| format!("{path}: no RssAnon"))
}

fn print_table(rows: &[Row]) {
    println!("{:<62} {:>12} {:>12}  ours/etcd", "", "etcd 3.7.3", "ours");
    for row in rows {
        let what = format!("{} [{}]", row.what, row.unit);
        let (etcd, ours) = (digits(row.etcd), digits(row.ours));
        println!("{what:<62} {etcd:>12} {ours:>12}  {}", ratio(row));
    }
}

fn markdown(rows: &[Row], quick: bool) -> String {
    let mut text = format!("Measured {} on {}", shell("date", &["-u", "+%F"]), machine());
    text.push_str(if quick { " (quick run).\n\n" } else { ".\n\n" });
    text.push_str("| | unit | etcd 3.7.3 | ours | ours/etcd |\n|---|---|---:|---:|---:|\n");
    for row in rows {
        let (etcd, ours) = (digits(row.etcd), digits(row.ours));
        let ratio = ratio(row);
        let _ = writeln!(text, "| {} | {} | {etcd} | {ours} | {ratio} |", row.what, row.unit);
    }
    text
}

fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = shell("uname", &["-r"]);
    format!("{cores} cores, {}, Linux {kernel}", model.unwrap_or("unknown processor"))
}

fn shell(program: &str, args: &[&str]) -> String {
    let output = process::run(Command::new(program).args(args), b"", Duration::from_secs(5));
    output.map(|output| output.text().trim().to_owned()).unwrap_or_default()
}

fn ratio(row: &Row) -> String {
    if row.etcd > 0.0 && row.ours > 0.0 {
        format!("{:.2}", row.ours / row.etcd)
    } else {
        "-".to_owned()
    }
}

/// Three figures that matter.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::read_report;

    #[test]
    fn the_last_report_counts() {
        let text = "Watch creation summary:\n  Requests/sec:\t11.5\n  50% in 0.5 secs.\n  99% in 0.9 secs.\n\
            Watch events received summary:\n  Requests/sec:\t1250.5\n  50% in 0.0005 secs.\n  99% in 0.002 secs.\n  99.9% in 0.1 secs.\n";
        let figures = read_report(text).expect("a report");
        assert_eq!((figures.rate, figures.p50_ms, figures.p99_ms), (1250.5, 0.5, 2.0));
        assert!(read_report("Requests/sec: 5\nError distribution:\n  [3] no").is_err());
    }
}
