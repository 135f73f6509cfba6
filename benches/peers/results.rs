//! The measurements of a run: figures of subjects in scenarios, one sample per round.

use serde::{Deserialize, Serialize};

/// Everything that one run of the comparison has measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The command line that made them.
    pub(crate) command: String,
    /// The day, as 2026-01-31.
    pub(crate) date: String,
    /// Processor, cores, kernel, load average at the beginning: one line.
    pub(crate) machine: String,
    /// Whether measurements had their own network, and what follows if not.
    pub(crate) network: String,
    /// Threads of each relay.
    pub(crate) workers: usize,
    /// The seed of the order in which the subjects of a scenario ran.
    pub(crate) seed: u64,
    /// Rounds that were run.
    pub(crate) rounds: usize,
    /// Name and version of each subject, in the order of the tables.
    pub(crate) subjects: Vec<Subject>,
    /// Every figure of every round.
    pub(crate) samples: Vec<Sample>,
    /// Subjects and scenarios that could not be run, and why.
    pub(crate) skipped: Vec<Note>,
    /// Reasons to doubt figures.
    pub(crate) notes: Vec<Note>,
}

/// A relay, or none ("direct").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// The name, such as `portway` or `haproxy-splice-1m`.
    pub(crate) name: String,
    /// The version, as the program reports it.
    pub(crate) version: String,
}

/// One figure of one subject in one round of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The scenario.
    pub(crate) scenario: Scenario,
    /// The name of the subject.
    pub(crate) subject: String,
    /// The round, from 0. Ratios compare subjects of the same round.
    pub(crate) round: usize,
    /// The figure that was measured.
    pub(crate) figure: Figure,
    /// The value, in the unit that the figure's name states.
    pub(crate) value: f64,
}

/// The load of a subject. Sizes are in bytes, and counts are of connections open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// Flows that download as fast as they can.
    BulkDown { flows: usize },
    /// Flows that upload.
    BulkUp { flows: usize },
    /// Flows that do both at once.
    BulkBoth { flows: usize },
    /// Short connections: hello, a small answer, close. The hello is that of a classic client in one segment.
    Connections { at_a_time: usize },
    /// The same with a post-quantum hello that comes in two segments.
    SplitConnections { at_a_time: usize },
    /// Messages and answers of the same size.
    Messages { size: usize, at_a_time: usize },
    /// Connections that are open and silent.
    Idle { connections: usize },
    /// Small messages on 1,000 connections, beside downloads.
    Beside { downloads: usize },
    /// One download beside clients that never read.
    SlowReaders { readers: usize },
}

/// A measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    GigabytesPerSecond,
    /// CPU seconds of the relay.
    CpuSecondsPerGib,
    ConnectionsPerSecond,
    /// CPU of the relay.
    CpuMicrosecondsPerConnection,
    /// CPU of the relay for one message and its answer.
    CpuMicrosecondsPerMessage,
    P50Microseconds,
    P99Microseconds,
    /// Resident memory of the relay per idle connection.
    BytesPerConnection,
    /// The same, some seconds after all have closed.
    BytesKeptPerConnection,
    /// CPU of the relay while all is silent, in percent of one core.
    IdleCpuPercent,
    /// The 99th percentile of connecting through the relay while the idle connections are open.
    ConnectP99Microseconds,
}

/// Something that could not be run, or whose result is doubtful.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// A subject, a scenario, or one step.
    pub(crate) what: String,
    /// Why, and what would help.
    pub(crate) why: String,
}
