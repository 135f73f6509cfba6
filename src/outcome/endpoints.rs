//! The closed lists of endpoints: the states of their addresses, and why one has none.

use enum_map::Enum;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::DialFailure;

/// The state of an address of an endpoint.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Enum,
    IntoStaticStr,
    VariantArray,
    Serialize,
    Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AddressState {
    /// Healthy, and of the family that new connections use.
    Healthy,
    /// It is of the other family, which is dialled only if the first one cannot be reached.
    Standby,
    /// Its last dial or its last checks failed, and it is tried again.
    Failed,
}

impl AddressState {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The result of a check of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CheckResult {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// The proxy cannot be reached, or this machine has run out of something, which says nothing about the address.
    Unknown,
}

impl CheckResult {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why an endpoint has no address that can be dialled.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Enum,
    IntoStaticStr,
    VariantArray,
    Serialize,
    Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ResolveFailure {
    /// Its name has not been resolved, or has no address.
    Unresolved,
    /// Its addresses lead back to portway itself.
    Loop,
    /// Its addresses cannot be those of a server, such as 0.0.0.0, or `allow_networks` excludes them.
    Forbidden,
}

impl ResolveFailure {
    /// The value of the label and of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why an attempt to reach an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// An address was dialled.
    Dial(DialFailure),
    /// There was no address to dial.
    Resolve(ResolveFailure),
}

impl AttemptFailure {
    /// The value of the log field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dial(reason) => reason.name(),
            Self::Resolve(reason) => reason.name(),
        }
    }
}
