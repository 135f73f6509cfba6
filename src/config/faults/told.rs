//! Faults as fields, for programs (`--output json`).

use serde::Serialize;

use super::found::First;
use super::{Fault, Faults};
use crate::config::path::Path;

/// One thing that is wrong with a file, or probably not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldFault<'f> {
    /// The key; `None` for the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Says what is wrong.
    pub message: &'f str,
    /// Says what to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<&'f str>,
    /// Where it is, from 1; `None` if the file cannot be read as text.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<ToldPlace>,
    /// A second place that is concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<ToldOther<'f>>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ToldPlace {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A second place of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldOther<'f> {
    /// Its key, or words such as "the first one".
    pub what: &'f str,
    /// Where it is.
    #[serde(flatten)]
    pub place: ToldPlace,
}

impl Faults {
    /// The first errors, in the order of their places, and how many more there are.
    pub fn told_errors(&self) -> (Vec<ToldFault<'_>>, usize) {
        self.tell_all(&self.errors)
    }

    /// The same for the warnings.
    pub fn told_warnings(&self) -> (Vec<ToldFault<'_>>, usize) {
        self.tell_all(&self.warnings)
    }

    fn tell_all<'f>(&'f self, found: &'f First) -> (Vec<ToldFault<'f>>, usize) {
        let faults = found.faults.iter().map(|fault| self.tell(fault));
        (faults.collect(), found.more)
    }

    fn tell<'f>(&'f self, fault: &'f Fault) -> ToldFault<'f> {
        let place = |byte| {
            let (line, column) = self.place(byte);
            ToldPlace { line, column }
        };
        let other = fault.other.as_ref();
        ToldFault {
            key: (fault.path != Path::default()).then(|| fault.path.to_string()),
            message: &fault.message,
            help: fault.help.as_deref(),
            place: self.text.is_some().then(|| place(fault.span.start)),
            other: other.map(|(span, what)| ToldOther {
                what,
                place: place(span.start),
            }),
        }
    }
}
