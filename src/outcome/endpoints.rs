//! The closed lists of endpoints: the states of their addresses.

use enum_map::Enum;
use strum::{IntoStaticStr, VariantArray};

/// What is known of an address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum AddressState {
    /// In health, and of the family that new connections take.
    Healthy,
    /// In health, and of the other family, which is dialled when the first one cannot be reached.
    Standby,
    /// Its last dial failed.
    Failed,
}

impl AddressState {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
