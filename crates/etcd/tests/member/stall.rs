//! A disk that does not come back.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::cluster::{Cluster, eventually};
use crate::disk::has_strace;

/// Each sync of a process takes an hour, until this is dropped.
struct Stall(Child);

impl Stall {
    fn begin(pid: u32) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &pid.to_string(), "-o", "/dev/null", "-e", "trace=fdatasync"]);
        strace.arg("--inject=fdatasync:delay_enter=3600000000");
        let mut child = strace.stderr(Stdio::piped()).spawn().expect("strace");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("read");
        assert!(line.contains("attached"), "{line}");
        Self(child)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_leader_whose_disk_stalls_gives_way() {
    if !has_strace() {
        eprintln!("skipped: no strace, so that no disk can be made to stall");
        return;
    }
    let mut cluster = Cluster::start("stall", 3, &[]);
    cluster.put(0, "before");
    let leader = cluster.leader();
    let id = cluster.id(leader);
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let stall = Stall::begin(cluster.server(leader).pid());
    for other in &others {
        cluster.put(*other, &format!("stalled {other}"));
    }
    eventually("another leader", || {
        let found = others.iter().map(|other| cluster.server(*other).client().status().leader);
        found.into_iter().all(|found| found != 0 && found != id).then_some(())
    });
    for other in &others {
        cluster.put(*other, &format!("led by another {other}"));
    }
    drop(stall);
    assert_eq!(cluster.agree(), 5);
    let end = cluster.take(leader).kill();
    assert!(end.log().contains("its disk has stalled"), "{}", end.log());
}
