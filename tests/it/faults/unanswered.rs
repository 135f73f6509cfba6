//! Peers that answer nothing of what is sent to them (`peer_timeout`), and the figures of the paths to both peers. The limit
//! is shorter here than routes.toml allows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use portway::relay::Rules;
use serde_json::Value;

use crate::it::emulator::{Conduct, FAR, NEAR, over_a_path};
use crate::it::far;
use crate::it::far::beside_a_far_network;
use crate::it::fixture::{NAME, PATIENCE, alike, config, hello, pause, within};
use crate::it::hello::Builder;
use crate::it::in_process::InProcess;
use crate::it::peers::{Backend, End, connect, read_to_end};

/// A pause of the machine must be shorter.
const LIMIT: Duration = Duration::from_secs(10);

/// A portway that listens there and gives up peers that answer nothing for [`LIMIT`].
fn impatient(near: &str, backend: SocketAddr, keys: &str) -> InProcess {
    let toml = config(&[backend], "", keys);
    let bind = format!("bind = [\"{near}:0\"]");
    let toml = toml.replace("bind = [\"127.0.0.1:0\"]", &bind);
    InProcess::start_with(&toml, impatiently)
}

fn impatiently(rules: &mut Rules) {
    rules.peer_timeout = Some(LIMIT);
}

/// A client whose hello has been sent back.
fn echoed(portway: &InProcess) -> TcpStream {
    let mut client = connect(portway.address());
    client.write_all(&hello()).unwrap();
    client.read_exact(&mut hello()).unwrap();
    client
}

/// The detail of a connection that ended as `peer_timeout`.
fn detail(line: &Value) -> &str {
    assert_eq!(line["outcome"], "peer_timeout", "{line}");
    assert_eq!(line["closed_by"], "portway", "{line}");
    line["detail"].as_str().unwrap_or_else(|| panic!("{line}"))
}

/// Both peers are at the other end of the path.
#[test]
fn f37_a_cut_that_lasts_longer_than_peer_timeout_ends_the_connection_on_both_sides() {
    over_a_path(Conduct::round_trip(Duration::from_millis(4)), |path| {
        let address = format!("{FAR}:0").parse().unwrap();
        let backend = path.far.run(|| Backend::echo_at(address));
        let portway = impatient(NEAR, backend.address(), "");
        let mut client = path.far.run(|| echoed(&portway));
        // The backend's part of a stream that goes on when the path is cut.
        let mut sender = client.try_clone().unwrap();
        let sending = std::thread::spawn(move || while sender.write_all(&[1; 1000]).is_ok() {});
        let established = || {
            let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
            table.lines().filter(|line| line.contains(" 01 ")).count()
        };
        assert_eq!(path.far.run(established), 2);
        client.read_exact(&mut vec![0; 100_000]).unwrap();
        path.set(Conduct::cut());
        let line = portway.line_of(client.local_addr().unwrap());
        let told = detail(&line);
        assert!(
            told.contains(" answers nothing: its last packet came "),
            "{line}"
        );
        assert!(line["bytes_unacknowledged"].as_u64() > Some(0), "{line}");
        let again = ["client_retransmits", "backend_retransmits"];
        let again = again.map(|field| line[field].as_u64().unwrap());
        assert!(again.iter().sum::<u64>() > 0, "{line}");
        // The reset got lost on the path. Each peer learns that the connection is gone when it sends again.
        path.set(Conduct::default());
        sending.join().unwrap();
        within(PATIENCE, "both peers notice it", || {
            (path.far.run(established) == 0).then_some(())
        });
    });
}

/// A backend that sends the hello back, and goes on like this once the test says so.
fn waiting(then: impl Fn(TcpStream) + Send + Sync + 'static) -> (Backend, Sender<()>) {
    let (send, told) = channel();
    let told = Mutex::new(told);
    let backend = Backend::start(move |mut stream| {
        stream.read_exact(&mut hello()).unwrap();
        stream.write_all(&hello()).unwrap();
        told.lock().unwrap().recv().unwrap();
        then(stream);
    });
    (backend, send)
}

