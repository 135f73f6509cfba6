//! Much data through one connection, one way after the other.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::fixture::{Portway, config, hello};
use super::peers::{Backend, End, read_to_end};
use super::random::Content;

/// Bytes each way. A flow splices after the first 16 MiB.
const SIZE: u64 = 64 << 20;

/// The backend reads [`SIZE`] bytes, and sends [`RECEIVED`] when it has them.
const UP: u8 = b'u';
/// The backend sends [`SIZE`] bytes.
const DOWN: u8 = b'd';
/// A record of TLS, as portway expects one from a backend.
const RECEIVED: [u8; 6] = [22, 3, 3, 0, 1, 2];

/// A backend that follows each byte from its client: [`UP`] or [`DOWN`].
pub(crate) struct Bulk(Backend);

impl Bulk {
    pub(crate) fn start() -> Self {
        Self(Backend::start(|mut stream| {
            stream.read_exact(&mut hello()).unwrap();
            let mut order = [0];
            while stream.read(&mut order).unwrap() > 0 {
                match order[0] {
                    UP => {
                        receive(&mut stream, Content::new(1));
                        stream.write_all(&RECEIVED).unwrap();
                    }
                    order => {
                        assert_eq!(order, DOWN);
                        send(&mut stream, Content::new(2));
                    }
                }
            }
        }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Waits until `count` connections have come since the start.
    pub(crate) fn wait_accepted(&self, count: usize) {
        self.0.wait_accepted(count);
    }

    /// The configuration that leads to it.
    pub(crate) fn config(&self) -> String {
        format!("workers = 1\n{}", config(&[self.address()], "", ""))
    }
}

/// A client of a [`Bulk`], through portway.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(portway: &Portway) -> Self {
        Self(portway.client())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Sends. When this returns, the backend has received everything unchanged.
    pub(crate) fn upload(&mut self) {
        self.0.write_all(&[UP]).unwrap();
        send(&mut self.0, Content::new(1));
        self.0.read_exact(&mut [0; RECEIVED.len()]).unwrap();
    }

    /// Receives and compares.
    pub(crate) fn download(&mut self) {
        self.0.write_all(&[DOWN]).unwrap();
        receive(&mut self.0, Content::new(2));
    }

    /// Ends in order.
    pub(crate) fn close(mut self, portway: &Portway) {
        self.0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut self.0), (Vec::new(), End::Fin));
        let line = portway.line_of(self.address());
        assert_eq!(line["outcome"], "closed", "{line}");
    }
}

/// Transfers both ways over one connection.
pub(crate) fn both_ways(portway: &Portway) {
    let mut client = Client::connect(portway);
    client.upload();
    client.download();
    client.close(portway);
}

fn send(stream: &mut TcpStream, content: Content) {
    for offset in (0..SIZE).step_by(64 << 10) {
        stream.write_all(content.at(offset, 64 << 10)).unwrap();
    }
}

fn receive(stream: &mut TcpStream, content: Content) {
    let mut buffer = vec![0; 64 << 10];
    let mut received = 0;
    while received < SIZE {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the end at {received}");
        let length = u64::try_from(count).unwrap();
        let expected = content.at(received, length);
        assert!(expected == &buffer[..count], "other bytes at {received}");
        received += length;
    }
}
