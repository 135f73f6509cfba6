//! One upgrade after the other under a fleet that works: `--upgrades COUNT`.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::counts::Counts;
use crate::portway::{Portway, Process};
use crate::{Result, Shape};

/// The time over which a drain spreads the first gaps: 30 s, and some for a busy machine.
const SPREAD: Duration = Duration::from_secs(45);

/// Processes that have handed over, with the time of that.
struct Old(Vec<(Process, Instant)>);

impl Old {
    /// Forgets those that have ended, and returns the longest time that one of them has taken.
    fn ended(&mut self) -> Duration {
        let ended = self.0.extract_if(.., |(process, _)| process.has_ended());
        let times = ended.map(|(_, since)| since.elapsed());
        times.max().unwrap_or_default()
    }

    /// Lets the fleet work for this time, and looks at the ends meanwhile.
    async fn watch(&mut self, time: Duration) -> Duration {
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < time {
            sleep(Duration::from_millis(100)).await;
            longest = longest.max(self.ended());
        }
        longest
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        for (process, _) in &mut self.0 {
            process.kill();
        }
    }
}

/// Upgrades so often, with a pause in between. Fails if an old process stays for much longer than a check-in is held,
/// or if the last process has clearly more memory or descriptors than the first one had under the same fleet.
pub async fn run(
    portway: &mut Portway,
    (upgrades, pause): (usize, Duration),
    shape: &Shape,
    counts: &Counts,
) -> Result<()> {
    let first = (portway.memory()?, portway.process().descriptors()?);
    let (mut old, mut longest, mut most) = (Old(Vec::new()), Duration::ZERO, 0);
    for upgrade in 1..=upgrades {
        let begun = Instant::now();
        old.0.push((portway.upgrade().await?, begun));
        let took = begun.elapsed();
        most = most.max(old.0.len() + 1);
        longest = longest.max(old.watch(pause).await);
        let [moved, lost] = counts.disturbed();
        println!(
            "upgrade {upgrade}: {:.2} s until the new process accepts, {} old processes left after {} s, {moved} connections \
             closed between two check-ins so far, {lost} requests or connects lost",
            took.as_secs_f64(),
            old.0.len(),
            pause.as_secs(),
        );
    }
    let limit = Duration::from_secs_f64(shape.poll) + SPREAD;
    let begun = Instant::now();
    while !old.0.is_empty() && begun.elapsed() < limit {
        longest = longest.max(old.watch(Duration::from_millis(200)).await);
    }
    let last = (portway.memory()?, portway.process().descriptors()?);
    println!(
        "{upgrades} upgrades: at most {most} processes at once, an old one ended after {:.0} s at most; memory {:.1} MB in the \
         first process, {:.1} MB in the last one; descriptors {} and {}",
        longest.as_secs_f64(),
        first.0 as f64 / 1e6,
        last.0 as f64 / 1e6,
        first.1,
        last.1,
    );
    if !old.0.is_empty() || longest > limit {
        return Err(format!("an old process did not end within {limit:?}").into());
    }
    if last.0 > first.0 / 4 * 5 + (10 << 20) || last.1 > first.1 / 10 * 11 + 100 {
        return Err("memory or descriptors do not return".into());
    }
    Ok(())
}
