//! The process of portway.

use std::fs;
use std::io::Write;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::process::{self, Started};
use crate::{Result, tls};

/// A process of portway.
#[derive(Debug)]
pub enum Process {
    /// One that this program has started.
    Own(Child),
    /// One that an upgrade has started.
    Other(u32),
}

impl Process {
    fn id(&self) -> u32 {
        match self {
            Self::Own(child) => child.id(),
            Self::Other(pid) => *pid,
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        match self {
            Self::Own(child) => !matches!(child.try_wait(), Ok(None)),
            Self::Other(pid) => {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
                // A zombie that nobody reaps has ended too.
                stat.map_or(true, |stat| stat.contains(") Z "))
            }
        }
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        process::descriptors(self.id())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        match self {
            Self::Own(child) => {
                drop(child.kill());
                drop(child.wait());
            }
            Self::Other(pid) => {
                let pid = Pid::from_raw(pid.cast_signed());
                _ = pid.map(|pid| kill_process(pid, Signal::KILL));
            }
        }
    }
}

/// A running portway.
pub struct Portway {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    file: NamedTempFile,
}

impl Portway {
    /// Starts portway in front of the servers, at this port or one that the kernel chooses.
    pub fn start(servers: &[SocketAddr], at: Option<SocketAddr>) -> Result<Self> {
        let mut file = NamedTempFile::new()?;
        // A successor must find the same addresses in the file.
        let (bind, admin) = (at.map_or_else(free, Ok)?, free()?);
        writeln!(
            file,
            "admin.bind = \"{admin}\"\n[listeners.agents]\nbind = [\"{bind}\"]"
        )?;
        for (name, server) in tls::NAMES.iter().zip(servers) {
            let key = name.split('.').next().unwrap_or_default();
            writeln!(file, "[backends.{key}]\nendpoints = [\"{server}\"]")?;
            writeln!(
                file,
                "[routes.{key}]\nserver_names = [\"{name}\"]\nbackend = \"{key}\""
            )?;
        }
        Self::run(file, &[])
    }

    fn run(file: NamedTempFile, more: &[&str]) -> Result<Self> {
        let Started {
            child,
            address,
            admin,
        } = process::start(file.path(), more, Stdio::null())?;
        Ok(Self {
            process: Process::Own(child),
            address,
            admin,
            file,
        })
    }

    /// Where agents connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it, and starts another at the same address.
    pub fn restart(mut self, servers: &[SocketAddr]) -> Result<Self> {
        self.process.kill();
        Self::start(servers, Some(self.address))
    }

    /// Lets another process take over, and waits until this one has ended.
    pub async fn succeed(mut self) -> Result<Self> {
        let file = NamedTempFile::new_in(self.file.path().parent().ok_or("no directory")?)?;
        let file = mem::replace(&mut self.file, file);
        let next = Self::run(file, &["--takeover"])?;
        let begun = Instant::now();
        while !self.process.has_ended() {
            if begun.elapsed() > Duration::from_mins(10) {
                return Err("the old portway does not end".into());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(next)
    }

    /// The process that accepts.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Upgrades it, and returns the old process.
    pub async fn upgrade(&mut self) -> Result<Process> {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_portway"));
        command.args(["upgrade", "--output", "json", "--config"]);
        let output = command.arg(self.file.path()).output().await?;
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let pid = said.get("new_pid").and_then(Value::as_u64);
        let pid = pid.ok_or_else(|| format!("no upgrade: {said}"))?;
        let new = Process::Other(u32::try_from(pid)?);
        Ok(mem::replace(&mut self.process, new))
    }

    /// Seconds of CPU time so far.
    pub fn cpu(&self) -> Result<f64> {
        process::cpu(self.process.id())
    }

    /// Bytes of memory.
    pub fn memory(&self) -> Result<u64> {
        process::memory(self.process.id())
    }

    /// The connections that are open.
    pub async fn active(&self) -> Result<u64> {
        Ok(process::active(&process::page(self.admin).await?))
    }
}

impl Drop for Portway {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// An address that is free now.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The local ports of this machine, in words: they bound the connections to one address of an endpoint.
pub fn local_ports() -> Result<String> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let ports: Vec<u32> = (range.split_whitespace())
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [first, last] = *ports else {
        return Err("the range of local ports cannot be read".into());
    };
    let count = last - first + 1;
    Ok(format!(
        "{count}, so at most {count} connections to one address of an endpoint, and {} new ones per second where portway \
         closes first and the kernel keeps each port for 60 s",
        count / 60
    ))
}
