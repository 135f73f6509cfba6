//! The plots: which figures of which scenarios are side by side.

mod sheet;

use std::io;

use super::figures::{Figures, Spread};
use super::names;
use super::targets::{is_bulk, is_short};
use super::{Figure, Scenario};
use sheet::{GROUP, Kind, Panel, Series};

/// A picture in its own file.
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
        sheet.panels.retain(|panel| !panel.series.is_empty());
        if !sheet.panels.is_empty() {
            plots.push(Plot {
                svg: sheet::draw(sheet.title, figures, &sheet.panels).map_err(io::Error::other)?,
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
    let places = (0..).map(|at| at * GROUP).zip(scenarios);
    let places = places.map(|(at, it)| (it, at, names::scenario(it)));
    panel(Kind::Bars, figures, figure, places.collect())
}

/// A line over the number of idle connections.
fn by_connections(figures: &Figures, figure: Figure) -> Panel {
    let places = figures.scenarios(figure).into_iter().filter_map(|it| {
        let count = idle(it)?;
        Some((it, i32::try_from(count).ok()?, names::thousands(count)))
    });
    Panel {
        x_title: "open connections",
        ..panel(Kind::Lines, figures, figure, places.collect())
    }
}

/// Memory of all idle connections together, in MiB.
fn total_memory(figures: &Figures) -> Panel {
    let mut panel = by_connections(figures, Figure::BytesPerConnection);
    for (connections, spread) in panel.series.iter_mut().flat_map(|it| &mut it.points) {
        let mib = |bytes: f64| bytes * f64::from(*connections) / f64::from(1 << 20);
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

/// A line over the size of messages, on a logarithmic axis.
fn by_size(figures: &Figures, figure: Figure, rate: usize) -> Panel {
    let places = figures.scenarios(figure).into_iter().filter_map(|it| {
        let (size, at_a_time) = message(it)?;
        let place = i32::try_from(size.max(1).ilog2()).ok()?;
        (at_a_time == rate).then(|| (it, place * 100, names::bytes(size)))
    });
    Panel {
        title: format!("{} at a time", names::thousands(rate)),
        x_title: "size of the message (log scale)",
        ..panel(Kind::Lines, figures, figure, places.collect())
    }
}

/// The figures of every subject at these labelled places.
fn panel(
    kind: Kind,
    figures: &Figures,
    figure: Figure,
    places: Vec<(Scenario, i32, String)>,
) -> Panel {
    let series = figures.subjects.iter().map(|subject| {
        let points = places.iter().filter_map(|(scenario, at, _)| {
            Some((*at, figures.spread(figure, (subject, *scenario))?))
        });
        Series {
            subject: subject.clone(),
            points: points.collect(),
        }
    });
    Panel {
        kind,
        title: String::new(),
        x_title: "",
        y_title: names::figure(figure),
        series: series.filter(|it| !it.points.is_empty()).collect(),
        ticks: places
            .into_iter()
            .map(|(_, at, label)| (at, label))
            .collect(),
        is_log: false,
    }
}
