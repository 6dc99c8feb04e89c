//! Decides whether the broker still answers on an open socket: when to probe it, when to call it
//! stalled, when to give it up.
//!
//! A timer on the oldest unconfirmed publish would flap: on a healthy broker, a durable queue on a
//! slow disk confirms after 240 ms at the 99th percentile, and a queue without quorum never
//! confirms (ADR-0001). So the sign of life is the answer to a **probe** on a channel of its own,
//! which a healthy broker gives at once. Any verdict is as good as that answer.
//!
//! A probe waits behind all bytes that were sent before it. As long as the broker's system goes on
//! acknowledging these, the line is slow and the broker is not stalled. Where that cannot be
//! observed, the probe gets more time for each byte (`transfer_time`).
//!
//! Pure: the caller provides the clock and carries out the actions.

use super::transport::Progress;
use crate::link::lanes::transfer_time;
use std::time::Duration;
use tokio::time::Instant;

/// The pause between the two looks that must agree before the broker is called stalled. If the
/// sidecar itself was stopped or starved, it reads in this time the bytes that have arrived.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PulseAction {
    /// Nothing until the next look.
    Wait,
    /// Send a probe.
    Probe,
    /// Half of the time for an answer has passed, or all of it where bytes are under way: nothing
    /// that was sent since this moment is answered.
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
    transfer_max: Duration,
    last_word: Instant,
    probe_sent: Option<Instant>,
    /// What the probe waits behind, where that can be observed.
    behind: Option<Behind>,
    /// Since when nothing is answered, once that was told.
    told: Option<Instant>,
    suspected: Option<Instant>,
    stalled: Option<Instant>,
}

/// The bytes before a probe, as positions in the connection's stream.
#[derive(Clone, Copy, Debug)]
struct Behind {
    begin: u64,
    end: u64,
    acknowledged: u64,
    /// When more of them were last seen to be acknowledged.
    moved: Option<Instant>,
}

/// Bytes that may be on their way between the system that acknowledges them and the broker, when
/// a relay is in between: two buffers of 64 KiB in it, and one of 128 KiB before it.
const IN_RELAYS: u64 = 256 << 10;

impl Behind {
    fn waits(&self) -> bool {
        self.acknowledged < self.end
    }

    /// How long bytes that are acknowledged may be on their way to the broker, as they move so
    /// slowly. The probe was sent at `sent`.
    fn on_the_way(&self, sent: Instant) -> Duration {
        let moved = self.acknowledged - self.begin;
        match self.moved {
            Some(at) if moved > 0 && !self.waits() => {
                let took = u64::try_from((at - sent).as_micros()).unwrap_or(u64::MAX);
                Duration::from_micros(took.saturating_mul(IN_RELAYS.min(moved)) / moved)
            }
            Some(_) | None => Duration::ZERO,
        }
    }
}

impl Pulse {
    /// The pulse of a connection that was opened `now`. The bytes before a probe may take as long
    /// as `transfer_max`.
    pub(crate) fn new(stall_timeout: Duration, transfer_max: Duration, now: Instant) -> Self {
        Self {
            stall_timeout,
            transfer_max,
            last_word: now,
            probe_sent: None,
            behind: None,
            told: None,
            suspected: None,
            stalled: None,
        }
    }

    /// The broker last said something `at` that moment. Returns whether it was stalled until now.
    pub(crate) fn word(&mut self, at: Instant) -> bool {
        if at <= self.last_word {
            return false;
        }
        self.last_word = at;
        self.suspected = None;
        self.stalled.take().is_some()
    }

    /// The connection should prove that it is alive. Returns whether to send a probe `now`: no
    /// other one may be under way.
    pub(crate) fn asked(&mut self, now: Instant) -> bool {
        let sends = self.probe_sent.is_none();
        self.probe_sent.get_or_insert(now);
        sends
    }

