//! The plots: which figures of which scenarios stand beside each other.

mod canvas;
mod panel;
mod scale;
mod style;

use std::io;

use super::figures::{Figures, Spread, real};
use super::names;
use super::targets::{is_bulk, is_short};
use super::{Figure, Scenario};
use canvas::Canvas;
use panel::{Kind, Panel, Series};

/// A picture in a file of its own.
pub(crate) struct Plot {
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) svg: String,
}

/// A plot before it is drawn.
struct Sheet {
    file: String,
    title: &'static str,
    panels: Vec<Panel>,
}

/// All plots for which there are figures.
pub(crate) fn draw(figures: &Figures) -> io::Result<Vec<Plot>> {
    let mut sheets = busy(figures);
    sheets.extend(silent(figures));
    sheets.extend(messages(figures));
    sheets.push(fairness(figures));
    let mut plots = Vec::new();
    for mut sheet in sheets {
        sheet.panels.retain(Panel::has_points);
        if !sheet.panels.is_empty() {
            plots.push(Plot {
                svg: Canvas::draw(sheet.title, figures, &sheet.panels)?,
                file: sheet.file,
                title: sheet.title.to_owned(),
            });
        }
    }
    Ok(plots)
}

fn busy(figures: &Figures) -> Vec<Sheet> {
    vec![
        Sheet {
            file: "bulk-throughput.svg".to_owned(),
            title: "Bulk transfer: throughput (more is better)",
            panels: vec![bars(figures, Figure::GigabytesPerSecond, is_bulk)],
        },
        Sheet {
            file: "bulk-cpu.svg".to_owned(),
            title: "Bulk transfer: CPU of the relay (less is better)",
            panels: vec![bars(figures, Figure::CpuSecondsPerGib, is_bulk)],
        },
        Sheet {
            file: "connections.svg".to_owned(),
            title: "Short connections: rate (more is better), CPU of the relay (less is better)",
            panels: vec![
                bars(figures, Figure::ConnectionsPerSecond, is_short),
                bars(figures, Figure::CpuMicrosecondsPerConnection, is_short),
            ],
        },
    ]
}

fn silent(figures: &Figures) -> Vec<Sheet> {
    vec![
        Sheet {
            file: "idle-memory.svg".to_owned(),
            title: "Idle connections: memory of the relay for each (less is better)",
            panels: vec![
                by_connections(figures, Figure::BytesPerConnection).on_log_scale(),
                by_connections(figures, Figure::BytesKeptPerConnection),
            ],
        },
        Sheet {
            file: "idle-total.svg".to_owned(),
            title: "Idle connections: all memory and CPU of the relay (less is better)",
            panels: vec![
                total_memory(figures),
                by_connections(figures, Figure::IdleCpuPercent),
            ],
        },
    ]
}

fn messages(figures: &Figures) -> Vec<Sheet> {
    let rates = rates(figures);
    let panel = |figure, rate: &usize| by_size(figures, figure, *rate).on_log_scale();
    let latency = |rate| Sheet {
        file: format!("latency-{rate}.svg"),
        title: "Messages: time to the answer (less is better)",
        panels: vec![
            panel(Figure::P50Microseconds, rate),
            panel(Figure::P99Microseconds, rate),
        ],
    };
    let mut sheets: Vec<Sheet> = rates.iter().map(latency).collect();
    let cpu = |rate| panel(Figure::CpuMicrosecondsPerMessage, rate);
    sheets.push(Sheet {
        file: "message-cpu.svg".to_owned(),
        title: "Messages: CPU of the relay for each and its answer (less is better)",
        panels: rates.iter().map(cpu).collect(),
    });
    sheets
}

fn fairness(figures: &Figures) -> Sheet {
    Sheet {
        file: "fairness.svg".to_owned(),
        title: "Busy and slow neighbours: latency (less is better), throughput (more is better)",
        panels: vec![
            bars(figures, Figure::P99Microseconds, |scenario| {
                matches!(scenario, Scenario::Beside { .. })
            }),
            bars(figures, Figure::GigabytesPerSecond, |scenario| {
                matches!(scenario, Scenario::SlowReaders { .. })
            }),
        ],
    }
}

