//! Whether an address is healthy, by the checks that control makes: their rules, and what follows from their results.
//! The clock, the sockets and the random numbers are those of control.

use std::time::Duration;

use strum::{EnumString, VariantNames};

use crate::tls::ServerName;
use crate::wire::ProxyVersion;

/// `backends.N.health`: how endpoints are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The kind of check.
    pub check: Check,
    /// The pause after a check that succeeds, and the time in which a real connection makes a check needless.
    pub interval: Duration,
    /// The longest time to connect, and then to get the answer.
    pub timeout: Duration,
    /// Checks that must fail in a row until an address is unhealthy.
    pub unhealthy_after: u16,
    /// Checks that must succeed in a row until it is healthy again.
    pub healthy_after: u16,
    /// The server name in the hello of a `tls` check; `None` takes the host of the endpoint, if that is a name.
    pub server_name: Option<ServerName>,
    /// The version of the PROXY header before the hello of a `tls` check: `backends.N.send_proxy_protocol`.
    pub header: Option<ProxyVersion>,
}

/// The thing that a check asks of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Check {
    /// A connection.
    Tcp,
    /// An answer to a client hello.
    Tls,
}

/// The findings of the checks of an address so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    is_unhealthy: bool,
    /// Whether this machine had no way to it, while it may have one to the other family of its endpoint.
    is_out_of_reach: bool,
    /// Results in a row that contradict `is_unhealthy`.
    streak: u16,
}

impl Standing {
    const UNHEALTHY: u32 = 1 << 16;
    const OUT_OF_REACH: u32 = 1 << 17;

    /// Whether enough checks have failed.
    pub const fn is_unhealthy(self) -> bool {
        self.is_unhealthy
    }

    /// Whether this machine has no way to it. That says nothing about the server, but no client is served there.
    pub const fn is_out_of_reach(self) -> bool {
        self.is_out_of_reach
    }

    /// Whether checks have found nothing against it.
    pub const fn is_well(self) -> bool {
        !self.is_unhealthy && !self.is_out_of_reach
    }

    /// The standing after a check for which this machine had no way to the address. That says nothing about the
    /// server.
    #[must_use]
    pub const fn without_way(self) -> Self {
        Self {
            is_out_of_reach: true,
            ..self
        }
    }

    /// The standing after one more result. Only one that passes shows that the address is in reach again.
    #[must_use]
    pub const fn after(self, has_passed: bool, checks: &Checks) -> Self {
        let this = Self {
            is_out_of_reach: self.is_out_of_reach && !has_passed,
            ..self
        };
        this.count(has_passed, checks)
    }

    const fn count(self, has_passed: bool, checks: &Checks) -> Self {
        if has_passed != self.is_unhealthy {
            return Self { streak: 0, ..self };
        }
        let needed = if self.is_unhealthy {
            checks.healthy_after
        } else {
            checks.unhealthy_after
        };
        let streak = self.streak.saturating_add(1);
        if streak >= needed {
            Self {
                is_unhealthy: !self.is_unhealthy,
                streak: 0,
                ..self
            }
        } else {
            Self { streak, ..self }
        }
    }

    /// The pause before the next check: from a failure until the address is healthy again, a tenth of the interval. An
    /// address out of reach, which may be so for good, has the whole one if the endpoint has a healthy one, whatever was
    /// found before.
    /// `random` is from 0 to 1, and makes the pause up to a tenth longer or shorter, so that relays and addresses do
    /// not check in step.
    pub fn pause(self, checks: &Checks, has_healthy: bool, random: f64) -> Duration {
        let is_calm = if self.is_out_of_reach {
            has_healthy
        } else {
            !self.is_unhealthy && self.streak == 0
        };
        let pause = if is_calm {
            checks.interval
        } else {
            checks.interval / 10
        };
        pause.mul_f64(0.9 + random / 5.0)
    }

    /// The standing as one word, so that threads always see all of its parts together.
    pub(super) const fn pack(self) -> u32 {
        let unhealthy = if self.is_unhealthy {
            Self::UNHEALTHY
        } else {
            0
        };
        let out_of_reach = if self.is_out_of_reach {
            Self::OUT_OF_REACH
        } else {
            0
        };
        unhealthy | out_of_reach | self.streak as u32
    }

