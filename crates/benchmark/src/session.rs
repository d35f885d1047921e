//! What a command runs with: its flags, clients, and the way to print a report.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use client::{Client, Config};
use cobra::Input;

use crate::load::Amount;
use crate::report::{Precision, Report};

/// Why there is no report; goes to standard error, and the exit code is 1.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of one command.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) input: Input,
}

/// Writes to standard output. Whoever has closed it does not want to know more.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

impl Session {
    /// The flag `--rate` and `--total`, or others that mean the same.
    pub(crate) fn amount(&self, total: &str, rate: &str) -> Result<Amount, Failure> {
        Ok(Amount { total: self.number(total)?, rate: self.number(rate)? })
    }

    /// A number that cannot be below zero.
    pub(crate) fn number(&self, name: &str) -> Result<u64, Failure> {
        let number = self.input.int(name);
        u64::try_from(number)
            .map_err(|_| Failure(format!("expected non-negative --{name}, got ({number})")))
    }

    /// A number above zero.
    pub(crate) fn positive(&self, name: &str) -> Result<u64, Failure> {
        match self.number(name)? {
            0 => Err(Failure(format!("expected positive --{name}, got (0)"))),
            number => Ok(number),
        }
    }

    /// A size in bytes that fits into memory.
    pub(crate) fn size(&self, name: &str) -> Result<usize, Failure> {
        const MOST: u64 = 1 << 30;
        match self.number(name)? {
            size if size <= MOST => Ok(size as usize),
            size => Err(Failure(format!("--{name} of {size} bytes is too large"))),
        }
    }

    pub(crate) fn samples(&self) -> bool {
        self.input.bool("sample")
    }

    /// Whether reads are serializable, from `--consistency`; says so, as etcd's tool does.
    pub(crate) fn is_serializable(&self) -> Result<bool, Failure> {
        let (serializable, name) = match self.input.text("consistency").as_str() {
            "l" => (false, "linearizable"),
            "s" => (true, "serializable"),
            other => return Err(Failure(format!("unknown --consistency {other:?}, want l or s"))),
        };
        if !self.input.bool("json") {
            print(&format!("bench with {name} range\n"));
        }
        Ok(serializable)
    }

    fn config(&self, endpoints: Vec<String>) -> Result<Config, Failure> {
        for name in ["cacert", "cert", "key"] {
            if !self.input.bytes(name).is_empty() {
                return Err(Failure(format!("--{name}: TLS is not supported yet")));
            }
        }
        let mut config = Config::new(endpoints);
        let duration =
            |name| Duration::from_nanos(u64::try_from(self.input.nanos(name)).unwrap_or(0));
        if !duration("dial-timeout").is_zero() {
            config = config.dial_timeout(duration("dial-timeout"));
        }
        if !duration("auto-sync-interval").is_zero() {
            config = config.auto_sync_interval(duration("auto-sync-interval"));
        }
        let user = self.input.text("user");
        if !user.is_empty() {
            let (name, password) = user
                .split_once(':')
                .ok_or_else(|| Failure("--user wants name:password here".to_owned()))?;
            config = config.user(name, password);
        }
        Ok(config)
    }

    /// A connection to each of `count` endpoints in turn, or to the leader.
    pub(crate) async fn connections(&self, count: u64) -> Result<Vec<Client>, Failure> {
        let endpoints = self.input.list("endpoints");
        if endpoints.is_empty() {
            return Err(Failure("no endpoint".to_owned()));
        }
        let leader = if self.input.bool("target-leader") {
            Some(self.leader(endpoints).await?)
        } else {
            None
        };
        let mut clients = Vec::new();
        for at in 0..count.max(1) {
            let one = || vec![endpoints[at as usize % endpoints.len()].clone()];
            let config = self.config(leader.clone().unwrap_or_else(one))?;
            let client = Client::connect(config).await;
            clients.push(client.map_err(|e| Failure(format!("dial error: {e}")))?);
        }
        Ok(clients)
    }

    /// The client URLs of the leader.
    async fn leader(&self, endpoints: &[String]) -> Result<Vec<String>, Failure> {
        let client = Client::connect(self.config(endpoints.to_vec())?).await;
        let client = client.map_err(|e| Failure(format!("dial error: {e}")))?;
        let members = client.member_list().await;
        let members =
            members.map_err(|e| Failure(format!("failed to get a member list: {e}")))?.members;
        for endpoint in endpoints {
            let Ok(status) = client.status(endpoint).await else { continue };
            if let Some(leader) = members.iter().find(|member| member.id == status.leader) {
                return Ok(leader.client_urls.clone());
            }
        }
        Err(Failure("failed to find a leader endpoint".to_owned()))
    }

    /// As many clients as `--clients` says, over as many connections as `--conns` says.
    pub(crate) async fn clients(&self) -> Result<Vec<Client>, Failure> {
        let (clients, conns) = (self.input.uint("clients"), self.input.uint("conns"));
        let connections = self.connections(conns).await?;
        let clients = (0..clients as usize).map(|at| connections[at % connections.len()].clone());
        Ok(clients.collect())
    }

    /// Prints a report in the form that was asked for, below a title.
    pub(crate) fn report(&self, title: &str, operation: &str, report: &Report) {
        if self.input.bool("json") {
            print(&format!("{}\n", report.json(operation)));
        } else {
            let precision =
                if self.input.bool("precise") { Precision::Full } else { Precision::Short };
            print(&format!("{title}{}", report.text(precision)));
        }
        if self.input.bool("report-perfdash") {
            match write_perfdash(operation, report) {
                Ok(path) => print(&format!(
                    "Successfully created a JSON perf report at {}\n",
                    path.display()
                )),
                Err(why) => print(&format!("Error writing to file: {why}\n")),
            }
        }
    }
}

fn write_perfdash(operation: &str, report: &Report) -> std::io::Result<PathBuf> {
    let folder = std::env::var("ARTIFACTS").ok().filter(|folder| !folder.is_empty());
    let folder = PathBuf::from(folder.unwrap_or_else(|| "./_artifacts".to_owned()));
    fs::create_dir_all(&folder)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let path = folder.join(format!("EtcdAPI_benchmark_{operation}_{now}.json"));
    fs::write(&path, format!("{:#}", report.perfdash(operation)))?;
    Ok(path)
}
