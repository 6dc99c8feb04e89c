//! The judge: compares every answer with the arrivals, and names each broken promise.

use super::books::{Arrival, End, Record, Reply, Window};
use super::contract::row_of;
use super::messages::{Kind, id};
use super::noise::Noise;
use super::plan::Fault;
use super::spooled::Spooled;
use crate::harness::Direction;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How late after its deadline an answer may be (docs/promises.md).
const GRACE: Duration = Duration::from_millis(50);

/// Good requests at this distance from every fault are confirmed.
const AWAY: Duration = Duration::from_secs(2);

/// A broker that has been silent for this long is noticed, and requests are refused at once.
pub(crate) const NOTICED: Duration = Duration::from_millis(2500);

/// Requests with a shorter deadline than this may miss it on a healthy broker: it syncs its disk.
const PATIENT: Duration = Duration::from_secs(1);

/// A silent connection is given up after two heartbeats of the default five seconds.
const UNHEARD: Duration = Duration::from_secs(10);

/// A healthy broker confirms within this, even with a slow disk.
const SLOW_SYNC: Duration = Duration::from_millis(400);

/// A broken promise.
#[derive(Debug)]
pub(crate) struct Violation {
    /// Which promise.
    pub(crate) promise: &'static str,
    /// The affected message, if there is one.
    pub(crate) number: Option<u32>,
    /// How it was broken.
    pub(crate) what: String,
}

/// The records that the oracle judges.
pub(crate) struct Oracle<'a> {
    /// The run's seed.
    pub(crate) seed: u64,
    /// The in-flight limit.
    pub(crate) limit: usize,
    /// Requests a second.
    pub(crate) rate: u32,
    /// Every request.
    pub(crate) records: &'a [Record],
    /// Every delivery, by the number of its message.
    pub(crate) arrivals: HashMap<u32, Vec<&'a Arrival>>,
    /// Every fault.
    pub(crate) windows: &'a [Window],
    /// The delays that the machine caused.
    pub(crate) noise: &'a Noise,
}

