//! The coarse clock of a worker.

/// The most seconds from one tick to the next on a machine that is only busy. A longer time is a pause.
const LATE: u32 = 5;

/// Seconds in which the worker has run. If the process was stopped for longer than [`LATE`] (a snapshot of its
/// machine, a freezer, SIGSTOP), it leaves that time out: bytes that came meanwhile are relayed before the next tick, so they have the time of the
/// last one, and no limit may take that for silence.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: u32,
    left_out: u32,
}

impl Clock {
    /// Follows the seconds that have passed since the worker began, and returns the new time.
    pub(super) fn advance(&mut self, passed: u32) -> u32 {
        let since = passed
            .saturating_sub(self.left_out)
            .saturating_sub(self.now);
        if since > LATE {
            self.left_out = self.left_out.saturating_add(since - 1);
            self.now = self.now.saturating_add(1);
        } else {
            self.now = self.now.saturating_add(since);
        }
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_tick_counts_whole_and_a_pause_as_one_second() {
        let mut clock = Clock::default();
        let passed = [0, 1, 2, 7, 8, 108, 109, 111, 117, 117, 118];
        let told = passed.map(|passed| clock.advance(passed));
        assert_eq!(told, [0, 1, 2, 7, 8, 9, 10, 12, 13, 13, 14]);
    }
}
