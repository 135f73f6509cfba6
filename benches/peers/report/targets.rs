//! The targets that portway must reach, as data, and the verdict on a run.

use super::figures::{Figures, Spread};
use super::names::{self, number};
use super::rows::Rows;
use super::{Figure, Scenario};

/// The bound of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Within(f64, f64),
}

use Bound::{AtLeast, AtMost, Within};

/// Ratios of portway to its peers in the scenarios of one kind.
struct Target {
    figure: Figure,
    applies: fn(Scenario) -> bool,
    /// The bounds, in the order of [`PEERS`].
    bounds: [Option<Bound>; 5],
}

/// The columns of the ratios.
const PEERS: [&str; 5] = ["haproxy", "haproxy-splice-1m", "nginx", "envoy", "floor"];

/// The bound for portway as an ordinary user, who has few pipes, against itself.
const AS_USER: Bound = Within(0.9, 1.1);

/// The table of targets.
fn targets() -> [Target; 8] {
    let latency = [0.95, 0.95, 0.95, 0.9, 1.1].map(AtMost).map(Some);
    let ratios = |figure, applies, bounds| Target {
        figure,
        applies,
        bounds,
    };
    [
        ratios(
            Figure::CpuSecondsPerGib,
            is_bulk,
            [0.30, 1.0, 0.25, 0.35, 1.2].map(AtMost).map(Some),
        ),
        ratios(
            Figure::GigabytesPerSecond,
            is_bulk,
            [2.5, 1.0, 2.5, 2.0, 0.85].map(AtLeast).map(Some),
        ),
        ratios(
            Figure::CpuMicrosecondsPerConnection,
            is_short,
            [0.92, 0.92, 1.0, 0.5, 1.1].map(AtMost).map(Some),
        ),
        ratios(
            Figure::ConnectionsPerSecond,
            |scenario| scenario == Scenario::Connections { at_a_time: 64 },
            [1.05, 1.05, 1.05, 2.0, 0.9].map(AtLeast).map(Some),
        ),
        ratios(
            Figure::BytesPerConnection,
            is_crowd,
            [Some(0.45), Some(0.45), Some(0.1), Some(0.08), None].map(|most| most.map(AtMost)),
        ),
        ratios(Figure::P50Microseconds, is_one_kib, latency),
        ratios(Figure::P99Microseconds, is_one_kib, latency),
        ratios(
            Figure::CpuMicrosecondsPerMessage,
            is_message,
            [0.95, 0.95, 0.95, 0.8, 1.1].map(AtMost).map(Some),
        ),
    ]
}

pub(crate) const fn is_bulk(scenario: Scenario) -> bool {
    matches!(
        scenario,
        Scenario::BulkDown { .. } | Scenario::BulkUp { .. } | Scenario::BulkBoth { .. }
    )
}

pub(crate) const fn is_short(scenario: Scenario) -> bool {
    matches!(
        scenario,
        Scenario::Connections { .. } | Scenario::SplitConnections { .. }
    )
}

/// Whether there are so many connections that the basic memory of a process no longer matters.
const fn is_crowd(scenario: Scenario) -> bool {
    matches!(
        scenario,
        Scenario::Idle {
            connections: 2_500..
        }
    )
}

const fn is_one_kib(scenario: Scenario) -> bool {
    matches!(
        scenario,
        Scenario::Messages {
            size: 1_024,
            at_a_time: 1 | 64
        }
    )
}

const fn is_message(scenario: Scenario) -> bool {
    matches!(
        scenario,
        Scenario::Messages {
            size: 256..=262_144,
            ..
        }
    )
}

/// A target of portway alone: a figure, or its ratio to the same figure in another scenario.
struct Alone {
    figure: Figure,
    applies: fn(Scenario) -> bool,
    against: Option<Scenario>,
    bound: Bound,
}

const ALONE: [Alone; 4] = [
    Alone {
        figure: Figure::BytesPerConnection,
        applies: is_crowd,
        against: None,
        bound: AtMost(1_536.0),
    },
    Alone {
        figure: Figure::BytesKeptPerConnection,
        applies: is_crowd,
        against: None,
        bound: AtMost(100.0),
    },
    Alone {
        figure: Figure::P99Microseconds,
        applies: |scenario| matches!(scenario, Scenario::Beside { downloads: 1 }),
        against: Some(Scenario::Beside { downloads: 0 }),
        bound: AtMost(5.0),
    },
    Alone {
        figure: Figure::GigabytesPerSecond,
        applies: |scenario| matches!(scenario, Scenario::SlowReaders { readers: 1.. }),
        against: Some(Scenario::SlowReaders { readers: 0 }),
        bound: AtLeast(0.8),
    },
];

