//! Real proxies of Debian: squid, tinyproxy and dante. Each of them opens a tunnel, refuses one, and dies in the middle.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{refused, toml};
use crate::it::fixture::{self, PATIENCE, Portway, within};
use crate::it::peers::{Backend, End, free, read_to_end};
use crate::it::resolver::server::Server;

#[derive(Clone, Copy, Debug)]
pub(in crate::it) enum Kind {
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

    pub(in crate::it) const fn scheme(self) -> &'static str {
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

    /// The configuration of a proxy that leads to one port only, and may ask for a user and a password.
    fn configuration(self, files: &Path, at: SocketAddr, allowed: u16, asks: bool) -> String {
        let (files, port) = (files.display(), at.port());
        let asked = match self {
            _ if !asks => ["", ""].map(str::to_owned),
            Self::Squid => [
                format!(
                    "auth_param basic program /bin/sh {files}/helper\nauth_param basic children 1\n\
                     acl known proxy_auth REQUIRED\n"
                ),
                " known".to_owned(),
            ],
            Self::Tinyproxy => [format!("BasicAuth {USER} {PASSWORD}\n"), String::new()],
            Self::Dante => [String::new(), "username".to_owned()],
        };
        let [line, word] = asked;
        match self {
            Self::Squid => format!(
                "http_port {at}\n{line}acl good port {allowed}\nhttp_access allow CONNECT good{word}\n\
                 http_access deny all\npid_filename none\ncache_log {files}/cache.log\n\
                 access_log none\ncache deny all\ncache_mem 1 MB\ncoredump_dir {files}\n\
                 visible_hostname test\npinger_enable off\nshutdown_lifetime 0 seconds\n\
                 max_filedescriptors 256\nnetdb_filename none\n"
            ),
            Self::Tinyproxy => format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 20\nAllow 127.0.0.1\n\
                 {line}ConnectPort {allowed}\nLogFile \"{files}/log\"\n"
            ),
            Self::Dante => format!(
                "logoutput: {files}/log\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
                 clientmethod: none\nsocksmethod: {}\n\
                 client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
                 socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 port = {allowed} command: connect }}\n\
                 socks block {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n",
                if asks { &*word } else { "none" }
            ),
        }
    }

    /// The command that runs it with the files of this directory.
    fn command(self, files: &Path, at: SocketAddr, asks: bool) -> Command {
        let mut command = Command::new(self.program());
        let conf = files.join("conf");
        match self {
            // Squids of one name share memory, which one of another user cannot open.
            Self::Squid => command
                .args(["-N", "-n"])
                .arg(service(at))
                .arg("-f")
                .arg(&conf),
            Self::Tinyproxy => command.arg("-d").arg("-c").arg(&conf),
            Self::Dante if asks => {
                // It knows the users of the machine. Only this process sees the additional one.
                let run = "mount --bind \"$0/passwd\" /etc/passwd && \
                           mount --bind \"$0/shadow\" /etc/shadow && exec danted -f \"$0/conf\"";
                command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", run]).arg(files)
            }
            Self::Dante => command.arg("-f").arg(&conf),
        };
        command
    }
}

/// The name of a squid, by which its shared memory is named.
fn service(at: SocketAddr) -> String {
    format!("portway{}", at.port())
}

pub(in crate::it) const USER: &str = "agent-7";
pub(in crate::it) const PASSWORD: &str = "hunter2-word";
/// The hash of the password, as crypt makes it.
const HASH: &str = "$6$saltsalt$97dmQLm3XCvb4IIRbPq482L6QstLuGQh8NOiRv2I5mj1F5aJhrdqu4bqhLvdB3oRebwjIoJtAJ8krYXv59XoX1";

/// The files by which a proxy knows the user.
fn write_users(files: &Path) {
    let helper = format!(
        "while read -r both; do [ \"$both\" = \"{USER} {PASSWORD}\" ] && echo OK || echo ERR; done\n"
    );
    fs::write(files.join("helper"), helper).unwrap();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let users = format!("{users}{USER}:x:65500:65500::/:/bin/false\n");
    fs::write(files.join("passwd"), users).unwrap();
    let hash = format!("{USER}:{HASH}:19000:0:99999:7:::\n");
    fs::write(files.join("shadow"), hash).unwrap();
}

/// A running proxy. Dropping it kills the process with its children.
pub(in crate::it) struct Proxy {
    process: Child,
    pub(in crate::it) address: SocketAddr,
    _files: TempDir,
}