impl Oracle<'_> {
    /// All violations.
    pub(crate) fn judge(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for record in self.records {
            let number = Some(record.message.number);
            let verdicts = [
                ("hang", self.is_late(record)),
                ("ghost", self.is_ghost(record)),
                ("loss", self.is_lost(record)),
                ("lie", self.is_lie(record)),
                ("duplicate", self.is_duplicate(record)),
                ("blind", self.is_blind(record)),
            ];
            let verdicts = verdicts.into_iter().filter_map(|(promise, what)| Some((promise, what?)));
            let verdicts = verdicts.chain(self.is_harmed(record));
            violations.extend(verdicts.map(|(promise, what)| Violation { promise, number, what }));
        }
        for window in self.windows.iter().filter(|window| is_outage(window.fault)) {
            let storms = [self.burst_after(window), self.unknown_in(window)];
            let storms = storms.into_iter().flatten();
            violations.extend(storms.map(|what| Violation { promise: "storm", number: None, what }));
        }
        violations.extend(self.spooled().judge());
        violations
    }

    fn spooled(&self) -> Spooled<'_> {
        let Self { records, arrivals, windows, noise, .. } = self;
        Spooled { records, arrivals, windows, noise }
    }

    /// How late the latest answer was, and how much of that the machine does not explain.
    pub(crate) fn lateness(&self) -> (Duration, Duration) {
        let late = self.records.iter().filter(|record| record.reply().is_some()).map(|record| {
            let late = record.ended.saturating_duration_since(deadline(record));
            (late, late.saturating_sub(self.noise.slack(deadline(record), record.ended)))
        });
        late.fold(Default::default(), |worst, late| (late.0.max(worst.0), late.1.max(worst.1)))
    }

    fn arrived(&self, record: &Record) -> &[&Arrival] {
        self.arrivals.get(&record.message.number).map_or(&[], Vec::as_slice)
    }

    // === no hangs ===

    fn is_late(&self, record: &Record) -> Option<String> {
        let replaced =
            |window: &&Window| matches!(window.fault, Fault::SidecarKilled | Fault::SidecarStopped);
        let mut replaced = self.windows.iter().filter(replaced);
        match &record.end {
            End::Answered(_) => {
                let due = deadline(record) + GRACE;
                let late = record.ended.saturating_duration_since(due);
                let slack = self.noise.slack(due, record.ended);
                (late > slack).then(|| format!("answered {late:?} too late, the machine explains {slack:?}"))
            }
            End::Left => None,
            End::Silence => Some("never answered".to_owned()),
            End::NotConnected => {
                let away = replaced.any(|w| w.touches(record.sent, record.ended, Duration::from_millis(50)));
                (!away).then(|| "nobody listens".to_owned())
            }
            End::Broken(error) => {
                // A killed process answers nobody; a process that is asked to stop answers all
                // earlier requests.
                let margin = Duration::from_millis(20);
                let excused = replaced.any(|window| match window.fault {
                    Fault::SidecarKilled => window.touches(record.sent, record.ended, margin),
                    _ => record.sent + margin >= window.begin && record.sent <= window.lifted,
                });
                (!excused).then(|| format!("no answer: {error}"))
            }
        }
    }

    // === no ghosts, no loss ===

    fn is_ghost(&self, record: &Record) -> Option<String> {
        let nothing_sent = matches!(record.end, End::NotConnected) && record.message.kind != Kind::Leaver;
        let ghost = (record.outcome() == "not_published" || nothing_sent) && !self.arrived(record).is_empty();
        ghost.then(|| format!("answered {}, and it arrived", record.code()))
    }

    fn is_lost(&self, record: &Record) -> Option<String> {
        let is_kept = match record.message.kind {
            Kind::Queue | Kind::Topic | Kind::Envelope | Kind::Flapping => record.outcome() == "confirmed",
            Kind::Spooled | Kind::Fallback => matches!(record.outcome(), "confirmed" | "spooled"),
            _ => false,
        };
        let lost = is_kept && self.arrived(record).is_empty();
        lost.then(|| format!("answered {}, and it never arrived", record.outcome()))
    }

    // === no lies ===

    fn is_lie(&self, record: &Record) -> Option<String> {
        if self.arrived(record).iter().any(|arrival| !arrival.intact) {
            return Some("another payload arrived under its id".to_owned());
        }
        let reply = record.reply()?;
        if let Err(wrong) = has_the_right_form(reply, &id(self.seed, record.message.number)) {
            return Some(wrong);
        }
        if record.message.policy == "off" && reply.attempts > 1 {
            return Some(format!("{} attempts with retries off", reply.attempts));
        }
        let absent = |fault: Fault| {
            let mut absences = self.windows.iter().filter(|window| window.fault == fault);
            absences.any(|window| window.touches(record.sent, record.ended, Duration::ZERO))
        };
        let is_true = match (record.message.kind, reply.code.as_str()) {
            (_, "link_down" | "link_stalled" | "broker_blocked" | "overloaded" | "deadline_not_sent") => true,
            (_, "draining" | "breaker_open" | "confirm_timeout" | "link_lost" | "request_timeout") => true,
            (Kind::Queue | Kind::Topic | Kind::Envelope | Kind::Leaver, code) => code == "confirmed",
            (Kind::Spooled, code) => matches!(code, "spooled" | "spool_full" | "spool_unsure"),
            (Kind::Fallback, code) => matches!(code, "confirmed" | "spooled" | "spool_full" | "spool_unsure"),
            (Kind::Flapping | Kind::Doomed | Kind::Nowhere, "confirmed") => true,
            (Kind::Flapping, "destination_unavailable" | "exchange_not_found" | "unroutable") => {
                absent(Fault::ExchangeDeleted)
            }
            (Kind::Doomed, "destination_unavailable" | "unroutable" | "nacked") => {
                absent(Fault::QueueDeleted)
            }
            (Kind::Unroutable, code) => code == "unroutable",
            (Kind::Missing, code) => code == "exchange_not_found",
            (Kind::Full, code) => code == "nacked",
            (Kind::Oversized, code) => code == "payload_too_large",
            (Kind::Bad, code) => code == "invalid_request",
            (Kind::Flapping | Kind::Doomed | Kind::Nowhere, _) => false,
        };
        (!is_true).then(|| format!("{} cannot be true of {:?}", reply.code, record.message.kind))
    }

    // === no storms ===

    /// Retries happen only where a request asks for them.
    fn is_duplicate(&self, record: &Record) -> Option<String> {
        let copies = self.arrived(record).iter().filter(|arrival| !arrival.redelivered).count();
        (copies > 1 && !record.message.may_repeat()).then(|| format!("arrived {copies} times"))
    }

    /// Sent during a silence that had lasted long enough to be noticed, and not refused.
    fn is_blind(&self, record: &Record) -> Option<String> {
        let silent = |fault| matches!(fault, Fault::BrokerPaused | Fault::BlackHole(_) | Fault::Held(_));
        let mut silences = self.windows.iter().filter(|window| silent(window.fault));
        let noticed =
            |window: &Window| window.begin + NOTICED + self.noise.slack(window.begin, window.begin + NOTICED);
        let in_silence = silences.any(|window| record.sent > noticed(window) && record.ended < window.lifted);
        let refused = matches!(record.code(), "link_down" | "link_stalled" | "broker_blocked" | "draining");
        let blind = in_silence && record.message.is_good() && record.reply().is_some() && !refused;
        blind.then(|| format!("{} while the broker had long been silent", record.code()))
    }

    fn burst_after(&self, window: &Window) -> Option<String> {
        let recovery = window.lifted..window.lifted + Duration::from_secs(1);
        let sent_meanwhile = self.records.iter().filter(|record| {
            let meanwhile = window.begin <= record.sent && record.sent <= window.lifted;
            // Spooled messages leave later and paced, which `spooled` judges.
            let by_spool = record.message.mode().is_some();
            meanwhile && record.reply().is_some() && record.outcome() != "confirmed" && !by_spool
        });
        let burst = sent_meanwhile
            .flat_map(|record| self.arrived(record))
            .filter(|a| recovery.contains(&a.at))
            .count();
        let limit = self.limit;
        (burst > limit)
            .then(|| format!("{burst} messages burst out after {:?}, the limit is {limit}", window.fault))
    }

    fn unknown_in(&self, window: &Window) -> Option<String> {
        let others =
            || self.windows.iter().filter(|other| other.touches(window.begin, window.end, Duration::ZERO));
        // A slow network confirms late: then deadlines pass although nothing is unresolved for
        // long.
        if others().any(|other| matches!(other.fault, Fault::Delayed(..) | Fault::Throttled(..))) {
            return None;
        }
        let limit = self.limit * others().count();
        let unknown = self.records.iter().filter(|record| {
            let is_unknown = record.outcome() == "unknown" && record.code() != "nacked";
            is_unknown && record.sent <= window.lifted && record.ended >= window.begin
        });
        let unknown = unknown.count();
        (unknown > limit)
            .then(|| format!("{unknown} unknown answers at {:?}, the limit is {limit}", window.fault))
    }

    // === no collateral ===

    /// Whether a slow machine or broker explains an outcome. They never explain a lost connection
    /// or a nack.
    fn is_explained(&self, record: &Record) -> bool {
        let broker_may = match record.code() {
            // A disk sync that outlasts the filling of the in-flight limit is a real overload.
            "overloaded" => Duration::from_secs_f64(self.limit as f64 / f64::from(self.rate) / 3.0),
            "confirm_timeout" | "deadline_not_sent" | "breaker_open" | "link_stalled" => SLOW_SYNC,
            _ => return false,
        };
        self.noise.was_loud(record.sent, record.ended, broker_may)
    }

    /// Whether the frame that ends an alarm may have been lost. A blocked connection cannot be
    /// probed, since the broker does not read from it: only missing heartbeats show that it is
    /// dead.
    fn may_have_missed_the_unblocking(&self, record: &Record) -> bool {
        let of = |is: fn(Fault) -> bool| self.windows.iter().filter(move |window| is(window.fault));
        let swallows = |fault| {
            matches!(fault, Fault::BlackHole(Direction::FromBroker | Direction::Both) | Fault::ConfirmsLost)
        };
        let alarms = || of(|fault| fault == Fault::MemoryAlarm);
        of(swallows)
            .filter(|hole| alarms().any(|alarm| alarm.touches(hole.begin, hole.end, AWAY)))
            .any(|hole| hole.touches(record.sent, record.ended, UNHEARD + AWAY))
    }

    fn is_harmed(&self, record: &Record) -> Option<(&'static str, String)> {
        let matters = |window: &&Window| window.fault != Fault::QueueDeleted;
        let disturbed =
            self.windows.iter().filter(matters).any(|window| window.touches(record.sent, record.ended, AWAY));
        let expected = record.message.is_good() && record.message.timeout >= PATIENT && !disturbed;
        let reply = record.reply()?;
        if !expected || reply.code == "confirmed" || self.is_explained(record) {
            return None;
        }
        if reply.code == "broker_blocked" && self.may_have_missed_the_unblocking(record) {
            return None;
        }
        let away =
            matches!(reply.code.as_str(), "link_down" | "link_stalled" | "broker_blocked" | "draining");
        let promise = if away { "recovery" } else { "collateral" };
        Some((promise, format!("{} with no fault within {AWAY:?}", reply.code)))
    }
}

