//! portway: a Layer-4 relay that routes TLS connections by the server name in the client hello.
//!
//! It peeks the hello, picks a backend from `routes.toml` and splices bytes both ways. It never
//! terminates TLS and holds no key. The library exists for the `portway` binary, its tests and the
//! lab. The interface for users is the command line, `routes.toml`, the log and the metrics.
//!
//! `ARCHITECTURE.md` shows the modules and the direction of their imports.

pub mod admin;
pub mod admission;
pub mod app;
pub mod backend;
pub mod cli;
pub mod config;
pub mod conn;
pub mod control;
pub mod credentials;
pub mod dial;
pub mod doctor;
pub mod net;
pub mod outcome;
pub mod relay;
pub mod routing;
pub mod snapshot;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod wire;
pub mod worker;

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
#[path = "../tests/support/required.rs"]
mod required;
