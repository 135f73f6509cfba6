//! `[admin]`.

use std::net::SocketAddr;

use toml::de::DeValue;

use crate::config::StatusPages;
use crate::config::keys;
use crate::config::notes::Notes;
use crate::config::values::{self, Wrong};
use crate::routing::NetworkSet;

/// `admin.bind`; `None` is off.
pub(in crate::config) fn bind(notes: &mut Notes<'_>) -> Option<SocketAddr> {
    let mut section = notes.section(&["admin"]);
    let is_lost = section.notes.lost.has(&section.path) || section.is_lost("bind");
    match section.value("bind") {
        // The value was lost with a fault. The default could clash with addresses that the value would not.
        None if is_lost => None,
        Some(DeValue::Boolean(false)) => None,
        Some(DeValue::Boolean(true)) => section.check(
            "bind",
            Err(Wrong {
                message: "true is not an address".to_owned(),
                help: format!(
                    "write {}, or false for none",
                    keys::default_of(&["admin", "bind"])
                ),
            }),
        ),
        Some(written) => section.check("bind", values::bind(written.as_str()?)),
        None => section.read("bind", |text, _| values::bind(text)),
    }
}

/// The clients that may see the pages that show names and addresses of clients.
pub(super) fn status_pages(notes: &mut Notes<'_>) -> StatusPages {
    const CLIENTS: &str = "status_clients";
    let mut section = notes.section(&["admin"]);
    let clients = match section.value(CLIENTS) {
        Some(DeValue::Boolean(false)) => NetworkSet::default(),
        Some(DeValue::Boolean(true)) => {
            let wrong = Err(Wrong {
                message: "true is not a list of networks".to_owned(),
                help: "write \"0.0.0.0/0\" and \"::/0\" for everybody, or false for nobody"
                    .to_owned(),
            });
            section.check(CLIENTS, wrong).unwrap_or_default()
        }
        Some(_) => section.list(CLIENTS, values::network).into_iter().collect(),
        None => section
            .read(CLIENTS, |text, _| {
                keys::list(text).map(values::network).collect()
            })
            .unwrap_or_default(),
    };
    StatusPages {
        clients,
        hosts: section.list("hosts", values::host),
    }
}
