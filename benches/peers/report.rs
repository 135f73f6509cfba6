//! The report of a run: the figures as JSON, tables of ratios and medians, and plots. It measures nothing,
//! so it can be made again from `results.json`.

mod figures;
mod medians;
mod names;
mod page;
mod plots;
mod rows;
mod targets;

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::results::{Figure, Results, Sample, Scenario};
use figures::Figures;

/// Writes `results.json`, the plots and `README.md` into a directory, and creates it if it is missing.
pub(crate) fn write(results: &Results, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("results.json"), json(results)?)?;
    let figures = Figures::new(results);
    let plots = plots::draw(&figures)?;
    for plot in &plots {
        fs::write(directory.join(&plot.file), &plot.svg)?;
    }
    let page = page::markdown(results, &figures, &plots);
    fs::write(directory.join("README.md"), page)
}

/// The same tables for a terminal.
pub(crate) fn table(results: &Results) -> String {
    page::text(results, &Figures::new(results))
}

/// JSON with one sample per line in a fixed order, so that two runs can be compared with `diff`.
fn json(results: &Results) -> io::Result<String> {
    let mut samples = results.samples.clone();
    let position = |sample: &Sample| {
        let mut subjects = results.subjects.iter();
        subjects.position(|subject| subject.name == sample.subject)
    };
    samples.sort_by_key(|sample| {
        (
            sample.scenario,
            sample.figure,
            position(sample),
            sample.round,
        )
    });
    for sample in &mut samples {
        sample.value = figures::rounded(sample.value);
    }
    let Value::Object(fields) = serde_json::to_value(Results {
        samples,
        ..results.clone()
    })?
    else {
        return Err(io::Error::other("the results are not a JSON object"));
    };
    let lines = fields
        .into_iter()
        .map(|(name, value)| match value.as_array() {
            Some(items) if !items.is_empty() => {
                let items: Vec<String> = items.iter().map(|item| format!("  {item}")).collect();
                format!("{name:?}: [\n{}\n]", items.join(",\n"))
            }
            _ => format!("{name:?}: {value}"),
        });
    let lines: Vec<String> = lines.collect();
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}
