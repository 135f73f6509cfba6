//! The process of portway, and how large it is.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Result;

/// A running portway.
pub struct Portway {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    lines: Arc<AtomicU64>,
    _file: NamedTempFile,
}

/// The resources that portway takes, and its series and connections.
pub struct Size {
    memory: u64,
    descriptors: usize,
    series: usize,
    active: u64,
}

impl Portway {
    /// Starts portway in front of both servers.
    pub fn start(echo: SocketAddr, endless: SocketAddr) -> Result<Self> {
        let mut file = NamedTempFile::new()?;
        writeln!(
            file,
            "admin.bind = \"127.0.0.1:0\"\n[listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
             [limits]\nmax_pending_connections = 6000"
        )?;
        for (name, server) in [("echo", echo), ("endless", endless)] {
            writeln!(
                file,
                "[backends.{name}]\nendpoints = [\"{server}\"]\n\
                 [routes.{name}]\nserver_names = [\"{name}.example\"]\nbackend = \"{name}\""
            )?;
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_portway"))
            .args(["run", "--log-format", "json", "--config"])
            .arg(file.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let [stdout, stderr] = ["no log", "no output"];
        let log = BufReader::new(child.stdout.take().ok_or(stdout)?);
        let mut told = BufReader::new(child.stderr.take().ok_or(stderr)?).lines();
        let (mut address, mut admin) = (None, None);
        for line in told.by_ref() {
            let line: Value = serde_json::from_str(&line?)?;
            let field = |name| line.pointer(name).and_then(Value::as_str);
            let at = || field("/fields/address").and_then(|at| at.parse().ok());
            match field("/fields/message") {
                Some("listening") => address = at(),
                Some("admin listening") => admin = at(),
                Some("ready") => break,
                _ => {}
            }
        }
        thread::spawn(move || told.for_each(drop));
        let lines = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lines);
        thread::spawn(move || {
            for _ in log.lines() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self {
            child,
            address: address.ok_or("portway does not listen")?,
            admin: admin.ok_or("portway has no admin pages")?,
            lines,
            _file: file,
        })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The lines of the connection log so far.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Seconds of CPU time so far.
    pub fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no process")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let ticks = ticks(11).zip(ticks(12)).ok_or("no times")?;
        // USER_HZ is 100 on every Linux that a bench runs on.
        Ok((ticks.0 + ticks.1) / 100.0)
    }

    /// How large it is now.
    pub async fn size(&self) -> Result<Size> {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let page = self.page().await?;
        let series = || page.lines().filter(|line| !line.starts_with('#'));
        let active = series().filter(|line| line.starts_with("portway_connections_active{"));
        let active = active.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(Size {
            memory: kib.ok_or("no memory")?.parse::<u64>()? << 10,
            descriptors: fs::read_dir(format!("{process}/fd"))?.count(),
            series: series().count(),
            active: active.sum(),
        })
    }

    /// The same once no connection is open any more, and its memory has had a time to return.
    pub async fn quiet(&self) -> Result<Size> {
        while self.size().await?.active > 0 {
            sleep(Duration::from_millis(200)).await;
        }
        sleep(Duration::from_secs(12)).await;
        self.size().await
    }

    async fn page(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(page)
    }
}

impl Drop for Portway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MB of memory, {} descriptors, {} series, {} connections",
            self.memory as f64 / 1e6,
            self.descriptors,
            self.series,
            self.active
        )
    }
}
