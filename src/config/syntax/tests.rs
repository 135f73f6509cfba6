use proptest::prelude::*;
use toml::de::DeTable;

use super::*;

/// The statements of a text.
fn parts(text: &str) -> Vec<&str> {
    let tokens = tokens(text);
    let part = |range: Range<usize>| {
        let part = &tokens[range];
        &text[part[0].span.start..part[part.len() - 1].span.end]
    };
    statements(text, &tokens).into_iter().map(part).collect()
}

#[test]
fn a_statement_ends_where_the_next_one_begins_also_if_its_brackets_are_open() {
    let text = "[listeners.agents] # here\nbind = [\n  \"[::]:443\", # all\n\nallow_clients = [\n\
                \"10.0.0.0/8\"\n]\n\n[backends.fleet\nendpoints = [\"a:1\", # one\n\n[routes.fleet]\nx = \"\"\"y\nz = 1";
    assert_eq!(
        parts(text),
        [
            "[listeners.agents] # here",
            "bind = [\n  \"[::]:443\", # all\n",
            "allow_clients = [\n\"10.0.0.0/8\"\n]",
            "[backends.fleet",
            "endpoints = [\"a:1\", # one\n",
            "[routes.fleet]",
            "x = \"\"\"y",
            "z = 1",
        ]
    );
    let tables = "routes = {\n fleet = { backend = \"fleet\" },\n other = 1\n}\nx =\n [\"y\"]\n";
    let [one, two] = &parts(tables)[..] else {
        panic!("{:?}", parts(tables));
    };
    assert!(
        one.ends_with("1\n}") && two.ends_with("[\"y\"]"),
        "{one} {two}"
    );
}

#[test]
fn faults_of_a_line_with_odd_spaces_have_their_place() {
    let told = |text: &str| {
        let faults = crate::config::parse(text, "routes.toml").map(|loaded| loaded.warnings);
        faults.unwrap_or_else(|faults| faults).render(true)
    };
    for line in [
        "\"\"\"\"\"\"\u{a0}[",
        "a \u{a0}b",
        "\u{3000}= 1",
        "[a.\u{a0}]",
        "limits.drain_timeout = 1  \u{a0}s",
        "a = \"b\"\u{a0}",
    ] {
        assert!(told(line).contains("1:"), "{line}");
    }
}

const PIECES: &[&str] = &[
    "a",
    "=",
    "\"",
    "\"\"\"",
    "'",
    "'''",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "\n",
    " ",
    "\\q",
    "x",
    ".",
    "#",
    "[a]\n",
    "a=\"b\"\n",
    "1",
    "true",
    "\r",
    "\u{fc}",
    "\u{201c}",
    "\u{a0}",
    ":",
    ";",
    "//",
    "[[a]]\n",
    "[listeners.a]\n",
    "bind=[",
    "\"b\"",
    "workers=4\n",
    "admin={bind=",
    "[routes",
    "\u{1}",
    "1979-05-27 07:32:00",
    "\u{feff}",
];

proptest! {
    #[test]
    fn a_file_has_a_fault_of_syntax_if_and_only_if_toml_refuses_it(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60),
    ) {
        let text = pieces.concat();
        if crate::config::extent::fault(&text).is_some() {
            return Ok(());
        }
        let mut lost = Lost::default();
        let mut readable = String::new();
        read(&text, &mut readable, &mut lost);
        prop_assert_eq!(lost.faults.is_empty(), DeTable::parse(&text).is_ok());
        if !readable.is_empty() {
            prop_assert_eq!(readable.len(), text.len());
            let breaks = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
            prop_assert_eq!(breaks(&readable), breaks(&text));
        }
        let faults = crate::config::parse(&text, "routes.toml").map(|loaded| loaded.warnings);
        drop(faults.unwrap_or_else(|faults| faults).render(true));
    }
}
