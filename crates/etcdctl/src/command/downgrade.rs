//! `downgrade`: validate, enable, cancel.

use api::etcdserverpb::downgrade_request::DowngradeAction;

use crate::answer::Answer;
use crate::exit::Exit;
use crate::session::Session;

pub(crate) fn validate(session: &mut Session) -> Result<(), Exit> {
    let version = version(session)?;
    ask(session, DowngradeAction::Validate, "validate", &version)
}

pub(crate) fn enable(session: &mut Session) -> Result<(), Exit> {
    let version = version(session)?;
    ask(session, DowngradeAction::Enable, "enable", &version)
}

pub(crate) fn cancel(session: &mut Session) -> Result<(), Exit> {
    ask(session, DowngradeAction::Cancel, "cancel", "")
}

fn version(session: &Session) -> Result<String, Exit> {
    match session.args().len() {
        0 => Err(Exit::arguments("TARGET_VERSION not provided")),
        1 if session.arg(0).is_empty() => Err(Exit::arguments("target version not provided")),
        1 => Ok(session.arg(0)),
        _ => Err(Exit::arguments("too many arguments")),
    }
}

fn ask(
    session: &mut Session,
    action: DowngradeAction,
    name: &'static str,
    version: &str,
) -> Result<(), Exit> {
    let client = session.timed_client()?;
    let answer = session.ask("Maintenance/Downgrade", client.downgrade(action, version))?;
    session.print(&Answer::Downgrade(name, &answer))
}
