//! The part that an endpoint has among those of its backend, as routes.toml says.

use std::fmt;

use strum::{EnumString, VariantNames};

/// Whether an endpoint gets new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum EndpointState {
    /// It does.
    #[default]
    Ready,
    /// It does not, and keeps those that it has.
    Drain,
}

/// The part of an endpoint as it is written: its addresses share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its weight, with all its addresses together. `None`: each address has the weight 1.
    pub weight: Option<u16>,
    /// Whether it gets new connections.
    pub state: EndpointState,
    /// Whether it is used only if none of the others is available.
    pub is_backup: bool,
}

impl Role {
    /// Whether it is that of an endpoint that is written as text alone.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// Whether it gets no new connections.
    pub fn drains(self) -> bool {
        self.state == EndpointState::Drain
    }

    /// The weight of one of so many addresses.
    pub(super) fn weight_of_one(self, addresses: usize) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "an endpoint has far fewer addresses"
        )]
        let addresses = addresses.max(1) as f64;
        self.weight
            .map_or(1.0, |weight| f64::from(weight) / addresses)
    }
}

/// As it is written in routes.toml, such as `weight = 2, backup = true`.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = self.weight.map(|weight| format!("weight = {weight}"));
        let state = self.drains().then(|| "state = \"drain\"".to_owned());
        let backup = self.is_backup.then(|| "backup = true".to_owned());
        let parts: Vec<String> = [weight, state, backup].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}
