//! The report of the comparison in `benches/peers`: medians, ratios, verdicts, pages and plots.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "../benches/peers"]
mod peers {
    pub(crate) mod report;
    pub(crate) mod results;
}

use std::fs;
use std::path::Path;

use peers::report;
use peers::results::{Figure, Note, Results, Sample, Scenario, Subject};

const ROUNDS: [f64; 3] = [1.0, 1.5, 0.9];

/// Names of subjects, and their ratio to portway, where less is better.
const SUBJECTS: [(&str, f64); 8] = [
    ("direct", 0.5),
    ("portway", 1.0),
    ("portway-user", 1.05),
    ("haproxy", 1.7),
    ("haproxy-splice-1m", 1.04),
    ("nginx", 1.25),
    ("envoy", 2.4),
    ("floor", 0.93),
];

fn scenarios() -> Vec<(Scenario, Vec<(Figure, f64)>)> {
    let bulk = || {
        vec![
            (Figure::GigabytesPerSecond, 4.7),
            (Figure::CpuSecondsPerGib, 0.2),
        ]
    };
    let short = || {
        vec![
            (Figure::ConnectionsPerSecond, 15_400.0),
            (Figure::CpuMicrosecondsPerConnection, 58.0),
        ]
    };
    let mut all = vec![
        (Scenario::BulkDown { flows: 4 }, bulk()),
        (Scenario::BulkUp { flows: 4 }, bulk()),
        (Scenario::BulkBoth { flows: 4 }, bulk()),
        (Scenario::Connections { at_a_time: 1 }, short()),
        (Scenario::Connections { at_a_time: 64 }, short()),
        (Scenario::SplitConnections { at_a_time: 64 }, short()),
    ];
    for size in [256, 1_024, 4_096, 16_384, 65_536, 262_144] {
        for at_a_time in [1, 64] {
            let work = 1.0 + f64::from(size) / 20_000.0;
            let scenario = Scenario::Messages {
                size: usize::try_from(size).unwrap(),
                at_a_time,
            };
            let wait = if at_a_time == 1 { 45.0 } else { 900.0 };
            let figures = vec![
                (Figure::P50Microseconds, wait * work),
                (Figure::P99Microseconds, 2.1 * wait * work),
                (Figure::CpuMicrosecondsPerMessage, 31.0 * work),
            ];
            all.push((scenario, figures));
        }
    }
    for connections in [500, 1_000, 2_500, 6_000, 9_000] {
        let figures = vec![
            (Figure::BytesPerConnection, 1_250.0),
            (Figure::BytesKeptPerConnection, 40.0),
            (Figure::IdleCpuPercent, 0.1),
            (Figure::ConnectP99Microseconds, 210.0),
        ];
        all.push((Scenario::Idle { connections }, figures));
    }
    for downloads in [0, 1, 16] {
        let wait = 300.0 + 100.0 * f64::from(u32::try_from(downloads).unwrap());
        let scenario = Scenario::Beside { downloads };
        all.push((scenario, vec![(Figure::P99Microseconds, wait)]));
    }
    for readers in [0, 200] {
        let scenario = Scenario::SlowReaders { readers };
        all.push((scenario, vec![(Figure::GigabytesPerSecond, 4.5)]));
    }
    all
}

/// A whole run with known ratios. The second round is slow for all subjects.
fn run() -> Results {
    let mut samples = Vec::new();
    for (scenario, figures) in scenarios() {
        for (figure, base) in figures {
            for (subject, factor) in SUBJECTS {
                let is_rate = matches!(
                    figure,
                    Figure::GigabytesPerSecond | Figure::ConnectionsPerSecond
                );
                for (round, noise) in ROUNDS.into_iter().enumerate() {
                    let cost = factor * noise;
                    samples.push(Sample {
                        scenario,
                        subject: subject.to_owned(),
                        round,
                        figure,
                        value: if is_rate { base / cost } else { base * cost },
                    });
                }
            }
        }
    }
    let subject = |(name, _): (&str, f64)| Subject {
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
    };
    Results {
        command: "cargo bench --bench peers".to_owned(),
        date: "2026-01-31".to_owned(),
        machine: "2 cores | Linux 6.18".to_owned(),
        network: "of its own".to_owned(),
        workers: 1,
        seed: 1,
        rounds: ROUNDS.len(),
        subjects: SUBJECTS.map(subject).to_vec(),
        samples,
        skipped: vec![Note {
            what: "haproxy-splice-64k".to_owned(),
            why: "no haproxy\nhere".to_owned(),
        }],
        notes: vec![Note {
            what: "connections-64 round 1: envoy".to_owned(),
            why: "a queue was full".to_owned(),
        }],
    }
}

