//! The run: every scenario in every round, each with all relays.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use fastrand::Rng;

use crate::load::{self, Backend, Plan};
use crate::network::{Network, Overflows};
use crate::relay::Relay;
use crate::relays::{Kind, Relays, Running, Skipped};
use crate::results::{Figure, Note, Results, Sample, Scenario, Subject};
use crate::{Options, command_line, machine, report, scenarios};

/// A run, and what it has measured so far.
pub struct Run {
    relays: Relays,
    network: Network,
    kinds: Vec<Kind>,
    scenarios: Vec<Scenario>,
    rounds: usize,
    order: Rng,
    plan: Plan,
    directory: PathBuf,
    results: Results,
    failed: usize,
    progress: Progress,
}

/// The result of one measurement.
struct Outcome {
    figures: Vec<(Figure, f64)>,
    /// The threads and descriptors of the relay afterwards.
    state: String,
}

impl Run {
    /// Finds out what can be run.
    pub fn prepare(options: &Options) -> Result<Self, String> {
        let limit = machine::raise_descriptors()
            .map_err(|error| format!("cannot raise the limit of descriptors: {error}"))?;
        let (network, network_text) = Network::find();
        if network == Network::Shared {
            eprintln!("warning: {network_text}");
        }
        let mut results = Results {
            command: command_line(),
            date: machine::today(),
            machine: machine::describe(),
            network: network_text,
            workers: options.workers,
            seed: options.seed,
            ..Results::default()
        };
        let relays = Relays::new(options.workers).map_err(|error| error.to_string())?;
        let kinds = present(options, &mut results);
        let scenarios = wanted(options, limit, &mut results)?;
        let rounds = options.rounds().max(1);
        Ok(Self {
            progress: Progress::new(&scenarios, kinds.len() * rounds, options.seconds()),
            relays,
            network,
            kinds,
            scenarios,
            rounds,
            order: Rng::with_seed(options.seed),
            plan: Plan {
                seconds: options.seconds(),
                quick: options.quick,
            },
            directory: options.directory(),
            results,
            failed: 0,
        })
    }

    /// Runs everything. Scenarios that are compared with each other are in the same round, minutes apart at
    /// most. The results are written after each round, because a run takes long and may be interrupted.
    pub fn all(&mut self) -> Result<(), String> {
        for round in 0..self.rounds {
            for scenario in self.scenarios.clone() {
                let mut kinds = self.kinds.clone();
                self.order.shuffle(&mut kinds);
                for kind in kinds {
                    self.step(kind, scenario, round);
                }
            }
            self.results.rounds = round + 1;
            report::write(&self.results, &self.directory)
                .map_err(|error| format!("{}: {error}", self.directory.display()))?;
        }
        Ok(())
    }

    /// The measurements so far.
    pub const fn results(&self) -> &Results {
        &self.results
    }

    /// Steps that have failed.
    pub const fn failed(&self) -> usize {
        self.failed
    }

    fn step(&mut self, kind: Kind, scenario: Scenario, round: usize) {
        let step = format!(
            "{} round {}: {}",
            scenarios::name(scenario),
            round + 1,
            kind.name()
        );
        self.progress.begin();
        let (outcome, overflows) = match self.network.run(|| self.measure(kind, scenario)) {
            Ok(done) => done,
            Err(why) => (Err(why), Overflows::default()),
        };
        if let Some(why) = overflows.remark() {
            eprintln!("warning: {step}: {why}");
            let what = step.clone();
            self.results.notes.push(Note { what, why });
        }
        match outcome {
            Ok(outcome) => {
                self.progress.tell(scenario, &step, &outcome.text());
                for (figure, value) in outcome.figures {
                    self.results.samples.push(Sample {
                        scenario,
                        subject: kind.name(),
                        round,
                        figure,
                        value,
                    });
                }
            }
            Err(why) => {
                let told = format!("failed: {why}");
                self.progress.tell(scenario, &step, &told);
                self.failed += 1;
                self.results.skipped.push(Note { what: step, why });
            }
        }
    }

    /// Makes one measurement with its own backend and relay.
    fn measure(&self, kind: Kind, scenario: Scenario) -> Result<Outcome, String> {
        let backend = Backend::start().map_err(|error| format!("backend: {error}"))?;
        let relay = self.relays.start(kind, backend.address())?;
        let mut figures = load::run(scenario, &relay, &backend, &self.plan)
            .map_err(|why| format!("{why} ({})", state(&relay)))?;
        if kind == Kind::Direct {
            figures.retain(|(figure, _)| !is_of_the_relay(*figure));
        }
        Ok(Outcome {
            figures,
            state: state(&relay),
        })
    }
}

