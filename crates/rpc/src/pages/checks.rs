//! `/health`, `/livez` and `/readyz`.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use api::Error;
use api::etcdserverpb::AlarmType;
use http::StatusCode;
use mvcc::RangeArgs;

use super::{Page, Shared, TEXT, error, nosniff, parameters};

/// A check that stands by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// A path, and what it checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    kind: &'static str,
    checks: &'static [Check],
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, shared: &Shared) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                let corrupt = i32::from(AlarmType::Corrupt);
                let is_raised =
                    shared.state.alarms.read().iter().any(|alarm| alarm.alarm == corrupt);
                if is_raised { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
            }
            Self::SerializableRead => read(shared),
            Self::LinearizableRead => {
                shared.linearizable_read().await.map_err(|error| error.to_string())
            }
            Self::NonLearner => {
                let is_learner = shared.state.is_learner.load(Ordering::Relaxed);
                if is_learner { Err("not supported for learner".to_owned()) } else { Ok(()) }
            }
        }
    }
}

/// Finds the checks of a path: all of `/livez` or `/readyz`, or one below them.
pub(super) fn find(path: &str) -> Option<Found> {
    let path = path.strip_prefix('/')?;
    let (root, name) = match path.split_once('/') {
        None => (path, None),
        Some((root, name)) => (root, Some(name)),
    };
    let (kind, checks) = match root {
        "livez" => ("livez", LIVEZ),
        "readyz" => ("readyz", READYZ),
        _ => return None,
    };
    let Some(name) = name else { return Some(Found { kind, checks }) };
    let index = checks.iter().position(|check| check.name() == name)?;
    Some(Found { kind, checks: checks.get(index..=index)? })
}

/// Runs the checks: `ok`, or 503 and what failed.
pub(super) async fn page(shared: &Shared, found: Found, query: &str) -> Page {
    let excluded: Vec<String> = parameters(query, "exclude").collect();
    let mut report = String::new();
    let mut is_ok = true;
    for check in found.checks {
        let name = check.name();
        if excluded.iter().any(|excluded| excluded == name) {
            let _ = writeln!(report, "[+]{name} excluded: ok");
            continue;
        }
        let result = check.run(shared).await;
        count(shared, found.kind, name, result.is_ok());
        match result {
            Ok(()) => {
                let _ = writeln!(report, "[+]{name} ok");
            }
            Err(why) => {
                is_ok = false;
                let _ = writeln!(report, "[-]{name} failed: {why}");
            }
        }
    }
    if !is_ok {
        tracing::error!(path = found.kind, output = report, "Health check error");
        return error(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    if parameters(query, "verbose").next().is_none() {
        report.clear();
    }
    report.push_str("ok\n");
    nosniff(super::page(StatusCode::OK, TEXT, report))
}

fn count(shared: &Shared, kind: &str, name: &str, is_ok: bool) {
    let status = if is_ok { "success" } else { "error" };
    shared.metrics.server_healthcheck.with_label_values(&[kind, name]).set(i64::from(is_ok));
    shared.metrics.server_healthchecks_total.with_label_values(&[kind, name, status]).inc();
}

/// `/health`: alarms, then the leader, then a read.
pub(super) async fn health(shared: &Shared, query: &str) -> Page {
    let excluded: Vec<String> = parameters(query, "exclude").collect();
    let is_serializable = parameters(query, "serializable").next().as_deref() == Some("true");
    let reason = match raised_alarm(shared, &excluded) {
        Some(reason) => reason.to_owned(),
        None if !is_serializable && !shared.state.has_leader() => "RAFT NO LEADER".to_owned(),
        None => {
            let result = if is_serializable {
                read(shared)
            } else {
                shared.linearizable_read().await.map_err(|error| error.to_string())
            };
            result.map_or_else(|error| format!("RANGE ERROR:{error}"), |()| String::new())
        }
    };
    let is_healthy = reason.is_empty();
    let reason = serde_json::Value::from(reason);
    let text = format!(r#"{{"health":"{is_healthy}","reason":{reason}}}"#);
    if is_healthy {
        shared.metrics.server_health_success.inc();
        page_text(text)
    } else {
        shared.metrics.server_health_failures.inc();
        tracing::warn!(output = text, "serving /health false");
        error(StatusCode::SERVICE_UNAVAILABLE, &text)
    }
}

fn page_text(text: String) -> Page {
    super::page(StatusCode::OK, TEXT, text)
}

fn raised_alarm(shared: &Shared, excluded: &[String]) -> Option<&'static str> {
    let alarms = shared.state.alarms.read();
    let kinds = alarms.iter().map(|alarm| AlarmType::try_from(alarm.alarm));
    let mut reasons = kinds.filter_map(|kind| {
        let name = kind.map_or("", |kind| kind.as_str_name());
        let reason = match kind {
            Ok(AlarmType::Nospace) => "ALARM NOSPACE",
            Ok(AlarmType::Corrupt) => "ALARM CORRUPT",
            _ => "ALARM UNKNOWN",
        };
        (!excluded.iter().any(|excluded| excluded == name)).then_some(reason)
    });
    reasons.next()
}

/// Reads something of this member's own state.
fn read(shared: &Shared) -> Result<(), String> {
    let args = RangeArgs { key: b"\0", limit: 1, keys_only: true, ..RangeArgs::default() };
    let reader = shared.reader.read().clone();
    match reader.range(&args, |_| ()) {
        Ok(_) => Ok(()),
        Err(mvcc::Error::Compacted) => Err(Error::Compacted.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let names = |path: &str| {
            find(path).map(|found| {
                let names: Vec<&str> = found.checks.iter().map(|check| check.name()).collect();
                format!("{}: {}", found.kind, names.join(" "))
            })
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(names("/livez"), some("livez: serializable_read"));
        assert_eq!(names("/livez/serializable_read"), some("livez: serializable_read"));
        assert_eq!(
            names("/readyz"),
            some("readyz: data_corruption serializable_read linearizable_read non_learner")
        );
        assert_eq!(names("/readyz/non_learner"), some("readyz: non_learner"));
        assert_eq!(names("/livez/non_learner"), None);
        assert_eq!(names("/readyz/"), None);
        assert_eq!(names("/v3/kv/put"), None);
    }
}
