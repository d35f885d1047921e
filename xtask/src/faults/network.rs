//! The network between members: each is advertised under the address of a proxy, which knows by the socket's owner who
//! has called, so that each direction between two members has a fault of its own.
//!
//! A cut is silent, as that of a cable: what is on its way stays there and arrives when the cut has healed.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sim::rng::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Chunks on their way in one direction of a connection, like the buffers of a kernel.
const CHUNKS_MAX: usize = 64;
const CHUNK_BYTES: usize = 16 << 10;

/// What one direction between two members does to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Nothing passes.
    pub(super) is_cut: bool,
    /// Each chunk takes so long, at least and at most.
    pub(super) delay_ms: (u64, u64),
    /// Of 1,000 chunks, those that are lost and sent again: they and all behind them wait for 200 ms to 1 s.
    pub(super) lost: u64,
    /// Of 1,000 chunks, those at which the connection is reset.
    pub(super) reset: u64,
    /// How much passes in 10 ms; 0: everything.
    pub(super) bytes_per_10_ms: usize,
}

/// All links, by sender and receiver.
#[derive(Clone, Debug)]
struct Links {
    links: Vec<Vec<Link>>,
    /// Grows when all connections are to be reset.
    resets: u64,
}

/// The proxies of all members.
#[derive(Debug)]
pub(super) struct Network {
    links: watch::Sender<Links>,
    callers: Arc<Mutex<Vec<u32>>>,
    /// Advertised port and that of the member itself.
    ports: Vec<(u16, u16)>,
    proxies: Vec<Option<JoinHandle<()>>>,
    seed: u64,
}

impl Network {
    /// A network that does no harm yet. `ports`: for each member the advertised one and its own.
    pub(super) fn new(ports: Vec<(u16, u16)>, seed: u64) -> Self {
        let count = ports.len();
        let links = Links { links: vec![vec![Link::default(); count]; count], resets: 0 };
        Self {
            links: watch::Sender::new(links),
            callers: Arc::new(Mutex::new(vec![0; count])),
            ports,
            proxies: (0..count).map(|_| None).collect(),
            seed,
        }
    }

    /// Opens the port of a member. Its process is told by [`Network::is_process`].
    pub(super) async fn open(&mut self, member: usize) -> Result<(), String> {
        if self.proxies[member].is_some() {
            return Ok(());
        }
        let (advertised, own) = self.ports[member];
        // A proxy that was just told to end may still have it.
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", advertised)).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => break other,
            }
        };
        let listener = listener.map_err(|e| format!("port {advertised}: {e}"))?;
        self.seed += 1;
        let proxy = Proxy {
            member,
            own,
            callers: Arc::clone(&self.callers),
            links: self.links.subscribe(),
            rng: Rng::new(self.seed),
        };
        self.proxies[member] = Some(tokio::spawn(proxy.accept(listener)));
        Ok(())
    }

    /// Closes the port of a member whose process has gone: calls are refused, as without a proxy.
    pub(super) fn close(&mut self, member: usize) {
        if let Some(proxy) = self.proxies[member].take() {
            proxy.abort();
        }
    }

    /// Tells the process of a member, so that its calls are known as its own.
    pub(super) fn is_process(&self, member: usize, pid: u32) {
        if let Ok(mut callers) = self.callers.lock() {
            callers[member] = pid;
        }
    }

    /// Changes the links from any of `from` to any of `to`.
    pub(super) fn set(&self, from: &[usize], to: &[usize], link: Link) {
        self.links.send_modify(|links| {
            for from in from {
                for to in to.iter().filter(|to| *to != from) {
                    links.links[*from][*to] = link;
                }
            }
        });
    }

    pub(super) fn cut(&self, from: &[usize], to: &[usize]) {
        self.set(from, to, Link { is_cut: true, ..Link::default() });
    }

    /// Ends all faults. What was held back arrives.
    pub(super) fn heal(&self) {
        self.links.send_modify(|links| {
            links.links.iter_mut().flatten().for_each(|link| *link = Link::default());
        });
    }

    /// Resets all connections: what was held back never arrives.
    pub(super) fn reset(&self) {
        self.links.send_modify(|links| links.resets += 1);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for member in 0..self.proxies.len() {
            self.close(member);
        }
    }
}

struct Proxy {
    member: usize,
    own: u16,
    callers: Arc<Mutex<Vec<u32>>>,
    links: watch::Receiver<Links>,
    rng: Rng,
}