/// When an answer is due.
pub(crate) fn deadline(record: &Record) -> Instant {
    // A request whose deadline cannot be read has the default one.
    let timeout =
        if record.message.kind == Kind::Bad { Duration::from_secs(5) } else { record.message.timeout };
    record.sent + timeout
}

/// Faults during which nothing is confirmed.
fn is_outage(fault: Fault) -> bool {
    match fault {
        Fault::BrokerKilled
        | Fault::BrokerPaused
        | Fault::MemoryAlarm
        | Fault::ConnectionsClosed
        | Fault::Reset
        | Fault::Finished
        | Fault::Refused
        | Fault::BlackHole(_)
        | Fault::Held(_)
        | Fault::ConfirmsLost => true,
        Fault::ExchangeDeleted
        | Fault::QueueDeleted
        | Fault::Delayed(..)
        | Fault::Throttled(..)
        | Fault::SidecarKilled
        | Fault::SidecarStopped => false,
    }
}

fn has_the_right_form(reply: &Reply, id: &str) -> Result<(), String> {
    let Some(row) = row_of(&reply.code) else {
        return Err(format!("the code {:?} does not exist", reply.code));
    };
    let told = (reply.outcome.as_str(), reply.status, reply.retry_after);
    if told != (row.outcome, row.status, row.retry_after) {
        return Err(format!("{told:?} does not fit the code {}", reply.code));
    }
    // Before its head or envelope is read a request has no id.
    let no_id_yet = reply.outcome == "not_published" && reply.message_id.is_empty();
    if reply.message_id != id && !no_id_yet {
        return Err(format!("the answer is about {:?}", reply.message_id));
    }
    match &reply.body_differs {
        Some(body) => Err(format!("headers and body differ: {body}")),
        None => Ok(()),
    }
}
