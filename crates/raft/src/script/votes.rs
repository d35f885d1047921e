//! Scripts of quorums: `committed` and `vote`. Each result is checked against ways to compute it that must agree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Failure;
use super::directive::{Directive, parse_number};
use crate::quorum::{JointConfig, MajorityConfig};

/// What each voter has acknowledged, or voted: 1 no, 2 yes. Absent when not heard of.
type Acked = BTreeMap<u64, u64>;

#[derive(Debug, Default)]
struct Case {
    ids: Vec<u64>,
    joint_ids: Vec<u64>,
    is_joint: bool,
    /// In the order of `ids` and `joint_ids` without repetitions; 0 for a voter not heard of.
    indexes: Vec<u64>,
    votes: Vec<u64>,
}

pub(super) fn handle(directive: &Directive) -> Result<String, Failure> {
    let case = Case::parse(directive)?;
    let config = JointConfig {
        incoming: case.ids.iter().copied().collect(),
        outgoing: case.joint_ids.iter().copied().collect(),
    };
    let is_vote = directive.command == "vote";
    let input = if is_vote { &case.votes } else { &case.indexes };
    if config.ids().len() != input.len() {
        let ids: Vec<_> = config.ids().ids().iter().map(|id| format!("{id}:{{}}")).collect();
        return Ok(format!(
            "error: mismatched input (explicit or _) for voters map[{}]: [{}]",
            ids.join(" "),
            input.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
        ));
    }
    let acked = case.acked(input);
    match directive.command.as_str() {
        "committed" if case.is_joint => Ok(committed_joint(&config, &acked)),
        "committed" => Ok(committed(&config.incoming, &acked)),
        "vote" => Ok(vote(&config, case.is_joint, &acked)),
        other => Err(Failure::fatal(format!("unknown command: {other}"))),
    }
}

impl Case {
    fn parse(directive: &Directive) -> Result<Self, Failure> {
        let mut case = Self::default();
        for (key, value) in directive.values() {
            match (key, value) {
                ("cfg", id) => case.ids.push(parse_number(id)?),
                ("cfgj", "zero") => case.is_joint = true,
                ("cfgj", id) => {
                    case.is_joint = true;
                    case.joint_ids.push(parse_number(id)?);
                }
                ("idx", "_") => case.indexes.push(0),
                ("idx", "0") => return Err(Failure::fatal("cannot use 0 as idx")),
                ("idx", index) => case.indexes.push(parse_number(index)?),
                ("votes", "y") => case.votes.push(2),
                ("votes", "n") => case.votes.push(1),
                ("votes", "_") => case.votes.push(0),
                _ => return Err(Failure::fatal(format!("unknown arg {key}={value}"))),
            }
        }
        Ok(case)
    }

    fn acked(&self, input: &[u64]) -> Acked {
        let mut seen = Acked::new();
        let mut input = input.iter();
        for id in self.ids.iter().chain(&self.joint_ids) {
            if !seen.contains_key(id)
                && let Some(&index) = input.next()
            {
                seen.insert(*id, index);
            }
        }
        seen.retain(|_, index| *index != 0);
        seen
    }
}

fn lookup(acked: &Acked) -> impl Fn(u64) -> Option<u64> + '_ {
    |id| acked.get(&id).copied()
}

fn show(index: u64) -> String {
    if index == u64::MAX { "∞".to_owned() } else { index.to_string() }
}

/// The definition, tried out: the highest acknowledged index that a majority has reached.
fn committed_by_definition(config: &MajorityConfig, acked: &Acked) -> u64 {
    if config.is_empty() {
        return u64::MAX;
    }
    let of_voters = || config.ids().iter().filter_map(|id| acked.get(id));
    let is_committed =
        |&index: &u64| of_voters().filter(|&&other| other >= index).count() > config.len() / 2;
    of_voters().copied().filter(is_committed).max().unwrap_or(0)
}

fn committed(config: &MajorityConfig, acked: &Acked) -> String {
    let mut text = config.describe(lookup(acked));
    let index = config.committed_index(lookup(acked));
    let mut check = |other: u64, how: &str| {
        if other != index {
            // writing to a String does not fail
            let _ = writeln!(text, "{} <-- {how}", show(other));
        }
    };
    check(committed_by_definition(config, acked), "via alternative computation");
    let joint = |outgoing: &MajorityConfig| {
        JointConfig { incoming: config.clone(), outgoing: outgoing.clone() }
            .committed_index(lookup(acked))
    };
    check(joint(&MajorityConfig::default()), "via zero-joint quorum");
    check(joint(config), "via self-joint quorum");
    for &id in config.ids() {
        let Some(&own) = acked.get(&id).filter(|&&own| index > own) else { continue };
        // what is below the committed index does not matter
        for lower in [own - 1, 0] {
            let mut lowered = acked.clone();
            lowered.insert(id, lower);
            check(config.committed_index(lookup(&lowered)), &format!("overlaying {id}->{lower}"));
        }
    }
    text + &show(index) + "\n"
}

fn committed_joint(config: &JointConfig, acked: &Acked) -> String {
    let mut text = config.ids().describe(lookup(acked));
    let index = config.committed_index(lookup(acked));
    let swapped = swap(config).committed_index(lookup(acked));
    if swapped != index {
        text += &format!("{} <-- via symmetry\n", show(swapped));
    }
    text + &show(index) + "\n"
}

fn vote(config: &JointConfig, is_joint: bool, acked: &Acked) -> String {
    let vote = |id: u64| acked.get(&id).map(|&vote| vote != 1);
    if !is_joint {
        return format!("{}\n", config.incoming.vote_result(vote));
    }
    let result = config.vote_result(vote);
    let swapped = swap(config).vote_result(vote);
    let symmetry =
        if swapped == result { String::new() } else { format!("{swapped} <-- via symmetry\n") };
    format!("{symmetry}{result}\n")
}

fn swap(config: &JointConfig) -> JointConfig {
    JointConfig { incoming: config.outgoing.clone(), outgoing: config.incoming.clone() }
}
