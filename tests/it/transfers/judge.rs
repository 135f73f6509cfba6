//! Judges a transfer by what both sides saw (invariants 1 and 6).

use super::plan::{Ending, Plan, Side};
use super::side::Report;

/// The faults of a transfer, in words; empty if there are none.
pub(super) fn faults(plan: &Plan, client: &Report, backend: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    direction(
        "client to backend",
        (&plan.client, client),
        (&plan.backend, backend),
        &mut faults,
    );
    direction(
        "backend to client",
        (&plan.backend, backend),
        (&plan.client, client),
        &mut faults,
    );
    if plan.is_orderly() {
        for (name, report) in [("client", client), ("backend", backend)] {
            if let Some(kind) = report.broken {
                faults.push(format!("{name}: {kind:?} in an orderly transfer"));
            }
        }
    }
    faults
}

fn direction(
    name: &str,
    (sender, sent): (&Side, &Report),
    (receiver, got): (&Side, &Report),
    faults: &mut Vec<String>,
) {
    let mut fault = |text: String| faults.push(format!("{name}: {text}"));
    if got.hung {
        fault(format!("hung after {} bytes", got.received));
    }
    if let Some(offset) = got.wrong_at {
        fault(format!("wrong bytes at {offset}"));
    }
    if got.received > sent.sent {
        fault(format!(
            "{} bytes received of {} sent",
            got.received, sent.sent
        ));
    }
    if got.fin && got.received != sender.size {
        fault(format!(
            "FIN after {} of {} bytes",
            got.received, sender.size
        ));
    }
    if receiver.end != Ending::Fin {
        return;
    }
    match sender.end {
        Ending::Reset(_) if got.broken.is_none() => fault("a RST did not come as a RST".to_owned()),
        Ending::Reset(_) if got.fin => fault("a FIN was made up".to_owned()),
        Ending::Fin if got.received != sender.size => {
            fault(format!("{} of {} bytes", got.received, sender.size));
        }
        Ending::FinThenReset(_) if !got.fin && got.broken.is_none() => {
            fault("no end at all".to_owned());
        }
        Ending::Fin | Ending::Reset(_) | Ending::FinThenReset(_) => {}
    }
}

impl Plan {
    /// Neither side ends with a RST.
    pub(super) fn is_orderly(&self) -> bool {
        self.client.end == Ending::Fin && self.backend.end == Ending::Fin
    }
}
