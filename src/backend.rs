//! Backends: endpoints, their addresses, balance, failure state on a given clock. No I/O.

mod address;
mod addresses;
pub mod allowed;
mod asked;
mod endpoint;
mod pool;
mod source_hash;
mod target;
#[cfg(test)]
mod tests;
mod via;
mod way;

pub use address::Address;
pub use allowed::{Allowed, DnsServers, NameRules};
pub use asked::{Asked, Denied, Found, Lookup, Name, State, Wish};
pub use endpoint::{Endpoint, InUse, Unresolved};
pub use pool::{Candidate, Pool};
pub use target::{Balance, Target};
pub use via::Via;
pub use way::{Proxy, Way};
