//! `auth`: enable, disable, status.

use client::EtcdError;

use crate::answer::Answer;
use crate::exit::Exit;
use crate::output;
use crate::session::Session;

fn refuse_arguments(session: &Session, name: &str) -> Result<(), Exit> {
    if session.args().is_empty() {
        return Ok(());
    }
    Err(Exit::arguments(format!("auth {name} command does not accept any arguments")))
}

pub(crate) fn enable(session: &mut Session) -> Result<(), Exit> {
    refuse_arguments(session, "enable")?;
    let client = session.timed_client()?;
    loop {
        match session.ask("Auth/AuthEnable", client.auth_enable()) {
            Ok(_) => break,
            // The user root has no role of this name yet: it gets one, and it is tried again.
            Err(error) if error.is(EtcdError::RootRoleNotExist) => {
                session.ask("Auth/RoleAdd", client.role_add("root"))?;
                session.ask("Auth/UserGrantRole", client.user_grant_role("root", "root"))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    output::line("Authentication Enabled");
    Ok(())
}

pub(crate) fn disable(session: &mut Session) -> Result<(), Exit> {
    refuse_arguments(session, "disable")?;
    let client = session.timed_client()?;
    session.ask("Auth/AuthDisable", client.auth_disable())?;
    output::line("Authentication Disabled");
    Ok(())
}

pub(crate) fn status(session: &mut Session) -> Result<(), Exit> {
    refuse_arguments(session, "status")?;
    let client = session.timed_client()?;
    let answer = session.ask("Auth/AuthStatus", client.auth_status())?;
    session.print(&Answer::AuthStatus(&answer))
}
