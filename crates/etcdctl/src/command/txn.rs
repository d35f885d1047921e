//! `txn`: conditions and operations are read line by line.

use std::io::{self, BufRead};

use client::{Compare, Comparison, Get, Op};
use cobra::{Command, Outcome, Program, go};

use super::kv;
use crate::answer::Answer;
use crate::exit::{Exit, INVALID_INPUT};
use crate::words::{self, Condition};
use crate::{output, session::Session};

/// What a line may ask for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Get,
    Delete,
}

/// A line of operations is a command line of its own.
const LINE: Program<Kind> = Program {
    root: Command::parent(
        "",
        "",
        &[
            Command::new(
                "put [options] <key> <value> (<value> can also be given from stdin)",
                "Puts the given key into the store",
                Kind::Put,
            )
            .flags(kv::PUT),
            Command::new(
                "get [options] <key> [range_end]",
                "Gets the key or a range of keys",
                Kind::Get,
            )
            .flags(kv::GET),
            Command::new(
                "del [options] <key> [range_end]",
                "Removes the specified key or range of keys [key, range_end)",
                Kind::Delete,
            )
            .flags(kv::DELETE),
        ],
    ),
    groups: &[],
    help_group: "",
    help_long: "",
    footer: "",
    hides_help: false,
};

pub(crate) fn run(session: &mut Session) -> Result<(), Exit> {
    if !session.args().is_empty() {
        return Err(Exit::arguments("txn command does not accept argument"));
    }
    let client = session.client()?;
    let interactive = session.input.bool("interactive");
    let prompt = |text: &str| {
        if interactive {
            output::line(text);
        }
    };
    let mut input = io::stdin().lock();
    let mut txn = client.txn();
    prompt("compares:");
    while let Some(line) = read_line(&mut input)? {
        txn = txn.when(compare(&line)?);
    }
    prompt("success requests (get, put, del):");
    while let Some(line) = read_line(&mut input)? {
        txn = txn.then(operation(&line)?);
    }
    prompt("failure requests (get, put, del):");
    while let Some(line) = read_line(&mut input)? {
        txn = txn.otherwise(operation(&line)?);
    }
    let answer = session.ask("KV/Txn", txn)?;
    session.print(&Answer::Txn(&answer))
}

/// A line without blanks around it; an empty one ends a part.
fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, Exit> {
    let mut line = Vec::new();
    let read = input.read_until(b'\n', &mut line);
    read.map_err(|error| Exit::new(INVALID_INPUT, error))?;
    if line.pop() != Some(b'\n') {
        return Err(Exit::new(INVALID_INPUT, "EOF"));
    }
    let line = line.trim_ascii();
    Ok(if line.is_empty() { None } else { Some(line.to_vec()) })
}

fn compare(line: &[u8]) -> Result<Compare, Exit> {
    let invalid = |why: String| Exit::new(INVALID_INPUT, why);
    let shown = String::from_utf8_lossy(line);
    let Condition { target, key, operator, value } = words::condition(line).map_err(invalid)?;
    let number = |base| {
        go::parse_int(&String::from_utf8_lossy(&value), base)
            .map_err(|_| invalid(format!("invalid txn compare request: {shown}")))
    };
    let is = || match operator.as_slice() {
        b"=" => Ok(Comparison::Equal),
        b"!=" => Ok(Comparison::NotEqual),
        b">" => Ok(Comparison::Greater),
        b"<" => Ok(Comparison::Less),
        // DIFF(etcd): its tool ends with a trace here.
        operator => {
            let operator = String::from_utf8_lossy(operator);
            Err(invalid(format!("malformed comparison: {shown} (unknown operator {operator})")))
        }
    };
    match target.as_slice() {
        b"ver" | b"version" => {
            let version = number(10)?;
            Ok(Compare::version(key, is()?, version))
        }
        b"c" | b"create" => {
            let revision = number(10)?;
            Ok(Compare::create_revision(key, is()?, revision))
        }
        b"m" | b"mod" => {
            let revision = number(10)?;
            Ok(Compare::mod_revision(key, is()?, revision))
        }
        b"val" | b"value" => Ok(Compare::value(key, is()?, value.clone())),
        // DIFF(etcd): its tool ends with a trace at any comparison of a lease.
        b"lease" => {
            let id = number(16)?;
            Ok(Compare::lease(key, is()?, id))
        }
        target => {
            let target = String::from_utf8_lossy(target);
            Err(invalid(format!("malformed comparison: {shown} (unknown target {target})")))
        }
    }
}

fn operation(line: &[u8]) -> Result<Op, Exit> {
    let shown = String::from_utf8_lossy(line);
    let invalid = |what: &str| Exit::new(INVALID_INPUT, format!("invalid txn {what}: {shown}"));
    let words = words::split(line)?;
    if words.len() < 2 {
        return Err(invalid("compare request"));
    }
    match LINE.interpret(&words) {
        // Standard input has the lines, and is no value.
        Outcome::Run(Kind::Put, input) => Ok(kv::write(&input, Vec::new)?.into()),
        Outcome::Run(Kind::Get, input) => Ok(kv::range(&input, Get::new)?.into()),
        Outcome::Run(Kind::Delete, input) => Ok(kv::removal(&input)?.into()),
        Outcome::Print(text) => {
            // The sentence is left out, and the usage stays.
            let usage = text.stderr.find("\nUsage:").map(|at| &text.stderr[at + 1..]);
            output::stderr(usage.unwrap_or_default());
            Err(invalid("request"))
        }
    }
}
