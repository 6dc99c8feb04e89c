//! The circuit breakers of all destinations that failed recently. Other destinations have none and
//! cost nothing.

use super::breaker::{Breaker, Passage, Thresholds};
use super::fault_scope::FaultScope;
use crate::config::{BreakerConfig, Live};
use crate::labels::BreakerState;
use crate::locking::lock;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::outcome::{Evidence, Outcome};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// The most destinations with a breaker. At the limit, breakers without recent failures are
/// dropped; if none can be, a further destination is not guarded.
const DESTINATIONS_MAX: usize = 1024;

/// All breakers of the link.
#[derive(Debug)]
pub(crate) struct Breakers {
    /// The thresholds in force.
    live: Live,
    /// A missing verdict counts against the destination only after this long, because clients
    /// choose their deadlines.
    slow: Duration,
    /// How many breakers there are. While there is none, publishes skip the lock.
    count: AtomicUsize,
    breakers: Mutex<HashMap<FaultScope, Breaker>>,
    metrics: Metrics,
}

/// The passage of one publish. If it is dropped without an outcome, it says nothing about the
/// destination.
#[derive(Debug)]
pub(crate) struct Passing {
    breakers: Arc<Breakers>,
    scope: FaultScope,
    passage: Passage,
    begun: Instant,
    decided: bool,
}

impl Breakers {
    pub(crate) fn new(live: Live, metrics: Metrics) -> Arc<Self> {
        let slow = live.now().broker.stall_timeout;
        let (count, breakers) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
        Arc::new(Self { live, slow, count, breakers, metrics })
    }

    /// Whether this message may be published; `None` while its destination's breaker is open.
    pub(crate) fn admit(self: &Arc<Self>, message: &Message) -> Option<Passing> {
        let scope = FaultScope::of(message);
        let mut passage = Passage::Pass;
        if self.count.load(Ordering::Relaxed) > 0
            && let Some(breaker) = lock(&self.breakers).get_mut(&scope)
        {
            let before = breaker.state();
            passage = breaker.admit(Instant::now(), &self.thresholds());
            self.note(&scope, before, breaker.state());
        }
        let begun = Instant::now();
        let passing = Passing { breakers: Arc::clone(self), scope, passage, begun, decided: false };
        (passage != Passage::Refused).then_some(passing)
    }

    /// The number of destinations in each state. Those without a breaker are closed and not
    /// counted.
    pub(crate) fn states(&self) -> HashMap<BreakerState, usize> {
        let mut states = HashMap::new();
        for breaker in lock(&self.breakers).values() {
            *states.entry(breaker.state()).or_default() += 1;
        }
        states
    }

    fn decide(&self, scope: &FaultScope, passage: Passage, verdict: Option<bool>) {
        let healthy_and_unknown = verdict == Some(true) && self.count.load(Ordering::Relaxed) == 0;
        if healthy_and_unknown {
            return;
        }
        let now = Instant::now();
        let mut breakers = lock(&self.breakers);
        if verdict == Some(false) && !breakers.contains_key(scope) {
            if breakers.len() >= DESTINATIONS_MAX {
                let thresholds = self.thresholds();
                breakers.retain(|_, breaker| !breaker.is_forgettable(now, &thresholds));
            }
            if breakers.len() < DESTINATIONS_MAX {
                breakers.insert(scope.clone(), Breaker::new(now));
            }
        }
        if let Some(breaker) = breakers.get_mut(scope) {
            let (before, thresholds) = (breaker.state(), self.thresholds());
            match verdict {
                Some(true) => breaker.succeeded(passage, now, &thresholds),
                Some(false) => breaker.failed(passage, now, &thresholds),
                None => breaker.undecided(passage),
            }
            self.note(scope, before, breaker.state());
            if breaker.is_forgettable(now, &thresholds) {
                breakers.remove(scope);
            }
        }
        self.count.store(breakers.len(), Ordering::Relaxed);
    }

    fn thresholds(&self) -> Thresholds {
        let BreakerConfig { failures, percent, window, open_for } = self.live.now().breaker;
        Thresholds { failures, percent, window, open_for, probe_for: self.slow }
    }

    fn note(&self, scope: &FaultScope, before: BreakerState, after: BreakerState) {
        if before != after {
            self.metrics.breaker_changed(after);
            let (exchange, queue) = (scope.exchange.as_str(), scope.queue.as_str());
            tracing::warn!(exchange, queue, from = before.as_str(), to = after.as_str(), "circuit breaker");
        }
    }
}

impl Passing {
    /// Whether this publish is a probe: it tries whether the destination works again.
    pub(crate) fn is_probe(&self) -> bool {
        self.passage == Passage::Probe
    }

    /// What became of the publish.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.decided = true;
        let is_slow = self.begun.elapsed() >= self.breakers.slow;
        self.breakers.decide(&self.scope, self.passage, verdict(outcome, is_slow));
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.decided && self.passage == Passage::Probe {
            // The request left before its verdict: the next publish is the probe.
            self.breakers.decide(&self.scope, self.passage, None);
        }
    }
}

/// The meaning of an outcome for the destination: it works, it fails, or neither.
fn verdict(outcome: Outcome, is_slow: bool) -> Option<bool> {
    match outcome.row().evidence {
        Evidence::Works => Some(true),
        // The breaker was not open when it let the publish of a silent destination pass.
        Evidence::Nacked | Evidence::Silent => Some(false),
        Evidence::Unanswered => is_slow.then_some(false),
        Evidence::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use crate::link::counted::message;

    #[tokio::test]
    async fn a_breaker_follows_the_thresholds_in_force() {
        let with = |failures: &str| {
            let flags = vec![("breaker.failures".to_owned(), failures.to_owned())];
            Config::load(&Sources { flags, ..Sources::default() }).unwrap()
        };
        let live = Live::new(with("2"));
        let breakers = Breakers::new(live.clone(), Metrics::new(&[]));
        let message = message(0);
        breakers.admit(&message).unwrap().ended(Outcome::Nacked);
        live.apply(&with("3"));
        breakers.admit(&message).unwrap().ended(Outcome::Nacked);
        breakers.admit(&message).unwrap().ended(Outcome::Nacked);
        assert!(breakers.admit(&message).is_none());
    }
}
