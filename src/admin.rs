//! The admin pages, for operators and their tools: metrics and probes, over plain HTTP/1 on an
//! address of their own. They change nothing.

mod page;
mod pages;
mod places;
mod predecessor;
mod server;
mod shown;
mod status;

#[cfg(test)]
mod tests;

pub use pages::{LATE, State};
pub use predecessor::{FIGURES_TIMEOUT, Questions};
pub use server::serve;
pub use status::{Current, NoAnswer, Relay};
