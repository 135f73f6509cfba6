//! TLS as far as a relay reads it: records, the client hello, the server name, alerts. Pure: bytes
//! in, a value out; no socket, no clock, no allocation that a client sizes.

mod alert;
mod close;
mod hello;
mod not_tls;
mod record;
mod server_name;
mod version;

pub use alert::AlertDescription;
pub use close::ends_with_alert;
pub use hello::{Alpn, ClientHello, Progress, Rejection, read_hello};
pub use not_tls::{Beginning, Protocol};
pub use server_name::{InvalidServerName, ServerName};
pub use version::Version;
