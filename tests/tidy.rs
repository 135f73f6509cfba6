//! The rules of CONTRIBUTING.md that neither rustc nor clippy checks.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/english.rs"]
mod english;

/// The modules of the library from top to bottom, as ARCHITECTURE.md draws them. A module imports
/// only those below it.
const LAYERS: [&str; 21] = [
    "cli",
    "app",
    "doctor",
    "control",
    "admin",
    "worker",
    "conn",
    "config",
    "snapshot",
    "admission",
    "credentials",
    "dial",
    "relay",
    "backend",
    "status",
    "telemetry",
    "outcome",
    "routing",
    "wire",
    "tls",
    "net",
];

/// Lines that a file in `src` must not reach; files of tests are exempt.
const MOST_LINES: usize = 350;

/// Files that are better long, with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn imports_point_down() {
    let mut faults = Vec::new();
    for file in shipped() {
        let Some(from) = position(module(&file.name)) else {
            continue;
        };
        let code = file.code();
        for target in imports(&code) {
            let to = position(target);
            if to.is_none_or(|to| to < from) {
                faults.push(format!("{}: {} -> {target}", file.name, LAYERS[from]));
            }
        }
        // Such a path would bypass this test.
        if code.contains("super::super::") {
            faults.push(format!("{}: super::super:: (write crate::)", file.name));
        }
    }
    none("imports point up, or to a module without a layer", &faults);
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::net::Leg; use crate::{tls, relay::{self, end::{A, B}},\n conn::C}; \
                fn f(x: crate::app::Y) {}";
    assert_eq!(imports(code), ["net", "tls", "relay", "conn", "app"]);
}

#[test]
fn the_layers_are_the_modules_in_the_order_of_the_architecture() {
    let lib = read("src/lib.rs");
    let modules: BTreeSet<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(modules, BTreeSet::from(LAYERS));

    let architecture = read("ARCHITECTURE.md");
    let rows = architecture
        .lines()
        .skip_while(|line| !line.starts_with("| layer |"));
    let modules = rows
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .filter_map(|row| row.split('|').nth(2))
        .flat_map(words)
        .filter(|name| *name != "main");
    assert_eq!(modules.collect::<Vec<_>>(), LAYERS);
}

#[test]
fn unsafe_stays_in_net() {
    let has_unsafe = |file: &File| words(&file.code()).any(|word| word == "unsafe");
    let files = shipped().into_iter().filter(has_unsafe);
    let names: Vec<String> = files
        .map(|file| file.name)
        .filter(|name| module(name) != "net")
        .collect();
    none("unsafe outside src/net", &names);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together, so that this file does not break its own rule.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("allow(", "dead_code"),
    ];
    let mut faults = Vec::new();
    for file in rust_files() {
        for (index, line) in file.text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                faults.push(format!("{}:{}: {mark}", file.name, index + 1));
            }
        }
    }
    none("left for later", &faults);
}

#[test]
fn files_are_short() {
    let long: Vec<String> = shipped()
        .into_iter()
        .filter(|file| file.text.lines().count() >= MOST_LINES)
        .map(|file| file.name)
        .collect();
    let excused: Vec<&str> = LONG_FILES.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        long, excused,
        "files of {MOST_LINES} lines and more, and those in LONG_FILES"
    );
}

#[test]
fn texts_name_no_machine_and_no_ticket() {
    let mut faults = Vec::new();
    for file in text_files() {
        for (index, line) in file.text.lines().enumerate() {
            let path = [
                "/root/",
                "/home/",
                concat!("/work", "/"),
                concat!("/tmp", "/wt"),
            ];
            let found = path.into_iter().find(|path| line.contains(path));
            if file.name != "tests/tidy.rs" && (found.is_some() || names_ticket(line)) {
                faults.push(format!("{}:{}: {line}", file.name, index + 1));
            }
        }
    }
    none("paths of one machine, or numbers of tickets", &faults);
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo test", "cargo run --example lab"] {
        assert!(
            readme.lines().any(|line| line.trim() == command),
            "README.md: {command}"
        );
    }
}

// === reading

struct File {
    /// The path from the root of the repository.
    name: String,
    text: String,
}

impl File {
    /// The text without comments.
    fn code(&self) -> String {
        let code = self.text.lines().filter_map(|line| line.split("//").next());
        code.collect::<Vec<_>>().join("\n")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text files of the repository, in the order of their names.
fn text_files() -> Vec<File> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    let files = paths.into_iter().filter_map(|path| {
        let name = path.strip_prefix(root()).ok()?.to_str()?.to_owned();
        // A file that is not UTF-8 is data.
        let text = String::from_utf8(fs::read(&path).ok()?).ok()?;
        Some(File { name, text })
    });
    files.collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    const NOT_OURS: [&str; 4] = [".git", "target", "fuzz/corpus", "fuzz/artifacts"];
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if NOT_OURS.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

fn rust_files() -> Vec<File> {
    let mut files = text_files();
    files.retain(|file| {
        Path::new(&file.name)
            .extension()
            .is_some_and(|it| it == "rs")
    });
    assert!(files.len() > 40, "the sources are not here");
    files
}

/// The files that go into the binary.
fn shipped() -> Vec<File> {
    let mut files = rust_files();
    files.retain(|file| {
        let is_test = file.name.ends_with("/tests.rs") || file.name.contains("/tests/");
        file.name.starts_with("src/") && !is_test
    });
    files
}

/// The module of the library that a file belongs to.
fn module(name: &str) -> &str {
    let inner = name.strip_prefix("src/").unwrap_or(name);
    inner.split(['/', '.']).next().unwrap_or_default()
}

fn position(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

/// The modules in `crate::x` and `crate::{x, y::{z}}`.
fn imports(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(list) => found.extend(items(list).filter_map(|item| words(item).next())),
            None => found.extend(words(after).next()),
        }
    }
    found
}

/// The items of a list up to its closing brace; braces in an item stay together.
fn items(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 1_usize;
    let end = list.find(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let mut depth = 0_usize;
    list[..end.unwrap_or(list.len())].split(move |character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    code.split(move |character| !is_part(character))
        .filter(|word| !word.is_empty())
}

/// Whether a line has `#` and a number, as issue trackers write it.
fn names_ticket(line: &str) -> bool {
    let mut parts = line.split('#');
    let mut before = parts.next().unwrap_or_default();
    parts.any(|after| {
        let stands_alone = before.is_empty() || before.ends_with([' ', '(']);
        before = after;
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        stands_alone && (1..=5).contains(&digits)
    })
}

#[track_caller]
fn none<T: std::fmt::Debug>(what: &str, faults: &[T]) {
    assert!(faults.is_empty(), "{what}: {faults:#?}");
}