    /// A probe is being sent. Before it, our system has the bytes that `progress` says, and
    /// `unwritten` more wait in the process.
    pub(crate) fn sent_behind(&mut self, progress: Option<Progress>, unwritten: usize) {
        self.behind = progress.map(|Progress { acknowledged, taken }| {
            // What frames and TLS add, at most.
            let unwritten = (unwritten + unwritten / 32) as u64;
            Behind { begin: acknowledged, end: taken + unwritten, acknowledged, moved: None }
        });
    }

    /// Whether the probe waits for bytes before it, so that their progress matters.
    pub(crate) fn waits_for_bytes(&self) -> bool {
        self.probe_sent.is_some() && self.behind.is_some_and(|behind| behind.waits())
    }

    /// The broker's system has acknowledged the connection's bytes up to this position, as seen at
    /// `now`.
    pub(crate) fn acknowledged(&mut self, position: u64, now: Instant) {
        let is_in_time = self.probe_sent.is_some_and(|sent| now <= sent + self.transfer_max);
        let Some(behind) = &mut self.behind else { return };
        let position = position.min(behind.end);
        if position > behind.acknowledged {
            behind.acknowledged = position;
            if is_in_time {
                behind.moved = Some(now);
            }
        }
    }

    /// The probe was answered at `now`. Whether the broker had been stalled.
    pub(crate) fn probe_answered(&mut self, now: Instant) -> bool {
        self.probe_sent = None;
        self.behind = None;
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
        let transfer = if self.behind.is_some() { Duration::ZERO } else { transfer_time(owed) };
        let (busy, patience) = (owed > 0, self.stall_timeout + transfer);
        let moved = self.behind.and_then(|behind| behind.moved);
        if let Some(stalled) = self.stalled {
            let give_up = moved.map_or(stalled, |moved| moved.max(stalled)) + patience;
            return if now >= give_up { (PulseAction::GiveUp, now) } else { (PulseAction::Wait, give_up) };
        }
        let Some(sent) = self.probe_sent else {
            let due = self.last_word + self.silence(busy);
            if now < due {
                return (PulseAction::Wait, due.min(now + self.silence(true)));
            }
            self.probe_sent = Some(now);
            return (PulseAction::Probe, now + self.next_glance());
        };
        let silent_since = sent.max(self.last_word);
        let still_since = moved.map_or(silent_since, |moved| moved.max(silent_since));
        let on_the_way = self.behind.map_or(Duration::ZERO, |behind| behind.on_the_way(sent));
        let due = still_since + patience + on_the_way.min(self.stall_timeout);
        // A suspicion ends with an answer only. The time that bytes need arouses none, and they
        // move in spurts over a slow line.
        let is_slow = moved.is_some() || self.waits_for_bytes();
        let doubtful = if is_slow { due } else { due - self.stall_timeout / 2 };
        let glance = if self.waits_for_bytes() { now + self.next_glance() } else { due };
        if now < doubtful {
            self.suspected = None;
            return (PulseAction::Wait, doubtful.min(glance));
        }
        if self.told != Some(silent_since) {
            self.told = Some(silent_since);
            return (PulseAction::Suspect(silent_since), due.max(now));
        }
        if now < due {
            self.suspected = None;
            return (PulseAction::Wait, due.min(glance));
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

    /// The pause between two looks at the progress of bytes.
    fn next_glance(&self) -> Duration {
        self.stall_timeout / 8
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
    const TRANSFER_MAX: Duration = Duration::from_secs(60);
    const BUSY: usize = 1024;

    /// Looks until `action` comes while the broker is silent; returns how long that took.
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
        let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
        let stalled = until(PulseAction::Stall, &mut pulse, now, BUSY);
        assert!(stalled >= TIMEOUT && stalled < Duration::from_millis(1500), "{stalled:?}");
        let given_up = until(PulseAction::GiveUp, &mut pulse, now + stalled, BUSY);
        assert!(given_up <= TIMEOUT, "{given_up:?}");
    }

    #[test]
    fn an_idle_connection_is_probed_too() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
        let stalled = until(PulseAction::Stall, &mut pulse, now, 0);
        assert!(stalled < Duration::from_millis(3500), "{stalled:?}");
    }

    #[test]
    fn a_slow_link_with_much_to_carry_is_given_the_time_for_it() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
        let stalled = until(PulseAction::Stall, &mut pulse, now, 9 * 1024 * 1024);
        assert!(stalled > Duration::from_secs(9), "{stalled:?}");
    }

