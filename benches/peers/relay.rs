//! The interface of the load generator to a relay under test.

use std::net::SocketAddr;
use std::time::Duration;

/// A relay that runs as another process; for `direct` there is none, and clients go straight to the
/// backend.
pub trait Relay {
    /// Where clients connect; for `direct`, the backend's address.
    fn address(&self) -> SocketAddr;

    /// CPU time that its process has used since its start, in user and kernel mode; 0 for `direct`. It is an
    /// error if the process has ended.
    fn cpu(&self) -> Result<Duration, String>;

    /// Resident memory of its process, in bytes; 0 for `direct`. It is an error if the process has ended.
    fn resident(&self) -> Result<u64, String>;
}
