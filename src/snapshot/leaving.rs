//! When connections to a backend end in a gap although the process does not drain.

use std::time::Duration;

use strum::{EnumString, VariantNames};

/// A reason to end the connections of an endpoint: a value of `close_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum CloseOn {
    /// Checks have found it unhealthy, and another one is healthy.
    Unhealthy,
    /// It is gone from routes.toml or from DNS.
    Removed,
}

/// `close_on` and `max_connection_age` of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// An unhealthy endpoint.
    pub if_unhealthy: bool,
    /// An endpoint that is gone.
    pub if_removed: bool,
    /// The age from which a connection ends; it differs by up to a tenth.
    pub age: Option<Duration>,
}
