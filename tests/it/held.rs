//! Connections that a drain does not end before it is over, however slow the machine is.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use socket2::{Domain, Socket, Type};

use super::fixture::{NAME, PATIENCE, Portway, within};
use super::hello::Builder;
use super::peers::{End, read_to_end};
use super::process::serves;

/// A client that has not read what a backend has echoed, so that bytes are always on their way to it. A drain may
/// end a connection at once that has been silent for two seconds, and a test may be delayed for that long.
pub(crate) struct Held {
    pub(crate) client: TcpStream,
    pub(crate) sent: Vec<u8>,
}

impl Held {
    /// Opens `count` of them, for the route of [`NAME`].
    pub(crate) fn many(portway: &Portway, count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::new(portway, NAME)).collect()
    }

    /// Opens `count` of them that this process serves, and not the one before it, which may accept for a moment
    /// longer.
    pub(crate) fn served_by(portway: &Portway, count: usize) -> Vec<Self> {
        let mut served = Vec::new();
        within(PATIENCE, "this process serves connections", || {
            let one = Self::new(portway, NAME);
            if serves(portway.pid(), &one.client) {
                served.push(one);
            }
            (served.len() == count).then_some(())
        });
        served
    }

    /// Opens one for the route of this server name, whose backend echoes.
    pub(crate) fn new(portway: &Portway, name: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        socket.connect(&portway.address("agents").into()).unwrap();
        let client = TcpStream::from(socket);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut held = Self {
            client,
            sent: Vec::new(),
        };
        held.send(&Builder::new(name).build());
        held.send(&vec![b'x'; 256 << 10]);
        held.client.peek(&mut [0]).unwrap();
        held
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).unwrap();
        self.sent.extend(bytes);
    }

    /// Reads everything that the backend has sent back.
    pub(crate) fn read(&mut self) {
        let mut echoed = vec![0; self.sent.len()];
        self.client.read_exact(&mut echoed).unwrap();
        assert!(echoed == self.sent);
    }

    /// Reads everything, and ends in order.
    pub(crate) fn finish(&mut self) {
        self.read();
        self.client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut self.client), (vec![], End::Fin));
    }
}
