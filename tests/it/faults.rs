//! Faults of backends, of the machine and of operators' tools: rows F01 to F35 of the test plan
//! that need no privileges. F04 to F10 are transfers.

mod admin;
mod dials;
mod drain;
mod limits;
mod log;
mod paused;
mod resources;
