//! `cargo xtask bench-raft`: our raft, Go's and the crate `raft` 0.7 at the same work, in turn, in one run.
//!
//! Each of the three programs prints a line per benchmark. They run in rounds, one after another, and the best time of
//! each counts: on a machine that does other things as well, that is the one disturbed least.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str =
    "usage: cargo xtask bench-raft [--rounds N] [--seconds S] [--markdown FILE] [NAME]";

struct Options {
    rounds: u32,
    seconds: String,
    markdown: Option<PathBuf>,
    /// Benchmarks whose names contain this.
    filter: String,
}

/// What one program said about one benchmark; the least of all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    wall_ns: f64,
    cpu_ns: f64,
    allocations: u64,
}

type Results = BTreeMap<String, Figures>;

/// Builds and runs the three, and prints the table.
///
/// # Errors
/// If an argument is wrong, or a program does not build or run.
pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let options = parse(args)?;
    let programs = [ours()?, go()?, raft_rs()?];
    let mut order = Vec::new();
    let mut results = [Results::new(), Results::new(), Results::new()];
    for round in 1..=options.rounds {
        for (program, results) in programs.iter().zip(&mut results) {
            println!("round {round}: {}", program.display());
            let text = output(Command::new(program).args([
                "--seconds",
                &options.seconds,
                &options.filter,
            ]))?;
            for line in text.lines() {
                let (name, figures) =
                    read_line(line).ok_or_else(|| format!("not a result: {line}"))?;
                if !order.contains(&name) {
                    order.push(name.clone());
                }
                let best = results.entry(name).or_insert(figures);
                best.wall_ns = best.wall_ns.min(figures.wall_ns);
                best.cpu_ns = best.cpu_ns.min(figures.cpu_ns);
                best.allocations = best.allocations.min(figures.allocations);
            }
        }
    }
    let (table, is_fast_enough) = table(&order, &results);
    println!("{table}");
    if let Some(path) = options.markdown {
        fs::write(&path, &table).map_err(|err| format!("{}: {err}", path.display()))?;
    }
    Ok(is_fast_enough)
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options =
        Options { rounds: 3, seconds: "0.5".to_owned(), markdown: None, filter: String::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse().map_err(|_| USAGE.to_owned())?,
            "--seconds" => options.seconds.clone_from(value()?),
            "--markdown" => options.markdown = Some(PathBuf::from(value()?)),
            name if !name.starts_with('-') => name.clone_into(&mut options.filter),
            _ => return Err(format!("no option {arg}\n{USAGE}")),
        }
    }
    Ok(options)
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|err| format!("{command:?}: {err}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{command:?}: {}\n{text}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn build_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| crate::root().join("target"), PathBuf::from).join("bench-raft")
}

/// The last line of what cargo prints about a build has the path of the program.
fn ours() -> Result<PathBuf, String> {
    let args = "bench --locked -p raft-node --bench raft --no-run --message-format=json";
    let mut command = Command::new("cargo");
    let text = output(command.args(args.split(' ')).current_dir(crate::root()))?;
    let mut paths = text.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    paths.next_back().ok_or_else(|| format!("cargo {args}: built nothing"))
}

fn go() -> Result<PathBuf, String> {
    let folder = crate::root().join("conformance/raft-bench");
    let program = build_folder().join("raft-bench");
    output(Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(folder))?;
    Ok(program)
}

fn raft_rs() -> Result<PathBuf, String> {
    let folder: &Path = &crate::root().join("conformance/raft-rs-bench");
    let target = build_folder();
    let args = ["build", "--locked", "--release", "--target-dir"];
    output(Command::new("cargo").args(args).arg(&target).current_dir(folder))?;
    Ok(target.join("release/raft-rs-bench"))
}

/// Reads `NAME N 12.5 ns/op 12.1 cpu-ns/op 48 B/op 1 allocs/op`.
fn read_line(line: &str) -> Option<(String, Figures)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |unit| {
        let at = words.iter().position(|word| *word == unit)?;
        words.get(at.checked_sub(1)?)?.parse::<f64>().ok()
    };
    let figures = Figures {
        wall_ns: value("ns/op")?,
        cpu_ns: value("cpu-ns/op")?,
        allocations: value("allocs/op")? as u64,
    };
    Some(((*words.first()?).to_owned(), figures))
}

/// The table, and whether ours is everywhere at least twice as fast as Go's and no slower than raft-rs. CPU time decides: the wall clock says more about what else the machine does.
fn table(order: &[String], [ours, go, raft_rs]: &[Results; 3]) -> (String, bool) {
    let mut text = String::from(
        "| benchmark | ours, ns | Go, ns | raft-rs, ns | ours, CPU ns | Go / ours, CPU | raft-rs / ours, CPU | allocations: ours, Go, raft-rs |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut is_fast_enough = true;
    for name in order {
        let Some(own) = ours.get(name) else { continue };
        let (go, raft_rs) = (go.get(name), raft_rs.get(name));
        let wall = |figures: Option<&Figures>| {
            figures.map_or("-".to_owned(), |figures| number(figures.wall_ns))
        };
        let mut ratio = |figures: Option<&Figures>, least: f64| {
            let Some(figures) = figures else { return "-".to_owned() };
            let ratio = figures.cpu_ns / own.cpu_ns.max(0.01);
            is_fast_enough &= ratio >= least;
            let mark = if ratio < least { " (!)" } else { "" };
            format!("{ratio:.1}{mark}")
        };
        let (to_go, to_raft_rs) = (ratio(go, 2.0), ratio(raft_rs, 1.0));
        let allocations = |figures: Option<&Figures>| {
            figures.map_or("-".to_owned(), |figures| figures.allocations.to_string())
        };
        // writing to a String does not fail
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {to_go} | {to_raft_rs} | {}, {}, {} |",
            number(own.wall_ns),
            wall(go),
            wall(raft_rs),
            number(own.cpu_ns),
            own.allocations,
            allocations(go),
            allocations(raft_rs)
        );
    }
    (text, is_fast_enough)
}

fn number(ns: f64) -> String {
    if ns < 100.0 { format!("{ns:.1}") } else { format!("{ns:.0}") }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Results, read_line, table};

    #[test]
    fn a_line_of_a_program_is_read() {
        let line =
            "BenchmarkRawNode/single-voter 100 606.1 ns/op 574.86 cpu-ns/op 505 B/op 4 allocs/op";
        let figures = Figures { wall_ns: 606.1, cpu_ns: 574.86, allocations: 4 };
        assert_eq!(read_line(line), Some(("BenchmarkRawNode/single-voter".to_owned(), figures)));
        assert_eq!(read_line("PASS"), None);
    }

    #[test]
    fn slow_rows_are_marked() {
        let of = |cpu_ns| {
            let figures = Figures { wall_ns: 1.0, cpu_ns, allocations: 0 };
            Results::from([("a".to_owned(), figures)])
        };
        let order = ["a".to_owned()];
        let (text, is_fast_enough) = table(&order, &[of(10.0), of(20.0), Results::new()]);
        assert!(is_fast_enough, "{text}");
        let (text, is_fast_enough) = table(&order, &[of(10.0), of(19.0), of(8.5)]);
        assert!(!is_fast_enough);
        assert!(
            text.ends_with("| a | 1.0 | 1.0 | 1.0 | 10.0 | 1.9 (!) | 0.8 (!) | 0, 0, 0 |\n"),
            "{text}"
        );
    }
}
