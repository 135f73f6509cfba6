//! The table that the lab prints.

/// One promise, what both ends saw, and what does not hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// The topology.
    pub(crate) id: &'static str,
    pub(crate) name: String,
    /// One-way or mutual TLS with the server.
    pub(crate) tls: String,
    /// The server name that the far end saw.
    pub(crate) server_name: String,
    /// The client certificate that the far end saw.
    pub(crate) client: String,
    /// The server certificate that the near end saw.
    pub(crate) server: String,
    /// The server that answered the near end, or the alert that it got.
    pub(crate) answer: String,
    /// Body bytes that the near end sent and received.
    pub(crate) bytes: String,
    /// One sentence per fault.
    pub(crate) faults: Vec<String>,
}

const HEAD: [&str; 9] = [
    "",
    "",
    "who reached whom",
    "TLS",
    "server name",
    "client certificate",
    "server certificate",
    "answered by",
    "bytes out/in",
];

/// How to read the columns.
const LEGEND: &str = "\
Server name and client certificate are what the far end saw, server certificate and answer what the\n\
near end got, bytes those of the HTTP bodies or frames. Everything went through portway.\n\n";

/// The rows as text, each column as wide as its widest cell.
pub(crate) fn render(rows: &[Row]) -> String {
    let cells: Vec<[&str; 9]> = std::iter::once(HEAD)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut widths = [0; 9];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let no_faults = Vec::new();
    let faults = std::iter::once(&no_faults).chain(rows.iter().map(|row| &row.faults));
    let mut text = LEGEND.to_owned();
    for (row, faults) in cells.iter().zip(faults) {
        let padded = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        for fault in faults {
            text.push_str("      ");
            text.push_str(fault);
            text.push('\n');
        }
    }
    text
}

impl Row {
    /// A row without a fault so far.
    pub(crate) fn new(id: &'static str, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Notes a fault unless `got` equals `expected`.
    pub(crate) fn check(&mut self, what: &str, got: &str, expected: &str) {
        if got != expected {
            self.faults
                .push(format!("{what}: {got}, expected {expected}"));
        }
    }

    fn cells(&self) -> [&str; 9] {
        let result = if self.faults.is_empty() {
            "ok  "
        } else {
            "FAIL"
        };
        [
            result,
            self.id,
            &self.name,
            &self.tls,
            &self.server_name,
            &self.client,
            &self.server,
            &self.answer,
            &self.bytes,
        ]
    }
}
