//! Which worker serves which client, as the kernel shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;

use crate::it::fixture::{PATIENCE, Portway, within};
use crate::it::process::{Socket, sockets};

/// The clients of each worker. A worker is known by the inode of its listening socket.
pub(super) struct Shares(BTreeMap<u64, BTreeSet<SocketAddr>>);

impl Shares {
    /// Waits until portway serves these clients of `agents`, and no other.
    pub(super) fn wait(portway: &Portway, clients: &BTreeSet<SocketAddr>) -> Self {
        let what = format!("{} clients are served", clients.len());
        within(PATIENCE, &what, || {
            let shares = Self::now(portway);
            let served: BTreeSet<_> = shares.0.values().flatten().copied().collect();
            (served == *clients).then_some(shares)
        })
    }

    fn now(portway: &Portway) -> Self {
        let address = portway.address("agents");
        let ours = sockets()
            .into_iter()
            .filter(|socket| socket.local == address);
        let (listening, connected): (Vec<_>, Vec<_>) = ours.partition(Socket::is_listening);
        let listening: BTreeSet<u64> = listening.iter().map(|socket| socket.inode).collect();
        let clients: BTreeMap<u64, SocketAddr> = connected
            .iter()
            .map(|socket| (socket.inode, socket.remote))
            .collect();
        let workers = epolls(portway.pid()).into_iter().filter_map(|inodes| {
            let worker = inodes.iter().find(|inode| listening.contains(inode))?;
            let clients = inodes.iter().filter_map(|inode| clients.get(inode));
            Some((*worker, clients.copied().collect()))
        });
        Self(workers.collect())
    }

    /// How many clients each worker has.
    pub(super) fn counts(&self) -> Vec<usize> {
        self.0.values().map(BTreeSet::len).collect()
    }

    /// The number of clients of the busiest worker, divided by the mean.
    pub(super) fn imbalance(&self) -> f64 {
        let counts = self.counts().into_iter();
        let counts = counts.map(|count| f64::from(u32::try_from(count).unwrap()));
        let counts: Vec<f64> = counts.collect();
        let sum: f64 = counts.iter().sum();
        let workers = f64::from(u32::try_from(counts.len()).unwrap());
        counts.into_iter().fold(0.0, f64::max) * workers / sum
    }

    /// The clients of the busiest worker.
    pub(super) fn busiest(&self) -> &BTreeSet<SocketAddr> {
        self.0.values().max_by_key(|clients| clients.len()).unwrap()
    }
}

/// The inodes of the files in each epoll of a process. An epoll with two descriptors is listed twice.
fn epolls(pid: u32) -> Vec<Vec<u64>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // A descriptor may be closed meanwhile.
    let epolls = descriptors.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        (target.to_str()? == "anon_inode:[eventpoll]").then(|| entry.file_name())
    });
    let infos = epolls.filter_map(|descriptor| {
        let descriptor = descriptor.to_str()?.to_owned();
        fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).ok()
    });
    infos
        .map(|info| info.lines().filter_map(inode).collect())
        .collect()
}

/// The inode in a line such as `tfd: 9 events: 8000201d data: 7f… pos:0 ino:18cb22b sdev:9`.
fn inode(line: &str) -> Option<u64> {
    let mut fields = line.strip_prefix("tfd:")?.split_whitespace();
    let inode = fields.find_map(|field| field.strip_prefix("ino:"))?;
    u64::from_str_radix(inode, 16).ok()
}
