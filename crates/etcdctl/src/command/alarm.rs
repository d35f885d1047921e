//! `alarm`: list and disarm.

use api::etcdserverpb::AlarmMember;

use crate::answer::Answer;
use crate::exit::Exit;
use crate::session::Session;

pub(crate) fn disarm(session: &mut Session) -> Result<(), Exit> {
    if !session.args().is_empty() {
        return Err(Exit::arguments("alarm disarm command accepts no arguments"));
    }
    let client = session.timed_client()?;
    let all = AlarmMember::default();
    let answer = session.ask("Maintenance/Alarm", client.alarm_disarm(all))?;
    session.print(&Answer::Alarm(&answer))
}

pub(crate) fn list(session: &mut Session) -> Result<(), Exit> {
    if !session.args().is_empty() {
        return Err(Exit::arguments("alarm list command accepts no arguments"));
    }
    let client = session.timed_client()?;
    let answer = session.ask("Maintenance/Alarm", client.alarm_list())?;
    session.print(&Answer::Alarm(&answer))
}
