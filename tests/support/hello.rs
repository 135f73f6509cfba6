//! Builds client hellos for tests: a good one by default, every part of which can be replaced.
//!
//! ```ignore
//! let bytes = hello::Builder::new("fleet.example.com").records(&[7, 1]).build();
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

/// Extension types by their IANA numbers.
pub(crate) mod extension {
    pub(crate) const SERVER_NAME: u16 = 0;
    pub(crate) const SUPPORTED_GROUPS: u16 = 10;
    pub(crate) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(crate) const ALPN: u16 = 16;
    pub(crate) const PADDING: u16 = 21;
    pub(crate) const PRE_SHARED_KEY: u16 = 41;
    pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
    pub(crate) const KEY_SHARE: u16 = 51;
    pub(crate) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
}

/// Most bytes that a record may carry.
pub(crate) const MAX_RECORD: usize = 1 << 14;

/// The random of a hello of its own: portway takes a few equal ones that wait for their backend for a loop.
fn own_random() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut random = [5; 32];
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    random[..8].copy_from_slice(&number.to_be_bytes());
    random
}

/// Builds a hello. Without further calls it offers TLS 1.3 and 1.2, fits one record, and any TLS
/// server accepts it.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    record_version: u16,
    version: u16,
    random: [u8; 32],
    session_id: Vec<u8>,
    ciphers: Vec<u8>,
    compression: Vec<u8>,
    extensions: Option<Vec<(u16, Vec<u8>)>>,
    records: Vec<usize>,
}

impl Builder {
    /// A hello with this server name, as the first extension.
    pub(crate) fn new(name: impl AsRef<[u8]>) -> Self {
        let mut hello = Self::without_name();
        if let Some(extensions) = &mut hello.extensions {
            extensions.insert(
                0,
                (extension::SERVER_NAME, server_names(&[(0, name.as_ref())])),
            );
        }
        hello
    }

    /// A hello without the `server_name` extension.
    pub(crate) fn without_name() -> Self {
        let mut key_share = vec![0x00, 0x1d];
        put16(&mut key_share, &[9; 32]);
        Self {
            record_version: 0x0301,
            version: 0x0303,
            random: own_random(),
            session_id: vec![7; 32],
            // TLS_AES_128_GCM_SHA256 and TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
            ciphers: vec![0x13, 0x01, 0xc0, 0x2b],
            compression: vec![0],
            extensions: Some(vec![
                (extension::SUPPORTED_VERSIONS, vec![4, 3, 4, 3, 3]),
                (extension::SUPPORTED_GROUPS, vec![0, 2, 0x00, 0x1d]),
                (extension::SIGNATURE_ALGORITHMS, vec![0, 2, 0x04, 0x03]),
                (extension::KEY_SHARE, vector16(&key_share)),
            ]),
            records: Vec::new(),
        }
    }

    /// Offers TLS 1.2 at most.
    pub(crate) fn tls12(self) -> Self {
        self.without(extension::SUPPORTED_VERSIONS)
            .without(extension::KEY_SHARE)
    }

    /// The version field of the hello (0x0303 if not set).
    pub(crate) fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// The version field of the records (0x0301 if not set).
    pub(crate) fn record_version(mut self, version: u16) -> Self {
        self.record_version = version;
        self
    }

    /// The session id.
    pub(crate) fn session_id(mut self, id: &[u8]) -> Self {
        self.session_id = id.to_vec();
        self
    }

    /// The cipher suites as on the wire, without their length.
    pub(crate) fn ciphers(mut self, ciphers: &[u8]) -> Self {
        self.ciphers = ciphers.to_vec();
        self
    }

    /// The compression methods, without their length.
    pub(crate) fn compression(mut self, methods: &[u8]) -> Self {
        self.compression = methods.to_vec();
        self
    }

    /// Appends an extension, even a second one of the same type.
    pub(crate) fn extension(mut self, kind: u16, body: impl AsRef<[u8]>) -> Self {
        self.extensions
            .get_or_insert_default()
            .push((kind, body.as_ref().to_vec()));
        self
    }

