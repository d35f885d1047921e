//! `snapshot save`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use client::Error;
use cobra::go;
use tokio::signal::ctrl_c;

use crate::exit::{Exit, INTERRUPTED};
use crate::log;
use crate::output;
use crate::printer::size;
use crate::session::{NAMED_LOG, Session};
use crate::terminal::{self, Unit};

pub(crate) fn save(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("snapshot save expects one argument <filename>"));
    }
    session.configure(&[])?;
    let path = session.arg(0);
    let endpoint = match session.endpoints() {
        [endpoint] => endpoint.clone(),
        endpoints => {
            session.connect(endpoints)?;
            let text = format!(
                "snapshot must be requested to one selected node, not multiple [{}]",
                endpoints.join(" ")
            );
            return Err(Exit::new(INTERRUPTED, text));
        }
    };
    let client = session.connect(std::slice::from_ref(&endpoint))?;
    let client = match session.input.changed("command-timeout") {
        true => client.with_timeout(session.timeout()),
        false => client,
    };
    let file = Path::new(OsStr::from_bytes(&session.args()[0])).to_owned();
    let part = format!("{path}.part");
    let info = |logger, caller, message| log::record("info", logger, caller, message);
    let created =
        || info("", "snapshot/v3_snapshot.go:83", "created temporary db file").plain("path", &part);
    let begun = Instant::now();
    let bar = terminal::bar("snapshot", Unit::Bytes);
    let mut has_begun = false;
    let saved = session.wait(async {
        let saving = client.snapshot_save(&file, |progress| {
            if !has_begun {
                has_begun = true;
                log::write(created());
                let opened = "opened snapshot stream; downloading";
                log::write(info(NAMED_LOG, "v3@v3.7.3/maintenance.go:236", opened));
                let record = info("", "snapshot/v3_snapshot.go:96", "fetching snapshot");
                log::write(record.plain("endpoint", &endpoint));
            }
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.received_bytes);
        });
        tokio::select! {
            saved = saving => Some(saved),
            // What there is of the file goes with the future.
            _ = ctrl_c() => None,
        }
    });
    bar.finish_and_clear();
    // DIFF(etcd): its tool ends at once and leaves the part behind.
    let saved = saved.ok_or_else(|| Exit::new(INTERRUPTED, "interrupted"))?;
    let saved = saved.map_err(|error| {
        if !has_begun && !matches!(error, Error::Io { .. }) {
            log::write(created());
            log::failed_stream(NAMED_LOG, &error);
        }
        Exit::new(INTERRUPTED, reason(&error))
    })?;
    let closing = "completed snapshot read; closing";
    log::write(info(NAMED_LOG, "v3@v3.7.3/maintenance.go:302", closing));
    let took = go::duration(i64::try_from(begun.elapsed().as_nanos()).unwrap_or(i64::MAX));
    let bytes = i64::try_from(saved.size_bytes).unwrap_or(i64::MAX);
    let record = info("", "snapshot/v3_snapshot.go:111", "fetched snapshot")
        .plain("endpoint", &endpoint)
        .plain("size", &size(bytes))
        .plain("took", &took)
        .plain("etcd-version", &saved.version);
    log::write(record);
    log::write(info("", "snapshot/v3_snapshot.go:121", "saved").plain("path", &path));
    output::line(&format!("Snapshot saved at {path}"));
    if !saved.version.is_empty() {
        output::line(&format!("Server version {}", saved.version));
    }
    Ok(())
}

/// What went wrong, with the system's reason in Go's words.
fn reason(error: &Error) -> String {
    let Error::Io { action, error } = error else { return error.to_string() };
    let text = error.to_string().to_lowercase();
    let text = text.split(" (os error").next().unwrap_or_default();
    let words: Vec<&str> = action.split(' ').collect();
    match words.as_slice() {
        ["could", "not", "open", path] => format!("{action} (open {path}: {text})"),
        ["could", "not", "rename", from, "to", to] => {
            format!("{action} (rename {from} {to}: {text})")
        }
        _ => format!("{action} ({text})"),
    }
}
