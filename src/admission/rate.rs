//! The rate of new connections, by the generic cell rate algorithm: its whole state is one time, until which the share
//! is used up. It is as exact as a bucket of tokens, and needs no timer that fills the bucket.

use std::time::Instant;

/// One second on the clock of admission, which counts nanoseconds since the start of portway.
pub(super) const SECOND: u64 = 1_000_000_000;

/// The clock of admission: 2^64 ns are 584 years.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time of an instant; 0 for one before the start.
    pub(super) fn at(self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.0);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant so long after the start.
    #[cfg(test)]
    pub(super) fn after(self, time: std::time::Duration) -> Instant {
        self.0 + time
    }
}

/// Connections per second, with a burst of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    per_second: u64,
    /// The time between two connections. It is rounded down, which makes a rate of a million at most 0.1 % faster.
    period: u64,
}

impl Rate {
    /// A rate, which is at least 1 and at most one connection in each nanosecond.
    pub(super) fn new(per_second: usize) -> Self {
        let per_second = (per_second as u64).clamp(1, SECOND);
        let period = SECOND / per_second;
        Self { per_second, period }
    }

    /// Connections per second.
    pub(super) const fn per_second(self) -> u64 {
        self.per_second
    }

    /// Takes one connection out of a share that is used up to the time `used`. Returns the new time, or `None` if nothing is
    /// left at `now`.
    ///
    /// A whole burst is a second, whatever the rate. So a share that was used at one rate is used to the same part at another.
    pub(super) fn take(self, used: u64, now: u64) -> Option<u64> {
        let next = used.max(now).saturating_add(self.period);
        let burst = self.period.saturating_mul(self.per_second);
        (next <= now.saturating_add(burst)).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bucket with as many tokens as the rate, in the unit of which a token takes `period` to come.
    struct Bucket {
        level: u64,
        filled_at: u64,
    }

    impl Bucket {
        fn take(&mut self, rate: Rate, now: u64) -> bool {
            let size = rate.period * rate.per_second;
            self.level = size.min(self.level + (now - self.filled_at));
            self.filled_at = now;
            let has_one = self.level >= rate.period;
            self.level -= if has_one { rate.period } else { 0 };
            has_one
        }
    }

    proptest! {
        #[test]
        fn the_rate_is_that_of_a_bucket_of_tokens(
            per_second in prop_oneof![1_usize..20, 1_usize..=1_000_000],
            gaps in prop::collection::vec(
                prop_oneof![Just(0), 0..SECOND / 50, 0..3 * SECOND], 1..300),
        ) {
            let rate = Rate::new(per_second);
            let (mut now, mut used) = (0, 0);
            let mut bucket = Bucket { level: rate.period * rate.per_second, filled_at: 0 };
            for gap in gaps {
                now += gap;
                let taken = rate.take(used, now);
                prop_assert_eq!(taken.is_some(), bucket.take(rate, now));
                used = taken.unwrap_or(used);
            }
        }
    }

    #[test]
    fn a_burst_is_as_large_as_the_rate_and_the_rest_comes_at_the_rate() {
        for per_second in [1, 3, 7, 1000, 999_999, 1_000_000] {
            let rate = Rate::new(per_second);
            let mut used = 0;
            let mut taken = |now| rate.take(used, now).map(|next| used = next).is_some();
            let burst = (0..=per_second).filter(|_| taken(SECOND)).count();
            assert_eq!(burst, per_second);
            // Nothing more comes before the first one is there again.
            assert!(!taken(SECOND + rate.period - 1));
            assert!(taken(SECOND + rate.period));
            assert!(!taken(SECOND + rate.period));
        }
    }

    #[test]
    fn a_share_stays_used_to_the_same_part_when_the_rate_changes() {
        let [slow, fast] = [10, 1000].map(Rate::new);
        // Half of the burst is used.
        let used = (0..5).fold(0, |used, _| slow.take(used, 0).unwrap());
        let left = std::iter::successors(Some(used), |used| fast.take(*used, 0));
        assert_eq!(left.count() - 1, 500);
    }
}
