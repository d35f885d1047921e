//! What a command runs with: its input, the clients that it asks for, and the printer.

use std::env;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use client::{Client, Config, EtcdError};
use cobra::Input;
use tokio::runtime::{Builder, Runtime};

use crate::answer::Answer;
use crate::exit::{BAD_CONNECTION, ERROR, Exit};
use crate::printer::{Format, Printer};
use crate::{log, output, terminal};

/// What a command does.
pub(crate) type Action = fn(&mut Session) -> Result<(), Exit>;

/// Names under which the client library writes to the log.
pub(crate) const CLIENT_LOG: &str = "etcd-client";
/// The same, where a command has named it.
pub(crate) const NAMED_LOG: &str = "client";

const PREFIX: &str = "ETCDCTL";

/// One run of one command.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) input: Input,
    /// The command line, from the program's name on.
    pub(crate) words: Vec<Vec<u8>>,
    pub(crate) printer: Printer,
    endpoints: Vec<String>,
    credentials: Credentials,
    runtime: Runtime,
}

/// Who the user is.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    Nobody,
    Password { name: String, password: String },
    Token(String),
}

impl Session {
    pub(crate) fn new(input: Input, words: Vec<Vec<u8>>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        Self {
            input,
            words,
            printer: Printer {
                format: Format::Simple,
                hex: false,
                values_only: false,
                paint: terminal::Paint::stdout(),
            },
            endpoints: Vec::new(),
            credentials: Credentials::Nobody,
            runtime: runtime.expect("a runtime of one thread needs nothing but an epoll"),
        }
    }

    /// The arguments.
    pub(crate) fn args(&self) -> &[Vec<u8>] {
        &self.input.args
    }