/// Whether a figure is about the relay's process.
const fn is_of_the_relay(figure: Figure) -> bool {
    match figure {
        Figure::CpuSecondsPerGib
        | Figure::CpuMicrosecondsPerConnection
        | Figure::CpuMicrosecondsPerMessage
        | Figure::BytesPerConnection
        | Figure::BytesKeptPerConnection
        | Figure::IdleCpuPercent => true,
        Figure::GigabytesPerSecond
        | Figure::ConnectionsPerSecond
        | Figure::P50Microseconds
        | Figure::P99Microseconds
        | Figure::ConnectP99Microseconds => false,
    }
}

/// The relays that were asked for and are installed.
fn present(options: &Options, results: &mut Results) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for kind in Kind::value_variants() {
        let is_wanted = if options.subjects.is_empty() {
            *kind != Kind::PortwayBefore
        } else {
            options.subjects.contains(kind)
        };
        if !is_wanted {
            continue;
        }
        match kind.version() {
            Ok(version) => {
                kinds.push(*kind);
                results.subjects.push(Subject {
                    name: kind.name(),
                    version,
                });
            }
            Err(Skipped(why)) => results.skipped.push(Note {
                what: kind.name(),
                why,
            }),
        }
    }
    kinds
}

/// The scenarios that were asked for and have room here.
fn wanted(options: &Options, limit: u64, results: &mut Results) -> Result<Vec<Scenario>, String> {
    let mut scenarios = scenarios::all();
    if !options.only.is_empty() {
        let starts = |name: &str| options.only.iter().any(|prefix| name.starts_with(prefix));
        scenarios.retain(|scenario| starts(&scenarios::name(*scenario)));
    }
    if scenarios.is_empty() {
        let names: Vec<String> = scenarios::all().into_iter().map(scenarios::name).collect();
        return Err(format!(
            "--only: none begins so; there are {}",
            names.join(", ")
        ));
    }
    scenarios.retain(|scenario| {
        let needed = scenarios::descriptors(*scenario);
        if needed > limit {
            results.skipped.push(Note {
                what: scenarios::name(*scenario),
                why: format!(
                    "needs {needed} descriptors, and the limit is {limit}: ulimit -Hn {needed}"
                ),
            });
        }
        needed <= limit
    });
    Ok(scenarios)
}

fn state(relay: &Running) -> String {
    match relay.pid() {
        Some(pid) => format!(
            "pid {pid}: {} threads, {} descriptors, {} KiB, {:.2} s CPU",
            relay.threads(),
            relay.descriptors(),
            relay.resident().unwrap_or_default() / 1024,
            relay.cpu().unwrap_or_default().as_secs_f64(),
        ),
        None => format!("backend {}", relay.address()),
    }
}

impl Outcome {
    fn text(&self) -> String {
        let figures = self.figures.iter().map(|(figure, value)| {
            // The name in the results file.
            let name = serde_json::to_value(figure).unwrap_or_default();
            format!("{} {value:.3}", name.as_str().unwrap_or("?"))
        });
        let figures: Vec<String> = figures.collect();
        format!("{} ({})", figures.join(", "), self.state)
    }
}

/// The progress of the run.
struct Progress {
    began: Instant,
    step_began: Instant,
    done: usize,
    steps: usize,
    /// Estimated seconds: of what is done, of everything, and of the window of each measurement.
    done_seconds: f64,
    all_seconds: f64,
    window: f64,
}

impl Progress {
    /// Starts at zero; each scenario runs `times` times.
    fn new(scenarios: &[Scenario], times: usize, window: f64) -> Self {
        let steps = std::iter::repeat_n(scenarios, times).flatten();
        let seconds = steps.map(|scenario| scenarios::seconds(*scenario, window));
        Self {
            began: Instant::now(),
            step_began: Instant::now(),
            done: 0,
            steps: scenarios.len() * times,
            done_seconds: 0.0,
            all_seconds: seconds.sum(),
            window,
        }
    }

    fn begin(&mut self) {
        self.step_began = Instant::now();
    }

    /// Prints a finished step. The estimate is corrected by how long the finished steps took.
    fn tell(&mut self, scenario: Scenario, step: &str, outcome: &str) {
        self.done += 1;
        self.done_seconds += scenarios::seconds(scenario, self.window);
        let left = (self.all_seconds - self.done_seconds) / self.done_seconds;
        let minutes = self.began.elapsed().as_secs_f64() * left / 60.0;
        eprintln!(
            "{} of {}, {minutes:.1} min left: {step} ({:.1} s): {outcome}",
            self.done,
            self.steps,
            self.step_began.elapsed().as_secs_f64(),
        );
    }
}