impl Proxy {
    async fn accept(mut self, listener: TcpListener) {
        while let Ok((socket, address)) = listener.accept().await {
            let pids = self.callers.lock().map(|pids| pids.clone()).unwrap_or_default();
            let connection = Connection {
                member: self.member,
                own: self.own,
                links: self.links.clone(),
                rng: self.rng.fork(),
            };
            tokio::spawn(connection.carry(socket, address.port(), pids));
        }
    }
}

struct Connection {
    member: usize,
    own: u16,
    links: watch::Receiver<Links>,
    rng: Rng,
}

impl Connection {
    async fn carry(mut self, socket: TcpStream, from: u16, pids: Vec<u32>) {
        let Ok(to) = socket.local_addr().map(|address| address.port()) else { return };
        let resets = self.links.borrow().resets;
        // The kernel's tables are large, and what passes must not wait for them.
        let found = tokio::task::spawn_blocking(move || caller(from, to, &pids));
        // Whoever is not there any more will not miss an answer.
        let Ok(Some(caller)) = found.await else { return };
        let Ok(onward) = TcpStream::connect(("127.0.0.1", self.own)).await else { return };
        let mut pump =
            |from, to| Pump { from, to, resets, links: self.links.clone(), rng: self.rng.fork() };
        let (there, back) = (pump(caller, self.member), pump(self.member, caller));
        let _ = socket.set_nodelay(true);
        let _ = onward.set_nodelay(true);
        let (near, far) = (socket.into_split(), onward.into_split());
        let both = async { tokio::try_join!(there.run(near.0, far.1), back.run(far.0, near.1)) };
        tokio::select! {
            _ = both => {}
            _ = self.links.wait_for(|links| links.resets != resets) => {}
        }
    }
}

/// One direction of a connection.
struct Pump {
    from: usize,
    to: usize,
    /// How many resets there had been when the connection was opened.
    resets: u64,
    links: watch::Receiver<Links>,
    rng: Rng,
}

impl Pump {
    fn link(&self) -> Link {
        self.links.borrow().links[self.from][self.to]
    }

    /// Carries everything, and the end. An error resets the connection.
    async fn run(self, from: OwnedReadHalf, to: OwnedWriteHalf) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        tokio::try_join!(read(from, sender), self.write(receiver, to))?;
        Ok(())
    }

    async fn write(
        mut self,
        mut chunks: mpsc::Receiver<(Instant, Bytes)>,
        mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        while let Some((read_at, chunk)) = chunks.recv().await {
            let link = self.link();
            let chance = |rng: &mut Rng, of_1000| of_1000 > 0 && rng.below(1000) < of_1000;
            if chance(&mut self.rng, link.reset) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let (least, most) = link.delay_ms;
            let mut delay = if most > 0 { self.rng.between(least, most) } else { 0 };
            if chance(&mut self.rng, link.lost) {
                delay += self.rng.between(200, 1000);
            }
            tokio::time::sleep_until(read_at + Duration::from_millis(delay)).await;
            if link.bytes_per_10_ms == 0 {
                self.passable().await?;
                to.write_all(&chunk).await?;
                continue;
            }
            for piece in chunk.chunks(link.bytes_per_10_ms) {
                self.passable().await?;
                to.write_all(piece).await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.passable().await?;
        to.shutdown().await
    }

    /// Waits until the link is not cut. What a cut has held back never arrives when its end is a reset.
    async fn passable(&mut self) -> io::Result<()> {
        let (from, to, resets) = (self.from, self.to, self.resets);
        let is_over = |links: &Links| links.resets != resets || !links.links[from][to].is_cut;
        match self.links.wait_for(is_over).await {
            Ok(links) if links.resets == resets => Ok(()),
            Ok(_) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

async fn read(mut from: OwnedReadHalf, to: mpsc::Sender<(Instant, Bytes)>) -> io::Result<()> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        if from.read_buf(&mut chunk).await? == 0 {
            return Ok(());
        }
        if to.send((Instant::now(), chunk.freeze())).await.is_err() {
            return Ok(());
        }
    }
}

/// Which member has opened the connection between two ports of the loopback address: the process that holds its end.
fn caller(from: u16, to: u16, pids: &[u32]) -> Option<usize> {
    let inode = inode(from, to)?;
    let wanted = format!("socket:[{inode}]");
    pids.iter().position(|pid| {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| link.to_str() == Some(&wanted))
    })
}

/// The inode of the near end of a connection, as the kernel's table has it.
fn inode(from: u16, to: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    // Number, local address, remote address, state, queues, timer, retransmits, user, timeout, inode.
    let at = table.find(&format!(": 0100007F:{from:04X} 0100007F:{to:04X} "))?;
    table.get(at..)?.split_whitespace().nth(9).map(str::to_owned)
}
