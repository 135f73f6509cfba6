//! The parts of TLS that a relay reads: records, the client hello, the server name, alerts. Everything here is
//! pure: bytes go in, a value comes out, without a socket, a clock, or an allocation whose size a client chooses.

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
