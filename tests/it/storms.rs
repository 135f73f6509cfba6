//! Storms of connections: rates of new ones, and loops that routes.toml does not show.

mod loops;
mod rates;
