//! `make-mirror`.

use cobra::{Flag, Kind};

use crate::exit::{ERROR, Exit};
use crate::session::Session;

const fn text(name: &'static str, usage: &'static str) -> Flag {
    Flag::new(name, Kind::Text, "", usage)
}

pub(crate) const FLAGS: &[Flag] = &[
    text("prefix", "Key-value prefix to mirror"),
    Flag::new("rev", Kind::Int, "0", "Specify the kv revision to start to mirror"),
    Flag::new(
        "max-txn-ops",
        Kind::Uint,
        "128",
        "Maximum number of operations permitted in a transaction during syncing updates.",
    ),
    text(
        "dest-prefix",
        "destination prefix to mirror a prefix to a different prefix in the destination cluster",
    ),
    Flag::switch("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
    text(
        "dest-cert",
        "Identify secure client using this TLS certificate file for the destination cluster",
    ),
    text("dest-key", "Identify secure client using this TLS key file"),
    text("dest-cacert", "Verify certificates of TLS enabled secure servers using this CA bundle"),
    Flag::new(
        "dest-insecure-transport",
        Kind::Bool,
        "true",
        "Disable transport security for client connections",
    ),
    text(
        "dest-user",
        "Destination username[:password] for authentication (prompt if password is not supplied)",
    ),
    text(
        "dest-password",
        "Destination password for authentication (if this option is used, --user option shouldn't include password)",
    ),
];

pub(crate) fn run(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("make-mirror takes one destination argument"));
    }
    let credentials =
        session.credentials_of("dest-user", "dest-password", "Destination Password: ")?;
    session.check_files("dest-cert", "dest-key", "dest-cacert")?;
    let _destination = session.connect_as(&[session.arg(0)], &credentials)?;
    let _source = session.client()?;
    if session.input.bool("no-dest-prefix") && !session.input.bytes("dest-prefix").is_empty() {
        return Err(Exit::arguments(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    Err(Exit::new(ERROR, "make-mirror is not supported yet"))
}
