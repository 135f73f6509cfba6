//! A process of portway: its start, and the figures that the system and its admin pages have of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// A process that accepts connections.
pub struct Started {
    pub child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    /// The admin pages.
    pub admin: SocketAddr,
}

/// Starts portway with a file and further arguments, and waits until it accepts. The connection log goes to `log`.
pub fn start(file: &Path, more: &[&str], log: Stdio) -> Result<Started> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portway"))
        .args(["run", "--log-format", "json", "--config"])
        .arg(file)
        .args(more)
        .stdout(log)
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().ok_or("portway has no output")?;
    let mut lines = BufReader::new(stderr).lines();
    let (mut address, mut admin) = (None, None);
    for line in lines.by_ref() {
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
    // Further lines must not fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    Ok(Started {
        child,
        address: address.ok_or("portway does not listen")?,
        admin: admin.ok_or("portway has no admin pages")?,
    })
}

/// Seconds of CPU time of a process so far.
pub fn cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let ticks = ticks(11).zip(ticks(12)).ok_or("no times")?;
    // USER_HZ is 100 on every Linux that a bench runs on.
    Ok((ticks.0 + ticks.1) / 100.0)
}

/// Bytes of memory of a process.
pub fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("no memory")?.parse::<u64>()? << 10)
}

/// The open descriptors of a process.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// The page of metrics.
pub async fn page(admin: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// The connections that are open, of a page of metrics.
pub fn active(page: &str) -> u64 {
    let series = (page.lines()).filter(|line| line.starts_with("portway_connections_active{"));
    let counts = series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}
