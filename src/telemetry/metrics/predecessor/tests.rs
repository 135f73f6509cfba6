use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::tests::{full_registry, judge_by_promtool};
use super::*;
use crate::outcome::{Direction, Outcome};
use crate::telemetry::Registry;

/// Our own page, shortened.
const OURS: &str = "# HELP portway_bytes_total Bytes relayed, counted as they pass.\n\
    # TYPE portway_bytes_total counter\n\
    portway_bytes_total{backend=\"fleet\"} 5\n\
    \n\
    # HELP portway_connections_active Connections open now.\n\
    # TYPE portway_connections_active gauge\n\
    portway_connections_active{listener=\"agents\"} 1\n\
    \n\
    # HELP portway_dial_seconds Time.\n\
    # TYPE portway_dial_seconds histogram\n\
    portway_dial_seconds_bucket{le=\"+Inf\"} 0\n\
    portway_dial_seconds_sum 0\n\
    portway_dial_seconds_count 0\n\
    \n";

/// A page of another version: of its counters one is ours, one has no label, one has escapes.
const THEIRS: &str = "# HELP portway_bytes_total Bytes.\n\
    # TYPE portway_bytes_total counter\n\
    portway_bytes_total{backend=\"fleet\"} 7\n\
    portway_bytes_total{backend=\"es\",direction=\"client_to_backend\"} 0\n\
    \n\
    # HELP portway_new_total New: a \\\\ and a \\n.\n\
    # TYPE portway_new_total counter\n\
    portway_new_total 9\n\
    \n\
    # HELP portway_odd_total Odd.\n\
    # TYPE portway_odd_total counter\n\
    portway_odd_total{name=\"a }, \\\"b\\\" \\\\\"} 1\n\
    \n\
    # HELP portway_connections_active Connections open now.\n\
    # TYPE portway_connections_active gauge\n\
    portway_connections_active{listener=\"agents\"} 2\n\
    portway_connections_active{listener=\"others\"} 3\n\
    \n";

fn merged(theirs: &str) -> String {
    let figures = Figures::parse(theirs).unwrap();
    PredecessorFigures::Known(figures).complete(OURS.to_owned())
}

/// Panics unless a scraper takes the page: each name has one block, which begins with its help and its type,
/// and no series comes twice.
fn assert_valid(page: &str) {
    let (mut names, mut series) = (BTreeSet::new(), BTreeSet::new());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line
            .strip_prefix("# HELP ")
            .unwrap_or_else(|| panic!("{line:?} in {page}"));
        let (name, _) = help.split_once(' ').unwrap();
        assert!(names.insert(name), "{name} comes twice in {page}");
        let kind = lines.next().unwrap();
        let kind = kind
            .strip_prefix(&format!("# TYPE {name} "))
            .unwrap_or_else(|| panic!("{page}"));
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            let (of, labels, value) = read(line);
            assert!(
                of == name || kind == "histogram" && of.starts_with(name),
                "{line:?} in {page}"
            );
            assert!(value.parse::<f64>().is_ok(), "{line:?}");
            assert!(
                series.insert((of, labels)),
                "{line:?} comes twice in {page}"
            );
        }
    }
}

/// The name, the labels and the value of a line, read by a rule for each character.
fn read(line: &str) -> (String, BTreeMap<String, String>, String) {
    let (mut name, mut key, mut value, mut labels) =
        (String::new(), String::new(), String::new(), BTreeMap::new());
    let mut characters = line.chars();
    let mut next = || characters.next();
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    loop {
        match next() {
            Some(' ') => break,
            Some('{') => loop {
                match next().unwrap() {
                    '=' => {
                        assert_eq!(next(), Some('"'), "{line:?}");
                        loop {
                            match next().unwrap() {
                                '"' => break,
                                '\\' => {
                                    let escaped = next().unwrap();
                                    assert!("\\\"n".contains(escaped), "{line:?}");
                                    value.extend(['\\', escaped]);
                                }
                                plain => value.push(plain),
                            }
                        }
                        let before = labels.insert(key.split_off(0), value.split_off(0));
                        assert_eq!(before, None, "a label twice: {line:?}");
                        match next() {
                            Some(',') => {}
                            Some('}') => break,
                            other => panic!("{other:?} in {line:?}"),
                        }
                    }
                    part => {
                        assert!(is_part(part), "{line:?}");
                        key.push(part);
                    }
                }
            },
            Some(part) => {
                assert!(is_part(part), "{line:?}");
                name.push(part);
            }
            None => panic!("{line:?} has no value"),
        }
    }
    (name, labels, characters.collect())
}

