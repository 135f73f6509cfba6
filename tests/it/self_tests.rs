//! Tests of the fixture itself, without portway in between: what it reports must be true.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::fixture::PATIENCE;
use super::peers::{
    Backend, End, Refusing, Unanswering, connect, digest, error_within, read_to_end, reset,
};
use super::process;

#[test]
fn a_digesting_backend_answers_with_the_hash_of_what_came() {
    let backend = Backend::digesting();
    let mut client = connect(backend.address());
    client.write_all(b"some bytes").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), (digest(b"some bytes"), End::Fin));
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn fin_reset_and_reset_after_fin_are_told_apart() {
    let backend = Backend::start(|mut stream| {
        stream.write_all(b"x").unwrap();
        let mut order = [0];
        std::io::Read::read_exact(&mut stream, &mut order).unwrap();
        match order[0] {
            b'f' => {}
            b'r' => reset(stream),
            _ => {
                stream.shutdown(Shutdown::Write).unwrap();
                std::io::Read::read_exact(&mut stream, &mut order).unwrap();
                reset(stream);
            }
        }
    });
    let mut client = connect(backend.address());
    client.write_all(b"f").unwrap();
    assert_eq!(read_to_end(&mut client), (b"x".to_vec(), End::Fin));
    assert_eq!(error_within(&client, Duration::from_millis(20)), None);

    let mut client = connect(backend.address());
    client.write_all(b"r").unwrap();
    assert_eq!(read_to_end(&mut client).1, End::Reset);

    let mut client = connect(backend.address());
    client.write_all(b"b").unwrap();
    assert_eq!(read_to_end(&mut client), (b"x".to_vec(), End::Fin));
    client.write_all(b"r").unwrap();
    assert!(error_within(&client, PATIENCE).is_some());
}

#[test]
fn a_dial_is_refused_or_gets_no_answer() {
    let refusing = Refusing::new();
    let error = TcpStream::connect(refusing.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let unanswering = Unanswering::new();
    let patience = Duration::from_millis(300);
    let error = TcpStream::connect_timeout(&unanswering.address(), patience).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn proc_tells_descriptors_memory_and_wake_ups() {
    let pid = std::process::id();
    assert!(process::descriptors(pid) >= 3);
    assert!(process::resident(pid) > 100_000);
    assert!(process::wake_ups(pid) > 0);
    assert!(process::ticks(pid) < 1_000_000);
    assert!(process::raise_descriptors() >= 1024);
}
