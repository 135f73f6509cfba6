//! Which connections somebody wants to see: the query of a URL, and the request of `portway status`.

use std::net::IpAddr;

use ipnet::IpNet;
use strum::{EnumString, IntoStaticStr, VariantNames};

use super::Phase;

/// The connections of one answer without `limit`, and at most.
const DEFAULT_LIMIT: usize = 100;
const MOST: usize = 1000;
/// The bytes of a value that an error shows.
const SHOWN: usize = 100;

/// The connections to show. All filters must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The client is in this network.
    pub client: Option<IpNet>,
    /// The server name of the hello, or the host of the target, in lower case.
    pub server_name: Option<Box<str>>,
    /// The backend.
    pub backend: Option<Box<str>>,
    /// The route.
    pub route: Option<Box<str>>,
    /// The step of its life.
    pub phase: Option<Phase>,
    /// Their order.
    pub sort: Sort,
    /// How many.
    pub limit: usize,
    /// Only those whose id is larger; only with [`Sort::Id`].
    pub after: Option<u64>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            client: None,
            server_name: None,
            backend: None,
            route: None,
            phase: None,
            sort: Sort::default(),
            limit: DEFAULT_LIMIT,
            after: None,
        }
    }
}

/// An order of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Sort {
    /// By id: the only order that has pages, because it never changes.
    #[default]
    Id,
    /// The oldest first.
    Age,
    /// Those that have moved most bytes first.
    Bytes,
    /// Those without a byte for the longest time first.
    Idle,
}

/// Why a query is refused: a sentence that names the parameter and says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidQuery(String);

impl Query {
    /// Parses what follows the question mark of a URL.
    pub fn parse(text: &str) -> Result<Self, InvalidQuery> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            query.set(&name, &value)?;
            if seen.contains(&name) {
                return Err(InvalidQuery(format!(
                    "{name} is given twice: leave one out"
                )));
            }
            seen.push(name);
        }
        if query.after.is_some() && query.sort != Sort::Id {
            let why =
                "after goes with sort=id only: in any other order connections change their places";
            return Err(InvalidQuery(why.to_owned()));
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidQuery> {
        let invalid = |what: &str| {
            let value = shown(value);
            InvalidQuery(format!("{name}={value}: {what}"))
        };
        match name {
            "client" => {
                let address = value.parse::<IpAddr>().map(|it| it.to_canonical().into());
                let network = address.or_else(|_| value.parse::<IpNet>());
                let what = "write an address or a network, such as 10.1.2.3 or 10.1.0.0/16";
                self.client = Some(network.map_err(|_error| invalid(what))?);
            }
            "server_name" => self.server_name = Some(value.to_ascii_lowercase().into()),
            "backend" => self.backend = Some(value.into()),
            "route" => self.route = Some(value.into()),
            "phase" => {
                let what = format!("write one of {}", Phase::VARIANTS.join(", "));
                self.phase = Some(value.parse().map_err(|_unknown| invalid(&what))?);
            }
            "sort" => {
                let what = format!("write one of {}", Sort::VARIANTS.join(", "));
                self.sort = value.parse().map_err(|_unknown| invalid(&what))?;
            }
            "limit" => {
                let limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=MOST).contains(limit));
                let what = format!("write a number from 1 to {MOST}");
                self.limit = limit.ok_or_else(|| invalid(&what))?;
            }
            "after" => {
                let id = u64::from_str_radix(value, 16);
                let what = "write the value of next of the page before";
                self.after = Some(id.map_err(|_error| invalid(what))?);
            }
            _ => {
                let name = shown(name);
                return Err(InvalidQuery(format!(
                    "{name} is not a parameter: write client, server_name, backend, route, phase, sort, limit or after"
                )));
            }
        }
        Ok(())
    }
}

/// Bytes of a client, escaped and bounded.
fn shown(text: &str) -> String {
    let bytes = text.as_bytes();
    let head = bytes.get(..SHOWN).unwrap_or(bytes);
    head.escape_ascii().to_string()
}
