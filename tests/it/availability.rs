//! Two hosts with portway, of which the first is killed: several addresses of one name, and an address that moves.
//! `docs/high-availability.md` describes them.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::far::shell;
use super::fixture::{NAME, PATIENCE, PORTWAY, Portway, alike, config, hello, missing, within};
use super::namespace::{Namespace, granted, in_a_network};
use super::others::{Other, Program, Running};
use super::peers::{Backend, End, free, read_to_end};

const PORT: u16 = 8443;
/// The address that moves from host to host.
const FLOATING: &str = "10.0.0.100";

/// A host on the switch of the test's network.
struct Host {
    namespace: Namespace,
    address: String,
}

impl Host {
    /// Joins a new host with the address 10.0.0.`number` to the switch.
    fn start(number: u8) -> Result<Self, String> {
        let namespace = Namespace::start("")?;
        let host = Self {
            address: format!("10.0.0.{number}"),
            namespace,
        };
        let pid = host.namespace.pid();
        shell(&format!(
            "ip link add port{number} type veth peer name eth0 netns {pid} && \
             ip link set port{number} master switch && ip link set port{number} up"
        ))?;
        host.run(|| {
            shell(&format!(
                "ip address add {}/24 dev eth0 && ip link set eth0 up",
                host.address
            ))
        })?;
        Ok(host)
    }

    /// Runs this there; processes that it starts stay there.
    fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(what)
    }

    /// A portway with these further keys of its listener, and its backend, on the host. When it drains it goes on
    /// accepting for much longer than the address needs to move.
    fn serve(&self, bind: &str, keys: &str) -> (Portway, Backend) {
        self.run(|| {
            let backend = Backend::echo();
            let toml = config(&[backend.address()], "drain_delay = \"5m\"", "");
            // `portway healthcheck` finds the address in the file.
            let toml = toml.replace(
                "admin.bind = \"127.0.0.1:0\"",
                "admin.bind = \"127.0.0.1:9355\"",
            );
            let listener = format!("bind = [\"{bind}:{PORT}\"]\n{keys}");
            let toml = toml.replace("bind = [\"127.0.0.1:0\"]", &listener);
            (Portway::start(&toml), backend)
        })
    }

    /// Takes it off the switch, as if somebody had pulled its plug.
    fn unplug(&self) {
        self.run(|| shell("ip link set eth0 down")).unwrap();
    }
}

/// Runs a test with two hosts, in the network of their clients.
fn with_two_hosts(test: impl FnOnce([&Host; 2]) + Send) {
    in_a_network(|| {
        let switch = "ip link add switch type bridge && ip address add 10.0.0.254/24 dev switch && \
             ip link set switch up";
        let hosts = shell(switch).and_then(|()| Ok([Host::start(1)?, Host::start(2)?]));
        if let Some([one, two]) = granted(hosts) {
            test([&one, &two]);
        }
    });
}

/// A client that tries the addresses one after the other, as an agent does; `None` if none of them is reached.
fn dial(addresses: &[&str]) -> Option<TcpStream> {
    addresses
        .iter()
        .find_map(|address| served(address, PATIENCE).ok())
}

/// A client of this address, which has got its hello back within `patience`.
fn served(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let address = SocketAddr::new(address.parse().unwrap(), PORT);
    let mut client = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    client.set_read_timeout(Some(patience))?;
    client.write_all(&hello())?;
    let mut echoed = hello();
    client.read_exact(&mut echoed)?;
    assert!(alike(&echoed, &hello()));
    Ok(client)
}

