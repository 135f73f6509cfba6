//! The parts of TLS that portway reads: records, the client hello, the server name, alerts, the first answer of a
//! server, its certificates. Everything here is pure: bytes go in, a value comes out, without a socket, a clock, or an allocation
//! whose size a client chooses.

mod alert;
mod answer;
pub mod certificate;
mod close;
mod hello;
mod not_tls;
pub mod offer;
mod record;
mod records;
mod server_name;
mod version;

pub use alert::{AlertDescription, TOO_OLD, alert_name, remedy};
pub use answer::{
    Answer, Foreign, MOST_ANSWER, ServerHello, may_be_tls, read_answer, server_protocol,
    server_version,
};
pub use close::ends_with_alert;
pub use hello::{Alpn, ClientHello, Progress, Rejection, read_hello};
pub use not_tls::{Beginning, Protocol};
pub use records::{Content, Event, Kind, Record, Records};
pub use server_name::{InvalidServerName, ServerName};
pub use version::Version;
