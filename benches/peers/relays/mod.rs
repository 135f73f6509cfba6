//! The relays under comparison: how each is found, set up and started. All get the same threads,
//! the same room and the same routes.

mod portway;
mod process;
mod programs;
mod setup;

use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;

use crate::relay::Relay;
use portway::Which;
use process::Process;

/// The relays, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// No relay: the clients connect to the backend.
    Direct,
    /// portway with everything on: the log of all connections, and metrics.
    Portway,
    /// The same as an ordinary user, who has few pipes.
    PortwayUser,
    /// An earlier build, which the environment variable PORTWAY_BEFORE names. It runs only on request.
    PortwayBefore,
    /// HAProxy without further options.
    Haproxy,
    /// With `splice-request` and `splice-response`; its `splice-auto` never splices here.
    #[value(name = "haproxy-splice-64k")]
    HaproxySplice64k,
    /// The same with pipes of 1 MiB.
    #[value(name = "haproxy-splice-1m")]
    HaproxySplice1m,
    /// Stream with `ssl_preread`.
    Nginx,
    /// With `tls_inspector` and `tcp_proxy`.
    Envoy,
    /// A bare loop without any function: what the kernel costs.
    Floor,
}

impl Kind {
    /// The name on the command line and in the tables.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Its version, as it reports it, if it can be started here.
    pub fn version(self) -> Result<String, Skipped> {
        match self {
            Self::Direct => Ok("no relay".to_owned()),
            Self::Portway => portway::version(),
            Self::PortwayUser => portway::user_version(),
            Self::PortwayBefore => portway::version_before(),
            Self::Haproxy | Self::HaproxySplice64k | Self::HaproxySplice1m => {
                programs::haproxy_version()
            }
            Self::Nginx => programs::nginx_version(),
            Self::Envoy => programs::envoy_version(),
            Self::Floor => Ok("this tree".to_owned()),
        }
    }
}

/// Why a relay is skipped, and what would help.
#[derive(Debug)]
pub struct Skipped(pub String);

/// The room that all relays get.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Threads of each that carry connections.
    pub workers: usize,
    /// Connections that each must carry at a time.
    pub connections: u64,
    /// Pipes for relays that splice; each pipe takes two descriptors.
    pub pipes: u64,
}

impl Room {
    const MOST_CONNECTIONS: u64 = 9_900;

    /// The room that the limit of descriptors allows: two per connection, and some for the relay itself.
    fn new(workers: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let own = 128 + 16 * workers as u64;
        let connections = (descriptors.saturating_sub(own) / 2).min(Self::MOST_CONNECTIONS);
        Self {
            workers,
            connections,
            pipes: connections / 20,
        }
    }

    /// The same descriptors, shared by connections and pipes.
    const fn with_pipes(self) -> Self {
        Self {
            connections: self.connections - self.pipes,
            ..self
        }
    }
}

/// Starts relays. Dropping it removes their files.
pub struct Relays {
    room: Room,
    files: TempDir,
}

impl Relays {
    /// Prepares for relays with `workers` threads each.
    pub fn new(workers: usize) -> io::Result<Self> {
        // Relays that change their user must still read it.
        let readable = Permissions::from_mode(0o755);
        let files = tempfile::Builder::new()
            .prefix("portway-peers-")
            .permissions(readable)
            .tempdir()?;
        Ok(Self {
            room: Room::new(workers),
            files,
        })
    }

    /// Starts a relay before `backend`, and waits until it accepts.
    pub fn start(&self, kind: Kind, backend: SocketAddr) -> Result<Running, String> {
        let room = self.room;
        let files = self.files.path();
        let haproxy = |pipe_size: Option<usize>| {
            let shards = room.workers > 1 && programs::haproxy_has_shards();
            self.start_peer(|address| {
                let setup = setup::haproxy(room, (pipe_size, shards), address, backend);
                programs::haproxy(files, &setup)
            })
        };
        let started = match kind {
            Kind::Direct => {
                return Ok(Running {
                    address: backend,
                    process: None,
                });
            }
            Kind::Portway => portway::start(files, room, backend, Which::This),
            Kind::PortwayUser => portway::start(files, room, backend, Which::ByUser),
            Kind::PortwayBefore => portway::start(files, room, backend, Which::Before),
            Kind::Haproxy => haproxy(None),
            Kind::HaproxySplice64k => haproxy(Some(64 << 10)),
            Kind::HaproxySplice1m => haproxy(Some(1 << 20)),
            Kind::Nginx => self.start_peer(|address| {
                programs::nginx(files, &setup::nginx(files, room, address, backend))
            }),
            Kind::Envoy => self.start_peer(|address| {
                programs::envoy(files, room, &setup::envoy(room, address, backend))
            }),
            Kind::Floor => self.start_floor(backend),
        };
        let (address, process) = started.map_err(|why| format!("it does not start: {why}"))?;
        Ok(Running {
            address,
            process: Some(process),
        })
    }

    /// Starts a peer. It cannot report which port the kernel chose for it, so it gets one that was free just
    /// now.
    fn start_peer(
        &self,
        command: impl Fn(SocketAddr) -> io::Result<Command>,
    ) -> Result<(SocketAddr, Process), String> {
        const TRIES: usize = 3;
        let mut last = String::new();
        for _ in 0..TRIES {
            let prepared = free_address().and_then(|address| Ok((address, command(address)?)));
            let (address, command) = prepared.map_err(|error| error.to_string())?;
            match Process::listening_on(command, address, self.files.path()) {
                Ok(process) => return Ok((address, process)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Starts this program as the floor.
    fn start_floor(&self, backend: SocketAddr) -> Result<(SocketAddr, Process), String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = bare(&program, self.files.path());
        command
            .arg("floor")
            .arg("--backend")
            .arg(backend.to_string());
        command.arg("--threads").arg(self.room.workers.to_string());
        Process::announced_on_stdout(command, |line| line.trim().parse().ok())
    }
}

/// A relay that accepts connections; it ends on drop.
pub struct Running {
    address: SocketAddr,
    /// Absent if there is no relay.
    process: Option<Process>,
}

impl Running {
    /// Threads, over all its processes.
    pub fn threads(&self) -> usize {
        self.process.as_ref().map_or(0, Process::threads)
    }

    /// Open descriptors, over all its processes.
    pub fn descriptors(&self) -> usize {
        self.process.as_ref().map_or(0, Process::descriptors)
    }

    /// The process that was started.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

impl Relay for Running {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn cpu(&self) -> Result<Duration, String> {
        let process = self.process.as_ref();
        process.map_or(Ok(Duration::ZERO), Process::cpu)
    }

    fn resident(&self) -> Result<u64, String> {
        self.process.as_ref().map_or(Ok(0), Process::resident)
    }
}

/// A command that inherits only the PATH.
fn bare(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(directory);
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
