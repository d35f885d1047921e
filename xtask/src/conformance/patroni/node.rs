//! A node: Patroni as a process, and the PostgreSQL server that it runs.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::process;
use super::{SCOPE, quick, until};

/// How a command is run as somebody who is not root, and has a name; the first that works is taken.
const USERS: [&[&str]; 2] = [
    &["unshare", "--user", "--map-user=daemon"],
    &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"],
];
/// The name by which PostgreSQL knows whoever asks.
const SUPERUSER: &str = "postgres";
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Place {
    /// PostgreSQL's programs.
    postgresql: PathBuf,
    /// Patroni, and what it needs.
    library: PathBuf,
    pub(super) work: PathBuf,
    /// The beginning of each command.
    user: Vec<String>,
}

impl Place {
    /// # Errors
    /// There is no user who can run PostgreSQL and Patroni here.
    pub(super) fn new(postgresql: PathBuf, library: PathBuf, work: &Path) -> Result<Self, String> {
        let mut place = Self { postgresql, library, work: work.to_path_buf(), user: Vec::new() };
        let anybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(work, anybody).map_err(|e| format!("{}: {e}", work.display()))?;
        if quick(Command::new("id").arg("-u"), "id")?.trim() != "0" {
            return place.works().map(|()| place);
        }
        let mut reasons = Vec::new();
        for user in USERS {
            place.user = user.iter().map(|&word| word.to_owned()).collect();
            match place.works() {
                Ok(()) => return Ok(place),
                Err(why) => reasons.push(why),
            }
        }
        Err(format!("PostgreSQL does not run as root, and: {}", reasons.join("; ")))
    }

    /// Whether the user can run Patroni, and write.
    fn works(&self) -> Result<(), String> {
        let test =
            "import os, sys, patroni, psycopg2; os.mkdir(sys.argv[1]); os.rmdir(sys.argv[1])";
        let mut python = self.command("python3");
        quick(python.arg("-c").arg(test).arg(self.work.join("test")), "Patroni").map(drop)
    }

    /// A command of that user.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref().as_os_str();
        let mut words = self.user.iter().map(String::as_str);
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env("PYTHONPATH", &self.library).env("PYTHONDONTWRITEBYTECODE", "1");
        // Whatever the machine says of messages' languages, they are read here.
        command.env("LC_ALL", "C").env("HOME", &self.work).current_dir(&self.work);
        command
    }
}

/// A node, running or not; killed when dropped.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// Its directory is that of all its processes, by which they are found.
    folder: PathBuf,
    rest_port: u16,
    sql_port: u16,
    patroni: Option<Child>,
}

impl Node {
    /// Writes its configuration.
    pub(super) fn new(name: &str, members: &[String], place: &Place) -> Result<Self, String> {
        let folder = place.work.join(name);
        quick(place.command("mkdir").arg(&folder), "mkdir")?;
        let (rest_port, sql_port) = (process::free_port(), process::free_port());
        let node = Self { name: name.to_owned(), folder, rest_port, sql_port, patroni: None };
        let text = node.configuration(members, &place.postgresql);
        // YAML reads JSON, too.
        fs::write(node.folder.join("patroni.yml"), text).map_err(|e| format!("{name}: {e}"))?;
        Ok(node)
    }

