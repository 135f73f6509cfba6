//! How a leg learns of errors that the kernel reports only once, or not at all, and sends what the kernel does not take at once.

use std::future::poll_fn;
use std::io::{Read, Write};
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

#[test]
fn a_reset_that_comes_before_the_fin_is_a_reset() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        let (peer, socket) = pair();
        socket.set_nonblocking(true).unwrap();
        SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        let leg = Leg::register(socket.into()).unwrap();
        drop(peer);
        // Its error stays with the socket.
        drop(leg.io.ready(Interest::ERROR).await.unwrap());
        leg.shut_down_writing();
        let broken = leg.broken().unwrap();
        assert!(broken.is_reset(), "{broken:?}");
    });
}

#[test]
fn a_message_that_the_kernel_takes_only_in_parts_arrives_whole() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        let (mut peer, source) = pair();
        source.set_nonblocking(true).unwrap();
        SockRef::from(&source).set_send_buffer_size(1).unwrap();
        let message: Vec<u8> = (0..=u8::MAX).cycle().take(4_000_000).collect();
        let wanted = message.clone();
        let minute = Some(Duration::from_mins(1));
        peer.set_read_timeout(minute).unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; wanted.len()];
            peer.read_exact(&mut got).unwrap();
            assert!(got == wanted);
            // The reader closes first, so a second message fails.
            drop(peer);
        });
        let leg = Leg::register(source.into()).unwrap();
        leg.send_all(&message).await.unwrap();
        reader.join().unwrap();
        let broken = loop {
            if let Err(broken) = leg.send_all(&message).await {
                break broken;
            }
        };
        assert!(broken.is_reset(), "{broken:?}");
    });
}
