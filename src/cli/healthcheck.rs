//! `portway healthcheck`: queries the admin pages of the running portway, as a probe does, where there
//! is no shell and no curl.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::file::FileArgument;
use super::output::{Output, colours, json};
use crate::config::{self, Admin, keys};

/// Time for connecting, and for the whole answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The most bytes read of an answer: one line for each worker fits.
const LARGEST: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    file: FileArgument,
    /// Ask whether it accepts new connections (/readyz), instead of whether it is alive (/livez)
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    output: Output,
}

/// The result, for programs.
#[derive(Serialize)]
struct Health<'h> {
    file: String,
    page: &'static str,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_from: Option<&'h str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'h str>,
}

/// The address to query.
struct Asked {
    address: SocketAddr,
    /// Where it is from: the place in the file, or that it is the default.
    from: String,
}

impl Healthcheck {
    pub(super) fn run(&self) -> io::Result<ExitCode> {
        let file = self.file.path();
        let is_json = self.output.is_json();
        let page = self.page();
        let asked = match config::admin(&file) {
            Ok(admin) => asked(&file, admin).map_err(|message| format!("error: {message}")),
            Err(faults) => Err(faults.render(colours() && !is_json)),
        };
        let said = match &asked {
            Ok(asked) => ask(asked, page).map_err(|message| format!("error: {message}")),
            Err(text) => Err(text.clone()),
        };
        if is_json {
            let error = said.as_ref().err();
            let asked = asked.as_ref().ok();
            json(&Health {
                file: file.display().to_string(),
                page,
                healthy: said.is_ok(),
                address: asked.map(|asked| asked.address),
                address_from: asked.map(|asked| &*asked.from),
                error: error.map(|text| text.trim_start_matches("error: ")),
            })?;
        } else if let Err(text) = &said {
            writeln!(io::stderr(), "{text}")?;
        } else if let Ok(Asked { address, from }) = &asked {
            writeln!(io::stdout(), "{page} at {address} says 200 ({from})")?;
        }
        Ok(match said {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        })
    }

    const fn page(&self) -> &'static str {
        if self.ready { "/readyz" } else { "/livez" }
    }
}

fn asked(file: &Path, Admin { address, line }: Admin) -> Result<Asked, String> {
    match address {
        Some(bound) if bound.port() != 0 => Ok(Asked {
            address: reachable(bound),
            from: line.map_or_else(
                || "the default of admin.bind".to_owned(),
                |line| format!("admin.bind in {}:{line}", file.display()),
            ),
        }),
        Some(_) => Err("admin.bind has port 0, so its port is unknown: write a port".into()),
        None => {
            let address = keys::default_of(&["admin", "bind"]);
            let remedy = format!("write an address, such as {address}");
            Err(format!("admin.bind is off, so nobody answers: {remedy}"))
        }
    }
}

fn ask(Asked { address, from }: &Asked, page: &str) -> Result<(), String> {
    let answer = get(*address, page).map_err(|error| {
        let kind = error.kind();
        if kind == ErrorKind::WouldBlock || kind == ErrorKind::TimedOut {
            let seconds = LIMIT.as_secs();
            format!("{address} ({from}) has not answered within {seconds} s")
        } else if kind == ErrorKind::ConnectionRefused {
            format!("nobody listens at {address} ({from}): does portway run with this file?")
        } else {
            format!("cannot query {address} ({from}): {error}")
        }
    })?;
    match read(&answer) {
        Some((200, _)) => Ok(()),
        Some((status, reasons)) => {
            let said = format!("{page} at {address} says {status} ({from})\n{reasons}");
            Err(said.trim_end().to_owned())
        }
        None => Err(format!("what answers at {address} ({from}) is not portway")),
    }
}

/// The address at which this host can reach a socket bound to `bound`. `[::]` takes IPv4 too, and a
/// container without IPv6 has no `[::1]`.
fn reachable(bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), bound.port())
    } else {
        bound
    }
}

/// Requests a page in HTTP/1.0, so the server closes after its answer, and returns all that it sends.
fn get(address: SocketAddr, page: &str) -> io::Result<Vec<u8>> {
    let end = Instant::now() + LIMIT;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    write!(stream, "GET {page} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while answer.len() < LARGEST {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
    Ok(answer)
}

/// Status and body of an answer; bytes that are not UTF-8 are replaced.
fn read(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some((status.parse().ok()?, body.to_owned()))
}
