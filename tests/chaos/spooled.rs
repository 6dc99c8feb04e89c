//! The judge of what goes by way of the spool: in order for each key, and never faster than it may drain.

use super::books::{Arrival, Record};
use super::messages::Kind;
use super::oracle::Violation;
use super::scene::DRAIN_RATE;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Deliveries that are under way side by side when a network lets go of what it held back.
const SIDE_BY_SIDE: usize = 64;

/// What was asked, and what arrived.
pub(crate) struct Spooled<'a> {
    /// Every request.
    pub(crate) records: &'a [Record],
    /// Every delivery, by the number of its message.
    pub(crate) arrivals: &'a HashMap<u32, Vec<&'a Arrival>>,
}

impl<'a> Spooled<'a> {
    /// Every violation there is.
    pub(crate) fn judge(&self) -> Vec<Violation> {
        let mut violations = self.overtaken();
        violations.extend(self.too_fast());
        violations
    }

    /// When a message arrived first.
    fn first(&self, record: &Record) -> Option<Instant> {
        self.arrivals.get(&record.message.number)?.iter().map(|arrival| arrival.at).min()
    }

    /// Of two messages of a key, the one that was answered before the other was sent comes first.
    fn overtaken(&self) -> Vec<Violation> {
        let mut keys: HashMap<u32, Vec<(Instant, &Record)>> = HashMap::new();
        for record in self.records.iter().filter(|record| record.message.kind == Kind::Spooled) {
            if record.outcome() == "spooled"
                && let Some(first) = self.first(record)
            {
                keys.entry(record.message.spool_key()).or_default().push((first, record));
            }
        }
        let mut violations = Vec::new();
        for mut arrived in keys.into_values() {
            arrived.sort_by_key(|(first, _)| *first);
            let mut latest: Option<&Record> = None;
            for (_, record) in arrived {
                if let Some(before) = latest.filter(|before| record.ended < before.sent) {
                    let what = format!("it arrived after {}, which was sent later", before.message.number);
                    let number = Some(record.message.number);
                    violations.push(Violation { promise: "order", number, what });
                }
                latest = latest.filter(|before| before.sent > record.sent).or(Some(record));
            }
        }
        violations
    }

    /// No second sees more of what the spool had than its pace allows.
    fn too_fast(&self) -> Option<Violation> {
        let kept = self.records.iter().filter(|record| record.outcome() == "spooled");
        let mut moments: Vec<Instant> = kept.filter_map(|record| self.first(record)).collect();
        moments.sort_unstable();
        let most = DRAIN_RATE as usize * 11 / 10 + SIDE_BY_SIDE;
        let busiest = (0..moments.len())
            .map(|begin| {
                let end = moments[begin] + Duration::from_secs(1);
                moments[begin..].partition_point(|moment| *moment < end)
            })
            .max()
            .unwrap_or_default();
        let what = format!("{busiest} spooled messages arrived within a second, {most} may");
        (busiest > most).then_some(Violation { promise: "storm", number: None, what })
    }
}
