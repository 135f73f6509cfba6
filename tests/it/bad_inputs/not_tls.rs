//! Other protocols (B67 to B71, B97).

use super::Seen::{Fin, Http400};
use super::rejected;
use crate::it::hello::Builder;

fn hello() -> Vec<u8> {
    Builder::new("fleet.example").build()
}

fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut hello = hello();
    hello[..bytes.len()].copy_from_slice(bytes);
    hello
}

rejected! {
    b67_another_major_version: [first_bytes(&[22, 2, 1]), first_bytes(&[22, 4, 1])]
        => Fin, "not_tls";
    b68_plain_bytes: [vec![0; 100], vec![0xff; 5], vec![b'.'; 16_385]] => Fin, "not_tls";
    b70_http_without_tls_is_told_so: [
        b"GET / HTTP/1.1\r\nHost: fleet.example\r\n\r\n".to_vec(),
        b"HEAD /api/status HTTP/1.0\r\n\r\n".to_vec(),
        [&b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"[..], &vec![b'x'; 60_000]].concat(),
    ] => Http400, "not_tls";
    b70_http_2_without_tls: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()] => Fin, "not_tls";
    b71_other_protocols: [
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"EHLO mail.example\r\n".to_vec(),
        b"\x20\x00\x00\x01\x85\xa6\xff\x01\x00\x00\x00\x01root".to_vec(),
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00".to_vec(),
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f".to_vec(),
    ] => Fin, "not_tls";
    b97_a_proxy_header_that_no_one_asked_for: [
        [&b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"[..], &hello()].concat(),
        [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], &hello()].concat(),
    ] => Fin, "not_tls";
}
