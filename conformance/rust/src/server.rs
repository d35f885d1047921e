//! A server process; its ports and its folder stay the same over restarts.

use std::fs::{self, File};
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Neither start nor stop takes longer.
const LIMIT: Duration = Duration::from_secs(40);

/// The only member of its cluster; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts `program`; `port` and the one after it must be free.
    pub(crate) fn start(program: PathBuf, folder: PathBuf, port: u16) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut server = Self { program, folder, port, child: None };
        server.start_again()?;
        Ok(server)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it on what it has, and waits until it is healthy.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let client = format!("http://{}", self.endpoint());
        let peer = format!("http://127.0.0.1:{}", self.port + 1);
        let flags = [
            ("name", "n1".to_owned()),
            ("data-dir", self.folder.join("data").display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", format!("n1={peer}")),
        ];
        let log = self.folder.join("server.log");
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.program);
        command.args(flags.map(|(name, value)| format!("--{name}={value}")));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = self.child.insert(command.spawn()?);
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if let Some(status) = child.try_wait()? {
                return Err(Error::other(format!("the server ended with {status}")));
            }
            if healthy(self.port).unwrap_or(false) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(Error::other("the server is not healthy in time"))
    }

    /// SIGTERM, and the end of the process.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                return Err(Error::other("SIGTERM did not stop the server in time"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The end without warning.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn healthy(port: u16) -> Result<bool> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains("\"true\""))
}
