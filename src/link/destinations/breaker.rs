//! The circuit breaker of one destination: closed, open, half-open. Pure: the caller provides the
//! clock.
//!
//! It handles publishes that fail although the link is up: to a full queue that nacks, or to a
//! quorum queue that never confirms because it has lost its quorum. An open breaker refuses
//! publishes at once. After a while it lets one at a time through, as a probe.

use crate::labels::BreakerState;
use std::time::Duration;
use tokio::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    /// Failures within `window` that open the breaker.
    pub(crate) failures: u32,
    /// The breaker opens only if at least this percentage of the verdicts within `window` are
    /// failures, or if the last `failures` verdicts all are.
    pub(crate) percent: u32,
    /// The length of the window in which verdicts are counted.
    pub(crate) window: Duration,
    /// How long an open breaker rejects publishes before it lets one through as a probe.
    pub(crate) open_for: Duration,
    /// A probe that has no verdict after this long has failed, whatever its own deadline.
    pub(crate) probe_for: Duration,
}

/// What a publish may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Go on.
    Pass,
    /// Go on, as the probe that decides.
    Probe,
    /// The breaker is open.
    Refused,
}

#[derive(Clone, Copy, Debug)]
enum BreakerPhase {
    Closed { since: Instant, successes: u32, failures: u32, in_a_row: u32 },
    Open { since: Instant },
    HalfOpen { probe: Option<Instant> },
}

/// The breaker of one destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breaker(BreakerPhase);