/// The line of a text that contains all of these parts.
fn line<'t>(text: &'t str, parts: &[&str]) -> &'t str {
    let mut lines = text.lines();
    lines
        .find(|line| parts.iter().all(|part| line.contains(part)))
        .unwrap()
}

#[test]
fn ratios_are_taken_within_a_round() {
    let page = report::table(&run());
    let row = line(&page, &["CPU per connection", "split"]);
    // The ratio is 1 / 1.7 in every round, however slow the round was.
    assert!(row.contains("0.59 (0.59–0.59) ≤ 0.92 ✓"), "{row}");
    assert!(row.contains("0.80 (0.80–0.80) ≤ 1.00 ✓"), "{row}");
    assert!(row.contains("1.08 (1.08–1.08) ≤ 1.10 ✓"), "{row}");
    assert!(row.contains("1.05 (1.05–1.05) 0.90..1.10 ✓"), "{row}");
}

#[test]
fn a_missed_target_is_marked() {
    let mut run = run();
    for sample in &mut run.samples {
        if sample.subject == "portway" && sample.figure == Figure::ConnectionsPerSecond {
            sample.value /= 2.0;
        }
    }
    let page = report::table(&run);
    let row = line(&page, &["connections/s", "≥ 1.05"]);
    assert!(row.contains("0.85 (0.85–0.85) ≥ 1.05 ✗"), "{row}");
    let row = line(&page, &["memory per connection", "absolute"]);
    assert!(row.contains("1,250 (1,125–1,875) ≤ 1,536 ✓"), "{row}");
    let row = line(&page, &["latency p99", "beside 1 download ", "≤"]);
    assert!(row.contains("1.33 (1.33–1.33) ≤ 5.00 ✓"), "{row}");
}

#[test]
fn rounds_and_subjects_may_be_missing() {
    let mut run = run();
    run.samples
        .retain(|sample| sample.subject != "nginx" && sample.subject != "portway-user");
    run.samples
        .retain(|sample| sample.subject != "haproxy" || sample.round != 0);
    let page = report::table(&run);
    let row = line(&page, &["CPU per connection", "split"]);
    assert_eq!(row.matches(" –").count(), 2, "{row}");
    assert!(row.contains("0.59 (0.59–0.59) ≤ 0.92 ✓ (2 of 3)"), "{row}");
    assert_eq!(row.matches(" of 3)").count(), 1, "{row}");
    assert!(page.contains("not measured: "), "{page}");
    let section = page.split("Bulk: CPU, s/GiB").nth(1).unwrap();
    let row = line(section, &["haproxy "]);
    assert_eq!(row.matches(" (2 of 3)").count(), 3, "{row}");

    let nothing = Results::default();
    assert!(report::table(&nothing).contains("Targets met: 0; missed: 0; not measured: 0."));
    let directory = tempfile::tempdir().unwrap();
    report::write(&nothing, directory.path()).unwrap();
}

#[test]
fn medians_are_of_all_rounds() {
    let page = report::table(&run());
    let section = page.split("Bulk: CPU, s/GiB").nth(1).unwrap();
    let row = line(section, &["envoy"]);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["envoy", "0.48", "0.48", "0.48"]);
}

#[test]
fn results_are_read_back_from_what_is_written() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = run();
    report::write(&run, first.path()).unwrap();
    let text = fs::read_to_string(first.path().join("results.json")).unwrap();
    let lines = text.lines().count();
    assert!((run.samples.len()..run.samples.len() + 40).contains(&lines));
    let read: Results = serde_json::from_str(&text).unwrap();
    assert_eq!(read.samples.len(), run.samples.len());
    report::write(&read, second.path()).unwrap();
    assert!(files(first.path()) == files(second.path()), "not the same");
}

/// Names and contents.
fn files(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = (fs::read_dir(directory).unwrap())
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_page_shows_every_plot() {
    let directory = tempfile::tempdir().unwrap();
    report::write(&run(), directory.path()).unwrap();
    let files = files(directory.path());
    let page = fs::read_to_string(directory.path().join("README.md")).unwrap();
    assert!(
        page.contains("| haproxy-splice-64k | no haproxy here |"),
        "{page}"
    );
    assert!(
        page.contains("| connections-64 round 1: envoy | a queue was full |"),
        "{page}"
    );
    let names = files.iter().map(|(name, _)| name);
    let plots: Vec<_> = names.filter(|name| name.contains(".svg")).collect();
    assert_eq!(plots.len(), 9);
    for name in plots {
        assert!(page.contains(&format!("]({name})")), "{name}");
    }
}
