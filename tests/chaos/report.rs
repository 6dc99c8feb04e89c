//! The printed report: one line per run, and the whole story of each message whose promise was
//! broken.

use super::books::{Arrival, Record, Window};
use super::messages::id;
use super::oracle::{Oracle, Violation, deadline};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The number of stories printed in full for each promise.
const STORIES_MAX: usize = 5;

/// The run in one line.
pub(crate) fn summary(oracle: &Oracle<'_>, violations: &[Violation]) -> String {
    let count = |keys: &mut dyn Iterator<Item = String>| {
        let mut counts = BTreeMap::new();
        keys.for_each(|key| *counts.entry(key).or_insert(0usize) += 1);
        let counts: Vec<_> = counts.into_iter().map(|(key, count)| format!("{key} {count}")).collect();
        counts.join(", ")
    };
    let answers = count(&mut oracle.records.iter().map(|record| record.code().to_owned()));
    let faults = count(&mut oracle.windows.iter().map(|window| format!("{:?}", window.fault)));
    let broken = count(&mut violations.iter().map(|violation| violation.promise.to_owned()));
    let (late, beyond) = oracle.lateness();
    format!(
        "chaos seed {}: {} messages | {answers} | faults: {faults} | latest answer {} ms after its deadline, \
         {} ms more than the machine explains | violations: {}",
        oracle.seed,
        oracle.records.len(),
        late.as_millis(),
        beyond.as_millis(),
        if broken.is_empty() { "0".to_owned() } else { broken },
    )
}

/// Everything about the first violations of each promise.
pub(crate) fn stories(oracle: &Oracle<'_>, violations: &[Violation], start: Instant) -> String {
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    let mut text = String::new();
    for violation in violations {
        let count = told.entry(violation.promise).or_default();
        *count += 1;
        if *count > STORIES_MAX {
            continue;
        }
        writeln!(text, "{}: {}", violation.promise.to_uppercase(), violation.what).expect("a string grows");
        if let Some(record) = violation.number.and_then(|number| by_number(oracle.records, number)) {
            let none = Vec::new();
            let arrivals = oracle.arrivals.get(&record.message.number).unwrap_or(&none);
            text.push_str(&story(oracle, record, arrivals, start));
        }
    }
    text
}

fn by_number(records: &[Record], number: u32) -> Option<&Record> {
    let position = records.binary_search_by_key(&number, |record| record.message.number).ok()?;
    records.get(position)
}

fn story(oracle: &Oracle<'_>, record: &Record, arrivals: &[&Arrival], start: Instant) -> String {
    let at = |moment: Instant| format!("{:.3}", moment.saturating_duration_since(start).as_secs_f64());
    let message = &record.message;
    let policy = if message.policy.is_empty() { "default" } else { message.policy };
    let http = if message.http2 { "HTTP/2" } else { "HTTP/1.1" };
    let mut text = format!(
        "  {}: {:?} (variant {}), {} bytes, deadline {:?}, retry {policy}, {http}\n  sent {}, due {}, \
        ended {}: {:?}\n",
        id(oracle.seed, message.number),
        message.kind,
        message.variant % 100,
        message.size,
        message.timeout,
        at(record.sent),
        at(deadline(record)),
        at(record.ended),
        record.end,
    );
    for arrival in arrivals {
        let again = if arrival.redelivered { " (redelivered)" } else { "" };
        let marked = if arrival.marked { " (marked)" } else { "" };
        writeln!(text, "  arrived {} in {}{again}{marked}", at(arrival.at), arrival.queue)
            .expect("a string grows");
    }
    let last = arrivals.iter().map(|arrival| arrival.at).max().unwrap_or(record.ended).max(record.ended);
    let around = |window: &&Window| window.touches(record.sent, last, Duration::from_secs(4));
    for window in oracle.windows.iter().filter(around) {
        let (begin, lifted, end) = (at(window.begin), at(window.lifted), at(window.end));
        writeln!(text, "  fault {:?} from {begin}, lifted {lifted}, over {end}", window.fault)
            .expect("a string grows");
    }
    text
}
