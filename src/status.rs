//! The things that portway shows of itself while it runs: plain values, the same for `/status`, `/connections`, the page and
//! `portway status`. Nothing here asks anybody; `admin` collects.

mod connections;
mod model;
mod query;
mod refusals;
mod remedy;
#[cfg(test)]
mod tests;
mod troubles;
pub mod words;

pub use connections::{Connection, Connections, Phase, Seen};
pub use model::{
    Address, Backend, CertificateSeen, Configuration, Drain, Endpoint, LimitUse, Listener,
    Predecessor, Rates, Refused, Reload, Route, Stage, Status, Totals,
};
pub use query::{InvalidQuery, Query, Sort};
pub use refusals::{Cause, End, Refusals, client_network};
pub use remedy::remedy;
pub use troubles::{Failing, SameCause, causes, failing};
