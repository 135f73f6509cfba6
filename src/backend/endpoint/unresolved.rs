//! The reason why an endpoint has no address.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::outcome::ResolveFailure;

/// Why an endpoint has no address that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The kind of reason.
    pub reason: ResolveFailure,
    /// The address that must not be dialled, if that is the reason.
    pub address: Option<SocketAddr>,
    /// The error of the resolver, if that is the reason.
    pub error: Option<Arc<str>>,
}

impl Unresolved {
    /// The look-up failed.
    pub fn failed(error: Arc<str>) -> Self {
        Self {
            reason: ResolveFailure::Unresolved,
            address: None,
            error: Some(error),
        }
    }

    /// The endpoint leads to an address that must not be dialled.
    pub const fn excluded(reason: ResolveFailure, address: SocketAddr) -> Self {
        Self {
            reason,
            address: Some(address),
            error: None,
        }
    }

    pub(super) fn not_yet() -> Self {
        Self::failed("the name has not been looked up yet".into())
    }
}