/// A half-open peer: nothing comes from it, and nothing gets there.
#[test]
fn f40_a_half_open_client_with_data_in_flight_ends_after_peer_timeout_and_its_backend_is_told() {
    beside_a_far_network(|far| {
        let (tell, ended) = channel();
        let (backend, send) = waiting(move |mut stream| {
            stream.write_all(&[0x17; 1000]).unwrap();
            tell.send(read_to_end(&mut stream).1).unwrap();
        });
        let portway = impatient(far::NEAR, backend.address(), "");
        let client = far.run(|| echoed(&portway));
        far.cut();
        send.send(()).unwrap();
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), End::Reset);
        let line = portway.line_of(client.local_addr().unwrap());
        let told = detail(&line);
        let words = "the client answers nothing: its last packet came ";
        assert!(told.starts_with(words), "{line}");
        let rest = "; the client has not acknowledged the last 1000 bytes";
        assert!(told.ends_with(rest), "{line}");
        assert_eq!(line["bytes_unacknowledged"], 1000, "{line}");
    });
}

/// The kernel stores no time for a FIN.
#[test]
fn f40_a_half_open_client_that_gets_only_a_fin_ends_after_peer_timeout_too() {
    beside_a_far_network(|far| {
        let (backend, send) = waiting(drop);
        let portway = impatient(far::NEAR, backend.address(), "half_close_timeout = \"1h\"");
        let client = far.run(|| echoed(&portway));
        far.cut();
        send.send(()).unwrap();
        let line = portway.line_of(client.local_addr().unwrap());
        let told = detail(&line);
        assert!(told.starts_with("the client answers nothing: "), "{line}");
        assert_eq!(line["bytes_unacknowledged"], Value::Null, "{line}");
    });
}

/// Nothing is sent to it but the probes of keepalive.
#[test]
fn f40_a_half_open_client_that_is_idle_is_given_up_by_keepalive() {
    beside_a_far_network(|far| {
        let backend = Backend::echo();
        let probes = |probes| {
            format!("keepalive = {{ idle = \"1s\", interval = \"5s\", probes = {probes} }}")
        };
        let portways = [1, 9].map(|count| impatient(far::NEAR, backend.address(), &probes(count)));
        let clients = portways
            .each_ref()
            .map(|portway| far.run(|| echoed(portway)));
        let passed = |portway: &InProcess| {
            let rows = ["client_to_backend", "backend_to_client"];
            let row = |direction| [("backend", "fleet"), ("direction", direction)];
            let metrics = portway.metrics();
            rows.iter()
                .all(|direction| metrics.sum("portway_bytes_total", &row(direction)) > 0.5)
        };
        within(PATIENCE, "the hello has passed", || {
            portways.iter().all(passed).then_some(())
        });
        far.cut();
        let lines = [0, 1]
            .map(|index: usize| portways[index].line_of(clients[index].local_addr().unwrap()));
        // Its one probe ends before the limit.
        assert_eq!(lines[0]["outcome"], "client_reset", "{}", lines[0]);
        let told = lines[0]["detail"].as_str().unwrap();
        assert!(
            told.starts_with("the client answered none of 1 keepalive probes; "),
            "{told}"
        );
        // Of nine probes no more are sent than fit into the limit.
        let told = detail(&lines[1]);
        assert!(
            told.starts_with("the client answered none of 2 keepalive probes; "),
            "{told}"
        );
    });
}

#[test]
fn invariant_11_a_client_with_a_closed_window_that_answers_probes_is_not_cut_by_peer_timeout() {
    let backend = Backend::flooding();
    let limit = Duration::from_secs(2);
    let toml = config(&[backend.address()], "", "");
    let portway = InProcess::start_with(&toml, |rules| rules.peer_timeout = Some(limit));
    let mut client = connect(portway.address());
    client.write_all(&hello()).unwrap();
    let down = || {
        let row = [("backend", "fleet"), ("direction", "backend_to_client")];
        portway.metrics().sum("portway_bytes_total", &row)
    };
    let mut moved = 0.0;
    within(PATIENCE, "every buffer on the way is full", || {
        let last = std::mem::replace(&mut moved, down());
        pause(Duration::from_millis(200));
        (moved > 8.0 && moved <= last).then_some(())
    });
    // Several times the limit.
    pause(4 * limit);
    let address = client.local_addr().unwrap().to_string();
    assert_eq!(portway.find_line(&address, |_| true), None);
    client.read_exact(&mut vec![0; 1 << 20]).unwrap();
}

/// Sends a hello of 1800 bytes over a path from portway to the backend that loses large packets in silence, after these
/// commands in the network of portway.
fn over_a_path_that_loses_large_packets(
    commands: &str,
    rules: fn(&mut Rules),
    judge: impl FnOnce(TcpStream, &InProcess) + Send,
) {
    beside_a_far_network(|far| {
        let address = format!("{}:0", far::NEAR).parse().unwrap();
        let backend = Backend::echo_at(address);
        let end = far.behind_a_hop(1280);
        end.run(|| far::shell(commands)).unwrap();
        let toml = config(&[backend.address()], "", "");
        let portway = end.run(|| InProcess::start_with(&toml, rules));
        let mut client = end.run(|| connect(portway.address()));
        client.write_all(&large_hello()).unwrap();
        judge(client, &portway);
    });
}

