//! The relays under comparison: portway, and HAProxy and nginx if the machine has them.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::it::fixture::{PATIENCE, Portway, config, within};
use crate::it::peers::free;

pub(super) const PACKAGES: &str = "install haproxy, nginx-light and libnginx-mod-stream of Debian";

/// The reasons for which a relay may end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// No byte in either direction.
    Idle,
    /// No byte in the open direction once the other has closed.
    HalfClose,
    /// The receiver takes nothing.
    Stall,
    /// The relay gets a signal to stop.
    Drain,
    /// Another process has taken over.
    Takeover,
}

impl Limit {
    pub(super) const ALL: [Self; 5] = [
        Self::Idle,
        Self::HalfClose,
        Self::Stall,
        Self::Drain,
        Self::Takeover,
    ];

    /// Whether the test has to do something to cause it.
    pub(super) const fn is_a_deed(self) -> bool {
        matches!(self, Self::Drain | Self::Takeover)
    }

    /// The time of the limit; drain and takeover have long ones, and end at the signal.
    const fn seconds(self) -> u32 {
        match self {
            Self::Idle | Self::HalfClose | Self::Stall => 3,
            Self::Drain | Self::Takeover => 60,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Portway,
    Haproxy,
    Nginx,
}

/// A relay with one limit, in front of one backend.
pub(super) enum Relay {
    Portway(Box<[Portway; 1]>, Vec<Portway>),
    Other(Other),
}

/// HAProxy or nginx.
pub(super) struct Other {
    kind: Kind,
    processes: Vec<Child>,
    directory: TempDir,
    address: SocketAddr,
}

impl Relay {
    /// Starts it; `None` if the machine does not have it.
    pub(super) fn start(kind: Kind, limit: Limit, backend: SocketAddr) -> Option<Self> {
        if kind == Kind::Portway {
            let portway = Portway::start(&portway(limit, backend));
            return Some(Self::Portway(Box::new([portway]), Vec::new()));
        }
        let directory = tempfile::tempdir().unwrap();
        let address = free();
        let text = match kind {
            Kind::Haproxy => haproxy(limit, address, backend),
            Kind::Portway | Kind::Nginx => nginx(directory.path(), limit, address, backend)?,
        };
        fs::write(directory.path().join("conf"), text).unwrap();
        let mut other = Other {
            kind,
            processes: Vec::new(),
            directory,
            address,
        };
        other.spawn(&[])?;
        within(PATIENCE, "the other relay listens", || {
            TcpStream::connect(address).ok()
        });
        Some(Self::Other(other))
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Portway(portway, _) => portway[0].address("agents"),
            Self::Other(other) => other.address,
        }
    }

    /// Causes the limit.
    pub(super) fn strike(&mut self, limit: Limit) {
        match (self, limit) {
            (Self::Portway(portway, _), Limit::Drain) => portway[0].signal(Signal::TERM),
            (Self::Portway(portway, successors), Limit::Takeover) => {
                successors.push(portway[0].start_beside(&["--takeover"]));
            }
            (Self::Other(other), Limit::Drain | Limit::Takeover) => other.strike(limit),
            (_, Limit::Idle | Limit::HalfClose | Limit::Stall) => {}
        }
    }

    /// The running portway, if this relay is portway.
    pub(super) fn portway(&self) -> Option<&Portway> {
        match self {
            Self::Portway(portway, _) => Some(&portway[0]),
            Self::Other(_) => None,
        }
    }
}

impl Other {
    fn spawn(&mut self, arguments: &[&str]) -> Option<()> {
        let (program, file) = match self.kind {
            Kind::Haproxy => ("haproxy", "-f"),
            Kind::Portway | Kind::Nginx => ("nginx", "-c"),
        };
        let mut command = Command::new(program);
        command.arg(file).arg(self.directory.path().join("conf"));
        command.args(arguments).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.processes.push(child.ok()?);
        Some(())
    }

    fn strike(&mut self, limit: Limit) {
        let process = self.processes[0].id().to_string();
        match (self.kind, limit) {
            (Kind::Haproxy, Limit::Takeover) => {
                self.spawn(&["-sf", &process]).unwrap();
            }
            (Kind::Haproxy, _) => self.signal(Signal::USR1),
            (_, Limit::Takeover) => self.signal(Signal::HUP),
            _ => self.signal(Signal::QUIT),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.processes[0].id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // nginx ends its workers only on a signal.
            let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
            _ = kill_process(pid, Signal::TERM);
            within(PATIENCE, "the other relay ends", || {
                process.try_wait().unwrap()
            });
        }
    }
}

fn portway(limit: Limit, backend: SocketAddr) -> String {
    let seconds = limit.seconds();
    let of = |this: Limit| if limit == this { seconds } else { 60 };
    let limits = format!("drain_timeout = \"{}s\"", of(Limit::Drain));
    let backend_keys = format!(
        "idle_timeout = \"{}s\"\nhalf_close_timeout = \"{}s\"\nstall_timeout = \"{}s\"",
        of(Limit::Idle),
        of(Limit::HalfClose),
        of(Limit::Stall)
    );
    let toml = config(&[backend], &limits, &backend_keys);
    toml.replacen("127.0.0.1:0", &free().to_string(), 1)
        .replace("127.0.0.1:0", &free().to_string())
}

fn haproxy(limit: Limit, address: SocketAddr, backend: SocketAddr) -> String {
    let all = match limit {
        Limit::Idle | Limit::Stall => limit.seconds(),
        Limit::HalfClose | Limit::Drain | Limit::Takeover => 60,
    };
    let fin = if limit == Limit::HalfClose {
        limit.seconds()
    } else {
        60
    };
    format!(
        "global\n hard-stop-after 60s\ndefaults\n mode tcp\n timeout connect 5s\n \
         timeout client {all}s\n timeout server {all}s\n \
         timeout client-fin {fin}s\n timeout server-fin {fin}s\n\
         listen agents\n bind {address}\n server one {backend}\n"
    )
}

/// The configuration of nginx; `None` without its stream module.
fn nginx(files: &Path, limit: Limit, address: SocketAddr, backend: SocketAddr) -> Option<String> {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    Path::new(module).exists().then(|| {
        format!(
            "load_module {module};\ndaemon off;\nworker_processes 1;\npid {};\n\
             error_log /dev/null;\nworker_shutdown_timeout 60s;\nevents {{}}\n\
             stream {{ server {{ listen {address}; proxy_pass {backend}; \
             proxy_half_close on; proxy_timeout {}s; }} }}\n",
            files.join("pid").display(),
            limit.seconds()
        )
    })
}
