//! A table, for Markdown and for a terminal.

use std::fmt::Write;

/// Cells under headings, with a title and a sentence that explains them.
pub(crate) struct Rows {
    title: String,
    about: &'static str,
    headings: Vec<String>,
    lines: Vec<Vec<String>>,
}

impl Rows {
    pub(crate) fn new<H: Into<String>>(
        title: impl Into<String>,
        about: &'static str,
        headings: impl IntoIterator<Item = H>,
    ) -> Self {
        Self {
            title: title.into(),
            about,
            headings: headings.into_iter().map(Into::into).collect(),
            lines: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.lines.push(row);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// A section of a page. `level` is the mark of its heading, such as `##`.
    pub(crate) fn markdown(&self, level: &str) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let about = match self.about {
            "" => String::new(),
            about => format!("{about}\n\n"),
        };
        let head = line(&self.headings);
        let rule = "---|".repeat(self.headings.len());
        let rows: String = self.lines.iter().map(|row| line(row)).collect();
        format!("{level} {}\n\n{about}{head}|{rule}\n{rows}", self.title)
    }

    /// Aligned columns.
    pub(crate) fn text(&self) -> String {
        let lines = || std::iter::once(&self.headings).chain(&self.lines);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let mut text = format!("{}\n", self.title);
        for line in lines() {
            let mut row = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                // Writing to a string cannot fail.
                let _ok = write!(row, "  {cell:<width$}");
            }
            text += row.trim_end();
            text.push('\n');
        }
        text
    }
}