fn large_hello() -> Vec<u8> {
    Builder::new(NAME).padded_to(1800 - 5).build()
}

#[test]
fn f39_a_backend_behind_a_path_that_loses_large_packets_is_told_by_the_hello() {
    over_a_path_that_loses_large_packets("true", impatiently, |mut client, portway| {
        let address = client.local_addr().unwrap();
        assert_eq!(read_to_end(&mut client).1, End::Reset);
        let line = portway.line_of(address);
        let told = detail(&line);
        let words = "the backend answers nothing: its last packet came ";
        assert!(told.starts_with(words), "{line}");
        let rest = "; the backend has not acknowledged the client hello: the path to it loses large packets (MTU), \
                    or the host is gone";
        assert!(told.ends_with(rest), "{line}");
        assert_eq!(line["bytes_unacknowledged"], 1800, "{line}");
    });
}

#[test]
fn f39_a_kernel_that_probes_for_the_mtu_gets_a_large_hello_to_the_backend() {
    let probe = "echo 1 >/proc/sys/net/ipv4/tcp_mtu_probing";
    over_a_path_that_loses_large_packets(
        probe,
        |_| {},
        |mut client, _| {
            let mut echoed = large_hello();
            client.read_exact(&mut echoed).unwrap();
            assert!(alike(&echoed, &large_hello()));
        },
    );
}

#[test]
fn the_line_of_a_relayed_connection_has_the_figures_of_both_paths() {
    over_a_path(Conduct::round_trip(Duration::from_millis(40)), |path| {
        let address = format!("{FAR}:0").parse().unwrap();
        let backend = path.far.run(|| Backend::echo_at(address));
        let portway = impatient(NEAR, backend.address(), "");
        let client = echoed(&portway);
        let address = client.local_addr().unwrap();
        drop(client);
        let line = portway.line_of(address);
        assert_eq!(line["outcome"], "closed", "{line}");
        let [near, far] =
            ["client_rtt_ms", "backend_rtt_ms"].map(|field| line[field].as_f64().unwrap());
        assert!(far >= 39.0 && near < far, "{line}");
        // A machine that is busy may send a packet again.
        let again = ["client_retransmits", "backend_retransmits"].map(|field| line[field].as_u64());
        assert!(again.iter().all(|again| *again < Some(10)), "{line}");
        assert!(again.iter().all(Option::is_some), "{line}");

        let mut refused = connect(portway.address());
        refused
            .write_all(&Builder::new("nobody.example").build())
            .unwrap();
        let line = portway.line_of(refused.local_addr().unwrap());
        assert_eq!(line["outcome"], "no_route", "{line}");
        assert_eq!(line["client_rtt_ms"], Value::Null, "{line}");
    });
}

/// With segments of 48 bytes, and a window of hardly more.
#[test]
fn b83_a_client_with_tiny_segments_and_a_tiny_window_gets_everything() {
    const SIZE: usize = 20_000;
    beside_a_far_network(|far| {
        let backend = Backend::echo();
        let portway = impatient(far::NEAR, backend.address(), "");
        let route = format!("ip route change {}/24 dev far advmss 48", "10.0.0.0");
        far.run(|| far::shell(&route)).unwrap();
        let sent = || crate::it::namespace::counter("snmp", "Tcp:", "OutSegs").unwrap();
        let mut client = far.run(|| narrow(portway.address()));
        client.write_all(&hello()).unwrap();
        client.read_exact(&mut hello()).unwrap();
        let before = sent();
        let data: Vec<u8> = (0..SIZE)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let mut echoed = vec![0; SIZE];
        for (data, echoed) in data.chunks(1000).zip(echoed.chunks_mut(1000)) {
            client.write_all(data).unwrap();
            client.read_exact(echoed).unwrap();
        }
        assert!(echoed == data, "the bytes differ");
        let segments = sent() - before;
        assert!(segments >= SIZE as u64 / 48, "{segments} segments");
        let address = client.local_addr().unwrap();
        drop(client);
        assert_eq!(portway.line_of(address)["outcome"], "closed");
    });
}

/// A client whose receive buffer is as small as the kernel allows.
fn narrow(portway: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&portway.into()).unwrap();
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}
