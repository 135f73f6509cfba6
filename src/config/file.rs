//! The mirror of routes.toml: its keys and their types, nothing checked. [`build`](super::build)
//! makes [`Settings`](super::Settings) of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct File {
    pub(super) workers: Option<i64>,
    pub(super) admin: Admin,
    pub(super) limits: Limits,
    pub(super) log: Log,
    pub(super) listeners: BTreeMap<String, Listener>,
    pub(super) backends: BTreeMap<String, Backend>,
    pub(super) routes: BTreeMap<String, Route>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Admin {
    pub(super) bind: Option<AdminBind>,
}

#[derive(Debug)]
pub(super) enum AdminBind {
    Address(String),
    Switch(bool),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Limits {
    pub(super) max_connections: Option<i64>,
    pub(super) max_pending_connections: Option<i64>,
    pub(super) max_pending_per_client: Option<i64>,
    pub(super) max_connections_per_client: Option<i64>,
    pub(super) client_ipv6_prefix: Option<i64>,
    pub(super) client_hello_timeout: Option<String>,
    pub(super) max_client_hello: Option<String>,
    pub(super) drain_delay: Option<String>,
    pub(super) drain_timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Log {
    pub(super) connections: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Listener {
    pub(super) bind: Vec<String>,
    pub(super) allow_clients: Vec<String>,
    pub(super) deny_clients: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Backend {
    pub(super) endpoints: Vec<String>,
    pub(super) balance: Option<String>,
    pub(super) connect_timeout: Option<String>,
    pub(super) dial_timeout: Option<String>,
    pub(super) idle_timeout: Option<String>,
    pub(super) half_close_timeout: Option<String>,
    pub(super) stall_timeout: Option<String>,
    pub(super) keepalive: Option<String>,
    pub(super) max_unsent: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Route {
    pub(super) server_names: Option<Vec<String>>,
    pub(super) no_server_name: Option<bool>,
    pub(super) listeners: Option<Vec<String>>,
    pub(super) alpn: Option<Vec<String>>,
    pub(super) clients: Option<Vec<String>>,
    pub(super) backend: Option<String>,
}

impl<'de> Deserialize<'de> for AdminBind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressOrFalse;
        impl Visitor<'_> for AddressOrFalse {
            type Value = AdminBind;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address in quotes, or false")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<AdminBind, E> {
                Ok(AdminBind::Switch(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<AdminBind, E> {
                Ok(AdminBind::Address(value.to_owned()))
            }
        }
        deserializer.deserialize_any(AddressOrFalse)
    }
}
