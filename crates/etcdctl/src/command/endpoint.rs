//! `endpoint` and `defrag`: what is asked of each member.

use std::time::Instant;

use api::etcdserverpb::AlarmType;
use client::EtcdError;
use cobra::go;

use super::cluster;
use crate::answer::{Answer, Health};
use crate::exit::{ERROR, Exit};
use crate::log;
use crate::output;
use crate::session::{CLIENT_LOG, NAMED_LOG, Session};
use crate::terminal::{self, Paint, Style};

/// Those of the flag, or of all members.
pub(super) fn endpoints(session: &Session) -> Result<Vec<String>, Exit> {
    if session.input.bool("cluster") {
        cluster::client_urls(session)
    } else {
        Ok(session.input.list("endpoints").to_vec())
    }
}

fn since(begun: Instant) -> String {
    go::duration(i64::try_from(begun.elapsed().as_nanos()).unwrap_or(i64::MAX))
}

pub(crate) fn health(session: &mut Session) -> Result<(), Exit> {
    session.configure(&[])?;
    let endpoints = endpoints(session)?;
    let healths = session.wait(async {
        let mut asked = tokio::task::JoinSet::new();
        for endpoint in endpoints {
            let config = session.config_of(&endpoint);
            let timeout = session.timeout();
            asked.spawn(async move { look(endpoint, config, timeout).await });
        }
        // In the order in which they answer.
        asked.join_all().await
    });
    if !session.is_simple() {
        session.print(&Answer::Health(&healths))?;
    } else {
        for health in &healths {
            session.print(&Answer::Health(std::slice::from_ref(health)))?;
            if !health.error.is_empty() {
                let text = format!(
                    "{} is unhealthy: failed to commit proposal: {}",
                    health.endpoint, health.error
                );
                output::stderr(&format!("{}\n", Paint::stderr().on(Style::Bad, &text)));
            }
        }
    }
    if healths.iter().any(|health| !health.error.is_empty()) {
        return Err(Exit::new(ERROR, "unhealthy cluster"));
    }
    Ok(())
}

/// Asks for a key that need not be there: whatever the answer is, it took a consensus.
async fn look(endpoint: String, config: client::Config, timeout: std::time::Duration) -> Health {
    let mut health = Health { endpoint, healthy: false, took: String::new(), error: String::new() };
    let client = match client::Client::connect(config).await {
        Ok(client) => client.with_timeout(timeout),
        Err(error) => {
            // Nothing is asked before the login.
            let method = "/etcdserverpb.Auth/Authenticate";
            log::failed_call(NAMED_LOG, &health.endpoint, method, &error);
            return Health { error: error.to_string(), ..health };
        }
    };
    let logged = |method: &str, error: &client::Error| {
        log::failed_call(NAMED_LOG, &health.endpoint, method, error);
    };
    let begun = Instant::now();
    let answer = client.get("health").await;
    health.took = since(begun);
    if let Err(error) = answer {
        logged("/etcdserverpb.KV/Range", &error);
        if !error.is(EtcdError::PermissionDenied) {
            health.error = error.to_string();
            return health;
        }
    }
    match client.alarm_list().await {
        Ok(answer) if answer.alarms.is_empty() => health.healthy = true,
        Ok(answer) => {
            health.error = "Active Alarm(s): ".to_owned();
            for alarm in &answer.alarms {
                health.error += match alarm.alarm() {
                    AlarmType::Nospace => "NOSPACE ",
                    AlarmType::Corrupt => "CORRUPT ",
                    AlarmType::None => "UNKNOWN ",
                };
            }
        }
        Err(error) => {
            logged("/etcdserverpb.Maintenance/Alarm", &error);
            health.error = "Unable to fetch the alarm list".to_owned();
        }
    }
    health
}

pub(crate) fn status(session: &mut Session) -> Result<(), Exit> {
    session.configure(&[])?;
    let mut list = Vec::new();
    let mut failed = false;
    for endpoint in endpoints(session)? {
        let client = session.connect(std::slice::from_ref(&endpoint))?;
        let client = client.with_timeout(session.timeout());
        let call = client.status(&endpoint);
        match session.ask_at(CLIENT_LOG, &endpoint, "Maintenance/Status", call) {
            Ok(answer) => list.push((endpoint, answer)),
            Err(error) => {
                failed = true;
                output::stderr(&format!(
                    "Failed to get the status of endpoint {endpoint} ({error})\n"
                ));
            }
        }
    }
    session.print(&Answer::Status(&list))?;
    if failed { Err(Exit::silent(ERROR)) } else { Ok(()) }
}

pub(crate) fn hashkv(session: &mut Session) -> Result<(), Exit> {
    session.configure(&[])?;
    let revision = session.input.int("rev");
    let mut list = Vec::new();
    let mut failure = None;
    for endpoint in endpoints(session)? {
        let client = session.connect(std::slice::from_ref(&endpoint))?;
        let client = client.with_timeout(session.timeout());
        let call = client.hash_kv(&endpoint, revision);
        match session.ask_at(CLIENT_LOG, &endpoint, "Maintenance/HashKV", call) {
            Ok(answer) => list.push((endpoint, answer)),
            Err(error) => {
                output::stderr(&format!(
                    "Failed to get the hash of endpoint {endpoint} ({error})\n"
                ));
                failure = Some(error);
            }
        }
    }
    session.print(&Answer::HashKv(&list))?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

pub(crate) fn defrag(session: &mut Session) -> Result<(), Exit> {
    session.configure(&[])?;
    let mut failed = false;
    for endpoint in endpoints(session)? {
        let client = session.connect(std::slice::from_ref(&endpoint))?;
        let client = client.with_timeout(session.timeout());
        let begun = Instant::now();
        let call = async {
            let spinner = terminal::spinner(format!("defragmenting {endpoint}"));
            let result = client.defragment(&endpoint).await;
            spinner.finish_and_clear();
            result
        };
        let result = session.ask_at(CLIENT_LOG, &endpoint, "Maintenance/Defragment", call);
        let took = since(begun);
        match result {
            Ok(_) => output::line(&format!(
                "Finished defragmenting etcd member[{endpoint}]. took {took}"
            )),
            Err(error) => {
                failed = true;
                output::stderr(&format!(
                    "Failed to defragment etcd member[{endpoint}]. took {took}. ({error})\n"
                ));
            }
        }
    }
    if failed { Err(Exit::silent(ERROR)) } else { Ok(()) }
}
