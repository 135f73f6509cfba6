//! The first bytes of a client: a TLS ClientHello with a server name for the relay, and right after it a
//! command that says what the backend shall do. Behind the hello only the headers of records are as in TLS 1.3.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The name that every hello asks for.
const SERVER_NAME: &[u8] = b"fleet.example.com";

/// Bytes of the classic hello, as OpenSSL 3.0 or GnuTLS send.
const CLASSIC: usize = 330;

/// Bytes of the post-quantum hello, more than fit into a segment on Ethernet.
const POST_QUANTUM: usize = 1562;

/// Bytes of the post-quantum hello that come first: what a segment of 1,500 bytes carries.
pub(crate) const FIRST_SEGMENT: usize = 1448;

/// Where the random of a hello is: behind the headers of record and message, and the version.
const RANDOM: Range<usize> = 11..43;

/// The two hellos, whole records.
pub(crate) struct Hellos {
    pub(crate) classic: Vec<u8>,
    pub(crate) post_quantum: Vec<u8>,
}

impl Hellos {
    pub(crate) fn new() -> Self {
        let x25519 = key_share(0x001d, 32);
        let mut hybrid = key_share(0x11ec, 1216);
        hybrid.extend_from_slice(&x25519);
        Self {
            classic: hello(&[0x001d, 0x0017], &x25519, CLASSIC),
            post_quantum: hello(&[0x11ec, 0x001d, 0x0017], &hybrid, POST_QUANTUM),
        }
    }

    /// The command after a whole hello, and how many bytes follow it; `None` while bytes are missing.
    pub(crate) fn command(&self, bytes: &[u8]) -> Result<Option<(Command, usize)>, String> {
        for hello in [&self.classic, &self.post_quantum] {
            if !is_equal_but_for_random(hello, bytes) {
                continue;
            }
            if let Some(rest) = bytes.get(hello.len()..) {
                return match rest.split_first_chunk() {
                    Some((command, behind)) => match Command::decode(*command) {
                        Some(command) => Ok(Some((command, behind.len()))),
                        None => Err("the relay changed the bytes behind the hello".into()),
                    },
                    None => Ok(None),
                };
            }
            return Ok(None);
        }
        Err("the relay changed the bytes of the hello".into())
    }
}

fn is_equal_but_for_random(hello: &[u8], bytes: &[u8]) -> bool {
    let pairs = hello.iter().zip(bytes).enumerate();
    let mut pairs = pairs.filter(|(at, _)| !RANDOM.contains(at));
    pairs.all(|(_, (one, other))| one == other)
}

/// Makes a hello that of another connection: portway takes a few equal ones that wait for their backend for a loop.
pub(crate) fn renew(hello: &mut [u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let random = hello.get_mut(RANDOM).unwrap_or_default();
    random
        .iter_mut()
        .zip(number)
        .for_each(|(byte, of_number)| *byte = of_number);
}

/// The service of the backend for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It sends until the run is stopped.
    Download,
    /// It reads and discards.
    Upload,
    /// Both.
    Both,
    /// It answers each message with as many bytes.
    Echo,
    /// It sends that many bytes, and closes after the client.
    Answer,
    /// It sends nothing.
    Idle,
}

/// A client's request to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) mode: Mode,
    /// Whether the backend's second thread serves it.
    pub(crate) aside: bool,
    /// The run to which it belongs; the backend closes late connections.
    pub(crate) run: u32,
    /// Bytes of a message, or of the answer.
    pub(crate) size: usize,
}

impl Command {
    /// Bytes of a command on the wire. It is padded, so that its record is not as short as one of an alert.
    const LENGTH: usize = 48;

    /// The header of the record that it is, with the length of the rest.
    const HEADER: [u8; 5] = [0x17, 3, 3, 0, 43];

    const MODES: [Mode; 6] = [
        Mode::Download,
        Mode::Upload,
        Mode::Both,
        Mode::Echo,
        Mode::Answer,
        Mode::Idle,
    ];

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Self::HEADER.to_vec();
        bytes.extend([self.mode as u8, u8::from(self.aside)]);
        bytes.extend(self.run.to_be_bytes());
        bytes.extend((self.size as u64).to_be_bytes());
        bytes.resize(Self::LENGTH, 0);
        bytes
    }

    fn decode(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        let [mode, aside, numbers @ ..] = bytes.strip_prefix(&Self::HEADER)? else {
            return None;
        };
        let (run, numbers) = numbers.split_first_chunk()?;
        let (size, _padding) = numbers.split_first_chunk()?;
        let size = u64::from_be_bytes(*size);
        Some(Self {
            mode: *Self::MODES.get(usize::from(*mode))?,
            aside: *aside != 0,
            run: u32::from_be_bytes(*run),
            size: usize::try_from(size).ok()?,
        })
    }
}

/// A record with a ServerHello of TLS 1.3, the first bytes of a backend.
pub(crate) fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0x5b; 32]);
    body.extend([0, 0x13, 1, 0]);
    body.extend(with_length(&extension(43, &[3, 4])));
    let mut handshake = vec![2, 0];
    handshake.extend(with_length(&body));
    let mut record = vec![22, 3, 3];
    record.extend(with_length(&handshake));
    record
}

/// A record with a ClientHello, padded to `length` bytes.
fn hello(groups: &[u16], key_shares: &[u8], length: usize) -> Vec<u8> {
    let mut name = vec![0];
    name.extend(with_length(SERVER_NAME));
    let suites = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030];
    let signatures = [0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401];
    let mut extensions = Vec::new();
    extensions.extend(extension(0, &with_length(&name)));
    extensions.extend(extension(10, &with_length(&numbers(groups))));
    extensions.extend(extension(11, &[1, 0]));
    extensions.extend(extension(13, &with_length(&numbers(&signatures))));
    extensions.extend(extension(16, &with_length(b"\x02h2\x08http/1.1")));
    extensions.extend(extension(23, &[]));
    extensions.extend(extension(43, &[4, 3, 4, 3, 3]));
    extensions.extend(extension(45, &[1, 1]));
    extensions.extend(extension(51, &with_length(key_shares)));

    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.push(32);
    body.extend([0xa5; 32]);
    body.extend(with_length(&numbers(&suites)));
    body.extend([1, 0]);
    // Headers: record 5, handshake 4, all extensions 2, padding 4.
    let padding = length.saturating_sub(15 + body.len() + extensions.len());
    extensions.extend(extension(21, &vec![0; padding]));
    body.extend(with_length(&extensions));

    let mut handshake = vec![1, 0];
    handshake.extend(with_length(&body));
    let mut record = vec![22, 3, 1];
    record.extend(with_length(&handshake));
    record
}

fn key_share(group: u16, length: usize) -> Vec<u8> {
    extension(group, &vec![0x42; length])
}

/// A number, a length and a body, as in extensions and key shares.
fn extension(number: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend(with_length(body));
    bytes
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().copied().flat_map(u16::to_be_bytes).collect()
}