#[test]
fn counters_stand_beside_ours_with_one_more_label_and_gauges_and_histograms_do_not() {
    let page = merged(THEIRS);
    assert_valid(&page);
    let expected = OURS.replace(
        "{backend=\"fleet\"} 5\n",
        "{backend=\"fleet\"} 5\n\
         portway_bytes_total{backend=\"fleet\",process=\"predecessor\"} 7\n\
         portway_bytes_total{backend=\"es\",direction=\"client_to_backend\",process=\"predecessor\"} 0\n",
    );
    let new = "# HELP portway_new_total New: a \\\\ and a \\n.\n\
        # TYPE portway_new_total counter\n\
        portway_new_total{process=\"predecessor\"} 9\n\
        \n\
        # HELP portway_odd_total Odd.\n\
        # TYPE portway_odd_total counter\n\
        portway_odd_total{name=\"a }, \\\"b\\\" \\\\\",process=\"predecessor\"} 1\n\
        \n";
    assert_eq!(page, expected + new);
}

#[test]
fn a_page_of_this_version_goes_beside_another_whole() {
    let (ours, theirs) = (full_registry(), full_registry());
    theirs.listener("agents").accepted.add(3);
    theirs
        .endings("agents", Some("fleet"))
        .count(Outcome::Closed);
    let bytes = theirs.backend("fleet");
    bytes.bytes(Direction::ClientToBackend).add(11);
    let figures = Figures::parse(&theirs.render()).unwrap();
    let page = ours.render_beside(PredecessorFigures::Known(figures));
    assert_valid(&page);
    judge_by_promtool(&page);
    for line in [
        "portway_predecessor_connections 2",
        "portway_connections_accepted_total{listener=\"agents\"} 0",
        "portway_connections_accepted_total{listener=\"agents\",process=\"predecessor\"} 3",
        "portway_connections_closed_total{listener=\"agents\",backend=\"fleet\",outcome=\"closed\",process=\"predecessor\"} 1",
        "portway_bytes_total{backend=\"fleet\",direction=\"client_to_backend\",process=\"predecessor\"} 11",
        "portway_connections_active{listener=\"agents\"} 0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in {page}");
    }
    let counters = |page: &str| {
        let families = families(page).filter(Family::is_counter);
        families
            .map(|family| family.samples().count())
            .sum::<usize>()
    };
    assert_eq!(counters(&page), 2 * counters(&ours.render()));
    assert_eq!(
        page.matches("process=\"").count(),
        counters(&theirs.render())
    );
}

#[test]
fn without_a_predecessor_there_are_0_connections_and_of_a_silent_one_the_number_is_not_told() {
    let registry = Registry::new();
    assert!(
        registry
            .render()
            .contains("\nportway_predecessor_connections 0\n")
    );
    let silent = registry.render_beside(PredecessorFigures::Silent);
    assert!(
        !silent.contains("portway_predecessor_connections"),
        "{silent}"
    );
    let families = |page: &str| families(page).count();
    assert_eq!(families(&silent) + 1, families(&registry.render()));
    assert_valid(&silent);
}

/// Their page with one more counter.
fn with(name: &str, samples: &str) -> Option<Figures> {
    let family = format!("# HELP {name} A.\n# TYPE {name} counter\n{samples}\n\n");
    Figures::parse(&format!("{THEIRS}{family}"))
}

