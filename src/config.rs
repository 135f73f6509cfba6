//! routes.toml: the file, its faults, and the settings that the program runs on.
//!
//! The file has two shapes: the tree that `toml` makes, whose keys [`keys`] defines, and [`Settings`], in
//! which everything is checked and every default is filled in. Statements that cannot be read, unknown
//! keys, faults of type and of meaning are collected and reported all at once.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    admission, backend, credentials, dial, net, relay, routing, snapshot, telemetry, tls, wire,
};

mod admin;
mod build;
mod checks;
mod extent;
mod faults;
mod foreign;
pub mod keys;
mod lost;
mod named;
mod notes;
mod path;
mod place;
mod schema;
mod section;
mod syntax;
mod types;
mod unknown;
mod values;

pub use admin::{Admin, admin};
pub use faults::{Faults, ToldFault};
use lost::Lost;
pub use named::{Named, Watched};
pub use place::{Place, place_of};
pub use schema::schema;

/// The largest routes.toml, in bytes, so that a device or a log given by mistake does not fill the memory.
const MAX_FILE: u64 = 1 << 20;

/// Bytes that are read of a larger file. `control` hashes as many to watch the file, so both get the same hash.
pub const MOST_READ: u64 = 1 << 21;

/// A checked routes.toml.
#[derive(Debug)]
pub struct Settings {
    /// `workers`; `None` takes the count that the machine allows.
    pub workers: Option<NonZeroUsize>,
    /// `admin.bind`; `None` is off.
    pub admin: Option<SocketAddr>,
    /// The clients that may see the pages which show names and addresses of clients.
    pub status_pages: StatusPages,
    /// Quotas of admission.
    pub limits: admission::Quotas,
    /// Limits of the hello.
    pub hello: snapshot::HelloLimits,
    /// Limits of the drain.
    pub drain: Drain,
    /// `[log]`.
    pub log: telemetry::LogRules,
    /// `[listeners]`, sorted by name.
    pub listeners: Vec<Listener>,
    /// `[backends]`, sorted by name.
    pub backends: Vec<Backend>,
    /// `[routes]`.
    pub routes: routing::Table,
}

/// `admin.status_clients` and `admin.hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPages {
    /// The networks that may see the pages; empty for nobody.
    pub clients: routing::NetworkSet,
    /// Names in their URLs, beside addresses and `localhost`.
    pub hosts: Vec<tls::ServerName>,
}

/// The part of `[limits]` that bounds the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// From the signal, which ends readiness, to the close of the listeners.
    pub delay: Duration,
    /// From the close of the listeners to the end of the last connection.
    pub timeout: Duration,
    /// The same after a takeover, from the moment at which the successor accepts.
    pub takeover_timeout: Duration,
}

/// One `[listeners.N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name in routes.toml.
    pub name: Arc<str>,
    /// Addresses; port 0 lets the kernel choose.
    pub bind: Vec<SocketAddr>,
    /// The first message of a client.
    pub protocol: wire::ListenerProtocol,
    /// The networks of balancers, whose connections begin with a PROXY header.
    pub balancers: routing::NetworkSet,
    /// The clients that may connect.
    pub clients: admission::Networks,
    /// Its addresses are bound also while the host does not have them.
    pub freebind: bool,
    /// The users of `credentials_file`; nobody if the file was not read. `None` if clients need no password.
    pub users: Option<Arc<credentials::Users>>,
}

/// One `[backends.N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The name in routes.toml.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<backend::Target>,
    /// The role of each of them, in the same order.
    pub roles: Vec<backend::Role>,
    /// How their names are resolved, and where they may lead.
    pub names: backend::NameRules,
    /// The proxy through which they are reached.
    pub via: Option<backend::Via>,
    /// The version of the PROXY header that they get; `None` if they get none.
    pub send_proxy_protocol: Option<wire::ProxyVersion>,
    /// The choice among them.
    pub balance: backend::Balance,
    /// How they are checked; `None` if they are not.
    pub checks: Option<backend::Checks>,
    /// When their connections end in a gap.
    pub leaving: snapshot::Leaving,
    /// Timeouts of the dial.
    pub dial: dial::Timeouts,
    /// How many dials there are of one address at a time, and where they come from.
    pub dialling: backend::Dialling,
    /// Rules of the relay.
    pub relay: relay::Rules,
}

impl Backend {
    /// The endpoints and their roles.
    pub fn members(&self) -> impl Iterator<Item = (&backend::Target, backend::Role)> {
        self.endpoints.iter().zip(self.roles.iter().copied())
    }

    /// The proxy, if it gets the names of the endpoints and resolves them.
    pub fn resolving_proxy(&self) -> Option<&backend::Via> {
        self.via.as_ref().filter(|_| self.names.resolver.is_none())
    }

    /// The proxy, if it gets addresses of the endpoints.
    pub fn addressed_proxy(&self) -> Option<&backend::Via> {
        self.via.as_ref().filter(|_| self.names.resolver.is_some())
    }
}

/// A routes.toml without an error.
#[derive(Debug)]
pub struct Loaded {
    /// The settings that the program runs on.
    pub settings: Settings,
    /// Statements that are allowed and probably not meant; `check --strict` makes errors of them.
    pub warnings: Faults,
    /// The text that the settings were made from.
    pub source: Source,
}

