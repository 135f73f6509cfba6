//! The medians of everything that was measured: subjects as rows, scenarios as columns.

use super::figures::Figures;
use super::names::{self, number};
use super::rows::Rows;
use super::{Figure, Scenario};

/// Every figure, in the order of the tables.
const FIGURES: [Figure; 11] = [
    Figure::GigabytesPerSecond,
    Figure::CpuSecondsPerGib,
    Figure::ConnectionsPerSecond,
    Figure::CpuMicrosecondsPerConnection,
    Figure::P50Microseconds,
    Figure::P99Microseconds,
    Figure::CpuMicrosecondsPerMessage,
    Figure::BytesPerConnection,
    Figure::BytesKeptPerConnection,
    Figure::IdleCpuPercent,
    Figure::ConnectP99Microseconds,
];

/// Tables that belong together.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) tables: Vec<Rows>,
}

/// The tables of all groups in which something was measured.
pub(crate) fn groups(figures: &Figures) -> Vec<Group> {
    let titles = [
        "Bulk",
        "Connections",
        "Messages",
        "Idle connections",
        "Fairness",
    ];
    let groups = titles.map(|title| {
        let measured = FIGURES.into_iter().flat_map(|figure| {
            let mut scenarios = figures.scenarios(figure);
            scenarios.retain(|scenario| group(*scenario) == title);
            // Many sizes of messages at several rates would make too wide a table.
            let mut parts: Vec<Option<usize>> = scenarios.iter().copied().map(rate).collect();
            parts.sort_unstable();
            parts.dedup();
            parts.into_iter().map(move |part| {
                let columns = scenarios.iter().copied().filter(|it| rate(*it) == part);
                table(figures, figure, &columns.collect::<Vec<_>>())
            })
        });
        Group {
            title,
            tables: measured.collect(),
        }
    });
    let mut groups = Vec::from(groups);
    groups.retain(|group| !group.tables.is_empty());
    groups
}

const fn group(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::BulkDown { .. } | Scenario::BulkUp { .. } | Scenario::BulkBoth { .. } => "Bulk",
        Scenario::Connections { .. } | Scenario::SplitConnections { .. } => "Connections",
        Scenario::Messages { .. } => "Messages",
        Scenario::Idle { .. } => "Idle connections",
        Scenario::Beside { .. } | Scenario::SlowReaders { .. } => "Fairness",
    }
}

/// How many messages are under way.
const fn rate(scenario: Scenario) -> Option<usize> {
    match scenario {
        Scenario::Messages { at_a_time, .. } => Some(at_a_time),
        Scenario::BulkDown { .. }
        | Scenario::BulkUp { .. }
        | Scenario::BulkBoth { .. }
        | Scenario::Connections { .. }
        | Scenario::SplitConnections { .. }
        | Scenario::Idle { .. }
        | Scenario::Beside { .. }
        | Scenario::SlowReaders { .. } => None,
    }
}

fn table(figures: &Figures, figure: Figure, scenarios: &[Scenario]) -> Rows {
    let columns = scenarios.iter().map(|scenario| names::scenario(*scenario));
    let headings = std::iter::once("subject".to_owned()).chain(columns);
    let mut rows = Rows::new(names::figure(figure), "", headings);
    for subject in &figures.subjects {
        let cells = scenarios.iter().map(|scenario| {
            let spread = figures.spread(figure, (subject.as_str(), *scenario));
            spread.map_or_else(
                || names::NONE.to_owned(),
                |spread| number(spread.median) + &figures.lack(spread),
            )
        });
        rows.push(std::iter::once(subject.clone()).chain(cells).collect());
    }
    rows
}
