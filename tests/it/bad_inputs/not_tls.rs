//! Other protocols (B67 to B71, B97).

use std::io::Write;
use std::net::TcpStream;

use super::Seen::{Fin, Http400, Http405};
use super::lane::Lane;
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
        => Fin, "not_tls", "an unknown protocol that begins with";
    b68_plain_bytes: [vec![0; 100], vec![0xff; 5], vec![b'.'; 16_385]]
        => Fin, "not_tls", "an unknown protocol that begins with";
    b70_http_without_tls_is_told_so: [
        b"GET / HTTP/1.1\r\nHost: fleet.example\r\n\r\n".to_vec(),
        b"HEAD /api/status HTTP/1.0\r\n\r\n".to_vec(),
        [&b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"[..], &vec![b'x'; 60_000]].concat(),
    ] => Http400, "not_tls", "HTTP ";
    b70_http_2_without_tls: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()]
        => Fin, "not_tls", "HTTP/2 without TLS";
    b70_a_request_to_a_proxy_is_told_to_remove_the_proxy: [
        b"CONNECT fleet.example:8220 HTTP/1.1\r\nHost: fleet.example:8220\r\n\
          Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n".to_vec(),
    ] => Http405, "not_tls", "HTTP CONNECT to a proxy: portway is not an HTTP proxy here; remove proxy_url";
    b70_a_whole_url_is_told_to_remove_the_proxy: [
        b"GET http://es.example:9200/ HTTP/1.1\r\nHost: es.example:9200\r\n\r\n".to_vec(),
        b"GET HTTP://es.example/ HTTP/1.1\r\nHost: es.example\r\n\r\n".to_vec(),
    ] => Http405, "not_tls", "HTTP GET to a proxy: portway is not an HTTP proxy here; remove proxy_url";
    b71_other_protocols: [
        b"EHLO mail.example\r\n".to_vec(),
        b"\x20\x00\x00\x01\x85\xa6\xff\x01\x00\x00\x00\x01root".to_vec(),
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f".to_vec(),
    ] => Fin, "not_tls", "an unknown protocol that begins with";
    b71_ssh: [b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()] => Fin, "not_tls", "SSH";
    b71_rdp: [b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00".to_vec()]
        => Fin, "not_tls", "RDP";
    b71_beats_without_tls: [b"2W\0\0\0\x012J\0\0\0\x01\0\0\0\x02{}".to_vec()]
        => Fin, "not_tls", "Lumberjack (Beats) without TLS";
    b71_a_socks_proxy_is_not_here: [b"\x05\x01\x00".to_vec()]
        => Fin, "not_tls", "SOCKS5: portway is not a SOCKS proxy here";
    b97_a_proxy_header_that_no_one_asked_for: [
        [&b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"[..], &hello()].concat(),
    ] => Fin, "not_tls", "PROXY protocol v1: turn it off at the balancer";
    b97_a_binary_proxy_header_that_no_one_asked_for: [
        [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], &hello()].concat(),
    ] => Fin, "not_tls", "PROXY protocol v2: turn it off at the balancer";
}

/// It may have credentials.
#[test]
fn b70_nothing_of_a_request_is_in_the_log() {
    let request =
        b"CONNECT fleet.example:8220 HTTP/1.1\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n";
    let send = |client: &mut TcpStream| drop(client.write_all(request));
    let line = Lane::take().strict().rejects(send, Http405, "not_tls");
    let line = line.to_string();
    assert!(
        !line.contains("fleet.example") && !line.contains("c2VjcmV0"),
        "{line}"
    );
}