#[test]
fn a_page_with_a_line_that_no_scraper_takes_is_not_taken() {
    assert!(with("a_total", "a_total{a=\"1\",b=\"2\"} 1.5e3").is_some());
    for sample in [
        "a_total",
        "a_total ",
        "a_total  1",
        "a_total 1 1700000000",
        "a_total one",
        "a_total -1",
        "a_total NaN",
        "a_total +Inf",
        "a_total 1e999",
        "b_total 1",
        "a_total 1\r",
        "a_total{} 1",
        "a_total{a=\"1\"}1",
        "a_total{a=\"1\",} 1",
        "a_total{a=\"1\",a=\"2\"} 1",
        "a_total{1=\"1\"} 1",
        "a_total{__name__=\"b_total\"} 1",
        "a_total{a=1} 1",
        "a_total{a=\"\\x\"} 1",
        "a_total{a=\"\u{0}\"} 1",
        "a_total{a=\"1} 1",
        "a_total{a=\"1\",b=\"2\"} 1\na_total{b=\"2\",a=\"1\"} 2",
    ] {
        assert!(with("a_total", sample).is_none(), "{sample:?}");
    }
    // Nor one that takes too long.
    let labels = |count| {
        let labels: Vec<_> = (0..count).map(|label| format!(",l{label}=\"\"")).collect();
        labels.concat()
    };
    let sample = |count| format!("a_total{{{}}} 1", &labels(count)[1..]);
    assert!(with("a_total", &sample(MOST_LABELS)).is_some());
    assert!(with("a_total", &sample(MOST_LABELS + 1)).is_none());
    // It is not a page of portway.
    assert!(Figures::parse("").is_none());
    assert!(Figures::parse("<html>").is_none());
}

#[test]
fn counters_that_portway_would_not_name_so_and_those_with_the_label_are_passed_over() {
    for (name, sample) in [
        ("a", "a 1"),
        ("0_total", "0_total 1"),
        ("a:total", "a:total 1"),
        ("portway_dial_seconds_count", "portway_dial_seconds_count 1"),
        ("a_total", "a_total{process=\"predecessor\"} 1"),
    ] {
        let figures = with(name, sample).unwrap();
        let page = PredecessorFigures::Known(figures).complete(OURS.to_owned());
        assert_eq!(page, merged(THEIRS), "{name}");
    }
    let gauge = OURS.replace("portway_bytes_total counter", "portway_bytes_total gauge");
    let page = PredecessorFigures::Known(Figures::parse(THEIRS).unwrap()).complete(gauge);
    assert!(
        !page.contains("portway_bytes_total{backend=\"fleet\",process"),
        "{page}"
    );
    assert_valid(&page);
    for help in [
        "",
        "# HELP b_total B.\n",
        "# HELP a_total\n",
        "# HELP a_total \\x\n",
    ] {
        let family = format!("{help}# TYPE a_total counter\na_total 1\n\n");
        let figures = Figures::parse(&format!("{THEIRS}{family}"));
        assert_eq!(figures.unwrap().counters.len(), 3, "{help:?}");
    }
}

#[test]
fn every_prefix_of_a_page_leaves_ours_a_valid_one() {
    let mut taken = 0;
    for end in 0..=THEIRS.len() {
        if let Some(figures) = Figures::parse(&THEIRS[..end]) {
            assert_valid(&PredecessorFigures::Known(figures).complete(OURS.to_owned()));
            taken += 1;
        }
    }
    assert!(taken > 0);
}

proptest! {
    #[test]
    fn a_page_with_faults_leaves_ours_a_valid_one(
        faults in prop::collection::vec((any::<prop::sample::Index>(), 0..6_usize, "[a-z_{}=\",# \\\\\n0-9.é]{0,6}"), 1..8),
    ) {
        let mut theirs = THEIRS.to_owned();
        for (at, length, text) in faults {
            let places: Vec<usize> = theirs.char_indices().map(|(at, _)| at).collect();
            let Some(&from) = places.get(at.index(places.len().max(1))) else { continue };
            let to = places.iter().copied().find(|it| *it >= from + length).unwrap_or(theirs.len());
            theirs.replace_range(from..to, &text);
        }
        if let Some(figures) = Figures::parse(&theirs) {
            assert_valid(&PredecessorFigures::Known(figures).complete(OURS.to_owned()));
        }
    }

    #[test]
    fn a_page_whose_lines_are_moved_or_repeated_leaves_ours_a_valid_one(
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 1..5),
    ) {
        let mut lines: Vec<&str> = THEIRS.split_inclusive('\n').collect();
        for (from, to, is_repeated) in moves {
            let from = from.index(lines.len());
            let line = if is_repeated { lines[from] } else { lines.remove(from) };
            lines.insert(to.index(lines.len()), line);
        }
        if let Some(figures) = Figures::parse(&lines.concat()) {
            assert_valid(&PredecessorFigures::Known(figures).complete(OURS.to_owned()));
        }
    }
}
