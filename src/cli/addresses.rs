//! The addresses of the endpoints that `portway explain` names: as the running portway has them. `explain`
//! itself resolves no name and dials nothing.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use super::explanation::Taken;
use crate::control::socket;
use crate::control::{KnownAddress, KnownAddresses, Unaddressed};
use crate::status::words;

/// The process to ask for addresses.
#[derive(Debug)]
pub(super) enum Process {
    /// No portway runs with this file.
    Nobody,
    /// It cannot be asked, or has another configuration than the one that is explained; the text says which.
    Other(String),
    /// It has this generation of the configuration that is explained.
    With { generation: u64, pid: i32 },
}

/// The addresses of a backend in the running portway, or why they are unknown.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Addresses {
    Known {
        addresses: Vec<KnownAddress>,
        unresolved: Vec<Unaddressed>,
        #[serde(rename = "addresses_not_shown")]
        not_shown: usize,
    },
    Unknown {
        #[serde(rename = "addresses_unknown")]
        why: String,
    },
}

impl Process {
    /// Asks for the addresses of a backend.
    pub(super) fn addresses(&self, file: &Path, taken: &Taken<'_>) -> Addresses {
        let known = self.ask(file, taken.backend);
        known.map_or_else(
            |why| Addresses::Unknown { why },
            |known| Addresses::of(known, taken),
        )
    }

    fn ask(&self, file: &Path, backend: &str) -> Result<KnownAddresses, String> {
        let (generation, pid) = match self {
            Self::Nobody => {
                return Err(
                    "no running portway uses this file, so nothing was resolved or dialled; start \
                     portway to see addresses"
                        .to_owned(),
                );
            }
            Self::Other(why) => {
                return Err(format!(
                    "nothing was resolved or dialled: explain asks the running portway, and {why}"
                ));
            }
            Self::With { generation, pid } => (*generation, *pid),
        };
        match socket::addresses(file, backend) {
            Ok(Some((known, answered)))
                if known.generation == generation && answered.pid == pid =>
            {
                Ok(known)
            }
            Ok(_) => {
                Err("the configuration in force has just changed: run explain again".to_owned())
            }
            Err(error) => Err(format!("the running portway does not list them: {error}")),
        }
    }
}

impl Addresses {
    /// Takes from an answer only what belongs to these endpoints: root may be answered by a process of another
    /// user.
    fn of(known: KnownAddresses, taken: &Taken<'_>) -> Self {
        let KnownAddresses {
            mut addresses,
            mut unresolved,
            not_shown,
            ..
        } = known;
        let endpoints: HashSet<&String> = taken.endpoints.iter().chain(&taken.via).collect();
        addresses.retain(|address| endpoints.contains(&address.endpoint));
        unresolved.retain(|without| endpoints.contains(&without.endpoint));
        for without in &mut unresolved {
            if let Some(error) = &mut without.error {
                error.retain(|c| !c.is_control());
            }
        }
        Self::Known {
            addresses,
            unresolved,
            not_shown,
        }
    }
}

/// The lines below each endpoint, and below the proxy.
pub(super) fn lines(addresses: &Addresses) -> HashMap<&str, Vec<String>> {
    let mut lines = HashMap::<&str, Vec<String>>::new();
    if let Addresses::Known {
        addresses,
        unresolved,
        ..
    } = addresses
    {
        for known in addresses {
            let count = words::connections(known.connections.into());
            let address = known.address.to_string();
            let state = known.state.name();
            let line = if address == known.endpoint {
                format!("{state}, {count}")
            } else {
                format!("{address}: {state}, {count}")
            };
            lines.entry(&known.endpoint).or_default().push(line);
        }
        for without in unresolved {
            let lines = lines.entry(&without.endpoint).or_default();
            let kept = if lines.is_empty() {
                ""
            } else {
                "; these addresses are of an older look-up"
            };
            let error = without.error.as_deref();
            let why = words::unresolved(without.reason, without.address, error);
            lines.push(format!("{why}{kept}"));
        }
    }
    lines
}