impl Bound {
    /// Whether a value keeps to this bound.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            AtMost(most) => value <= most,
            AtLeast(least) => value >= least,
            Within(least, most) => (least..=most).contains(&value),
        }
    }

    fn text(self) -> String {
        match self {
            AtMost(most) => format!("≤ {}", number(most)),
            AtLeast(least) => format!("≥ {}", number(least)),
            Within(least, most) => format!("{}..{}", number(least), number(most)),
        }
    }
}

/// How many cells have kept to their bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) met: usize,
    pub(crate) missed: usize,
    /// There is a bound, but a side was not measured.
    pub(crate) unknown: usize,
}

impl Score {
    /// A cell such as "0.87 (0.85–0.90) ≤ 0.92 ✓", followed by the number of rounds if some are missing.
    fn cell(&mut self, figures: &Figures, spread: Option<Spread>, bound: Bound) -> String {
        let Some(spread) = spread else {
            self.unknown += 1;
            return names::NONE.to_owned();
        };
        let holds = bound.holds(spread.median);
        let (count, mark) = if holds {
            (&mut self.met, "✓")
        } else {
            (&mut self.missed, "✗")
        };
        *count += 1;
        let [least, most] = [spread.least, spread.most].map(number);
        let bound = bound.text();
        let mut median = number(spread.median);
        if !holds && bound.contains(&median) {
            // "0.95 ≤ 0.95 ✗" would be confusing.
            median = format!("{:.4}", spread.median);
        }
        let lack = figures.lack(spread);
        format!("{median} ({least}–{most}) {bound} {mark}{lack}")
    }
}

/// The ratios to the peers, and the score.
pub(crate) fn ratios(figures: &Figures, score: &mut Score) -> Rows {
    let mut rows = Rows::new(
        "Ratios against the targets",
        "The median over the rounds of portway's figure divided by the peer's in the same round, \
         the least and the greatest of the rounds, the bound, and whether the median keeps to it.",
        ["figure", "scenario"]
            .into_iter()
            .chain(PEERS)
            .chain(["portway-user"]),
    );
    for target in targets() {
        for scenario in applied(figures, target.figure, target.applies) {
            let ours = ("portway", scenario);
            let mut row = vec![
                names::figure(target.figure).to_owned(),
                names::scenario(scenario),
            ];
            for (peer, bound) in PEERS.into_iter().zip(target.bounds) {
                let ratio = figures.ratio(target.figure, ours, (peer, scenario));
                row.push(bound.map_or_else(
                    || names::NONE.to_owned(),
                    |bound| score.cell(figures, ratio, bound),
                ));
            }
            let ratio = figures.ratio(target.figure, ("portway-user", scenario), ours);
            row.push(score.cell(figures, ratio, AS_USER));
            rows.push(row);
        }
    }
    rows
}

/// The targets of portway without a peer, and the score.
pub(crate) fn alone(figures: &Figures, score: &mut Score) -> Rows {
    let mut rows = Rows::new(
        "Targets of portway alone",
        "Absolute bounds, and ratios to the same figure in a quiet scenario of the same round.",
        ["figure", "scenario", "against", "portway"],
    );
    for target in &ALONE {
        for scenario in applied(figures, target.figure, target.applies) {
            let ours = ("portway", scenario);
            let (spread, against) = match target.against {
                None => (figures.spread(target.figure, ours), "absolute".to_owned()),
                Some(quiet) => (
                    figures.ratio(target.figure, ours, ("portway", quiet)),
                    names::scenario(quiet),
                ),
            };
            rows.push(vec![
                names::figure(target.figure).to_owned(),
                names::scenario(scenario),
                against,
                score.cell(figures, spread, target.bound),
            ]);
        }
    }
    rows
}

fn applied(figures: &Figures, figure: Figure, applies: fn(Scenario) -> bool) -> Vec<Scenario> {
    let mut scenarios = figures.scenarios(figure);
    scenarios.retain(|scenario| applies(*scenario));
    scenarios
}
