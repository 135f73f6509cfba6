//! What is wrong with a routes.toml, where, and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use toml::de::{DeTable, DeValue};

/// More faults than anybody repairs in one go; a file of garbage has thousands.
const SHOWN: usize = 50;

/// The key that a fault is about: `backends.fleet.endpoints[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// One thing that is wrong with the file, or (as a warning) probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Bytes of the file.
    pub(super) span: Range<usize>,
    /// The key; empty for the file as a whole.
    pub(super) path: Path,
    /// What is wrong.
    pub(super) message: String,
    /// What to write.
    pub(super) help: Option<String>,
    /// A second place that takes part, and which part.
    pub(super) other: Option<(Range<usize>, String)>,
}

/// The faults of one file, or its warnings, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The name of the file as the user gave it.
    file: String,
    /// `None` if the file could not be read.
    text: Option<String>,
    all: Vec<Fault>,
}

impl Path {
    /// The path of these keys.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(
            keys.iter()
                .map(|key| Step::Key((*key).to_owned()))
                .collect(),
        )
    }

    /// The path of a key below this one.
    pub(super) fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Self(steps)
    }

    /// The path of an element of this array.
    pub(super) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The keys from the root.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }

    /// Where it stands: the value; of a table, its name; of what is missing, the table around it.
    pub(super) fn span(&self, file: &DeTable<'_>) -> Range<usize> {
        let mut span = 0..0;
        let mut table = Some(file);
        let mut array = None;
        for step in &self.0 {
            let value = match step {
                Step::Key(key) => {
                    let Some((key, value)) = table.and_then(|t| t.get_key_value(key.as_str()))
                    else {
                        return span;
                    };
                    span = if value.get_ref().is_table() {
                        key.span()
                    } else {
                        value.span()
                    };
                    value
                }
                Step::Index(index) => {
                    let Some(value) =
                        array.and_then(|array: &toml::de::DeArray<'_>| array.get(*index))
                    else {
                        return span;
                    };
                    span = value.span();
                    value
                }
            };
            table = value.get_ref().as_table();
            array = value.get_ref().as_array();
        }
        span
    }

    /// The path of the innermost key whose value covers a place.
    pub(super) fn at(file: &DeTable<'_>, place: &Range<usize>) -> Self {
        let mut path = Self::default();
        let mut table = Some(file);
        while let Some((key, value)) = table.and_then(|table| {
            (table.iter()).find(|(_, value)| covers(value.get_ref(), &value.span(), place))
        }) {
            path = path.key(key.as_ref());
            if let Some(array) = value.get_ref().as_array()
                && let Some(index) = array.iter().position(|v| contains(&v.span(), place))
            {
                path = path.index(index);
            }
            table = value.get_ref().as_table();
        }
        path
    }
}

/// The span of a table is that of its header: what it covers is what its values cover.
fn covers(value: &DeValue<'_>, span: &Range<usize>, place: &Range<usize>) -> bool {
    contains(span, place)
        || value.as_table().is_some_and(|table| {
            (table.values()).any(|value| covers(value.get_ref(), &value.span(), place))
        })
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

impl Faults {
    pub(super) fn new(file: &str, text: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.span.start);
        Self {
            file: file.to_owned(),
            text: Some(text.to_owned()),
            all: faults,
        }
    }

    /// The file could not be read as text.
    pub(super) fn unreadable(file: &str, message: String, help: Option<String>) -> Self {
        let fault = Fault {
            span: 0..0,
            path: Path::default(),
            message,
            help,
            other: None,
        };
        Self {
            file: file.to_owned(),
            text: None,
            all: vec![fault],
        }
    }

    /// CRC-32 of the file, if it could be read as text.
    pub fn hash(&self) -> Option<u32> {
        let text = self.text.as_deref()?;
        Some(crc32fast::hash(text.as_bytes()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// As errors, in the look of rustc: for people, with colours on a terminal.
    pub fn render(&self, colours: bool) -> String {
        self.render_as(&Level::ERROR, colours)
    }

    /// As warnings.
    pub fn render_warnings(&self, colours: bool) -> String {
        self.render_as(&Level::WARNING, colours)
    }

    /// One line each, for the program log: place, key, what is wrong, what to write.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.all.iter().map(|fault| {
            let before = self
                .text
                .as_deref()
                .and_then(|text| text.get(..fault.span.start));
            let before = before.unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .map_or(0, |tail| tail.chars().count())
                + 1;
            let help = fault.help.as_deref().map(|help| format!("; {help}"));
            format!(
                "{}:{line}:{column}: {}: {}{}",
                self.file,
                fault.path,
                fault.message,
                help.unwrap_or_default()
            )
        })
    }

    fn render_as(&self, level: &Level<'static>, colours: bool) -> String {
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut groups: Vec<Group<'_>> = (self.all.iter().take(SHOWN))
            .map(|fault| self.group(fault, level))
            .collect();
        if let Some(more @ 1..) = self.all.len().checked_sub(SHOWN) {
            let title = format!("{more} more in {}", self.file);
            groups.push(Group::with_title(level.clone().primary_title(title)));
        }
        let shown: Vec<String> = (groups.into_iter())
            .map(|group| renderer.render(&[group]))
            .collect();
        shown.join("\n\n")
    }

    fn group<'f>(&'f self, fault: &'f Fault, level: &Level<'static>) -> Group<'f> {
        let Some(text) = &self.text else {
            let title = format!("{}: {}", self.file, fault.message);
            return with_help(Group::with_title(level.clone().primary_title(title)), fault);
        };
        let title = match fault.path.0.as_slice() {
            [] => fault.message.clone(),
            _ => format!("{}: {}", fault.path, fault.message),
        };
        let mut snippet = Snippet::source(text.as_str())
            .path(self.file.as_str())
            .annotation(AnnotationKind::Primary.span(fault.span.clone()));
        if let Some((span, label)) = &fault.other {
            let other = AnnotationKind::Context.span(span.clone());
            snippet = snippet.annotation(other.label(label.as_str()));
        }
        with_help(level.clone().primary_title(title).element(snippet), fault)
    }
}

fn with_help<'f>(group: Group<'f>, fault: &'f Fault) -> Group<'f> {
    match &fault.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if count == 0 { "" } else { "." };
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !key.is_empty() && key.chars().all(bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Errors without colours.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}
