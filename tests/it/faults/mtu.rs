//! A path that loses large packets in silence (a black hole of path MTU discovery).

use std::io::Write;
use std::net::TcpStream;

use serde_json::Value;

use crate::it::far::{NEAR, beside_a_far_network};
use crate::it::fixture::{NAME, Portway, config};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, connect, reset};

/// As long as that of an agent: more than one packet, and the second one is small.
fn hello() -> Vec<u8> {
    Builder::new(NAME).padded_to(1562 - 5).build()
}

fn says(line: &Value, words: &str) -> bool {
    let detail = line["detail"].as_str().unwrap_or_default();
    detail.contains(words) && detail.contains("large packets (MTU)")
}

#[test]
fn a_hello_whose_large_packets_are_lost_is_told_from_one_that_never_came() {
    beside_a_far_network(|far| {
        let backend = Backend::digesting();
        let toml = config(&[backend.address()], "", "");
        let bind = format!("bind = [\"{NEAR}:0\"]");
        let portway = Portway::start(&toml.replace("bind = [\"127.0.0.1:0\"]", &bind));
        let end = far.behind_a_hop(1280);
        let client = || end.run(|| connect(portway.address("agents")));
        let line_of = |client: &TcpStream| portway.line_of(client.local_addr().unwrap());

        let mut lost = client();
        lost.write_all(&hello()).unwrap();
        let mut begun = client();
        begun.write_all(&hello()[..40]).unwrap();
        begun.write_all(&hello()[40..]).unwrap();
        let mut stopped = client();
        stopped.write_all(&hello()[..40]).unwrap();
        let silent = client();

        let line = line_of(&lost);
        assert_eq!(line["outcome"], "hello_timeout", "{line}");
        assert!(says(&line, "its first one did not"), "{line}");
        assert_eq!(line["hello_bytes"], Value::Null, "{line}");

        let line = line_of(&begun);
        assert_eq!(line["outcome"], "hello_timeout", "{line}");
        assert!(says(&line, "out of order"), "{line}");
        assert_eq!(line["hello_bytes"], 40, "{line}");

        for (client, came) in [(stopped, Value::from(40)), (silent, Value::Null)] {
            let line = line_of(&client);
            assert_eq!(line["outcome"], "hello_timeout", "{line}");
            assert_eq!(line["detail"], Value::Null, "{line}");
            assert_eq!(line["hello_bytes"], came, "{line}");
        }

        // Before the limit, and not a probe: something came.
        let mut lost = client();
        let address = lost.local_addr().unwrap();
        lost.write_all(&hello()).unwrap();
        reset(lost);
        let line = portway.line_of(address);
        assert_eq!(line["outcome"], "hello_eof", "{line}");
        assert!(says(&line, "its first one did not"), "{line}");
        assert_eq!(backend.accepted(), 0);
    });
}