    fn configuration(&self, members: &[String], postgresql: &Path) -> String {
        let Self { name, folder, rest_port, sql_port, .. } = self;
        let hosts = members.join(",");
        let (folder, postgresql) = (folder.display(), postgresql.display());
        // The times are the least that Patroni takes.
        format!(
            "scope: {SCOPE}
name: {name}
restapi: {{listen: '127.0.0.1:{rest_port}', connect_address: '127.0.0.1:{rest_port}'}}
etcd3: {{hosts: '{hosts}'}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      parameters: {{wal_log_hints: 'on'}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, data-checksums, no-sync]
postgresql:
  listen: '127.0.0.1:{sql_port}'
  connect_address: '127.0.0.1:{sql_port}'
  data_dir: '{folder}/data'
  bin_dir: '{postgresql}'
  pgpass: '{folder}/pgpass'
  remove_data_directory_on_rewind_failure: true
  basebackup: [{{checkpoint: fast}}, no-sync]
  authentication:
    superuser: {{username: {SUPERUSER}, password: any}}
    replication: {{username: replicator, password: any}}
  pg_hba: ['host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust']
  parameters:
    unix_socket_directories: ''
    fsync: 'off'
    full_page_writes: 'on'
    shared_buffers: 8MB
    max_connections: 20
    autovacuum: 'off'
    dynamic_shared_memory_type: mmap
"
        )
    }

    pub(super) fn start(&mut self, place: &Place) -> Result<(), String> {
        let log = self.folder.join("patroni.log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(|e| format!("{}: {e}", log.display()))?;
        let mut patroni = place.command("python3");
        patroni.args(["-m", "patroni", "patroni.yml"]).current_dir(&self.folder);
        patroni.stdin(Stdio::null()).stdout(file.try_clone().map_err(|e| e.to_string())?);
        let child = patroni.stderr(file).process_group(0).spawn();
        self.patroni = Some(child.map_err(|e| format!("cannot run Patroni: {e}"))?);
        Ok(())
    }

    /// Whether Patroni says so: `/primary` and `/replica` are answered with 200 by who is one.
    pub(super) fn is(&self, path: &str) -> bool {
        process::http_get(self.rest_port, path)
            .is_ok_and(|answer| answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
    }

    /// Waits until Patroni says so, or has ended.
    pub(super) fn becomes(&mut self, path: &str) -> Result<(), String> {
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        until(&format!("{}: {path}", self.name), || {
            self.is(path) || self.patroni.as_mut().is_none_or(ended)
        })?;
        if self.is(path) { Ok(()) } else { Err(format!("{}: Patroni has ended", self.name)) }
    }

    /// When its PostgreSQL was started.
    pub(super) fn started(&self) -> Result<String, String> {
        let page = process::http_get(self.rest_port, "/patroni").map_err(|e| e.to_string())?;
        let time = page.split("\"postmaster_start_time\": \"").nth(1);
        let time = time.and_then(|rest| rest.split('"').next()).map(str::to_owned);
        time.ok_or(format!("{}: no time of start: {page}", self.name))
    }

    /// Asks Patroni to do something.
    pub(super) fn post(&self, path: &str, body: &str) -> Result<(), String> {
        let answer = process::http_post(self.rest_port, path, body).map_err(|e| e.to_string())?;
        let line = answer.lines().next().unwrap_or_default();
        if line.contains(" 200 ") { Ok(()) } else { Err(format!("{path}: {answer}")) }
    }

    /// What PostgreSQL answers.
    pub(super) fn query(&self, place: &Place, text: &str) -> Result<String, String> {
        let mut psql = place.command(place.postgresql.join("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--host=127.0.0.1"]);
        psql.arg(format!("--port={}", self.sql_port)).arg(format!("--username={SUPERUSER}"));
        psql.env("PGCONNECT_TIMEOUT", "5").env("PGOPTIONS", "-c statement_timeout=5s");
        quick(psql.args(["--dbname=postgres", "--command", text]), "psql")
    }

    /// SIGKILL to Patroni, to PostgreSQL, and to whatever else they have begun, all at once.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let processes = processes_in(&self.folder);
            let Some(child) = &mut self.patroni else { return Ok(()) };
            if !processes.is_empty() {
                // One that has ended already is no error.
                let _ = Command::new("kill")
                    .arg("-KILL")
                    .args(&processes)
                    .stderr(Stdio::null())
                    .status();
            }
            if child.try_wait().map_err(|e| e.to_string())?.is_some() && processes.is_empty() {
                self.patroni = None;
                return Ok(());
            }
            if begun.elapsed() > GONE_WITHIN {
                return Err(format!("{}: still there: {}", self.name, processes.join(" ")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM to Patroni, which stops PostgreSQL first; neither may leave anybody behind.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.patroni.take() else { return Ok(()) };
        process::signal(&child, "-TERM")?;
        let ended = until(&format!("{}: the end", self.name), || {
            child.try_wait().is_ok_and(|status| status.is_some())
        });
        self.patroni = Some(child);
        ended?;
        until(&format!("{}: the end of all", self.name), || processes_in(&self.folder).is_empty())
    }

    pub(super) fn log_tail(&self) -> String {
        let text = fs::read(self.folder.join("patroni.log")).unwrap_or_default();
        process::last_lines(&String::from_utf8_lossy(&text), 12)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Who has a working directory in this folder: the ids of processes.
fn processes_in(folder: &Path) -> Vec<String> {
    let all = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let inside = all.filter(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    });
    inside.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}
