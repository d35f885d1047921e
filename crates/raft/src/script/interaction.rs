//! The commands of interaction scripts.

use bytes::Bytes;

use super::Failure;
use super::cluster::{Cluster, Recipient};
use super::directive::{Directive, parse_bool, parse_number};
use crate::config::{Config, NO_LIMIT, ReadOnlyOption};
use crate::describe::conf_changes_from_string;
use crate::pb::{ConfChange, ConfChangeTransition, ConfChangeV2, MessageType, Snapshot};

/// Runs a command and returns all it prints, or `ok`.
pub(super) fn handle(env: &mut Cluster, directive: &Directive) -> Result<String, Failure> {
    env.output.text.clear();
    match dispatch(env, directive) {
        Ok(()) => {}
        Err(Failure::Reported(text)) if env.output.is_quiet() => return Ok(text),
        Err(Failure::Reported(text)) => env.output.text.push_str(&text),
        Err(fatal) => return Err(fatal),
    }
    if env.output.text.is_empty() {
        return Ok("ok".to_owned());
    }
    Ok(env.output.text.clone())
}

fn dispatch(env: &mut Cluster, d: &Directive) -> Result<(), Failure> {
    let first = || d.word(0).and_then(parse_number::<u64>);
    match d.command.as_str() {
        "_breakpoint" => Ok(()),
        "add-nodes" => add_nodes(env, d),
        "campaign" => env.with_node(first()?, |node| node.campaign())?.map_err(Failure::reported),
        "compact" => env.compact(first()?, parse_number(d.word(1)?)?),
        "deliver-msgs" => deliver_msgs(env, d),
        "process-ready" => for_each(env, d, "handling Ready", Cluster::process_ready),
        "process-append-thread" => {
            for_each(env, d, "processing append thread", Cluster::process_append_thread)
        }
        "process-apply-thread" => {
            for_each(env, d, "processing apply thread", Cluster::process_apply_thread)
        }
        "log-level" => env.output.set_level(d.word(0)?),
        "raft-log" => env.raft_log(first()?),
        "raft-state" => {
            env.raft_state();
            Ok(())
        }
        "set-randomized-election-timeout" => {
            let ticks = parse_number(d.value("timeout")?)?;
            env.with_node(first()?, |node| node.set_randomized_election_timeout(ticks))
        }
        "stabilize" => stabilize(env, d),
        "status" => env.status(first()?),
        "tick-election" => {
            let ticks = env.config(first()?)?.election_tick;
            tick(env, first()?, ticks)
        }
        "tick-heartbeat" => {
            let ticks = env.config(first()?)?.heartbeat_tick;
            tick(env, first()?, ticks)
        }
        "transfer-leadership" => transfer_leadership(env, d),
        // the outcome shows in the log
        "forget-leader" => env.with_node(first()?, |node| node.forget_leader()).map(|_| ()),
        "send-snapshot" => match d.ids()?[..] {
            [from, to] => env.send_snapshot(from, to),
            _ => Err(Failure::fatal("expected two members")),
        },
        "propose" => {
            let data = Bytes::copy_from_slice(d.word(1)?.as_bytes());
            env.with_node(first()?, |node| node.propose(data))?.map_err(Failure::reported)
        }
        "propose-conf-change" => propose_conf_change(env, d),
        "report-unreachable" => match d.ids()?[..] {
            [on, unreachable] => {
                env.config(unreachable)?;
                env.with_node(on, |node| node.report_unreachable(unreachable))
            }
            _ => Err(Failure::reported(
                "must specify exactly two node indexes: node on which to report, and reported node",
            )),
        },
        _ => Err(Failure::reported("unknown command")),
    }
}

