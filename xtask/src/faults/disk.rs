//! Faults of a member's disk: strace answers a running process's system calls with an error or late, and a small file
//! system of its own is filled.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Room for two segments of the log, and little else.
const MEGABYTES: u32 = 160;
/// The file that takes what is left.
const BALLAST: &str = "ballast";

/// Why disks cannot be made to fail here, if they can't.
pub(super) fn missing() -> Option<String> {
    let sleeper = Command::new("sleep").arg("60").spawn();
    let Ok(mut sleeper) = sleeper else { return Some("no process can be started".to_owned()) };
    let attached = Injection::start(sleeper.id(), "fsync", "error=EIO");
    let _ = sleeper.kill();
    let _ = sleeper.wait();
    attached.err()
}

/// How this user gets a mount namespace: what `unshare` and `nsenter` are told beside `--mount`.
#[derive(Clone, Copy, Debug)]
struct Namespace {
    unshare: &'static [&'static str],
    nsenter: &'static [&'static str],
}

const NAMESPACES: [Namespace; 2] = [
    Namespace { unshare: &[], nsenter: &[] },
    // Who may not mount may do so as root of a user namespace.
    Namespace { unshare: &["--map-root-user"], nsenter: &["--user", "--preserve-credentials"] },
];

/// strace at a process; the fault ends when this is dropped.
#[derive(Debug)]
pub(super) struct Injection {
    strace: Child,
}

impl Injection {
    /// Lets the system calls `calls` of a process meet `fault`, in strace's words, from now on.
    pub(super) fn start(pid: u32, calls: &str, fault: &str) -> Result<Self, String> {
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &pid.to_string()])
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{fault}")])
            .args(["-o", "/dev/null"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot run strace: {e}"))?;
        // It says so when it has attached.
        let stderr = strace.stderr.take().ok_or("no stderr")?;
        let mut stderr = BufReader::new(stderr);
        let mut line = String::new();
        stderr.read_line(&mut line).map_err(|e| format!("strace: {e}"))?;
        // Nobody must be held up by a full pipe.
        std::thread::spawn(move || stderr.lines().for_each(drop));
        let injection = Self { strace };
        if line.contains("attached") { Ok(injection) } else { Err(format!("strace: {line}")) }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // Asked to end, strace lets go of the process first.
        let _ = kill_process(Pid::from_child(&self.strace), Signal::INT);
        let _ = self.strace.wait();
    }
}

/// A small file system that only a member's process sees. It ends with this.
#[derive(Debug)]
pub(super) struct SmallDisk {
    keeper: Child,
    folder: PathBuf,
    /// Runs the server inside.
    pub(super) wrapper: PathBuf,
}

impl SmallDisk {
    /// Copies the directory of a member that is down to a file system of `MEGABYTES`, which the processes that the
    /// wrapper starts have in its place. None: nobody lets us mount one.
    pub(super) fn take(folder: &Path, binary: &Path) -> Result<Option<Self>, String> {
        let mounted = NAMESPACES.iter().find_map(|how| Self::mount(folder, binary, *how).ok());
        let Some(disk) = mounted else { return Ok(None) };
        let copied = Command::new("cp")
            .arg("-a")
            .args([folder.join("."), disk.inside("")])
            .status()
            .map_err(|e| format!("cannot run cp: {e}"))?;
        if copied.success() { Ok(Some(disk)) } else { Err(format!("cp: {copied}")) }
    }

    fn mount(folder: &Path, binary: &Path, how: Namespace) -> Result<Self, String> {
        // It keeps the mount until its standard input is closed.
        let script = format!(
            "mount -t tmpfs -o size={MEGABYTES}m none '{}' && echo mounted && read -r _",
            folder.display()
        );
        let mut keeper = Command::new("unshare")
            .args(how.unshare)
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot run unshare: {e}"))?;
        let stdout = keeper.stdout.take().ok_or("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|e| format!("unshare: {e}"))?;
        let wrapper = folder.with_extension("sh");
        let enter = format!("nsenter {} --mount --target {}", how.nsenter.join(" "), keeper.id());
        let text = format!("#!/bin/sh\nexec {enter} -- '{}' \"$@\"\n", binary.display());
        let disk = Self { keeper, folder: folder.to_owned(), wrapper };
        if line != "mounted\n" {
            return Err("the small file system cannot be mounted".to_owned());
        }
        let written = fs::write(&disk.wrapper, text)
            .and_then(|()| fs::set_permissions(&disk.wrapper, fs::Permissions::from_mode(0o755)));
        written.map_err(|e| format!("{}: {e}", disk.wrapper.display()))?;
        Ok(disk)
    }

    /// A path on it, as it is seen from outside.
    fn inside(&self, name: &str) -> PathBuf {
        let folder = self.folder.strip_prefix("/").unwrap_or(&self.folder);
        Path::new(&format!("/proc/{}/root", self.keeper.id())).join(folder).join(name)
    }

    /// Takes all room that is left.
    pub(super) fn fill(&self) -> Result<(), String> {
        let path = self.inside(BALLAST);
        let mut file = fs::File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let zeros = vec![0; 64 << 10];
        loop {
            match file.write(&zeros) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
    }

    /// Gives the room back.
    pub(super) fn free(&self) -> Result<(), String> {
        let path = self.inside(BALLAST);
        fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
