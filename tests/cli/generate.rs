//! Generated files: the schema of routes.toml, completions, the manual.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use portway::config::keys::{Key, Kind, ROOT, Table, Under};
use serde_json::Value;

use super::{directory, portway};

/// The page of `--help` of these words.
fn help(words: &str) -> String {
    let output = portway(directory().path(), &format!("{words} --help"));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = help("");
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !["", "help"].contains(name));
    names.map(str::to_owned).collect()
}

fn schema() -> Value {
    let output = portway(directory().path(), "schema");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every key below a schema, as docs/routes.md writes it, with the schema of its value.
fn properties(root: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    collect(root, root, "", &mut found);
    found
}

fn collect<'s>(
    root: &'s Value,
    table: &'s Value,
    prefix: &str,
    found: &mut BTreeMap<String, &'s Value>,
) {
    let part = |name| table.get(name).unwrap_or_else(|| panic!("{prefix}{name}"));
    assert_eq!(part("additionalProperties"), false, "{prefix}");
    for (key, value) in part("properties").as_object().unwrap() {
        let reference = |pointer| value.pointer(pointer).and_then(Value::as_str);
        match (reference("/$ref"), reference("/additionalProperties/$ref")) {
            (Some(to), _) => collect(root, at(root, to), &format!("{prefix}{key}."), found),
            (_, Some(to)) => collect(root, at(root, to), &format!("{prefix}{key}.N."), found),
            (None, None) => {
                if let Some(to) = reference("/anyOf/1/$ref") {
                    collect(root, at(root, to), &format!("{prefix}{key}."), found);
                } else if let Some(to) = reference("/items/anyOf/1/$ref") {
                    collect(root, at(root, to), &format!("{prefix}{key}[]."), found);
                }
                found.insert(format!("{prefix}{key}"), value);
            }
        }
    }
}

/// The target of a reference.
fn at<'s>(root: &'s Value, reference: &str) -> &'s Value {
    let target = root.pointer(reference.strip_prefix('#').unwrap());
    target.unwrap_or_else(|| panic!("{reference}"))
}

fn keys(table: Table, prefix: &str, found: &mut BTreeSet<String>) {
    for Key { name, under, .. } in table {
        match under {
            Under::Value(kind, _) => {
                if let Kind::Endpoints(table) = kind {
                    keys(table, &format!("{prefix}{name}[]."), found);
                } else if let Kind::DurationOr(_, table) = kind {
                    keys(table, &format!("{prefix}{name}."), found);
                }
                found.insert(format!("{prefix}{name}"));
            }
            Under::Table(table) => keys(table, &format!("{prefix}{name}."), found),
            Under::Named(table, _) => keys(table, &format!("{prefix}{name}.N."), found),
        }
    }
}

#[test]
fn the_schema_that_ships_is_the_one_that_is_printed() {
    let printed = String::from_utf8(portway(directory().path(), "schema").stdout).unwrap();
    let shipped = include_str!("../../deploy/routes.schema.json");
    assert!(
        printed == shipped,
        "write it anew: cargo run -- schema > deploy/routes.schema.json\n{printed}"
    );
}

#[test]
fn the_schema_has_exactly_the_keys_that_work_each_with_a_description() {
    let mut known = BTreeSet::new();
    keys(ROOT, "", &mut known);
    let schema = schema();
    let properties = properties(&schema);
    assert_eq!(properties.keys().cloned().collect::<BTreeSet<_>>(), known);
    for (key, value) in properties {
        assert!(value["description"].is_string(), "{key}: {value}");
        assert!(!value.to_string().contains("null"), "{key}: {value}");
    }
}

#[test]
fn the_defaults_of_the_schema_are_the_documented_ones() {
    let rows = include_str!("../../docs/routes.md").lines();
    let documented: BTreeMap<String, String> = rows
        .filter_map(|row| {
            let (key, rest) = row.strip_prefix("| `")?.split_once("` | ")?;
            let default = rest.split(" | ").next()?;
            // Other cells depend on the machine, or are not values.
            let value = default.strip_prefix('`')?.strip_suffix('`')?;
            let value: Value = serde_json::from_str(value).ok()?;
            Some((key.to_owned(), value.to_string()))
        })
        .collect();
    let schema = schema();
    let stated: BTreeMap<String, String> = properties(&schema)
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.get("default")?.to_string())))
        .collect();
    assert_eq!(stated, documented);
}

/// `deploy/checks/schema` tests with linters what else the schema refuses.
#[test]
fn the_schema_knows_the_closed_choices_and_what_must_be_there() {
    let schema = schema();
    let properties = properties(&schema);
    let choices = |key: &str| properties[key]["enum"].to_string();
    assert_eq!(choices("log.connections"), r#"["all","failures"]"#);
    assert_eq!(
        choices("backends.N.balance"),
        r#"["least_connections","round_robin","random","source_hash"]"#
    );
    for (table, required) in [
        ("/required", "listeners backends routes"),
        ("/$defs/Listener/required", "bind"),
        ("/$defs/Backend/required", "endpoints"),
        ("/$defs/Route/required", "backend"),
    ] {
        let stated = schema.pointer(table).unwrap().as_array().unwrap();
        let stated: Vec<&str> = stated.iter().map(|key| key.as_str().unwrap()).collect();
        assert_eq!(stated.join(" "), required);
    }
}

#[test]
fn each_shell_completes_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = portway(directory().path(), &format!("completions {shell}"));
        assert!(output.status.success(), "{output:?}");
        let script = String::from_utf8(output.stdout).unwrap();
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("server-name"), "{shell}");
    }
    assert_eq!(
        portway(directory().path(), "completions tcsh")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn bash_reads_its_completions() {
    let script = portway(directory().path(), "completions bash").stdout;
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn the_manual_has_a_page_for_each_command_with_its_options_and_examples() {
    let directory = directory();
    let output = portway(directory.path(), "man --directory share/man1");
    assert!(output.status.success(), "{output:?}");
    let pages = directory.path().join("share/man1");
    let mut names = BTreeSet::from(["portway.1".to_owned()]);
    for command in commands() {
        let name = format!("portway-{command}.1");
        // Hyphens and dots at the start of a line are escaped in roff.
        let page = fs::read_to_string(pages.join(&name))
            .unwrap()
            .replace('\\', "");
        let help = help(&command);
        let options = help.split([' ', '\n', ',']).filter(|word| {
            let name = word.strip_prefix("--");
            name.is_some_and(|it| it.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        });
        for option in options {
            assert!(page.contains(option), "{name}: {option}");
        }
        assert_eq!(page.contains(".SH EXAMPLES"), help.contains("Examples:"));
        assert_eq!(
            page.contains(".SH \"EXIT STATUS\"\n"),
            help.contains("Exit status:")
        );
        names.insert(name);
    }
    let written = fs::read_dir(&pages).unwrap();
    let written = written.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(written.collect::<BTreeSet<_>>(), names);

    let printed = portway(directory.path(), "man").stdout;
    assert_eq!(printed, fs::read(pages.join("portway.1")).unwrap());
}

#[test]
fn a_directory_that_cannot_be_written_is_told() {
    let output = portway(directory().path(), "man --directory routes.toml/man1");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("cannot write to routes.toml/man1: "),
        "{told}"
    );
}

#[test]
fn who_stops_reading_is_no_panic() {
    for line in ["schema", "completions zsh", "man"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_portway"))
            .args(line.split(' '))
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        assert!(output.stderr.is_empty(), "{line}: {output:?}");
    }
}