    /// Puts an extension before all others.
    pub(crate) fn extension_first(mut self, kind: u16, body: impl AsRef<[u8]>) -> Self {
        self.extensions
            .get_or_insert_default()
            .insert(0, (kind, body.as_ref().to_vec()));
        self
    }

    /// Removes all extensions of a type.
    pub(crate) fn without(mut self, kind: u16) -> Self {
        if let Some(extensions) = &mut self.extensions {
            extensions.retain(|(other, _)| *other != kind);
        }
        self
    }

    /// Ends the hello after the compression methods: no extensions, not even their length.
    pub(crate) fn without_extensions(mut self) -> Self {
        self.extensions = None;
        self
    }

    /// Offers protocols by ALPN.
    pub(crate) fn alpn(self, protocols: &[&str]) -> Self {
        self.extension(extension::ALPN, alpn(protocols))
    }

    /// Appends a padding extension that makes the handshake message, including its header of 4 bytes,
    /// `size` bytes long.
    pub(crate) fn padded_to(self, size: usize) -> Self {
        let length = size.saturating_sub(self.message().len() + 4);
        self.extension(extension::PADDING, vec![0; length])
    }

    /// Cuts the message into records of these sizes; the last size repeats until the end. Without this
    /// call records are as long as allowed.
    pub(crate) fn records(mut self, sizes: &[usize]) -> Self {
        self.records = sizes.to_vec();
        self
    }

    /// The hello as it is sent.
    pub(crate) fn build(&self) -> Vec<u8> {
        in_records(&self.message(), self.record_version, &self.records)
    }

    /// The handshake message without records.
    pub(crate) fn message(&self) -> Vec<u8> {
        handshake(1, &self.body())
    }

    /// The hello without the header of the handshake message.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend(self.random);
        put8(&mut body, &self.session_id);
        put16(&mut body, &self.ciphers);
        put8(&mut body, &self.compression);
        if let Some(extensions) = &self.extensions {
            let mut block = Vec::new();
            for (kind, content) in extensions {
                block.extend(kind.to_be_bytes());
                put16(&mut block, content);
            }
            put16(&mut body, &block);
        }
        body
    }
}

/// The body of a `server_name` extension: a list of (type, name).
pub(crate) fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        put16(&mut list, name);
    }
    vector16(&list)
}

/// The body of an ALPN extension.
pub(crate) fn alpn(protocols: &[&str]) -> Vec<u8> {
    let mut list = Vec::new();
    for protocol in protocols {
        put8(&mut list, protocol.as_bytes());
    }
    vector16(&list)
}

/// A handshake message: type, length, body.
pub(crate) fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = body.len().to_be_bytes();
    let mut message = vec![kind, high, middle, low];
    message.extend(body);
    message
}

/// One record.
pub(crate) fn record(kind: u8, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend(version.to_be_bytes());
    put16(&mut record, payload);
    record
}

/// Cuts a handshake message into records; see [`Builder::records`].
pub(crate) fn in_records(message: &[u8], version: u16, sizes: &[usize]) -> Vec<u8> {
    let last = sizes.last().copied().unwrap_or(MAX_RECORD).max(1);
    let mut sizes = sizes.iter().copied();
    let mut rest = message;
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(last).min(rest.len());
        let (payload, tail) = rest.split_at(size);
        bytes.extend(record(0x16, version, payload));
        rest = tail;
    }
    bytes
}

/// A list after its length in two bytes.
pub(crate) fn vector16(content: &[u8]) -> Vec<u8> {
    let mut vector = Vec::new();
    put16(&mut vector, content);
    vector
}

fn put8(out: &mut Vec<u8>, content: &[u8]) {
    let [.., length] = content.len().to_be_bytes();
    out.push(length);
    out.extend(content);
}

fn put16(out: &mut Vec<u8>, content: &[u8]) {
    let [.., high, low] = content.len().to_be_bytes();
    out.extend([high, low]);
    out.extend(content);
}