impl Breaker {
    /// Closed, with nothing counted yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self(BreakerPhase::Closed { since: now, successes: 0, failures: 0, in_a_row: 0 })
    }

    pub(crate) fn state(&self) -> BreakerState {
        match self.0 {
            BreakerPhase::Closed { .. } => BreakerState::Closed,
            BreakerPhase::Open { .. } => BreakerState::Open,
            BreakerPhase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a publish may pass at `now`.
    pub(crate) fn admit(&mut self, now: Instant, thresholds: &Thresholds) -> Passage {
        match self.0 {
            // HalfOpen => Open
            BreakerPhase::HalfOpen { probe: Some(sent) } if now >= sent + thresholds.probe_for => {
                self.0 = BreakerPhase::Open { since: sent + thresholds.probe_for };
            }
            BreakerPhase::Closed { .. } | BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. } => {}
        }
        match self.0 {
            BreakerPhase::Closed { .. } => Passage::Pass,
            // Open => HalfOpen
            BreakerPhase::Open { since } if now >= since + thresholds.open_for => {
                self.0 = BreakerPhase::HalfOpen { probe: Some(now) };
                Passage::Probe
            }
            BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { probe: Some(_) } => Passage::Refused,
            BreakerPhase::HalfOpen { probe: None } => {
                self.0 = BreakerPhase::HalfOpen { probe: Some(now) };
                Passage::Probe
            }
        }
    }

    /// A publish that was admitted as `passage` succeeded.
    pub(crate) fn succeeded(&mut self, passage: Passage, now: Instant, thresholds: &Thresholds) {
        match (self.0, passage) {
            // HalfOpen, Open => Closed: a probe that was given up may still succeed.
            (BreakerPhase::HalfOpen { .. } | BreakerPhase::Open { .. }, Passage::Probe) => {
                *self = Self::new(now)
            }
            (BreakerPhase::Closed { .. }, _) => self.count(now, thresholds, false),
            // Admitted before the breaker opened: its success says nothing new.
            (BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. }, _) => {}
        }
    }

    /// A publish that was admitted as `passage` failed.
    pub(crate) fn failed(&mut self, passage: Passage, now: Instant, thresholds: &Thresholds) {
        match (self.0, passage) {
            // HalfOpen => Open
            (BreakerPhase::HalfOpen { .. }, Passage::Probe) => self.0 = BreakerPhase::Open { since: now },
            (BreakerPhase::Closed { .. }, _) => self.count(now, thresholds, true),
            (BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. }, _) => {}
        }
    }

    /// The probe ended without saying anything about the destination: another one may try.
    pub(crate) fn undecided(&mut self, passage: Passage) {
        if let (BreakerPhase::HalfOpen { .. }, Passage::Probe) = (self.0, passage) {
            self.0 = BreakerPhase::HalfOpen { probe: None };
        }
    }

    /// Whether there is nothing to remember about this destination.
    pub(crate) fn is_forgettable(&self, now: Instant, thresholds: &Thresholds) -> bool {
        match self.0 {
            BreakerPhase::Closed { since, failures, .. } => {
                failures == 0 || now.duration_since(since) > thresholds.window
            }
            BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. } => false,
        }
    }

    fn count(&mut self, now: Instant, thresholds: &Thresholds, failed: bool) {
        let BreakerPhase::Closed { since, successes, failures, in_a_row } = self.0 else { return };
        let fresh = now.duration_since(since) > thresholds.window;
        let (since, successes, failures) = if fresh { (now, 0, 0) } else { (since, successes, failures) };
        let failures = failures.saturating_add(u32::from(failed));
        let successes = successes.saturating_add(u32::from(!failed));
        let in_a_row = if failed { in_a_row.saturating_add(1) } else { 0 };
        let all = u64::from(failures) + u64::from(successes);
        let many = failures >= thresholds.failures;
        let most = u64::from(failures) * 100 >= u64::from(thresholds.percent) * all;
        // However well it worked before, a destination whose latest verdicts are all failures has
        // begun to fail.
        let lately_all = in_a_row >= thresholds.failures;
        // Closed => Open
        self.0 = if failed && ((many && most) || lately_all) {
            BreakerPhase::Open { since: now }
        } else {
            BreakerPhase::Closed { since, successes, failures, in_a_row }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THRESHOLDS: Thresholds = Thresholds {
        failures: 5,
        percent: 50,
        window: Duration::from_secs(10),
        open_for: Duration::from_secs(2),
        probe_for: Duration::from_secs(1),
    };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(now);
        for _ in 0..THRESHOLDS.failures {
            breaker.failed(Passage::Pass, now, &THRESHOLDS);
        }
        breaker
    }

    #[test]
    fn it_opens_after_enough_failures_and_refuses_at_once() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(now, &THRESHOLDS), Passage::Refused);
    }

    #[test]
    fn many_failures_among_more_successes_leave_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..100 {
            breaker.succeeded(Passage::Pass, now, &THRESHOLDS);
            breaker.succeeded(Passage::Pass, now, &THRESHOLDS);
            breaker.failed(Passage::Pass, now, &THRESHOLDS);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn only_failures_lately_open_it_however_many_successes_came_before() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..1000 {
            breaker.succeeded(Passage::Pass, now, &THRESHOLDS);
        }
        for _ in 0..THRESHOLDS.failures {
            assert_eq!(breaker.state(), BreakerState::Closed);
            breaker.failed(Passage::Pass, now, &THRESHOLDS);
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn a_probe_without_a_verdict_makes_room_for_another_and_its_late_success_still_counts() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let sent = now + THRESHOLDS.open_for;
        let silent = breaker.admit(sent, &THRESHOLDS);
        let given_up = sent + THRESHOLDS.probe_for;
        assert_eq!(breaker.admit(given_up, &THRESHOLDS), Passage::Refused);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(given_up + THRESHOLDS.open_for, &THRESHOLDS), Passage::Probe);
        breaker.succeeded(silent, given_up, &THRESHOLDS);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn half_open_lets_one_probe_through_at_a_time() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + THRESHOLDS.open_for;
        assert_eq!(breaker.admit(later, &THRESHOLDS), Passage::Probe);
        assert_eq!(breaker.admit(later, &THRESHOLDS), Passage::Refused);
        breaker.undecided(Passage::Probe);
        assert_eq!(breaker.admit(later, &THRESHOLDS), Passage::Probe);
    }

    #[test]
    fn the_probe_decides() {
        let now = Instant::now();
        let later = now + THRESHOLDS.open_for;
        let mut breaker = opened(now);
        let probe = breaker.admit(later, &THRESHOLDS);
        breaker.failed(probe, later, &THRESHOLDS);
        assert_eq!(breaker.admit(later, &THRESHOLDS), Passage::Refused);
        let probe = breaker.admit(later + THRESHOLDS.open_for, &THRESHOLDS);
        breaker.succeeded(probe, later, &THRESHOLDS);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    proptest! {
        #[test]
        fn it_never_lets_two_probes_through_unless_one_is_given_up_and_always_recovers(
            steps in prop::collection::vec((0u64..3000, any::<bool>(), any::<bool>()), 1..200),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(now);
            let mut probe: Option<Instant> = None;
            for (milliseconds, good, answer) in steps {
                now += Duration::from_millis(milliseconds);
                let passage = breaker.admit(now, &THRESHOLDS);
                if passage == Passage::Probe {
                    let given_up = |sent: Instant| now >= sent + THRESHOLDS.probe_for + THRESHOLDS.open_for;
                    prop_assert!(probe.is_none_or(given_up), "two probes at a time");
                    probe = Some(now);
                }
                let (ended, ends) = match passage {
                    Passage::Refused => (Passage::Probe, probe.is_some() && answer),
                    Passage::Probe => (Passage::Probe, answer),
                    Passage::Pass => (Passage::Pass, true),
                };
                if ends {
                    if good {
                        breaker.succeeded(ended, now, &THRESHOLDS);
                    } else {
                        breaker.failed(ended, now, &THRESHOLDS);
                    }
                    probe = probe.filter(|_| ended == Passage::Pass);
                }
            }
            now += THRESHOLDS.probe_for + THRESHOLDS.open_for;
            let passage = breaker.admit(now, &THRESHOLDS);
            prop_assert!(passage != Passage::Refused);
            breaker.succeeded(passage, now, &THRESHOLDS);
            prop_assert_eq!(breaker.state(), BreakerState::Closed);
        }
    }
}