    /// A probe behind a megabyte that our system has. Its broker says nothing, and `acknowledged`
    /// tells how far its system is after some time. How long until the connection is stalled.
    fn stalled_after(owed: usize, acknowledged: impl Fn(Duration) -> u64) -> Duration {
        const TAKEN: u64 = 1 << 20;
        let begun = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, begun);
        let mut now = begun;
        for _ in 0..10_000 {
            if pulse.waits_for_bytes() {
                pulse.acknowledged(acknowledged(now - begun), now);
            }
            let (action, next) = pulse.look(now, owed);
            match action {
                PulseAction::Probe => {
                    pulse.sent_behind(Some(Progress { acknowledged: 0, taken: TAKEN }), 0);
                }
                PulseAction::Stall => return now - begun,
                PulseAction::Wait | PulseAction::Suspect(_) | PulseAction::GiveUp => {}
            }
            now = next.max(now + Duration::from_millis(1));
        }
        panic!("it was never stalled");
    }

    fn at_rate(bytes_per_second: u64, after: Duration) -> u64 {
        bytes_per_second * u64::try_from(after.as_millis()).unwrap() / 1000
    }

    #[test]
    fn the_clock_starts_anew_with_each_byte_before_the_probe_that_is_acknowledged() {
        let stalled = stalled_after(BUSY, |after| at_rate(100_000, after));
        assert!(stalled > Duration::from_secs(12) && stalled < Duration::from_secs(13), "{stalled:?}");
    }

    #[test]
    fn bytes_behind_the_probe_do_not_count() {
        let stalled = stalled_after(BUSY, |after| at_rate(100_000_000, after));
        assert!(stalled < Duration::from_millis(1600), "{stalled:?}");
    }

    #[test]
    fn a_closed_window_is_noticed_however_much_waits() {
        let stalled = stalled_after(9 << 20, |_| 0);
        assert!(stalled < Duration::from_millis(1500), "{stalled:?}");
        let stalled = stalled_after(9 << 20, |after| at_rate(100_000, after.min(Duration::from_secs(5))));
        assert!(stalled > Duration::from_secs(5) && stalled < Duration::from_millis(6300), "{stalled:?}");
    }

    #[test]
    fn bytes_that_trickle_for_ever_are_given_their_time_and_no_more() {
        let stalled = stalled_after(BUSY, |after| at_rate(10, after));
        assert!(stalled > TRANSFER_MAX && stalled < TRANSFER_MAX + 2 * TIMEOUT, "{stalled:?}");
    }

    #[test]
    fn what_waits_in_the_process_is_before_the_probe_too() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
        assert!(pulse.asked(now));
        pulse.sent_behind(Some(Progress { acknowledged: 10, taken: 10 }), 0);
        assert!(!pulse.waits_for_bytes());
        pulse.sent_behind(Some(Progress { acknowledged: 10, taken: 10 }), 64);
        pulse.acknowledged(75, now);
        assert!(pulse.waits_for_bytes());
        pulse.acknowledged(76, now);
        assert!(!pulse.waits_for_bytes());
    }

    #[test]
    fn a_connection_that_is_unblocked_after_a_stall_starts_afresh() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
        let stalled = now + until(PulseAction::Stall, &mut pulse, now, BUSY);
        let unblocked = stalled + Duration::from_secs(60);
        pulse.suspend(unblocked);
        assert_eq!(pulse.look(unblocked, BUSY).0, PulseAction::Wait);
    }

    #[test]
    fn a_word_ends_a_stall() {
        let now = Instant::now();
        let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
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
            let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
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
            let mut pulse = Pulse::new(TIMEOUT, TRANSFER_MAX, now);
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
