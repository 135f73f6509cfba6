//! The scenarios of a full run, and their names.

use crate::load::SMALL_CONNECTIONS;
use crate::results::Scenario;

/// All scenarios, in the order in which they run.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![
        Scenario::BulkDown { flows: 1 },
        Scenario::BulkUp { flows: 1 },
        Scenario::BulkBoth { flows: 1 },
        Scenario::BulkDown { flows: 64 },
        Scenario::Connections { at_a_time: 64 },
        Scenario::Connections { at_a_time: 1 },
        Scenario::SplitConnections { at_a_time: 64 },
    ];
    let sizes = [256, 1024, 4096, 16_384, 65_536, 262_144];
    all.extend(sizes.map(|size| Scenario::Messages { size, at_a_time: 1 }));
    all.push(Scenario::Messages {
        size: 1024,
        at_a_time: 64,
    });
    all.extend([500, 2500, 6000, 9000].map(|connections| Scenario::Idle { connections }));
    all.extend([0, 1, 8].map(|downloads| Scenario::Beside { downloads }));
    all.extend([0, 200].map(|readers| Scenario::SlowReaders { readers }));
    all
}

/// The name of a scenario for `--only` and in the progress, such as `bulk-down-1`.
pub fn name(scenario: Scenario) -> String {
    match scenario {
        Scenario::BulkDown { flows } => format!("bulk-down-{flows}"),
        Scenario::BulkUp { flows } => format!("bulk-up-{flows}"),
        Scenario::BulkBoth { flows } => format!("bulk-both-{flows}"),
        Scenario::Connections { at_a_time } => format!("connections-{at_a_time}"),
        Scenario::SplitConnections { at_a_time } => format!("split-connections-{at_a_time}"),
        Scenario::Messages { size, at_a_time } => format!("messages-{size}-{at_a_time}"),
        Scenario::Idle { connections } => format!("idle-{connections}"),
        Scenario::Beside { downloads } => format!("beside-{downloads}"),
        Scenario::SlowReaders { readers } => format!("slow-readers-{readers}"),
    }
}

/// About how many seconds a measurement with a window of `seconds` takes.
pub fn seconds(scenario: Scenario, seconds: f64) -> f64 {
    seconds
        + match scenario {
            Scenario::Idle { .. } => 4.5,
            Scenario::BulkDown { .. }
            | Scenario::BulkUp { .. }
            | Scenario::BulkBoth { .. }
            | Scenario::Connections { .. }
            | Scenario::SplitConnections { .. }
            | Scenario::Messages { .. }
            | Scenario::Beside { .. }
            | Scenario::SlowReaders { .. } => 0.6,
        }
}

/// Descriptors that this program needs for a scenario: clients and backend are both in it.
pub const fn descriptors(scenario: Scenario) -> u64 {
    /// For everything else.
    const OWN: u64 = 512;
    let connections = match scenario {
        Scenario::BulkDown { flows }
        | Scenario::BulkUp { flows }
        | Scenario::BulkBoth { flows } => flows,
        Scenario::Connections { at_a_time }
        | Scenario::SplitConnections { at_a_time }
        | Scenario::Messages { at_a_time, .. } => at_a_time,
        Scenario::Idle { connections } => connections,
        Scenario::Beside { downloads } => SMALL_CONNECTIONS + downloads,
        Scenario::SlowReaders { readers } => readers + 1,
    };
    OWN + 2 * connections as u64
}