#[test]
fn clients_of_a_name_with_two_addresses_go_to_the_second_when_the_first_host_is_gone() {
    with_two_hosts(|[one, two]| {
        let [first, second] = [one, two].map(|host| host.serve(&host.address, ""));
        let addresses = [one, two].map(|host| &*host.address);
        let client = dial(&addresses).unwrap();
        assert_eq!(first.1.accepted(), 1, "{client:?}");
        // Without portway the host refuses, and without its plug it does not answer.
        drop(first.0);
        let client = dial(&addresses).unwrap();
        assert_eq!(second.1.accepted(), 1, "{client:?}");
        one.unplug();
        let client = dial(&addresses).unwrap();
        assert_eq!(second.1.accepted(), 2, "{client:?}");
        drop(client);
        curl(&addresses);
        let is_curl =
            |line: &serde_json::Value| line["alpn"].is_array() && line["server_name"] == NAME;
        second.0.wait_line(is_curl);
    });
}

/// Has curl try the addresses. The backend speaks no TLS, so it ends with an error after its hello.
fn curl(addresses: &[&str]) {
    let resolve = format!("{NAME}:{PORT}:{}", addresses.join(","));
    let mut command = Command::new("curl");
    command.args(["--silent", "--connect-timeout", "30", "--resolve", &resolve]);
    let status = command.arg(format!("https://{NAME}:{PORT}/")).status();
    // 35: an error of TLS.
    assert_eq!(status.unwrap().code(), Some(35));
}

/// An HAProxy in the network of the clients, which checks both hosts and names its clients to them.
fn balancer(hosts: [&Host; 2]) -> Option<(Other, SocketAddr)> {
    let address = free();
    let servers = hosts.map(|host| {
        let at = &host.address;
        format!(" server at-{at} {at}:{PORT} check inter 500 fall 2 send-proxy check-send-proxy\n")
    });
    let text = format!(
        " timeout connect 1s\n timeout client 1m\n timeout server 1m\n option redispatch\n\
         listen agents\n bind {address}\n balance first\n{}",
        servers.concat()
    );
    Some((Other::start(Program::Haproxy, address, &text)?, address))
}

#[test]
fn clients_of_a_balancer_go_to_the_second_host_when_the_first_is_gone() {
    with_two_hosts(|[one, two]| {
        let trusted = "proxy_protocol = { trusted = [\"10.0.0.254/32\"] }";
        let [first, second] = [one, two].map(|host| host.serve(&host.address, trusted));
        let Some((_balancer, address)) = balancer([one, two]) else {
            return;
        };
        let served = || {
            let mut client = TcpStream::connect(address).ok()?;
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(&hello()).ok()?;
            client.read_exact(&mut hello()).ok().map(|()| client)
        };
        drop(within(PATIENCE, "the balancer has checked", served));
        assert_eq!((first.1.accepted(), second.1.accepted()), (1, 0));
        one.unplug();
        drop(first.0);
        let client = within(PATIENCE, "the second host serves", served);
        let own = client.local_addr().unwrap();
        drop(client);
        assert_eq!(second.0.line_of(own)["outcome"], "closed");
    });
}

/// Waits until clients are served at the floating address by the host of this backend.
fn is_taken_over(backend: &Backend) -> TcpStream {
    within(PATIENCE, "the other host serves", || {
        let client = dial(&[FLOATING])?;
        (backend.accepted() > 0).then_some(client)
    })
}

/// A connection that was open at the host that is gone ends with a RST of the other one.
fn is_reset(mut client: TcpStream) {
    client.write_all(b"still there?").unwrap();
    assert_eq!(read_to_end(&mut client).1, End::Reset);
}

#[test]
fn an_address_that_moves_to_the_other_host_takes_new_clients_there() {
    if Command::new("arping").arg("-V").output().is_err() {
        return missing("arping", "install iputils-arping");
    }
    with_two_hosts(|[one, two]| {
        let take = |host: &Host| {
            let take = format!(
                "ip address add {FLOATING}/24 dev eth0 && arping -c 1 -U -I eth0 {FLOATING} >/dev/null"
            );
            host.run(|| shell(&take)).unwrap();
        };
        take(one);
        let [first, second] = [one, two].map(|host| host.serve(FLOATING, "freebind = true"));
        let open = dial(&[FLOATING]).unwrap();
        assert_eq!((first.1.accepted(), second.1.accepted()), (1, 0));
        one.unplug();
        drop(first.0);
        take(two);
        drop(is_taken_over(&second.1));
        is_reset(open);
    });
}

