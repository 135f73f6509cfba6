//! The faults of a routes.toml: what is wrong, where, and what to write instead.

mod found;
mod hidden;
mod told;

use std::fmt;
use std::mem;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::path::Path;
use found::First;
pub(super) use found::{Fault, Found};
pub use told::ToldFault;

/// Most bytes of a line that is shown with a mark under it; for a longer line, only the place is given.
const LONGEST_LINE: usize = 1000;

/// The errors and the warnings of one file, each in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The name of the file as the user gave it.
    file: String,
    /// The text of the file as a fault may show it. `None` if it could not be read as text.
    text: Option<String>,
    /// CRC-32 of the bytes that were read; `None` if the file could not be read.
    hash: Option<u32>,
    errors: First,
    warnings: First,
}

impl Faults {
    pub(super) fn new(file: &str, text: &str, [errors, warnings]: [Found; 2]) -> Self {
        let mut shown = text.to_owned();
        hidden::hide(&mut shown);
        Self {
            file: file.to_owned(),
            text: Some(shown),
            hash: Some(crc32fast::hash(text.as_bytes())),
            errors: errors.first(text),
            warnings: warnings.first(text),
        }
    }

    /// The faults of a file with one error.
    pub(super) fn one(file: &str, text: &str, error: Fault) -> Self {
        let mut errors = Found::default();
        errors.add(error);
        Self::new(file, text, [errors, Found::default()])
    }

    /// The fault of a file that could not be read as text. `hash` is that of the bytes that were read.
    pub(super) fn unreadable(
        file: &str,
        message: String,
        help: Option<String>,
        hash: Option<u32>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            text: None,
            hash,
            errors: First {
                faults: vec![Fault::new(0..0, Path::default(), message, help)],
                more: 0,
            },
            warnings: First::default(),
        }
    }

    /// The same faults, of a content with this hash.
    #[must_use]
    pub(super) fn of_content(self, hash: u32) -> Self {
        let hash = Some(hash);
        Self { hash, ..self }
    }

    /// CRC-32 of the bytes with these faults; `None` if the file could not be read.
    pub const fn hash(&self) -> Option<u32> {
        self.hash
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.errors.faults.is_empty() && self.warnings.faults.is_empty()
    }

    /// Turns each warning into an error.
    #[must_use]
    pub fn strict(mut self) -> Self {
        let [mut errors, warnings] = [&mut self.errors, &mut self.warnings].map(mem::take);
        errors.faults.extend(warnings.faults);
        errors.more += warnings.more;
        errors.keep_shown();
        self.errors = errors;
        self
    }

    /// Renders the faults for people as rustc does, errors first, with colours on a terminal.
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let kinds = [
            (&self.errors, Level::ERROR),
            (&self.warnings, Level::WARNING),
        ];
        let groups = kinds.iter().flat_map(|(found, level)| {
            let faults = found.faults.iter().map(|fault| self.group(fault, level));
            let more = self.rest(found).into_iter();
            faults.chain(more.map(|title| Group::with_title(level.clone().primary_title(title))))
        });
        let shown: Vec<String> = groups.map(|group| renderer.render(&[group])).collect();
        shown.join("\n\n")
    }

    /// One line for each error, for the program log: place, key, what is wrong, the second place, what to write.
    /// The last line counts the errors that are left out.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.told(&self.errors)
    }

    /// The same for the warnings.
    pub fn warning_lines(&self) -> impl Iterator<Item = String> {
        self.told(&self.warnings)
    }

    fn told(&self, found: &First) -> impl Iterator<Item = String> {
        let lines = found.faults.iter().map(|fault| {
            let place = match self.text {
                Some(_) => self.place_in_file(fault.span.start),
                None => self.file.clone(),
            };
            let mut line = format!("{place}: {}", title(fault));
            let help = fault.help.clone();
            for more in self.other(fault).into_iter().chain(help) {
                line = format!("{line}; {more}");
            }
            line
        });
        lines.chain(self.rest(found))
    }

    /// How many faults are left out.
    fn rest(&self, found: &First) -> Option<String> {
        (found.more > 0).then(|| format!("{} more in {}", found.more, self.file))
    }

    /// Where the second place of a fault is.
    fn other(&self, fault: &Fault) -> Option<String> {
        let (span, label) = fault.other.as_ref()?;
        Some(format!("{label} is at {}", self.place_in_file(span.start)))
    }

    fn place_in_file(&self, byte: usize) -> String {
        let (line, column) = self.place(byte);
        format!("{}:{line}:{column}", self.file)
    }

    /// Line and column of a byte of the file, from 1.
    fn place(&self, byte: usize) -> (usize, usize) {
        let text = self.text.as_deref().unwrap_or_default();
        let before = text.get(..byte).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        (number, line.chars().count() + 1)
    }

    fn group<'f>(&'f self, fault: &'f Fault, level: &Level<'static>) -> Group<'f> {
        let Some(text) = &self.text else {
            let title = format!("{}: {}", self.file, fault.message);
            return with_help(Group::with_title(level.clone().primary_title(title)), fault);
        };
        let title = level.clone().primary_title(title(fault));
        let lines = lines_of(text, fault);
        let shown = text.get(lines.clone()).unwrap_or_default();
        if shown.lines().any(|line| line.len() > LONGEST_LINE) {
            let (line, column) = self.place(fault.span.start);
            let place = Origin::path(self.file.as_str()).line(line);
            let mut group = title.element(place.char_column(column));
            if let Some(other) = self.other(fault) {
                group = group.element(Level::NOTE.message(other));
            }
            return with_help(group, fault);
        }
        let within = |span: &Range<usize>| {
            let at = |byte: usize| byte.saturating_sub(lines.start).min(shown.len());
            at(span.start)..at(span.end)
        };
        let mut snippet = Snippet::source(shown)
            .path(self.file.as_str())
            .line_start(self.place(lines.start).0)
            .annotation(AnnotationKind::Primary.span(within(&fault.span)));
        if let Some((span, label)) = &fault.other {
            let other = AnnotationKind::Context.span(within(span));
            snippet = snippet.annotation(other.label(label.as_str()));
        }
        with_help(title.element(snippet), fault)
    }
}

/// The lines from the first place of a fault to its last, as bytes of the file.
fn lines_of(text: &str, fault: &Fault) -> Range<usize> {
    let other = fault.other.as_ref().map(|(span, _)| span);
    let spans = || [&fault.span].into_iter().chain(other);
    let first = spans().map(|span| span.start).min().unwrap_or_default();
    let last = spans().map(|span| span.end).max().unwrap_or_default();
    let before = text.get(..first).unwrap_or_default();
    let behind = text.get(last..).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let end = behind.find('\n').map_or(text.len(), |end| last + end + 1);
    start..end
}

/// The key, if there is one, and what is wrong with it.
fn title(fault: &Fault) -> String {
    if fault.path == Path::default() {
        fault.message.clone()
    } else {
        format!("{}: {}", fault.path, fault.message)
    }
}

fn with_help<'f>(group: Group<'f>, fault: &'f Fault) -> Group<'f> {
    match &fault.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

/// Without colours.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}
