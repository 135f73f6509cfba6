//! Adds to the page of metrics the connections and counters of the process whose listeners this one has taken over.
//!
//! The predecessor may be another version of portway, so its page may have families that are not in our table.
//! Our page stays valid whatever the other one contains.

use std::collections::{BTreeMap, HashSet};

use super::table;

#[cfg(test)]
mod tests;

/// The label of the predecessor's series; our own series do not have it.
const PROCESS: &str = "process";

/// Most labels of a series that are read; a series of portway has fewer. It is bounded because each label is
/// compared with those before it.
const MOST_LABELS: usize = 32;

/// The figures of the process whose listeners this one has taken over, as far as they are known.
#[derive(Debug)]
pub enum PredecessorFigures {
    /// There is no such process, or it has ended.
    None,
    /// It does not answer.
    Silent,
    /// The figures of its page.
    Known(Figures),
}

impl PredecessorFigures {
    pub(super) const fn connections(&self) -> f64 {
        match self {
            Self::None | Self::Silent => 0.0,
            Self::Known(figures) => figures.connections,
        }
    }

    /// Adds the figures to our own page. If the process is silent, not even the number of its connections is known.
    pub(super) fn complete(self, page: String) -> String {
        match self {
            Self::None => page,
            Self::Silent => families(&page)
                .filter(|family| family.name != table::PREDECESSOR_CONNECTIONS.name)
                .map(|family| family.text)
                .collect(),
            Self::Known(figures) => figures.beside(&page),
        }
    }
}

/// The counters of a page, and how many connections its process has.
#[derive(Debug, Default)]
pub struct Figures {
    connections: f64,
    counters: BTreeMap<String, Counters>,
}

/// The series of one counter.
#[derive(Debug)]
struct Counters {
    help: String,
    /// Whole lines, with the label.
    lines: String,
}

impl Figures {
    /// Reads a page; `None` if it is not a page of portway.
    ///
    /// Gauges and histograms are left out, and so are counters that are not named as portway names them, or that
    /// already have the label `process`.
    pub fn parse(page: &str) -> Option<Self> {
        let mut figures = Self::default();
        let (mut seen, mut has_connections) = (HashSet::new(), false);
        for family in families(page) {
            if family.name == table::ACTIVE.name {
                has_connections = true;
                for line in family.samples() {
                    figures.connections += Sample::parse(line)?.number()?;
                }
            }
            let Some(help) = family.help().filter(|_| family.is_counter()) else {
                continue;
            };
            for line in family.samples() {
                let sample = Sample::parse(line)?;
                sample.number()?;
                if sample.name != family.name || !seen.insert(sample.series()) {
                    return None;
                }
                if sample.labels.iter().all(|(key, _)| *key != PROCESS) {
                    figures.add(family.name, help, &sample);
                }
            }
        }
        has_connections.then_some(figures)
    }

    fn add(&mut self, name: &str, help: &str, sample: &Sample<'_>) {
        let counters = self.counters.entry(name.to_owned());
        let counters = counters.or_insert_with(|| Counters {
            help: help.to_owned(),
            lines: String::new(),
        });
        let lines = &mut counters.lines;
        lines.extend([name, "{"]);
        for (key, value) in &sample.labels {
            lines.extend([*key, "=\"", *value, "\","]);
        }
        lines.extend([PROCESS, "=\"predecessor\"} ", sample.value, "\n"]);
    }

    /// Our page with these counters. Each goes beside ours of its name, because series of one name must be together.
    fn beside(mut self, page: &str) -> String {
        let mut merged = String::with_capacity(2 * page.len());
        for family in families(page) {
            let counters = self.counters.remove(family.name);
            match counters.filter(|_| family.kind == COUNTER) {
                Some(counters) => {
                    let ours = family.text.trim_end_matches('\n');
                    merged.extend([ours, "\n", &counters.lines, "\n"]);
                }
                None => merged.push_str(family.text),
            }
        }
        for (name, Counters { help, lines }) in &self.counters {
            merged.extend(["# HELP ", name, " ", help, "\n"]);
            merged.extend(["# TYPE ", name, " ", COUNTER, "\n", lines, "\n"]);
        }
        merged
    }
}

const COUNTER: &str = "counter";

/// One family of a page.
struct Family<'p> {
    name: &'p str,
    kind: &'p str,
    /// All of its lines, and the empty line after them.
    text: &'p str,
}

/// The families of a page. An empty line ends each of them. A part without a type is left out.
fn families(page: &str) -> impl Iterator<Item = Family<'_>> {
    page.split_inclusive("\n\n").filter_map(|text| {
        let mut lines = text.split('\n');
        let (name, kind) = lines.find_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))?;
        Some(Family { name, kind, text })
    })
}

impl<'p> Family<'p> {
    /// Whether it is a counter that is named as portway names them. Its name then cannot be that of a part of a
    /// histogram.
    fn is_counter(&self) -> bool {
        self.kind == COUNTER && is_name(self.name) && self.name.ends_with("_total")
    }

    /// Its help text, if the page has it in a valid form.
    fn help(&self) -> Option<&'p str> {
        let mut lines = self.text.split('\n');
        let (name, help) = lines.find_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))?;
        (name == self.name && end(help, None).is_some()).then_some(help)
    }

    fn samples(&self) -> impl Iterator<Item = &'p str> {
        let lines = self.text.split('\n');
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    }
}

/// One line of a family.
struct Sample<'p> {
    name: &'p str,
    labels: Vec<(&'p str, &'p str)>,
    value: &'p str,
}

impl<'p> Sample<'p> {
    /// Parses a line in the form that portway writes: without a timestamp, with one space before the value.
    fn parse(line: &'p str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at_checked(end)?;
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let value = rest.strip_prefix(' ')?;
        is_name(name).then_some(Self {
            name,
            labels,
            value,
        })
    }

    /// The value of a counter, or of a gauge that counts.
    fn number(&self) -> Option<f64> {
        let is_plain = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
        let number: f64 = self.value.parse().ok()?;
        (self.value.bytes().all(is_plain) && number.is_finite() && number >= 0.0).then_some(number)
    }

    /// The name and the sorted labels, which may occur only once on a page.
    fn series(&self) -> (&'p str, Vec<(&'p str, &'p str)>) {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        (self.name, labels)
    }
}

/// The labels after the opening brace with their values, as written, and the text after the closing brace.
fn labels(mut rest: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_at_checked(end(after, Some('"'))?)?;
        let is_new = labels.iter().all(|(other, _)| *other != key);
        if !is_name(key) || key.starts_with("__") || !is_new || labels.len() == MOST_LABELS {
            return None;
        }
        labels.push((key, value));
        let after = after.strip_prefix('"')?;
        if let Some(after) = after.strip_prefix('}') {
            return Some((labels, after));
        }
        rest = after.strip_prefix(',')?;
    }
}

/// Where the text ends: at the mark, or at its own end if no mark is given. `None` if the mark is missing, or if
/// the text contains a character or an escape that is not allowed.
fn end(text: &str, mark: Option<char>) -> Option<usize> {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if Some(character) == mark {
            return Some(at);
        }
        if character == '\\' {
            let (_, escaped) = characters.next()?;
            if !['\\', 'n'].contains(&escaped) && Some(escaped) != mark {
                return None;
            }
        } else if character.is_control() {
            return None;
        }
    }
    mark.is_none().then_some(text.len())
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(is_part)
        && !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
}