/// The file of keepalived as the page has it, for this portway, the floating address and a priority.
fn keepalived_conf(portway: &Portway, priority: u8) -> String {
    let page = include_str!("../../docs/high-availability.md");
    let begin = page.find("vrrp_script portway {").unwrap();
    let text = page[begin..].split("```").next().unwrap().to_owned();
    let changes = [
        ("/usr/bin/portway", PORTWAY.to_owned()),
        (
            "/etc/portway/routes.toml",
            portway.file().display().to_string(),
        ),
        ("192.0.2.10/24", format!("{FLOATING}/24")),
        ("priority 150", format!("priority {priority}")),
    ];
    let text = changes.into_iter().fold(text, |text, (old, new)| {
        assert!(text.contains(old), "{old} is not in {text}");
        text.replace(old, &new)
    });
    // Without this keepalived takes the user keepalived_script where there is one.
    format!("global_defs {{\n script_user root\n}}\n{text}")
}

/// Starts keepalived on a host with this portway.
fn keepalived(host: &Host, portway: &Portway, priority: u8) -> Keepalived {
    let files = tempfile::tempdir().unwrap();
    let conf = files.path().join("keepalived.conf");
    fs::write(&conf, keepalived_conf(portway, priority)).unwrap();
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "-f"]);
    command.arg(conf);
    for (option, name) in [("-p", "pid"), ("-r", "vrrp.pid")] {
        command.arg(option).arg(files.path().join(name));
    }
    Keepalived {
        _process: host.run(|| Running::start(&mut command)),
        _files: files,
    }
}

/// A keepalived that ends with the value, and then gives the address back.
struct Keepalived {
    _process: Running,
    _files: TempDir,
}

/// Two hosts whose first one has the floating address, and a client of it.
struct Pair<'h> {
    first: Portway,
    second: (Portway, Backend),
    open: TcpStream,
    one: &'h Host,
    keepalived: [Keepalived; 2],
    _backend: Backend,
}

/// Runs a test with keepalived on two hosts.
fn with_keepalived(test: impl FnOnce(Pair<'_>) + Send) {
    let version = Command::new("keepalived").arg("--version").output();
    if version.is_err() {
        return missing("keepalived", "install keepalived");
    }
    with_two_hosts(|[one, two]| {
        let [(first, backend), second] =
            [one, two].map(|host| host.serve(FLOATING, "freebind = true"));
        let master = keepalived(one, &first, 150);
        let open = is_taken_over(&backend);
        let backup = keepalived(two, &second.0, 100);
        test(Pair {
            first,
            second,
            open,
            one,
            keepalived: [master, backup],
            _backend: backend,
        });
    });
}

#[test]
fn keepalived_moves_the_address_when_the_first_host_is_gone() {
    with_keepalived(|pair| {
        let [master, _backup] = pair.keepalived;
        pair.one.unplug();
        drop((pair.first, master));
        drop(is_taken_over(&pair.second.1));
        is_reset(pair.open);
    });
}

#[test]
fn keepalived_moves_the_address_when_portway_of_the_first_host_is_killed() {
    with_keepalived(|pair| {
        drop(pair.first);
        drop(is_taken_over(&pair.second.1));
    });
}

/// With `drain_delay` the first host serves until the second one does.
#[test]
fn keepalived_moves_the_address_of_a_portway_that_stops_and_refuses_no_client() {
    with_keepalived(|pair| {
        pair.first.signal(Signal::TERM);
        within(PATIENCE, "the other host serves", || {
            // A client that is connected when the address moves hears nothing more.
            let client = served(FLOATING, Duration::from_secs(5));
            let is_refused = |error: &io::Error| error.kind() == ErrorKind::ConnectionRefused;
            assert!(!client.as_ref().is_err_and(is_refused));
            (pair.second.1.accepted() > 0).then_some(())
        });
        // Its packets reach the second host now.
        is_reset(pair.open);
    });
}
