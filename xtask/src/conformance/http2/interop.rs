//! grpc-go's interoperability cases, against a server that has their service: a build with the feature `interop`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::conformance::process::{self, Member, Server};
use crate::conformance::{self, Outcome, tools::Tools};

/// A case has a minute for itself.
const LIMIT: Duration = Duration::from_secs(90);

pub(super) fn run(tools: &Tools, work: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let client = tools.interop()?;
    let ours = build()?;
    let list = process::run(Command::new(&client).arg("-list"), b"", LIMIT)?.success("interop")?;
    let member = Member::new(work.join("interop"));
    let server = Server::start(&ours, &member, &[])?;
    for case in list.lines() {
        for (kind, flags) in [("", [].as_slice()), (", compressed", &["-gzip"])] {
            let mut command = Command::new(&client);
            command.args(["-server", &server.endpoint(), "-case", case]).args(flags);
            let output = process::run(&mut command, b"", LIMIT)?;
            outcome.case(&format!("interop: {case}{kind}"), output.success(case).map(drop));
        }
    }
    server.stop()
}

/// A build for debugging, which shares what is compiled with the tests: the crates from `api` on are built once more.
fn build() -> Result<PathBuf, String> {
    let built = conformance::cargo_build(&["--features", "interop"], "debug", "etcd")?;
    let folder = built.with_file_name("interop");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let ours = folder.join("etcd");
    fs::copy(&built, &ours).map_err(|e| format!("{}: {e}", ours.display()))?;
    Ok(ours)
}
