//! Patterns for the server names that a route takes.

use std::cmp::Ordering;
use std::fmt;

use crate::tls::{InvalidServerName, ServerName};

/// One entry of `routes.N.server_names`.
///
/// Patterns are ordered by precedence: if two match the same name, the greater one wins. An exact
/// name beats the longest `*.`, which beats the longest `**.`, which beats `**`.
///
/// ```
/// use portway::routing::Pattern;
///
/// let pattern = |text| Pattern::parse(text).unwrap();
/// assert!(pattern("a.b.example") > pattern("*.b.example"));
/// assert!(pattern("*.b.example") > pattern("**.b.example"));
/// assert!(pattern("**.b.example") > pattern("**.example"));
/// assert!(pattern("**.example") > pattern("**"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// `**`: any name.
    Any,
    /// `**.x`: one or more labels before `x`, never `x` itself.
    AnyDepth(Suffix),
    /// `*.x`: one label before `x`, never `x` itself.
    OneLabel(Suffix),
    /// The name itself.
    Exact(ServerName),
}

/// The name after the wildcard. A longer suffix is greater: among suffixes of the same name, it has
/// more labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Suffix(ServerName);

impl Pattern {
    /// Parses a pattern in A-labels, and converts upper case to lower case.
    pub fn parse(text: &str) -> Result<Self, InvalidServerName> {
        let suffix = |name: &str| ServerName::parse(name.as_bytes()).map(Suffix);
        if text == "**" {
            Ok(Self::Any)
        } else if let Some(name) = text.strip_prefix("**.") {
            suffix(name).map(Self::AnyDepth)
        } else if let Some(name) = text.strip_prefix("*.") {
            suffix(name).map(Self::OneLabel)
        } else if text.contains('*') {
            Err(InvalidServerName(
                "a wildcard stands alone, or for the whole first label",
            ))
        } else {
            ServerName::parse(text.as_bytes()).map(Self::Exact)
        }
    }

    /// Whether it takes a name. A look-up for a connection goes by the table instead, which tries no pattern twice.
    pub fn takes(&self, name: &ServerName) -> bool {
        let before = |suffix: &Suffix| {
            let labels = name.as_str().strip_suffix(suffix.as_str())?;
            labels.strip_suffix('.')
        };
        match self {
            Self::Any => true,
            Self::AnyDepth(suffix) => before(suffix).is_some(),
            Self::OneLabel(suffix) => before(suffix).is_some_and(|label| !label.contains('.')),
            Self::Exact(exact) => exact == name,
        }
    }
}

impl Suffix {
    /// The name after the wildcard and its dot.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Ord for Suffix {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |suffix: &Self| suffix.as_str().len();
        key(self)
            .cmp(&key(other))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Suffix {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("**"),
            Self::AnyDepth(suffix) => write!(f, "**.{}", suffix.0),
            Self::OneLabel(suffix) => write!(f, "*.{}", suffix.0),
            Self::Exact(name) => name.fmt(f),
        }
    }
}
