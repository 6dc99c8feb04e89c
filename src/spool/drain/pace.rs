//! When the next message may leave: evenly spaced, with a ramp after a start or an outage. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// The part of the rate at which a ramp begins.
const FIRST: f64 = 0.1;
/// The growth of the rate per second, as a factor.
const GROWTH: f64 = 1.5;
/// The part of the rate that the drain always keeps, however busy requests are.
const TRICKLE: f64 = 0.1;
/// Timers fire late. A delay of up to this is made up for; the rest of a longer one is lost.
const CATCH_UP: Duration = Duration::from_millis(20);

/// The pace of everything that leaves the spool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The highest rate, in messages a second.
    rate: f64,
    /// When the last ramp began.
    since: Instant,
    /// When the next message is due.
    next: Instant,
    catch_up: Duration,
}

impl Pace {
    /// At most `rate` messages a second, and a ramp that begins now.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        // Less than one message must not be rounded up to one: that would exceed a low rate.
        let catch_up = if CATCH_UP.as_secs_f64() * f64::from(rate) < 1.0 { Duration::ZERO } else { CATCH_UP };
        Self { rate: f64::from(rate.max(1)), since: now, next: now, catch_up }
    }

    /// The broker is back: the ramp begins again.
    pub(super) fn begin_again(&mut self, now: Instant) {
        self.since = now;
        self.next = self.next.max(now);
    }

    /// When a message that has waited since `asked` may leave.
    pub(super) fn due(&self, asked: Instant) -> Instant {
        self.next.max(asked)
    }

    /// The same for a message that leaves among requests while they hold the drain's permits: at
    /// [`TRICKLE`] of the rate.
    pub(super) fn due_among_requests(&self, asked: Instant, now: Instant) -> Instant {
        self.due(asked) + Duration::from_secs_f64((1.0 / TRICKLE - 1.0) / self.rate_at(now))
    }

    /// A message that has waited since `asked` leaves.
    pub(super) fn left(&mut self, asked: Instant, now: Instant) {
        let earliest = now.checked_sub(self.catch_up).unwrap_or(now);
        let moment = self.due(asked).max(earliest);
        self.next = moment + Duration::from_secs_f64(1.0 / self.rate_at(now));
    }

    /// A message leaves among requests. Its delay is not made up for.
    pub(super) fn left_among_requests(&mut self, now: Instant) {
        self.next = now + Duration::from_secs_f64(1.0 / self.rate_at(now));
    }

    /// Messages a second at this moment.
    pub(super) fn rate_at(&self, now: Instant) -> f64 {
        let ramped = FIRST * GROWTH.powf(now.duration_since(self.since).as_secs_f64().min(60.0));
        (self.rate * ramped.min(1.0)).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The time between two messages.
    #[derive(Clone, Copy, Debug)]
    struct Step {
        /// The next message arrives after this.
        idle_us: u64,
        /// The timer fires this much too late.
        late_us: u64,
        outage: bool,
    }

    fn step() -> impl Strategy<Value = Step> {
        let idle = prop_oneof![8 => Just(0u64), 2 => 0..5_000u64, 1 => 0..3_000_000u64];
        let late = prop_oneof![6 => 0..1_500u64, 2 => 0..30_000u64, 1 => 0..500_000u64];
        let outage = prop_oneof![200 => Just(false), 1 => Just(true)];
        (idle, late, outage).prop_map(|(idle_us, late_us, outage)| Step { idle_us, late_us, outage })
    }

    /// When each message left, and the rate allowed at that moment.
    fn play(rate: u32, steps: &[Step]) -> Vec<(Instant, f64)> {
        let start = Instant::now();
        let (mut now, mut pace) = (start, Pace::new(rate, start));
        let mut left = Vec::new();
        for step in steps {
            let asked = now + Duration::from_micros(step.idle_us);
            if step.outage {
                pace.begin_again(asked);
            }
            let due = pace.due(asked);
            now = if due > asked { due + Duration::from_micros(step.late_us) } else { asked };
            pace.left(asked, now);
            left.push((now, pace.rate_at(now)));
        }
        left
    }

    /// The largest number of messages that left in any second that begins with a message.
    fn busiest(left: &[(Instant, f64)]) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (last, (moment, _)) in left.iter().enumerate() {
            while left[first].0 + Duration::from_secs(1) <= *moment {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_a_tenth_above_the_rate(
            rate in prop_oneof![1..60u32, 60..2_000u32],
            steps in prop::collection::vec(step(), 1..1_500),
        ) {
            let most = busiest(&play(rate, &steps));
            prop_assert!(most as f64 <= f64::from(rate) * 1.1, "{} at {}", most, rate);
        }

        #[test]
        fn after_an_outage_no_second_has_more_than_its_part_of_the_ramp(
            rate in 20..2_000u32,
            before in prop::collection::vec(step(), 0..500),
        ) {
            let mut steps = before;
            steps.push(Step { idle_us: 0, late_us: 0, outage: true });
            let outage = steps.len() - 1;
            steps.extend([Step { idle_us: 0, late_us: 0, outage: false }; 1_000]);
            let left = play(rate, &steps);
            let begun = left[outage].0;
            for second in 0..8u64 {
                let [from, to] = [second, second + 1].map(|second| begun + Duration::from_secs(second));
                let count = left[outage..].iter().filter(|(moment, _)| (from..to).contains(moment)).count();
                let ramp = FIRST * GROWTH.powf(second as f64 + 1.0);
                let fastest = f64::from(rate) * ramp.min(1.0);
                prop_assert!(count as f64 <= fastest.max(1.0) * 1.1 + 1.0, "{} in second {}", count, second);
            }
        }
    }

    #[test]
    fn without_delays_the_rate_is_reached_within_six_seconds_and_kept() {
        let left = play(500, &[Step { idle_us: 0, late_us: 0, outage: false }; 10_000]);
        let start = left[0].0;
        let in_second = |second: u64| {
            let from = start + Duration::from_secs(second);
            let to = from + Duration::from_secs(1);
            left.iter().filter(|(moment, _)| (from..to).contains(moment)).count()
        };
        assert!((50..=75).contains(&in_second(0)), "{}", in_second(0));
        assert!((495..=510).contains(&in_second(6)), "{}", in_second(6));
        assert!((495..=510).contains(&in_second(10)), "{}", in_second(10));
    }

    #[test]
    fn a_timer_that_wakes_a_little_late_costs_no_speed() {
        let left = play(500, &[Step { idle_us: 0, late_us: 1_200, outage: false }; 8_000]);
        let (first, last) = (left[4_000].0, left[7_999].0);
        let rate = 4_000.0 / last.duration_since(first).as_secs_f64();
        assert!(rate > 480.0, "{rate}");
    }

    #[test]
    fn requests_that_leave_it_nothing_leave_it_a_tenth() {
        let start = Instant::now();
        let (mut now, mut pace) = (start + Duration::from_secs(60), Pace::new(500, start));
        for _ in 0..500 {
            now = pace.due_among_requests(start, now).max(now);
            pace.left_among_requests(now);
        }
        let took = now.duration_since(start).as_secs_f64() - 60.0;
        assert!((9.0..=10.1).contains(&took), "500 at 50 a second took {took} s");
    }

    #[test]
    fn what_was_not_used_while_idle_does_not_burst_out() {
        let idle = Step { idle_us: 20_000_000, late_us: 0, outage: false };
        let none = Step { idle_us: 0, late_us: 0, outage: false };
        let left = play(500, &[idle, none, none, none]);
        let gaps = left.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0));
        assert!(gaps.into_iter().all(|gap| gap >= Duration::from_micros(1_999)));
    }
}
