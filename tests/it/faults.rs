//! Faults of backends, of the machine and of operators' tools: rows of `tests/ROWS.md`. Other faults
//! are in `transfers`, `reload`, `watch`, `takeover`, `counts` and `conn`.

mod admin;
mod dials;
mod drain;
mod flaps;
mod flood;
mod gone;
mod killed;
mod limits;
mod log;
mod machine;
mod mtu;
mod paused;
mod resources;
mod unanswered;
