//! What needs no server: `completion`, `options`, `version`.

use cobra::Shell;

use crate::exit::Exit;
use crate::output;
use crate::session::Session;
use crate::table::GLOBAL;

pub(crate) fn script(session: &mut Session) -> Result<(), Exit> {
    let shell = Shell::named(&session.arg(0)).expect("the table has the shells");
    output::stdout(cobra::script(shell, "etcdctl").as_bytes());
    Ok(())
}

pub(crate) fn options(_: &mut Session) -> Result<(), Exit> {
    let title = "The following options can be passed to any command:";
    output::stdout(format!("{title}\n\n{}", cobra::flag_usages(GLOBAL)).as_bytes());
    Ok(())
}

pub(crate) fn version(_: &mut Session) -> Result<(), Exit> {
    output::line("etcdctl version: 3.7.3\nAPI version: 3.7");
    Ok(())
}
