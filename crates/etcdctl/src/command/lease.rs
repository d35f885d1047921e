//! `lease`: grant, revoke, timetolive, list, keep-alive.

use cobra::go;

use crate::answer::Answer;
use crate::exit::{BAD_CONNECTION, ERROR, Exit};
use crate::output;
use crate::session::Session;

pub(crate) fn grant(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("lease grant command needs TTL argument"));
    }
    let ttl = go::parse_int(&session.arg(0), 10)
        .map_err(|why| Exit::arguments(format!("bad TTL ({why})")))?;
    let client = session.timed_client()?;
    let answer = session
        .ask("Lease/LeaseGrant", client.lease_grant(ttl))
        .map_err(|error| Exit::new(ERROR, format!("failed to grant lease ({error})")))?;
    session.print(&Answer::Grant(&answer))
}

pub(crate) fn revoke(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("lease revoke command needs 1 argument"));
    }
    let id = id(&session.arg(0))?;
    let client = session.timed_client()?;
    let answer = session
        .ask("Lease/LeaseRevoke", client.lease_revoke(id))
        .map_err(|error| Exit::new(ERROR, format!("failed to revoke lease ({error})")))?;
    session.print(&Answer::Revoke(id, &answer))
}

pub(crate) fn time_to_live(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("lease timetolive command needs lease ID as argument"));
    }
    let keys = session.input.bool("keys");
    // The client comes before the id, in etcd's order.
    let client = session.client()?;
    let id = id(&session.arg(0))?;
    let answer = session
        .ask("Lease/LeaseTimeToLive", client.lease_time_to_live(id, keys))
        .map_err(|error| Exit::new(BAD_CONNECTION, error))?;
    session.print(&Answer::TimeToLive(&answer, keys))
}

pub(crate) fn list(session: &mut Session) -> Result<(), Exit> {
    let client = session.client()?;
    let answer = session
        .ask("Lease/LeaseLeases", client.leases())
        .map_err(|error| Exit::new(BAD_CONNECTION, error))?;
    session.print(&Answer::Leases(&answer))
}

pub(crate) fn keep_alive(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("lease keep-alive command needs lease ID as argument"));
    }
    let id = id(&session.arg(0))?;
    let client = session.client()?;
    if session.input.bool("once") {
        let answer = session
            .wait(client.lease_keep_alive_once(id))
            .map_err(|error| Exit::new(BAD_CONNECTION, error))?;
        return session.print(&Answer::KeepAlive(&answer));
    }
    session.wait(async {
        let mut renewals = client.lease_keep_alive(id);
        // Whatever ends it, the lease is not kept alive any more.
        while let Some(Ok(answer)) = renewals.next().await {
            output::stdout(&session.printer.print(&Answer::KeepAlive(&answer))?);
        }
        Ok::<_, Exit>(())
    })?;
    if session.is_simple() {
        output::line(&format!("lease {id:016x} expired or revoked."));
    }
    Ok(())
}

fn id(text: &str) -> Result<i64, Exit> {
    go::parse_int(text, 16)
        .map_err(|why| Exit::arguments(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}