    /// An argument as text; empty where there is none.
    pub(crate) fn arg(&self, index: usize) -> String {
        let bytes = self.args().get(index).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Reads the environment and the flags of every command, in etcd's order. `known` are variables that the command
    /// reads by itself.
    pub(crate) fn configure(&mut self, known: &[&str]) -> Result<(), Exit> {
        self.read_environment(known)?;
        if self.input.bool("debug") {
            for (name, value, _) in self.input.inherited() {
                output::stderr(&format!("{}={value}\n", variable(name)));
            }
        }
        let list = self.input.list("endpoints").iter().map(|word| word.trim().to_owned());
        self.endpoints = match self.input.text("discovery-srv") {
            domain if domain.is_empty() => list.collect(),
            domain => return Err(no_discovery(&domain)),
        };
        for name in ["cert", "key", "cacert"] {
            if self.input.bytes(name).is_empty() && self.input.changed(name) {
                return Err(Exit::arguments(format!("empty string is passed to --{name} option")));
            }
        }
        self.credentials = self.credentials_of("user", "password", "Password: ")?;
        let token = self.input.text("auth-jwt-token");
        if !token.is_empty() {
            self.credentials = Credentials::Token(token);
        }
        self.printer = Printer::new(&self.input.text("write-out"), self.input.bool("hex"))?;
        Ok(())
    }

    fn read_environment(&mut self, known: &[&str]) -> Result<(), Exit> {
        let variables: Vec<(String, Vec<u8>)> = env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.into_vec()))
            .collect();
        let flags: Vec<(&str, bool)> = {
            let inherited = self.input.inherited();
            inherited.into_iter().map(|(name, _, changed)| (name, changed)).collect()
        };
        for (name, changed) in &flags {
            let value = variables
                .iter()
                .find(|(variable, value)| !value.is_empty() && *variable == self::variable(name));
            if let Some((_, value)) = value
                && !changed
            {
                // DIFF(etcd): its tool takes what it cannot read for zero, as a timeout too, and most commands look
                // at ETCDCTL_COMMAND_TIMEOUT before they have read it.
                let _ = self.input.set_from_environment(name, value);
            }
        }
        for (name, value) in &variables {
            let flag = flags.iter().find(|(flag, _)| *name == variable(flag));
            let is_set = flag.is_some_and(|(_, changed)| *changed);
            let is_known = flag.is_some() || known.contains(&name.as_str());
            if is_known && !is_set && !value.is_empty() {
                continue;
            }
            match flag {
                Some((_, true)) => {
                    let message = "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))";
                    let record = log::record("fatal", "", "flags/flag.go:86", message);
                    log::write(record.plain("environment-variable", name));
                    return Err(Exit::silent(ERROR));
                }
                _ if name.starts_with("ETCDCTL_") => {
                    let text = format!("{name}={}", String::from_utf8_lossy(value));
                    let message = "unrecognized environment variable";
                    let record = log::record("warn", "", "flags/flag.go:94", message);
                    log::write(record.plain("environment-variable", &text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A user's name and password out of two flags; asks for the password if it is in neither.
    pub(crate) fn credentials_of(
        &self,
        user: &str,
        password: &str,
        prompt: &str,
    ) -> Result<Credentials, Exit> {
        let (user, password) = (self.input.text(user), self.input.text(password));
        if user.is_empty() || !self.input.bytes("auth-jwt-token").is_empty() {
            return Ok(Credentials::Nobody);
        }
        if !password.is_empty() {
            return Ok(Credentials::Password { name: user, password });
        }
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name.to_owned(), password.to_owned()),
            None => {
                let asked = terminal::ask(prompt);
                (user, asked.map_err(|error| Exit::new(ERROR, error))?)
            }
        };
        Ok(Credentials::Password { name, password })
    }

    /// The endpoints of the configuration.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Reads the configuration and makes a client of the cluster.
    pub(crate) fn client(&mut self) -> Result<Client, Exit> {
        self.configure(&[])?;
        self.connect(&self.endpoints)
    }

    /// The same, with calls that end after `--command-timeout`.
    pub(crate) fn timed_client(&mut self) -> Result<Client, Exit> {
        Ok(self.client()?.with_timeout(self.timeout()))
    }

    /// How long a command may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.duration("command-timeout")
    }

    fn duration(&self, name: &str) -> Duration {
        Duration::from_nanos(u64::try_from(self.input.nanos(name)).unwrap_or_default())
    }

    /// A client of these endpoints alone, with the options of the configuration.
    pub(crate) fn connect(&self, endpoints: &[String]) -> Result<Client, Exit> {
        self.check_files("cert", "key", "cacert")?;
        self.connect_as(endpoints, &self.credentials)
    }

    /// The same as somebody else.
    pub(crate) fn connect_as(
        &self,
        endpoints: &[String],
        credentials: &Credentials,
    ) -> Result<Client, Exit> {
        if let Credentials::Password { name, password } = credentials {
            self.try_login(endpoints, name, password)?;
        }
        let config = self.config(endpoints, credentials);
        let connected = self.runtime.block_on(Client::connect(config));
        connected.map_err(|error| Exit::new(BAD_CONNECTION, error))
    }

    /// A login of its own, since the log has what comes of it, also that no login is asked for.
    fn try_login(&self, endpoints: &[String], name: &str, password: &str) -> Result<(), Exit> {
        let nobody = self.connect_as(endpoints, &Credentials::Nobody)?;
        let nobody = nobody.with_timeout(self.duration("dial-timeout"));
        match self.ask("Auth/Authenticate", nobody.authenticate(name, password)) {
            Err(error) if !error.is(EtcdError::AuthNotEnabled) => {
                Err(Exit::new(BAD_CONNECTION, error))
            }
            _ => Ok(()),
        }
    }

    /// The configuration for one endpoint.
    pub(crate) fn config_of(&self, endpoint: &str) -> Config {
        self.config(&[endpoint.to_owned()], &self.credentials)
    }

    fn config(&self, endpoints: &[String], credentials: &Credentials) -> Config {
        let mut config = Config::new(endpoints.iter().map(String::as_str))
            .dial_timeout(self.duration("dial-timeout"));
        // A server refuses to be asked more often; Go's library does not ask more often either.
        let pause = self.duration("keepalive-time").max(Duration::from_secs(10));
        config = config.keep_alive(pause, self.duration("keepalive-timeout"));
        let bytes = |name| usize::try_from(self.input.int(name)).ok().filter(|&max| max > 0);
        match (bytes("max-request-bytes"), bytes("max-recv-bytes")) {
            (None, None) => {}
            (Some(send), None) => config = config.send_bytes_max(send),
            (None, Some(receive)) => {
                let send = client::SEND_BYTES_MAX.min(receive);
                config = config.receive_bytes_max(receive).send_bytes_max(send);
            }
            (Some(send), Some(receive)) => {
                config = config.receive_bytes_max(receive).send_bytes_max(send);
            }
        }
        match credentials {
            Credentials::Nobody => config,
            Credentials::Password { name, password } => config.user(name, password),
            Credentials::Token(token) => config.token(token),
        }
    }

    /// The files for TLS are there, and a certificate has its key.
    pub(crate) fn check_files(&self, cert: &str, key: &str, cacert: &str) -> Result<(), Exit> {
        let [cert, key, cacert] = [cert, key, cacert].map(|name| self.input.text(name));
        if cert.is_empty() != key.is_empty() {
            return Err(Exit::arguments(format!(
                "KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
            )));
        }
        for path in [&cacert, &cert, &key].into_iter().filter(|path| !path.is_empty()) {
            if !Path::new(path).exists() {
                return Err(Exit::arguments(format!("open {path}: no such file or directory")));
            }
        }
        Ok(())
    }

    /// Waits for something.
    pub(crate) fn wait<F: IntoFuture>(&self, work: F) -> F::Output {
        self.runtime.block_on(async { work.await })
    }

    /// Waits for a call, and logs its failure as etcd's client library does.
    pub(crate) fn ask<T>(
        &self,
        method: &str,
        work: impl IntoFuture<Output = client::Result<T>>,
    ) -> client::Result<T> {
        let endpoint = self.endpoints.first().map(String::as_str).unwrap_or_default();
        self.ask_at(CLIENT_LOG, endpoint, method, work)
    }

    /// The same for a call to one endpoint.
    pub(crate) fn ask_at<T>(
        &self,
        logger: &str,
        endpoint: &str,
        method: &str,
        work: impl IntoFuture<Output = client::Result<T>>,
    ) -> client::Result<T> {
        let result = self.wait(work);
        if let Err(error) = &result {
            log::failed_call(logger, endpoint, &format!("/etcdserverpb.{method}"), error);
        }
        result
    }

    /// Writes an answer in the user's format.
    pub(crate) fn print(&self, answer: &Answer<'_>) -> Result<(), Exit> {
        output::stdout(&self.printer.print(answer)?);
        Ok(())
    }

    /// Whether the format is the one for people.
    pub(crate) fn is_simple(&self) -> bool {
        self.printer.format == Format::Simple
    }
}

/// The variable that stands for a flag.
fn variable(flag: &str) -> String {
    format!("{PREFIX}_{}", flag.to_uppercase().replace('-', "_"))
}

fn no_discovery(domain: &str) -> Exit {
    Exit::new(ERROR, format!("discovery of {domain} by SRV records is not supported yet"))
}
