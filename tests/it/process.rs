//! The state of a process in /proc, and the limits of our own process.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises our own soft limit of descriptors to the hard one.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

/// A TCP socket over IPv4, of any process.
pub(crate) struct Socket {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// 0 for a socket that no process has, such as one that is not accepted yet.
    pub(crate) inode: u64,
    state: u8,
}

impl Socket {
    /// Whether it listens.
    pub(crate) fn is_listening(&self) -> bool {
        self.state == 10
    }

    /// Whether it dials and has no answer yet.
    pub(crate) fn is_dialling(&self) -> bool {
        self.state == 2
    }

    /// Parses a row of the kernel's table.
    fn parse(row: &str) -> Option<Self> {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let address = |field: &str| {
            let (host, port) = field.split_once(':')?;
            // The host is in the byte order of memory.
            let host = u32::from_str_radix(host, 16).ok()?.to_ne_bytes();
            let port = u16::from_str_radix(port, 16).ok()?;
            Some(SocketAddr::from((Ipv4Addr::from(host), port)))
        };
        Some(Self {
            local: address(fields.get(1)?)?,
            remote: address(fields.get(2)?)?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }
}

/// All TCP sockets over IPv4 of this thread's network.
pub(crate) fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    table.lines().filter_map(Socket::parse).collect()
}

/// Whether the process has the accepted end of this client's connection over IPv4.
pub(crate) fn serves(pid: u32, client: &TcpStream) -> bool {
    let (local, remote) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
    let accepted = sockets()
        .into_iter()
        .find(|socket| (socket.local, socket.remote) == (local, remote));
    accepted.is_some_and(|socket| has(pid, &socket))
}

/// Whether the process has a socket that listens at this address, accepting or not.
pub(crate) fn has_listener(pid: u32, address: SocketAddr) -> bool {
    let sockets = sockets().into_iter();
    let mut listeners = sockets.filter(|one| one.is_listening() && one.local == address);
    listeners.any(|socket| has(pid, &socket))
}

fn has(pid: u32, socket: &Socket) -> bool {
    let name = format!("socket:[{}]", socket.inode);
    // The process may have ended.
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
    // One may be closed between the listing and the look at it.
    let mut targets = descriptors
        .flatten()
        .filter_map(|one| fs::read_link(one.ok()?.path()).ok());
    targets.any(|target| target.as_os_str() == name.as_str())
}

/// The number of open descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The open descriptors of each kind: `socket`, `pipe`, the path of a file and others.
pub(crate) fn kinds(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        // It may be closed between the listing and the look at it.
        if let Ok(target) = fs::read_link(descriptor.unwrap().path()) {
            let target = target.to_string_lossy().into_owned();
            let kind = target.split(":[").next().unwrap_or_default();
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    kinds
}

/// The number of threads, without those of the allocator, which starts a few when it first needs them.
pub(crate) fn threads(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may end between the listing and the look at it.
    let name = |thread: &DirEntry| fs::read_to_string(thread.path().join("comm"));
    let names = threads.filter_map(|thread| name(&thread.ok()?).ok());
    names.filter(|name| !name.starts_with("jemalloc")).count()
}

/// Resident bytes that do not belong to files.
pub(crate) fn resident(pid: u32) -> u64 {
    field(Path::new(&format!("/proc/{pid}/status")), "RssAnon:").unwrap() * 1024
}

/// How often all threads together went to sleep; each wake-up counts once.
pub(crate) fn wake_ups(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may end between the listing and the look at it.
    let status = threads.filter_map(|thread| Some(thread.ok()?.path().join("status")));
    let waits = status.filter_map(|path| field(&path, "voluntary_ctxt_switches:"));
    waits.sum()
}

/// Processor time so far, user and system, in ticks of 10 ms.
pub(crate) fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name is in parentheses and may contain anything.
    let fields = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