/// Runs `f` for each member named, with headings if there are several.
fn for_each(
    env: &mut Cluster,
    d: &Directive,
    what: &str,
    f: impl Fn(&mut Cluster, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let ids = d.ids()?;
    for &id in &ids {
        if ids.len() > 1 {
            env.output.write(&format!("> {id} {what}\n"));
            env.indented(|env| f(env, id))?;
        } else {
            f(env, id)?;
        }
    }
    Ok(())
}

fn tick(env: &mut Cluster, id: u64, ticks: u32) -> Result<(), Failure> {
    (0..ticks).try_for_each(|_| env.with_node(id, |node| node.tick()))
}

fn add_nodes(env: &mut Cluster, d: &Directive) -> Result<(), Failure> {
    let count = parse_number(d.word(0)?)?;
    let mut snapshot = Snapshot::default();
    snapshot.metadata.conf_state.auto_leave = Some(false);
    let mut config = Config {
        election_tick: 3,
        heartbeat_tick: 1,
        max_size_per_msg: NO_LIMIT,
        max_inflight_msgs: i32::MAX as usize,
        ..Config::new(0)
    };
    for (key, value) in d.values() {
        let conf_state = &mut snapshot.metadata.conf_state;
        match key {
            "voters" => conf_state.voters.push(parse_number(value)?),
            "learners" => conf_state.learners.push(parse_number(value)?),
            "inflight" => config.max_inflight_msgs = parse_number(value)?,
            "index" => {
                snapshot.metadata.index = parse_number(value)?;
                config.applied = snapshot.metadata.index;
            }
            "content" => snapshot.data = Bytes::copy_from_slice(value.as_bytes()),
            "async-storage-writes" => config.async_storage_writes = parse_bool(value)?,
            "prevote" => config.pre_vote = parse_bool(value)?,
            "checkquorum" => config.check_quorum = parse_bool(value)?,
            "max-committed-size-per-ready" => {
                config.max_committed_size_per_ready = parse_number(value)?;
            }
            "disable-conf-change-validation" => {
                config.disable_conf_change_validation = parse_bool(value)?;
            }
            "read-only" => {
                config.read_only_option = match value {
                    "safe" => ReadOnlyOption::Safe,
                    "lease-based" => ReadOnlyOption::LeaseBased,
                    _ => {
                        let value = crate::describe::quoted(value.as_bytes());
                        return Err(Failure::reported(format!("invalid read-only option {value}")));
                    }
                };
            }
            "step-down-on-removal" => config.step_down_on_removal = parse_bool(value)?,
            _ => {}
        }
    }
    env.add_nodes(count, &config, snapshot)
}

fn deliver_msgs(env: &mut Cluster, d: &Directive) -> Result<(), Failure> {
    let mut recipients = Vec::new();
    let mut msg_type = None;
    for arg in &d.args {
        if arg.values.is_empty() {
            recipients.push(Recipient { id: parse_number(&arg.key)?, is_dropped: false });
        }
        for value in &arg.values {
            match arg.key.as_str() {
                "drop" => {
                    let id = parse_number(value)?;
                    if recipients.iter().any(|recipient| recipient.id == id) {
                        return Err(Failure::fatal(format!(
                            "can't both deliver and drop msgs to {id}"
                        )));
                    }
                    recipients.push(Recipient { id, is_dropped: true });
                }
                "type" => {
                    let named = MessageType::from_name(value);
                    let unknown = || Failure::fatal(format!("unknown message type {value}"));
                    msg_type = Some(named.ok_or_else(unknown)?);
                }
                _ => {}
            }
        }
    }
    if env.deliver(msg_type, &recipients)? == 0 {
        env.output.write("no messages\n");
    }
    Ok(())
}

fn stabilize(env: &mut Cluster, d: &Directive) -> Result<(), Failure> {
    let mut ids = d.ids()?;
    if ids.is_empty() {
        ids = env.all_ids();
    }
    let level = env.output.level;
    for (key, value) in d.values() {
        if key == "log-level" {
            env.output.set_level(value)?;
        }
    }
    let result = env.stabilize(&ids);
    env.output.level = level;
    result
}

fn transfer_leadership(env: &mut Cluster, d: &Directive) -> Result<(), Failure> {
    let (from, to) = (parse_number(d.value("from")?)?, parse_number(d.value("to")?)?);
    for id in [from, to] {
        if id == 0 || id > env.len() as u64 {
            return Err(Failure::fatal("expected valid arguments"));
        }
    }
    env.with_node(from, |node| node.transfer_leader(to))
}

fn propose_conf_change(env: &mut Cluster, d: &Directive) -> Result<(), Failure> {
    let id = parse_number(d.word(0)?)?;
    let mut is_v1 = false;
    let mut transition = ConfChangeTransition::Auto;
    for (key, value) in d.values() {
        match (key, value) {
            ("v1", value) => {
                is_v1 = parse_bool(value).map_err(|_| {
                    let value = crate::describe::quoted(value.as_bytes());
                    Failure::reported(format!("strconv.ParseBool: parsing {value}: invalid syntax"))
                })?;
            }
            ("transition", "auto") => transition = ConfChangeTransition::Auto,
            ("transition", "implicit") => transition = ConfChangeTransition::JointImplicit,
            ("transition", "explicit") => transition = ConfChangeTransition::JointExplicit,
            ("transition", other) => {
                return Err(Failure::reported(format!("unknown transition {other}")));
            }
            _ => return Err(Failure::reported(format!("unknown command {key}"))),
        }
    }
    let changes = conf_changes_from_string(&d.input).map_err(Failure::Reported)?;
    let proposed = if !is_v1 {
        let change = ConfChangeV2 { transition, changes, ..ConfChangeV2::default() };
        env.with_node(id, |node| node.propose_conf_change_v2(&change))?
    } else if changes.len() > 1 || transition != ConfChangeTransition::Auto {
        return Err(Failure::reported(
            "v1 conf change can only have one operation and no transition",
        ));
    } else {
        let first = changes.first().ok_or_else(|| Failure::fatal("no operation"))?;
        let change = ConfChange {
            change_type: first.change_type,
            node_id: first.node_id,
            ..ConfChange::default()
        };
        env.with_node(id, |node| node.propose_conf_change(&change))?
    };
    proposed.map_err(Failure::reported)
}
