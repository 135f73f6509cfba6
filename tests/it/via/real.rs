//! Real proxies of Debian: squid, tinyproxy and dante. Each of them opens a tunnel, refuses one, and dies in the middle.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{refused, toml};
use crate::it::fixture::{PATIENCE, Portway, within};
use crate::it::peers::{Backend, free, read_to_end};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Squid,
    Tinyproxy,
    Dante,
}

impl Kind {
    const fn program(self) -> &'static str {
        match self {
            Self::Squid => "squid",
            Self::Tinyproxy => "tinyproxy",
            Self::Dante => "danted",
        }
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::Squid | Self::Tinyproxy => "http",
            Self::Dante => "socks5",
        }
    }

    /// The words of its refusal.
    const fn refusal(self) -> &'static str {
        match self {
            Self::Squid => "HTTP/1.1 403 Forbidden",
            Self::Tinyproxy => "403 Access violation",
            Self::Dante => "SOCKS5 reply 2: connection not allowed by ruleset",
        }
    }

    /// The configuration of a proxy that leads to one port only.
    fn configuration(self, files: &Path, at: SocketAddr, allowed: u16) -> String {
        let (files, port) = (files.display(), at.port());
        match self {
            Self::Squid => format!(
                "http_port {at}\nacl good port {allowed}\nhttp_access allow CONNECT good\n\
                 http_access deny all\npid_filename none\ncache_log {files}/cache.log\n\
                 access_log none\ncache deny all\ncache_mem 1 MB\ncoredump_dir {files}\n\
                 visible_hostname test\npinger_enable off\nshutdown_lifetime 0 seconds\n\
                 max_filedescriptors 256\nnetdb_filename none\n"
            ),
            Self::Tinyproxy => format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 20\nAllow 127.0.0.1\n\
                 ConnectPort {allowed}\nLogFile \"{files}/log\"\n"
            ),
            Self::Dante => format!(
                "logoutput: {files}/log\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
                 clientmethod: none\nsocksmethod: none\n\
                 client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
                 socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 port = {allowed} command: connect }}\n\
                 socks block {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n"
            ),
        }
    }
}

/// A running proxy. Dropping it kills the process with its children.
struct Proxy {
    process: Child,
    address: SocketAddr,
    _files: TempDir,
}

impl Proxy {
    /// Starts it; `None` if the machine does not have it.
    fn start(kind: Kind, allowed: u16) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        // Some of them run as a user of their own.
        fs::set_permissions(files.path(), Permissions::from_mode(0o777)).unwrap();
        let address = free();
        let conf = files.path().join("conf");
        fs::write(&conf, kind.configuration(files.path(), address, allowed)).unwrap();
        let mut command = Command::new(kind.program());
        match kind {
            Kind::Squid => command.arg("-N").arg("-f").arg(&conf),
            Kind::Tinyproxy => command.arg("-d").arg("-c").arg(&conf),
            Kind::Dante => command.arg("-f").arg(&conf),
        };
        // In a group of its own, to end its children with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let output = [(); 2].map(|()| Stdio::null());
        let [stdout, stderr] = output;
        let process = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        let mut proxy = Self {
            process: process.ok()?,
            address,
            _files: files,
        };
        within(PATIENCE, "the proxy listens", || {
            let ended = proxy.process.try_wait().unwrap();
            assert!(ended.is_none(), "{kind:?} ended: {ended:?}");
            TcpStream::connect(address).ok()
        });
        Some(proxy)
    }

    fn kill(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        let group = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        // It may have ended by itself.
        _ = kill_process_group(group, Signal::KILL);
        drop(self.process.wait());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

fn missing(kind: Kind) {
    let required = std::env::var_os("PORTWAY_PEERS").is_some_and(|value| value == "required");
    let remedy = "install squid, tinyproxy and dante-server of Debian";
    assert!(!required, "{kind:?} is missing: {remedy}");
    eprintln!("DID NOT RUN with {kind:?}: {remedy}");
}

fn serves(kind: Kind) {
    let (backend, other) = (Backend::echo(), Backend::echo());
    let allowed = backend.address().port();
    let Some(mut proxy) = Proxy::start(kind, allowed) else {
        return missing(kind);
    };
    let via = format!("{}://{}", kind.scheme(), proxy.address);
    // A name and an address both reach the backend.
    for endpoint in [
        format!("localhost:{allowed}"),
        backend.address().to_string(),
    ] {
        let portway = Portway::start(&toml(&via, &[&endpoint], ""));
        let client = portway.relayed();
        let address = client.local_addr().unwrap();
        drop(client);
        let line = portway.line_of(address);
        assert_eq!(
            (&line["outcome"], &line["via"]),
            (&"closed".into(), &via.as_str().into())
        );
    }
    let forbidden = other.address().to_string();
    let portway = Portway::start(&toml(&via, &[&forbidden], ""));
    let line = refused(&portway);
    assert_eq!(line["outcome"], "via_refused", "{line}");
    assert!(
        line["detail"].as_str().unwrap().contains(kind.refusal()),
        "{line}"
    );
    assert_eq!(other.accepted(), 0);

    let endpoint = backend.address().to_string();
    let portway = Portway::start(&toml(&via, &[&endpoint], ""));
    let mut client = portway.relayed();
    proxy.kill();
    let (bytes, _) = read_to_end(&mut client);
    assert!(bytes.is_empty(), "{bytes:?}");
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    let outcomes = ["closed", "backend_reset"];
    assert!(
        outcomes.iter().any(|outcome| line["outcome"] == **outcome),
        "{line}"
    );
    let line = refused(&portway);
    assert_eq!(line["outcome"], "backend_unavailable", "{line}");
    assert_eq!(line["attempts"][0]["reason"], "refused", "{line}");
}

#[test]
fn squid_opens_a_tunnel_refuses_one_and_dies_in_the_middle() {
    serves(Kind::Squid);
}

#[test]
fn tinyproxy_opens_a_tunnel_refuses_one_and_dies_in_the_middle() {
    serves(Kind::Tinyproxy);
}

#[test]
fn dante_opens_a_tunnel_refuses_one_and_dies_in_the_middle() {
    serves(Kind::Dante);
}
