//! How a leg learns of errors that the kernel reports only once, or not at all.

use std::future::poll_fn;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

use socket2::SockRef;
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::net::PipePool;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (peer, listener.accept().unwrap().0)
}

#[test]
fn an_error_that_a_splice_swallows_is_found() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        let (mut sender, source) = pair();
        let (peer, target) = pair();
        target.set_nonblocking(true).unwrap();
        // The first part of what the pipe holds fills it.
        SockRef::from(&target).set_send_buffer_size(1).unwrap();
        sender.write_all(&vec![1; 60_000]).unwrap();
        let mut pipe = Rc::new(PipePool::default()).lend().unwrap();
        let filled = pipe.fill(&source, 60_000).unwrap();
        // The peer is closed: it answers each byte that arrives with RST, while the splice still runs.
        drop(peer);
        let leg = Leg::register(target.into()).unwrap();
        let sent = poll_fn(|cx| leg.poll_drain(cx, &mut pipe)).await.unwrap();
        assert!(sent < filled, "all {filled} bytes were taken at once");
        assert!(leg.broken().is_some(), "{sent} of {filled}");
    });
}
