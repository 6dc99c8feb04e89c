//! Judges the order of each key's messages, and the messages from the spool: repeated ones are
//! marked, and the drain keeps its pace.

use super::books::{Arrival, Record, Window};
use super::messages::Kind;
use super::noise::Noise;
use super::oracle::{NOTICED, Violation};
use super::plan::{Fault, Part, part};
use super::scene::DRAIN_RATE;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Deliveries that are under way at the same time when a network releases held bytes.
const SIDE_BY_SIDE: usize = 64;

/// Keys that are drained at the same time: the message that each has under way may arrive together
/// with the next.
const KEYS: usize = 12;

/// The length of the interval in which a burst is looked for. The shorter it is, the less the ramp
/// itself allows.
const A_LOOK: Duration = Duration::from_millis(300);

/// The part of the rate that the ramp reaches two seconds after its beginning.
const RAMP_MAX: f64 = 0.1 * 1.5 * 1.5;

/// The requests and the arrivals.
pub(crate) struct Spooled<'a> {
    /// Every request.
    pub(crate) records: &'a [Record],
    /// Every delivery, by the number of its message.
    pub(crate) arrivals: &'a HashMap<u32, Vec<&'a Arrival>>,
    /// Every fault.
    pub(crate) windows: &'a [Window],
    /// The delays that the machine caused.
    pub(crate) noise: &'a Noise,
}

impl<'a> Spooled<'a> {
    /// All violations.
    pub(crate) fn judge(&self) -> Vec<Violation> {
        let mut violations = self.overtaken();
        violations.extend(self.records.iter().filter_map(|record| self.unmarked(record)));
        let moments = self.moments();
        violations.extend(too_fast(&moments));
        violations.extend(self.windows.iter().filter_map(|window| self.no_ramp(window, &moments)));
        violations
    }

    fn arrived(&self, record: &Record) -> &[&Arrival] {
        self.arrivals.get(&record.message.number).map_or(&[], Vec::as_slice)
    }

    /// When a message arrived first.
    fn first(&self, record: &Record) -> Option<Instant> {
        self.arrived(record).iter().map(|arrival| arrival.at).min()
    }

    /// The first arrivals of spooled messages, in order of time.
    fn moments(&self) -> Vec<Instant> {
        let kept = self.records.iter().filter(|record| record.outcome() == "spooled");
        let mut moments: Vec<Instant> = kept.filter_map(|record| self.first(record)).collect();
        moments.sort_unstable();
        moments
    }

    /// Of two messages of a key, in any mode, the one that was answered 2xx before the other was
    /// sent comes first.
    fn overtaken(&self) -> Vec<Violation> {
        let mut keys: HashMap<String, Vec<(Instant, &Record)>> = HashMap::new();
        for record in self.records {
            if let (Some(key), Some(first)) = (record.message.ordered_key(), self.first(record)) {
                keys.entry(key).or_default().push((first, record));
            }
        }
        let mut violations = Vec::new();
        for mut arrived in keys.into_values() {
            arrived.sort_by_key(|(first, _)| *first);
            let mut latest: Option<&Record> = None;
            for (_, record) in arrived {
                let is_safe = matches!(record.outcome(), "spooled" | "confirmed");
                if let Some(before) = latest.filter(|before| is_safe && record.ended < before.sent) {
                    let what = format!("it arrived after {}, which was sent later", before.message.number);
                    let number = Some(record.message.number);
                    violations.push(Violation { promise: "order", number, what });
                }
                latest = latest.filter(|before| before.sent > record.sent).or(Some(record));
            }
        }
        violations
    }

    /// A repeated arrival is marked. A network that holds bytes may deliver the first delivery
    /// last.
    fn unmarked(&self, record: &Record) -> Option<Violation> {
        let by_request = record.message.kind == Kind::Fallback && record.message.policy == "at_least_once";
        if record.message.mode().is_none() || by_request {
            return None;
        }
        let silent = |arrival: &&&Arrival| !arrival.redelivered && !arrival.marked;
        let copies = self.arrived(record).iter().filter(silent).count();
        let what = format!("{copies} copies without a mark");
        (copies > 1).then_some(Violation { promise: "mark", number: Some(record.message.number), what })
    }

    /// After an outage that only the sidecar has noticed, spooled messages leave slowly at first.
    fn no_ramp(&self, window: &Window, moments: &[Instant]) -> Option<Violation> {
        let after = window.lifted + Duration::from_secs(2);
        let mut others = self.windows.iter().filter(|other| part(other.fault) != Part::Network);
        if !took_the_link_down(window)
            || others.any(|other| other.touches(window.begin, after, Duration::ZERO))
        {
            return None;
        }
        let first = *moments.get(moments.partition_point(|moment| *moment < window.lifted))?;
        let begins = moments.iter().copied();
        let begins = begins.filter(|begin| (first..first + Duration::from_secs(1)).contains(begin));
        let bursts = begins.filter_map(|begin| {
            let arrived = within(moments, begin, A_LOOK);
            let long = A_LOOK + self.noise.slack(begin, begin + A_LOOK);
            let most = KEYS + (f64::from(DRAIN_RATE) * RAMP_MAX * long.as_secs_f64() * 1.1) as usize;
            let what = format!("{arrived} spooled messages within {A_LOOK:?} after {window:?}, {most} may");
            (arrived > most).then_some(Violation { promise: "storm", number: None, what })
        });
        bursts.into_iter().next()
    }
}

/// Whether the ramp has begun anew, because every connection ended or the silence was long enough
/// to be noticed.
fn took_the_link_down(window: &Window) -> bool {
    let silence = matches!(window.fault, Fault::BlackHole(_) | Fault::Held(_));
    let is_long = window.lifted.duration_since(window.begin) > NOTICED;
    matches!(window.fault, Fault::Refused | Fault::ConfirmsLost) || silence && is_long
}

/// No second has more arrivals from the spool than its pace allows.
fn too_fast(moments: &[Instant]) -> Option<Violation> {
    let most = DRAIN_RATE as usize * 11 / 10 + SIDE_BY_SIDE;
    let busiest =
        moments.iter().map(|begin| within(moments, *begin, Duration::from_secs(1))).max().unwrap_or_default();
    let what = format!("{busiest} spooled messages arrived within a second, {most} may");
    (busiest > most).then_some(Violation { promise: "storm", number: None, what })
}

fn within(moments: &[Instant], begin: Instant, length: Duration) -> usize {
    let position = |until: Instant| moments.partition_point(|moment| *moment < until);
    position(begin + length) - position(begin)
}
