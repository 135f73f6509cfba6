//! Every row of bad inputs (B) and faults (F) that the relay must bear has a test whose name begins
//! with it: `b07_…`, or `b06_b07_…` for two of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The rows, as they stand in names.
fn rows() -> BTreeSet<String> {
    let inputs = (1..=82).chain([84]).map(|row| format!("b{row:02}"));
    let faults = [
        1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 21, 25, 26, 28, 29, 34, 35,
    ];
    inputs
        .chain(faults.map(|row| format!("f{row:02}")))
        .collect()
}

/// The names of the tests of a source file: functions, and rows of the macros of `bad_inputs`.
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

/// The rows that a name begins with.
fn named(test: &str) -> impl Iterator<Item = &str> {
    let is_row = |word: &str| {
        let digits = word.strip_prefix(['b', 'f']).unwrap_or_default();
        digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    test.split('_')
        .filter(|word| *word != "and")
        .take_while(move |word| is_row(word))
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
fn every_row_has_a_test_that_names_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "tests"].map(|under| sources(&root.join(under)));
    let tests: Vec<&str> = sources.iter().flatten().flat_map(|it| tests(it)).collect();
    let has: BTreeSet<&str> = tests.into_iter().flat_map(named).collect();
    let lacking: Vec<_> = rows()
        .into_iter()
        .filter(|row| !has.contains(row.as_str()))
        .collect();
    assert!(lacking.is_empty(), "rows without a test: {lacking:?}");
}

#[test]
fn rows_are_read_out_of_functions_and_macros() {
    let source = "#[test]\n#[cfg(unix)]\nfn b01_f02_one() {}\nfn b03_helper() {}\n\
                  rejected! {\n    b05_and_f06_row: [1] => Fin;\n        b07::part,\n}\n\
                  struct Other {\n    b08_field: u8,\n}\n";
    let tests = tests(source);
    assert_eq!(tests, ["b01_f02_one", "b05_and_f06_row"]);
    let named: Vec<_> = tests.into_iter().flat_map(named).collect();
    assert_eq!(named, ["b01", "f02", "b05", "f06"]);
}
