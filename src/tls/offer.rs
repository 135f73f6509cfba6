//! Builds the client hellos that portway itself sends: those of `portway doctor` and of health checks. Their keys are
//! random bytes of the right form, because no handshake is ever finished with them.

use fastrand::Rng;

use super::ServerName;

/// Which client a hello is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It offers TLS 1.2 at most, so the certificates come in clear.
    Tls12,
    /// It offers TLS 1.3 and 1.2, and fits a segment.
    Classic,
    /// The same with a key share of X25519MLKEM768, as current agents and browsers send it.
    PostQuantum,
}

/// How a hello arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In one segment, as far as the network allows.
    Whole,
    /// Half of it, and the rest a moment later.
    TwoSegments,
    /// In two records at once (RFC 8446 section 5.1).
    TwoRecords,
}

/// The parts to send: with a pause between them if there are two.
pub fn parts(message: &[u8], shape: Shape) -> Vec<Vec<u8>> {
    let (first, second) = message.split_at(message.len() / 2);
    match shape {
        Shape::Whole => vec![record(message)],
        Shape::TwoSegments => {
            let mut bytes = record(message);
            let second = bytes.split_off(bytes.len() / 2);
            vec![bytes, second]
        }
        Shape::TwoRecords => vec![[record(first), record(second)].concat()],
    }
}

/// The message of a hello for this name, with these protocols in ALPN.
pub fn message(kind: Kind, name: Option<&ServerName>, alpn: &[Box<[u8]>]) -> Vec<u8> {
    let mut rng = Rng::new();
    // The version of TLS 1.2 stays in this field for ever (RFC 8446 section 4.1.2).
    let mut body = vec![3, 3];
    body.extend(random(&mut rng, 32));
    // A session id makes TLS 1.3 look like a resumption, for middleboxes (RFC 8446 appendix D.4).
    let session = if kind == Kind::Tls12 { 0 } else { 32 };
    put8(&mut body, &random(&mut rng, session));
    put16(&mut body, &ciphers(kind));
    put8(&mut body, &[0]);
    put16(&mut body, &extensions(kind, name, alpn, &mut rng));
    let [.., high, middle, low] = body.len().to_be_bytes();
    [vec![1, high, middle, low], body].concat()
}

/// A handshake record. The version of TLS 1.0 in it is what every server takes from a first hello.
fn record(payload: &[u8]) -> Vec<u8> {
    let mut record = vec![0x16, 3, 1];
    put16(&mut record, payload);
    record
}

/// Suites of TLS 1.3, with which a server of TLS 1.2 has nothing to do.
const CIPHERS_13: [u16; 3] = [0x1301, 0x1302, 0x1303];
/// Suites of TLS 1.2: ECDHE, DHE and RSA, with old ones too, because an old server is to show its certificate.
const CIPHERS_12: [u16; 21] = [
    0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc009, 0xc013, 0xc00a, 0xc014, 0xc023, 0xc027,
    0x009e, 0x009f, 0xccaa, 0x009c, 0x009d, 0x002f, 0x0035, 0x003c,
    // It says that the client knows RFC 5746, and is not a suite.
    0x00ff,
];

fn ciphers(kind: Kind) -> Vec<u8> {
    let newest: &[u16] = if kind == Kind::Tls12 {
        &[]
    } else {
        &CIPHERS_13
    };
    numbers(&[newest, &CIPHERS_12].concat())
}

mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const SUPPORTED_GROUPS: u16 = 10;
    pub(super) const EC_POINT_FORMATS: u16 = 11;
    pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(super) const ALPN: u16 = 16;
    pub(super) const EXTENDED_MASTER_SECRET: u16 = 23;
    pub(super) const SUPPORTED_VERSIONS: u16 = 43;
    pub(super) const PSK_KEY_EXCHANGE_MODES: u16 = 45;
    pub(super) const KEY_SHARE: u16 = 51;
}

const X25519: u16 = 0x001d;
const X25519_MLKEM768: u16 = 0x11ec;
/// X25519, P-256, P-384, P-521.
const GROUPS: [u16; 4] = [X25519, 0x0017, 0x0018, 0x0019];
/// ECDSA, EdDSA, RSA-PSS and RSA with SHA-2, and the two with SHA-1 that old servers sign with.
const SIGNATURES: [u16; 12] = [
    0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201,
];

fn extensions(kind: Kind, name: Option<&ServerName>, alpn: &[Box<[u8]>], rng: &mut Rng) -> Vec<u8> {
    let mut all = Vec::new();
    let mut put = |kind: u16, content: &[u8]| {
        all.extend(kind.to_be_bytes());
        put16(&mut all, content);
    };
    if let Some(name) = name {
        let mut entry = vec![0];
        put16(&mut entry, name.as_str().as_bytes());
        put(extension::SERVER_NAME, &vector16(&entry));
    }
    let hybrid: &[u16] = if kind == Kind::PostQuantum {
        &[X25519_MLKEM768]
    } else {
        &[]
    };
    put(
        extension::SUPPORTED_GROUPS,
        &vector16(&numbers(&[hybrid, &GROUPS].concat())),
    );
    put(extension::EC_POINT_FORMATS, &[1, 0]);
    put(
        extension::SIGNATURE_ALGORITHMS,
        &vector16(&numbers(&SIGNATURES)),
    );
    put(extension::EXTENDED_MASTER_SECRET, &[]);
    if !alpn.is_empty() {
        let mut protocols = Vec::new();
        for protocol in alpn {
            put8(&mut protocols, protocol);
        }
        put(extension::ALPN, &vector16(&protocols));
    }
    if kind != Kind::Tls12 {
        put(extension::SUPPORTED_VERSIONS, &[4, 3, 4, 3, 3]);
        // A key exchange also in a resumption, which nobody asks for.
        put(extension::PSK_KEY_EXCHANGE_MODES, &[1, 1]);
        put(extension::KEY_SHARE, &vector16(&key_shares(kind, rng)));
    }
    all
}

/// A share of X25519 is any 32 bytes. That of X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) has a key of ML-KEM before
/// them.
fn key_shares(kind: Kind, rng: &mut Rng) -> Vec<u8> {
    let mut shares = Vec::new();
    let mut put = |group: u16, key: &[u8]| {
        shares.extend(group.to_be_bytes());
        put16(&mut shares, key);
    };
    let x25519 = random(rng, 32);
    if kind == Kind::PostQuantum {
        put(X25519_MLKEM768, &[ml_kem_768(rng), x25519.clone()].concat());
    }
    put(X25519, &x25519);
    shares
}

/// A key that a server accepts (FIPS 203 section 7.2): 768 numbers of 12 bits below 3,329, two in three bytes, and a
/// seed.
fn ml_kem_768(rng: &mut Rng) -> Vec<u8> {
    let mut key = Vec::new();
    for _ in 0..384 {
        let pair = rng.u32(..3329) | (rng.u32(..3329) << 12);
        let [low, middle, high, _] = pair.to_le_bytes();
        key.extend([low, middle, high]);
    }
    key.extend(random(rng, 32));
    key
}

fn random(rng: &mut Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    rng.fill(&mut bytes);
    bytes
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

fn vector16(content: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests;