/// The text that settings were made from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The text of the file.
    pub text: Arc<str>,
    /// CRC-32 of the text. It is equal on all instances that run with the same file.
    pub hash: u32,
    /// The same, with the content of the files that the text names.
    pub fingerprint: u32,
}

impl Source {
    fn of(text: &str) -> Self {
        let hash = crc32fast::hash(text.as_bytes());
        Self {
            text: text.into(),
            hash,
            fingerprint: hash,
        }
    }
}

/// A routes.toml and the files that it names, as they were read.
pub struct Files {
    text: String,
    named: Named,
}

/// Reads and checks a file, or a pipe that ends within 3 s, and the files that it names. It does not use DNS and does
/// not open a socket.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    parse_files(&read_files(path)?, &path.display().to_string())
}

/// The same without the files that no connection to a backend needs, for a command that may not read them: no user
/// passes a gate of these settings.
pub fn load_for_dials(path: &Path) -> Result<Loaded, Faults> {
    let text = read(path)?;
    let named = Named::read_only(named::VIA_LOGIN, path, &text);
    parse_files(&Files { text, named }, &path.display().to_string())
}

/// Reads a file and those that it names, for [`parse_files`]. A file that cannot be read is a fault only there, if
/// another one names it.
pub fn read_files(path: &Path) -> Result<Files, Faults> {
    let text = read(path)?;
    let named = Named::read(path, &text);
    Ok(Files { text, named })
}

/// Checks a file with those that it names. Faults call it `file_name`.
pub fn parse_files(files: &Files, file_name: &str) -> Result<Loaded, Faults> {
    let Files { text, named } = files;
    let fingerprint = named.fingerprint(crc32fast::hash(text.as_bytes()));
    match parse_with(text, Some(named), file_name) {
        Ok(mut loaded) => {
            loaded.source.fingerprint = fingerprint;
            Ok(loaded)
        }
        Err(faults) => Err(faults.of_content(fingerprint)),
    }
}

/// The text of a file, for [`parse`].
pub fn read(path: &Path) -> Result<String, Faults> {
    let name = path.display().to_string();
    let unreadable = |message: String, help: Option<&str>, bytes: Option<&[u8]>| {
        let hash = bytes.map(crc32fast::hash);
        Faults::unreadable(&name, message, help.map(str::to_owned), hash)
    };
    let bytes = net::read(path, MOST_READ).map_err(|error| {
        let help = [
            (
                ErrorKind::NotFound,
                "check the path, or name the file with --config FILE",
            ),
            (
                ErrorKind::IsADirectory,
                "name the file in it with --config FILE",
            ),
            (ErrorKind::InvalidInput, "name a file with --config FILE"),
            (
                ErrorKind::UnexpectedEof,
                "check the command that writes into it; a pipe gives its bytes only once",
            ),
            (
                ErrorKind::TimedOut,
                "write the file into the pipe and close it, or name a file",
            ),
        ];
        let help = help.iter().find(|(kind, _)| *kind == error.kind());
        let help = match error.raw_os_error() {
            Some(libc::EMFILE) => Some("raise `ulimit -n`, or LimitNOFILE= of the unit"),
            _ => help.map(|(_, help)| *help),
        };
        unreadable(format!("cannot be read: {error}"), help, None)
    })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(
            "is larger than 1 MiB".to_owned(),
            Some("name another file with --config FILE, or divide it among several portways"),
            Some(&bytes),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        unreadable(
            format!("line {line} is not UTF-8"),
            Some("save the file as UTF-8"),
            Some(error.as_bytes()),
        )
    })
}

/// Converts a name as people write it to A-labels, as a hello contains it. The error says what is wrong with it,
/// and what to write.
pub fn a_labels(name: &str) -> Result<Cow<'_, str>, String> {
    let ascii = values::to_ascii("", name);
    ascii.map_err(|wrong| format!("{}: {}", wrong.message, wrong.help))
}

/// Checks the text of a file alone, for a command that may not read the secrets that it names. No user passes a gate
/// of these settings. Faults call the file `file_name`.
pub fn parse(text: &str, file_name: &str) -> Result<Loaded, Faults> {
    parse_with(text, None, file_name)
}

fn parse_with(text: &str, named: Option<&Named>, file_name: &str) -> Result<Loaded, Faults> {
    let one = |fault| Faults::one(file_name, text, fault);
    if let Some(fault) = extent::fault(text).or_else(|| foreign::fault(text)) {
        return Err(one(fault));
    }
    let mut lost = Lost::default();
    let mut readable = String::new();
    let mut tree = syntax::read(text, &mut readable, &mut lost);
    unknown::take_unknown(tree.get_mut(), &mut lost);
    types::take_wrong(tree.get_mut(), &mut lost);
    let mut notes = notes::Notes::new(tree.get_ref(), lost);
    notes.named = named;
    let settings = build::settings(&mut notes);
    checks::settings(&settings, &mut notes);
    let is_fine = notes.faults.is_empty();
    let faults = Faults::new(file_name, text, [notes.faults, notes.warnings]);
    if is_fine {
        Ok(Loaded {
            settings,
            warnings: faults,
            source: Source::of(text),
        })
    } else {
        Err(faults)
    }
}
