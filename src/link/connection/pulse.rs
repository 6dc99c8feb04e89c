//! Decides whether the broker still answers on an open socket: when to probe it, when to call it
//! stalled, when to give it up.
//!
//! A timer on the oldest unconfirmed publish would flap: on a healthy broker, a durable queue on a
//! slow disk confirms after 240 ms at the 99th percentile, and a queue without quorum never
//! confirms (ADR-0001). So the sign of life is a **probe** on a channel of its own, which the
//! broker answers at once, or any verdict instead of it.
//!
//! Pure: the caller provides the clock and carries out the actions.

use crate::link::lanes::transfer_time;
use std::time::Duration;
use tokio::time::Instant;

/// The pause between the two looks that must agree before the broker is called stalled. A sidecar
/// that was stopped or starved itself reads in this time what has arrived meanwhile.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PulseAction {
    /// Nothing until the next look.
    Wait,
    /// Send a probe.
    Probe,
    /// Half of the time for an answer has passed: nothing that was sent since this moment is
    /// answered.
    Suspect(Instant),
    /// The broker has stopped answering: refuse new publishes.
    Stall,
    /// The broker has not come back: abort the connection.
    GiveUp,
}

/// The pulse of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    stall_timeout: Duration,
    last_word: Instant,
    probe_sent: Option<Instant>,
    /// Since when nothing is answered, once that was told.
    told: Option<Instant>,
    suspected: Option<Instant>,
    stalled: Option<Instant>,
}

impl Pulse {
    /// The pulse of a connection that was opened `now`.
    pub(crate) fn new(stall_timeout: Duration, now: Instant) -> Self {
        Self { stall_timeout, last_word: now, probe_sent: None, told: None, suspected: None, stalled: None }
    }

    /// The broker last said something `at` that moment. Whether it had been stalled, and no longer
    /// is.
    pub(crate) fn word(&mut self, at: Instant) -> bool {
        if at <= self.last_word {
            return false;
        }
        self.last_word = at;
        self.suspected = None;
        self.stalled.take().is_some()
    }

    /// The connection should prove that it is alive. Whether a probe is to be sent `now`: none is
    /// under way.
    pub(crate) fn asked(&mut self, now: Instant) -> bool {
        let sends = self.probe_sent.is_none();
        self.probe_sent.get_or_insert(now);
        sends
    }

    /// The probe was answered at `now`. Whether the broker had been stalled.
    pub(crate) fn probe_answered(&mut self, now: Instant) -> bool {
        self.probe_sent = None;
        self.word(now)
    }

    /// The broker is not expected to answer (it blocks publishers and reads nothing): start afresh.
    pub(crate) fn suspend(&mut self, now: Instant) {
        self.last_word = now;
        self.suspected = None;
        self.stalled = None;
        self.probe_sent = self.probe_sent.map(|_| now);
    }

    /// What to do at `now`, and when to look again. `owed`: bytes of publishes without a verdict.
    pub(crate) fn look(&mut self, now: Instant, owed: usize) -> (PulseAction, Instant) {
        let (busy, patience) = (owed > 0, self.stall_timeout + transfer_time(owed));
        if let Some(stalled) = self.stalled {
            let give_up = stalled + patience;
            return if now >= give_up { (PulseAction::GiveUp, now) } else { (PulseAction::Wait, give_up) };
        }
        let Some(sent) = self.probe_sent else {
            let due = self.last_word + self.silence(busy);
            if now < due {
                return (PulseAction::Wait, due.min(now + self.silence(true)));
            }
            self.probe_sent = Some(now);
            return (PulseAction::Probe, now + patience - self.stall_timeout / 2);
        };
        let silent_since = sent.max(self.last_word);
        let due = silent_since + patience;
        // The time that the bytes need arouses no suspicion.
        let half = due - self.stall_timeout / 2;
        if now < half {
            self.suspected = None;
            return (PulseAction::Wait, half);
        }
        if self.told != Some(silent_since) {
            self.told = Some(silent_since);
            return (PulseAction::Suspect(silent_since), due.max(now));
        }
        if now < due {
            self.suspected = None;
            return (PulseAction::Wait, due);
        }
        match self.suspected {
            None => {
                self.suspected = Some(now);
                (PulseAction::Wait, now + SECOND_LOOK)
            }
            Some(first) if now < first + SECOND_LOOK => (PulseAction::Wait, first + SECOND_LOOK),
            Some(_) => {
                self.stalled = Some(now);
                (PulseAction::Stall, now + patience)
            }
        }
    }

