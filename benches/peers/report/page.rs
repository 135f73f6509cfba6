//! The page around the tables and plots.

use super::Results;
use super::figures::Figures;
use super::medians;
use super::names;
use super::plots::Plot;
use super::rows::Rows;
use super::targets::{self, Score};

const HOW_TO_READ: &str = "\
Each round runs all scenarios, and in each all subjects one after the other, in an order drawn anew each time. The
machine changes from minute to minute, so only ratios inside a round are compared, and the tables give the median of the
rounds' ratios. For a cost (CPU, memory, latency) a ratio under 1 is better than the peer; for a rate (GB/s,
connections/s) one over 1. A difference under 10 % shows nothing. Client, backend and relay share the cores of one
machine, so GB/s, connections/s and p99 are partly a matter of who runs when; figures of CPU are more robust.

`direct` has no relay: it shows what client and backend can do. `floor` is the least that a relay can be: a loop without
routes, limits, log or metrics. `portway` writes a line for each connection into a file; the peers log nothing.
`portway-user` is portway without privileges, whose pipes are few. nginx has its default `proxy_buffer_size` of 16 KiB.
The latency of messages beside downloads counts from when a message was due, not from when it could be sent. A dash
means that nothing was measured; (2 of 3) means that some rounds failed.
";

/// `README.md`.
pub(crate) fn markdown(results: &Results, figures: &Figures, plots: &[Plot]) -> String {
    let mut blocks = vec![
        "# portway beside its peers\n".to_owned(),
        "Written by the benchmark; the samples are in [results.json](results.json).\n".to_owned(),
        format!("```text\n{}\n```\n", results.command),
        format!(
            "- Date: {}\n- Machine: {}\n- Network: {}\n- Threads of each relay: {}\n- Rounds: {}; the \
             order of the subjects was drawn with seed {}\n",
            results.date,
            results.machine,
            results.network,
            results.workers,
            results.rounds,
            results.seed,
        ),
        subjects(results).markdown("##"),
    ];
    let notes = notes(results);
    blocks.extend(notes.iter().map(|notes| notes.markdown("##")));
    blocks.push(format!("## How to read it\n\n{HOW_TO_READ}"));
    let (tables, verdict) = verdict(figures);
    blocks.push(format!("## Targets\n\n{verdict}\n"));
    blocks.extend(tables.iter().map(|table| table.markdown("###")));
    blocks.push("## Plots\n".to_owned());
    let image = |plot: &Plot| format!("![{}]({})\n", plot.title, plot.file);
    blocks.extend(plots.iter().map(image));
    blocks.push("## Medians\n".to_owned());
    for group in medians::groups(figures) {
        blocks.push(format!("### {}\n", group.title));
        blocks.extend(group.tables.iter().map(|table| table.markdown("####")));
    }
    blocks.join("\n")
}

/// The tables for a terminal.
pub(crate) fn text(results: &Results, figures: &Figures) -> String {
    let mut blocks = Vec::new();
    for group in medians::groups(figures) {
        let tables = group.tables.iter();
        blocks.extend(tables.map(|table| format!("{}: {}", group.title, table.text())));
    }
    let (tables, verdict) = verdict(figures);
    blocks.extend(tables.iter().map(Rows::text));
    blocks.extend(notes(results).iter().map(Rows::text));
    blocks.push(verdict + "\n");
    blocks.join("\n")
}

/// The tables of the targets that have rows, and a sentence about them.
fn verdict(figures: &Figures) -> (Vec<Rows>, String) {
    let mut score = Score::default();
    let ratios = targets::ratios(figures, &mut score);
    let mut tables = vec![ratios, targets::alone(figures, &mut score)];
    tables.retain(|table| !table.is_empty());
    let Score {
        met,
        missed,
        unknown,
    } = score;
    let verdict = format!("Targets met: {met}; missed: {missed}; not measured: {unknown}.");
    (tables, verdict)
}

fn subjects(results: &Results) -> Rows {
    let mut rows = Rows::new("Subjects", "", ["subject", "version"]);
    for subject in &results.subjects {
        rows.push(vec![subject.name.clone(), line(&subject.version)]);
    }
    rows
}

/// Scenarios that could not be run, and figures that are doubtful.
fn notes(results: &Results) -> Vec<Rows> {
    let mut tables = Vec::new();
    for (title, notes) in [("Skipped", &results.skipped), ("Doubts", &results.notes)] {
        let mut rows = Rows::new(title, "", ["what", "why"]);
        for note in notes {
            rows.push(vec![line(&note.what), line(&note.why)]);
        }
        tables.push(rows);
    }
    tables.retain(|table| !table.is_empty());
    tables
}

/// The text on one line, as a cell needs it.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        names::NONE.to_owned()
    } else {
        words.join(" ")
    }
}
