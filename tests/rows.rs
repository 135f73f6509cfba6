//! Every row of bad inputs (b) and faults (f) that portway must withstand is in `ROWS.md`, and has a
//! test whose name begins with it: `b07_…`, or `b06_b07_…` for two of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROWS: &str = include_str!("ROWS.md");

/// The cells of each row of both tables, without their headings.
fn rows() -> Vec<Vec<&'static str>> {
    let is_heading = |line: &str| line.starts_with("| row |") || line.starts_with("|---");
    ROWS.lines()
        .filter(|line| line.starts_with('|') && !is_heading(line))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The names of the tests of a source file: functions, and rows of the macros of `bad_inputs` and `front_inputs`.
fn tests(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let (mut marked, mut in_macro) = (false, false);
    for line in source.lines() {
        let code = line.trim_start();
        if code.starts_with("#[test]") {
            marked = true;
        } else if let Some((_, function)) = code.split_once("fn ") {
            names.extend(function.split_once('(').map(|it| it.0).filter(|_| marked));
            marked = false;
        }
        match line {
            "rejected! {" | "routed! {" => in_macro = true,
            "}" => in_macro = false,
            _ => {}
        }
        let row = line
            .strip_prefix("    ")
            .and_then(|row| row.split_once(':'));
        names.extend(row.map(|it| it.0).filter(|name| in_macro && is_name(name)));
    }
    names
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_row(word: &str) -> bool {
    let digits = word.strip_prefix(['b', 'f']).unwrap_or_default();
    matches!(digits.len(), 2 | 3) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The rows that a name begins with.
fn named(test: &str) -> impl Iterator<Item = &str> {
    test.split('_')
        .filter(|word| *word != "and")
        .take_while(|word| is_row(word))
}

fn sources(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
    found
}

#[test]
fn every_row_has_a_test_that_names_it_and_every_test_names_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "tests"].map(|under| sources(&root.join(under)));
    let tests = sources.iter().flatten().flat_map(|it| tests(it));
    let tested: BTreeSet<&str> = tests.flat_map(named).collect();
    let told: BTreeSet<&str> = rows().iter().map(|cells| cells[0]).collect();
    let untested: Vec<_> = told.difference(&tested).collect();
    assert!(untested.is_empty(), "rows without a test: {untested:?}");
    let untold: Vec<_> = tested.difference(&told).collect();
    assert!(untold.is_empty(), "not in tests/ROWS.md: {untold:?}");
}

#[test]
fn rows_are_whole_and_in_order() {
    let rows = rows();
    for cells in &rows {
        let whole = cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty());
        assert!(whole && is_row(cells[0]), "{cells:?}");
    }
    for two in rows.windows(2) {
        let [before, after] = [two[0][0], two[1][0]];
        // A letter and a number, which may have three digits.
        let place = |row: &'static str| (row.as_bytes()[0], row.len(), row);
        assert!(place(before) < place(after), "{before} before {after}");
    }
}

#[test]
fn rows_are_read_out_of_functions_and_macros() {
    let source = "#[test]\n#[cfg(unix)]\nfn b01_f102_one() {}\nfn b03_helper() {}\n\
                  rejected! {\n    b05_and_f06_row: [1] => Fin;\n        b07::part,\n}\n\
                  struct Other {\n    b08_field: u8,\n}\n";
    let tests = tests(source);
    assert_eq!(tests, ["b01_f102_one", "b05_and_f06_row"]);
    let named: Vec<_> = tests.into_iter().flat_map(named).collect();
    assert_eq!(named, ["b01", "f102", "b05", "f06"]);
}