    /// How long silence lasts before it is probed. With publishes in flight words should come
    /// often; an idle connection is probed seldom, since a thousand sidecars are idle most of the
    /// time.
    fn silence(&self, busy: bool) -> Duration {
        if busy { self.stall_timeout / 4 } else { self.stall_timeout * 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(1);
    const BUSY: usize = 1024;

    /// Looks until `action` comes, the broker silent; how long it took.
    fn until(action: PulseAction, pulse: &mut Pulse, from: Instant, owed: usize) -> Duration {
        let mut now = from;
        for _ in 0..100 {
            let (seen, next) = pulse.look(now, owed);
            if seen == action {
                return now - from;
            }
            now = next.max(now + Duration::from_millis(1));
        }
        panic!("{action:?} never came");
    }

    #[test]
    fn a_busy_connection_whose_broker_falls_silent_is_stalled_within_two_seconds() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, now);
        let stalled = until(PulseAction::Stall, &mut pulse, now, BUSY);
        assert!(stalled >= TIMEOUT && stalled < Duration::from_millis(1500), "{stalled:?}");
        let given_up = until(PulseAction::GiveUp, &mut pulse, now + stalled, BUSY);
        assert!(given_up <= TIMEOUT, "{given_up:?}");
    }

    #[test]
    fn an_idle_connection_is_probed_too() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, now);
        let stalled = until(PulseAction::Stall, &mut pulse, now, 0);
        assert!(stalled < Duration::from_millis(3500), "{stalled:?}");
    }

    #[test]
    fn a_slow_link_with_much_to_carry_is_given_the_time_for_it() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, now);
        let stalled = until(PulseAction::Stall, &mut pulse, now, 9 * 1024 * 1024);
        assert!(stalled > Duration::from_secs(9), "{stalled:?}");
    }

    #[test]
    fn a_connection_that_is_unblocked_after_a_stall_starts_afresh() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, now);
        let stalled = now + until(PulseAction::Stall, &mut pulse, now, BUSY);
        let unblocked = stalled + Duration::from_secs(60);
        pulse.suspend(unblocked);
        assert_eq!(pulse.look(unblocked, BUSY).0, PulseAction::Wait);
    }

    #[test]
    fn a_word_ends_a_stall() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, now);
        let stalled = now + until(PulseAction::Stall, &mut pulse, now, BUSY);
        assert!(pulse.probe_answered(stalled));
        assert_eq!(pulse.look(stalled, BUSY).0, PulseAction::Wait);
    }

    proptest! {
        #[test]
        fn a_broker_that_answers_each_probe_in_time_is_never_stalled(
            delays in prop::collection::vec(0u64..950, 1..60),
            busy in any::<bool>(),
        ) {
            let mut now = Instant::now();
            let mut pulse = Pulse::new(TIMEOUT, now);
            for delay in delays {
                let (action, next) = pulse.look(now, if busy { BUSY } else { 0 });
                prop_assert!(action != PulseAction::Stall && action != PulseAction::GiveUp);
                if action == PulseAction::Probe {
                    let answered = now + Duration::from_millis(delay);
                    while now < answered {
                        let (action, next) = pulse.look(now, if busy { BUSY } else { 0 });
                        prop_assert!(action != PulseAction::Stall && action != PulseAction::GiveUp);
                        prop_assert!(!matches!(action, PulseAction::Suspect(_)) || delay >= 500);
                        now = next.min(answered).max(now + Duration::from_millis(1));
                    }
                    now = answered;
                    pulse.probe_answered(now);
                } else {
                    now = next;
                }
            }
        }

        #[test]
        fn verdicts_in_place_of_probe_answers_keep_it_alive(gaps in prop::collection::vec(1u64..900, 1..60)) {
            let mut now = Instant::now();
            let mut pulse = Pulse::new(TIMEOUT, now);
            for gap in gaps {
                let end = now + Duration::from_millis(gap);
                while now < end {
                    let (action, next) = pulse.look(now, BUSY);
                    prop_assert!(action != PulseAction::Stall && action != PulseAction::GiveUp);
                    now = next.min(end).max(now + Duration::from_millis(1));
                }
                now = end;
                pulse.word(now);
            }
        }
    }
}