impl Proxy {
    /// Starts it; `None` if the machine does not have it.
    pub(in crate::it) fn start(kind: Kind, allowed: u16, asks: bool) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        // Some of them run as a user of their own.
        fs::set_permissions(files.path(), Permissions::from_mode(0o777)).unwrap();
        let address = free();
        let conf = files.path().join("conf");
        let configuration = kind.configuration(files.path(), address, allowed, asks);
        fs::write(&conf, configuration).unwrap();
        write_users(files.path());
        let mut command = kind.command(files.path(), address, asks);
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
        for part in ["metadata", "queues", "readers"] {
            // Only a squid has them.
            let memory = format!("/dev/shm/{}-cf__{part}.shm", service(self.address));
            drop(fs::remove_file(memory));
        }
    }
}

pub(in crate::it) fn missing(kind: Kind) {
    cannot_run(kind, "install squid, tinyproxy and dante-server of Debian");
}

fn cannot_run(kind: Kind, remedy: &str) {
    fixture::missing(kind.program(), remedy);
}

fn serves(kind: Kind) {
    let (backend, other) = (Backend::echo(), Backend::echo());
    let allowed = backend.address().port();
    let Some(mut proxy) = Proxy::start(kind, allowed, false) else {
        return missing(kind);
    };
    let via = format!("{}://{}", kind.scheme(), proxy.address);
    by_address(&via, &backend);
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
    // It had nothing unread, so the kernel closes its sockets in order.
    assert_eq!(read_to_end(&mut client), (Vec::new(), End::Fin), "{kind:?}");
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(
        (&line["outcome"], &line["closed_by"]),
        (&"closed".into(), &"backend".into()),
        "{line}"
    );
    let line = refused(&portway);
    assert_eq!(line["outcome"], "backend_unavailable", "{line}");
    assert_eq!(line["attempts"][0]["reason"], "refused", "{line}");
}

/// The proxy gets each address of a name that only portway can resolve. Nobody listens at the first one.
fn by_address(via: &str, backend: &Backend) {
    let dns = Server::start();
    dns.lead("es.test", &["127.0.0.2", "127.0.0.1"]);
    let endpoint = format!("es.test:{}", backend.address().port());
    let keys = format!("{}\nbalance = \"round_robin\"", dns.resolver());
    let portway = Portway::start(&toml(via, &[&endpoint], &keys));
    let client = portway.relayed();
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "closed", "{line}");
    let attempts = line["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{line}");
    assert_eq!(attempts[0]["reason"], "via_refused", "{line}");
    let first = format!("127.0.0.2:{}", backend.address().port());
    assert_eq!(attempts[0]["address"], first, "{line}");
}

/// A proxy that asks for a user: the right password opens a tunnel, a wrong one and none are refused in its words.
fn asks(kind: Kind, refusals: [&str; 2]) {
    let backend = Backend::echo();
    let endpoint = backend.address().to_string();
    let Some(proxy) = Proxy::start(kind, backend.address().port(), true) else {
        return missing(kind);
    };
    let via = format!("{}://{}", kind.scheme(), proxy.address);
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("login");
    let key = format!("via_credentials_file = {file:?}");
    let write = |password: &str| fs::write(&file, format!("{USER}:{password}\n")).unwrap();
    write(PASSWORD);
    let portway = Portway::start(&toml(&via, &[&endpoint], &key));
    drop(portway.relayed());
    write("wrong-word");
    assert!(portway.reload().status.success());
    let [wrong, none] = refusals;
    for (key, refusal) in [(&*key, wrong), ("", none)] {
        portway.reload_with(&toml(&via, &[&endpoint], key));
        let line = refused(&portway);
        assert_eq!(line["outcome"], "via_refused", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(refusal), "{line}");
    }
    write(PASSWORD);
    portway.reload_with(&toml(&via, &[&endpoint], &key));
    drop(portway.relayed());
}

const REQUIRED: &str = "407 Proxy Authentication Required (the proxy ";

#[test]
fn squid_lets_in_whom_the_file_of_the_via_names() {
    asks(
        Kind::Squid,
        ["refuses", "asks for"]
            .map(|word| format!("{REQUIRED}{word}"))
            .each_ref()
            .map(|it| &**it),
    );
}

#[test]
fn tinyproxy_lets_in_whom_the_file_of_the_via_names() {
    asks(
        Kind::Tinyproxy,
        [
            "401 Unauthorized (the proxy refuses",
            "407 Proxy Authentication Required (the proxy asks for",
        ],
    );
}

#[test]
fn dante_lets_in_whom_the_file_of_the_via_names() {
    let namespace = Command::new("unshare").args(["--mount", "true"]).output();
    if namespace.is_ok_and(|it| it.status.success()) {
        asks(
            Kind::Dante,
            [
                "SOCKS5: user and password refused",
                "SOCKS5: no acceptable methods (the proxy asks for",
            ],
        );
    } else {
        cannot_run(Kind::Dante, "run as root, with the unshare of util-linux");
    }
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
