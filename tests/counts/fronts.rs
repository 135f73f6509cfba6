//! Bad input at the proxy listeners (rows b100 to b116): portway opens no socket for it.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;

use super::fixture::{PATIENCE, within};
use super::front_inputs::{Front, Ports, file, inputs};
use super::hello::Builder;
use super::peers::{Backend, End, connect};
use super::strace::{Traced, is_missing, tally};

/// A dial and a query of DNS both begin with `socket`. The good request at the end shows that they would have been seen.
#[test]
fn invariant_7_no_bad_input_at_a_proxy_listener_makes_portway_open_a_socket() {
    if is_missing() {
        return;
    }
    let backend = Backend::echo_at(SocketAddr::from(([127, 0, 0, 3], 0)));
    let ports = Ports {
        names: 8220,
        addresses: backend.address().port(),
    };
    let resolver = "resolver = { servers = [\"127.0.0.1:9\"] }";
    let options = ["-e", "trace=socket,connect"];
    let traced = Traced::start(&options, &file(ports, "127.0.0.3", resolver));
    let [http, socks] = [Front::Http, Front::Socks].map(|it| traced.portway.address(it.listener()));
    let opened = || {
        let calls = traced.calls();
        let tally = tally(&calls);
        ["socket", "connect"].map(|name| tally.get(name).copied().unwrap_or_default())
    };
    let before = opened();
    let inputs = inputs(ports);
    thread::scope(|scope| {
        for first in 0..16 {
            let part = inputs.iter().skip(first).step_by(16);
            scope.spawn(move || {
                for input in part {
                    let at = if input.front == Front::Http {
                        http
                    } else {
                        socks
                    };
                    let got = input.send(&mut connect(at));
                    assert_eq!((got.answer, got.end), (input.answer.clone(), End::Fin));
                }
            });
        }
    });
    let mut client = connect(socks);
    let target = [127, 0, 0, 3];
    let request = [
        &[5, 1, 0, 5, 1, 0, 1],
        &target[..],
        &ports.addresses.to_be_bytes(),
    ]
    .concat();
    let hello = Builder::without_name().build();
    client.write_all(&[request, hello].concat()).unwrap();
    backend.wait_accepted(1);
    let [sockets, connects] = before;
    let after = within(PATIENCE, "the dial is recorded", || {
        Some(opened()).filter(|[_, after]| *after > connects)
    });
    assert_eq!(after, [sockets + 1, connects + 1]);
    assert_eq!(backend.accepted(), 1);
}