/// How many messages are under way in the scenarios of a run.
fn rates(figures: &Figures) -> Vec<usize> {
    let scenarios = figures.scenarios(Figure::P50Microseconds).into_iter();
    let scenarios = scenarios.chain(figures.scenarios(Figure::CpuMicrosecondsPerMessage));
    let mut rates: Vec<usize> = scenarios
        .filter_map(|scenario| message(scenario).map(|(_, rate)| rate))
        .collect();
    rates.sort_unstable();
    rates.dedup();
    rates
}

/// Size and rate of messages.
const fn message(scenario: Scenario) -> Option<(usize, usize)> {
    if let Scenario::Messages { size, at_a_time } = scenario {
        Some((size, at_a_time))
    } else {
        None
    }
}

const fn idle(scenario: Scenario) -> Option<usize> {
    if let Scenario::Idle { connections } = scenario {
        Some(connections)
    } else {
        None
    }
}

/// A group of bars for each scenario.
fn bars(figures: &Figures, figure: Figure, takes: fn(Scenario) -> bool) -> Panel {
    let mut scenarios = figures.scenarios(figure);
    scenarios.retain(|scenario| takes(*scenario));
    let places = scenarios.iter().enumerate();
    let places: Vec<(Scenario, f64)> = places.map(|(at, it)| (*it, real(at))).collect();
    Panel {
        kind: Kind::Bars,
        title: String::new(),
        x_title: "",
        y_title: names::figure(figure),
        ticks: (places.iter())
            .map(|(scenario, at)| (*at, names::scenario(*scenario)))
            .collect(),
        is_log: false,
        series: series(figures, figure, &places),
    }
}

/// A line over the number of idle connections.
fn by_connections(figures: &Figures, figure: Figure) -> Panel {
    let counts = figures.scenarios(figure).into_iter();
    let counts = counts.filter_map(|scenario| Some((scenario, idle(scenario)?)));
    let places: Vec<(Scenario, usize)> = counts.collect();
    let at: Vec<(Scenario, f64)> = places
        .iter()
        .map(|(it, count)| (*it, real(*count)))
        .collect();
    Panel {
        kind: Kind::Lines,
        title: String::new(),
        x_title: "open connections",
        y_title: names::figure(figure),
        ticks: (places.iter())
            .map(|(_, count)| (real(*count), names::thousands(*count)))
            .collect(),
        is_log: false,
        series: series(figures, figure, &at),
    }
}

/// Memory of all idle connections together, in MiB.
fn total_memory(figures: &Figures) -> Panel {
    let mut panel = by_connections(figures, Figure::BytesPerConnection);
    for (connections, spread) in panel.series.iter_mut().flat_map(|it| &mut it.points) {
        let mib = |bytes: f64| bytes * *connections / f64::from(1 << 20);
        *spread = Spread {
            median: mib(spread.median),
            least: mib(spread.least),
            most: mib(spread.most),
            ..*spread
        };
    }
    panel.y_title = "memory of all connections, MiB";
    panel
}

/// A line over the size of messages, every doubling as wide as the other.
fn by_size(figures: &Figures, figure: Figure, rate: usize) -> Panel {
    let sizes = figures
        .scenarios(figure)
        .into_iter()
        .filter_map(|scenario| {
            let (size, at_a_time) = message(scenario)?;
            (at_a_time == rate).then_some((scenario, size))
        });
    let places: Vec<(Scenario, usize)> = sizes.collect();
    let place = |size: usize| real(size.max(1)).log2();
    let at: Vec<(Scenario, f64)> = places
        .iter()
        .map(|(it, size)| (*it, place(*size)))
        .collect();
    Panel {
        kind: Kind::Lines,
        title: format!("{} at a time", names::thousands(rate)),
        x_title: "size of the message (log scale)",
        y_title: names::figure(figure),
        ticks: (places.iter())
            .map(|(_, size)| (place(*size), names::bytes(*size)))
            .collect(),
        is_log: false,
        series: series(figures, figure, &at),
    }
}

/// Every subject that was measured at one of the places at least.
fn series(figures: &Figures, figure: Figure, places: &[(Scenario, f64)]) -> Vec<Series> {
    let series = figures.subjects.iter().map(|subject| {
        let points = places.iter().filter_map(|(scenario, at)| {
            Some((*at, figures.spread(figure, (subject, *scenario))?))
        });
        Series {
            subject: subject.clone(),
            points: points.collect(),
        }
    });
    series.filter(|series| !series.points.is_empty()).collect()
}
