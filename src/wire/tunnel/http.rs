//! CONNECT to an HTTP proxy (RFC 9110 section 9.3.6).

use std::mem::MaybeUninit;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{Error, ParserConfig, Response, Status};

use super::{Answer, FarEnd, Login, MOST_ANSWER, MOST_SHOWN, Step, quoted};

/// The most header fields of an answer. Proxies send some ten.
const MOST_FIELDS: usize = 128;

pub(super) fn request(end: FarEnd<'_>, login: Option<&Login>) -> Vec<u8> {
    let authorization = login.map(|login| {
        let pair = [&login.user, &b":"[..], &login.password].concat();
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
    });
    let authorization = authorization.unwrap_or_default();
    format!("CONNECT {end} HTTP/1.1\r\nHost: {end}\r\n{authorization}\r\n").into()
}

/// Reads an answer behind informational ones of `before` bytes.
pub(super) fn read(peeked: &[u8], before: usize, has_login: bool) -> Answer {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut response = Response::new(&mut []);
    // Proxies may send fields as they like, because only the status and the end of the head matter.
    let mut lenient = ParserConfig::default();
    lenient
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    let parsed = lenient.parse_response_with_uninit_headers(&mut response, peeked, &mut fields);
    // The status line is whole once its reason is there.
    if let (Some(version), Some(code), Some(reason)) =
        (response.version, response.code, response.reason)
        && !is_passed_over(code)
        && !is_success(code)
    {
        return Answer::refused(refusal((version, code, reason), has_login));
    }
    match parsed {
        Ok(Status::Complete(size)) if before + size <= MOST_ANSWER => {
            let next = response.code.filter(|code| is_passed_over(*code));
            Answer::Whole(next.map(|_| Step::Wait(before + size)), size)
        }
        Ok(Status::Partial) if before + peeked.len() < MOST_ANSWER => Answer::Partial,
        Ok(_) => Answer::refused("its answer has more than 16 KiB"),
        Err(Error::TooManyHeaders) => Answer::refused("its answer has more than 128 fields"),
        // An alert or a record of a handshake.
        Err(_) if matches!(peeked, [0x15 | 0x16, ..]) => {
            Answer::refused("it speaks TLS at this port; portway speaks plain HTTP to proxies")
        }
        Err(_) if matches!(peeked, [4 | 5, ..]) => {
            Answer::refused("it answers in SOCKS: write the via with socks5://")
        }
        Err(_) => Answer::refused(format!("its answer is not HTTP/1: {}", quoted(peeked))),
    }
}

/// Whether an answer is informational (RFC 9110 section 15.2). After 101 the other side speaks another protocol.
const fn is_passed_over(code: u16) -> bool {
    matches!(code, 100 | 102..=199)
}

const fn is_success(code: u16) -> bool {
    matches!(code, 200..=299)
}

fn refusal((version, code, reason): (u8, u16, &str), has_login: bool) -> String {
    let mut line = format!("HTTP/1.{version} {code} {reason}");
    line.truncate(MOST_SHOWN);
    let line = line.trim_end();
    match code {
        // tinyproxy answers 401 to a wrong password.
        401 | 407 if has_login => format!("{line} (the proxy refuses the user and the password)"),
        407 => format!("{line} (the proxy asks for a user and a password)"),
        _ => line.to_owned(),
    }
}