    pub(super) const fn unpack(word: u32) -> Self {
        Self {
            is_unhealthy: word & Self::UNHEALTHY != 0,
            is_out_of_reach: word & Self::OUT_OF_REACH != 0,
            streak: (word & 0xffff) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(unhealthy_after: u16, healthy_after: u16) -> Checks {
        Checks {
            check: Check::Tcp,
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(4),
            unhealthy_after,
            healthy_after,
            server_name: None,
            header: None,
        }
    }

    /// Whether the address is unhealthy after each of the results: `+` passed, `-` failed.
    fn unhealthy(results: &str, checks: &Checks) -> String {
        let mut standing = Standing::default();
        let mark = |result| {
            standing = standing.after(result == '+', checks);
            if standing.is_unhealthy() { 'x' } else { '.' }
        };
        results.chars().map(mark).collect()
    }

    #[test]
    fn an_address_changes_after_as_many_results_in_a_row_as_the_rules_say() {
        let three_two = checks(3, 2);
        assert_eq!(unhealthy("---++", &three_two), "..xx.");
        assert_eq!(unhealthy("--+--+---", &three_two), "........x");
        assert_eq!(unhealthy("---+-+-++", &three_two), "..xxxxxx.");
        assert_eq!(unhealthy("-+-+", &checks(1, 1)), "x.x.");
    }

    #[test]
    fn checks_follow_at_a_tenth_of_the_interval_from_a_failure_until_the_address_is_healthy() {
        let checks = checks(2, 2);
        let mut standing = Standing::default();
        let pauses = "+--+++".chars().map(|result| {
            standing = standing.after(result == '+', &checks);
            standing.pause(&checks, false, 0.5).as_secs()
        });
        assert_eq!(pauses.collect::<Vec<_>>(), [60, 6, 6, 6, 60, 60]);
    }

    #[test]
    fn pauses_differ_by_a_tenth_at_most() {
        let standing = Standing::default();
        let pause = |random| standing.pause(&checks(3, 2), true, random).as_secs_f64();
        assert!((pause(0.0) - 54.0).abs() < 1e-6);
        assert!((pause(1.0) - 66.0).abs() < 1e-6);
    }

    #[test]
    fn to_be_out_of_reach_is_neither_a_failure_nor_well_and_ends_with_a_check_that_passes() {
        let checks = checks(2, 2);
        let lost = Standing::default().without_way();
        assert_eq!((lost.is_unhealthy(), lost.is_well()), (false, false));
        assert_eq!(lost.pause(&checks, true, 0.5), checks.interval);
        assert_eq!(lost.without_way(), lost, "however often");
        assert_eq!(lost.after(true, &checks), Standing::default());

        let failing = Standing::default().after(false, &checks);
        let failed = failing.without_way().after(false, &checks);
        assert!(failed.is_unhealthy(), "the failure before counts still");
        assert!(failed.is_out_of_reach(), "no result shows a way to it");
        let passed = failed.after(true, &checks);
        assert_eq!(
            (passed.is_unhealthy(), passed.is_out_of_reach()),
            (true, false)
        );
        assert_eq!(passed.after(true, &checks), Standing::default());
    }

    #[test]
    fn an_address_out_of_reach_is_checked_often_only_while_no_other_one_is_healthy() {
        let checks = checks(1, 1);
        let failed = Standing::default().after(false, &checks);
        for lost in [Standing::default(), failed].map(Standing::without_way) {
            assert_eq!(lost.pause(&checks, true, 0.5), checks.interval);
            assert_eq!(lost.pause(&checks, false, 0.5), checks.interval / 10);
        }
    }

    #[test]
    fn a_standing_is_the_same_after_it_was_packed() {
        for is_unhealthy in [false, true] {
            for is_out_of_reach in [false, true] {
                for streak in [0, 1, u16::MAX] {
                    let standing = Standing {
                        is_unhealthy,
                        is_out_of_reach,
                        streak,
                    };
                    assert_eq!(Standing::unpack(standing.pack()), standing);
                }
            }
        }
    }
}
