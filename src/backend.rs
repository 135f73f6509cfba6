//! Backends: endpoints, their addresses, balance, failure state on a given clock. No I/O.

mod address;
mod addresses;
pub mod allowed;
mod asked;
mod candidate;
mod dialling;
mod endpoint;
mod health;
mod pool;
mod presented;
mod role;
mod slots;
mod source_hash;
mod target;
#[cfg(test)]
mod tests;
mod via;
mod way;
mod weighted;

pub use address::Address;
pub use allowed::{Allowed, DnsServers, NameRules};
pub use asked::{Asked, Denied, Found, Lookup, Name, SHORTEST_REFRESH, State, Wish};
pub use candidate::Candidate;
pub use dialling::{Dialling, Endpoints};
pub use endpoint::{Endpoint, InUse, Unresolved};
pub use health::{Check, Checks, Standing};
pub use pool::Pool;
pub use presented::{Presented, Unseen, flaw_of_dates};
pub use role::{EndpointState, Role};
pub use slots::{Slot, Waiting};
pub use target::{Balance, Target};
pub use via::Via;
pub use way::{Proxy, Way};
