//! The declaration of every metric family: name, help, labels, buckets.

use super::{Observed, ObservedSpool, Vocabulary};
use crate::outcome::{Class, Outcome};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, Result,
};

/// From half a millisecond, below which a confirm on loopback rarely is, to the longest ordinary deadline.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

pub(super) struct Families {
    pub(super) registry: Registry,
    /// By `Outcome as usize`.
    pub(super) publishes: Vec<IntCounter>,
    /// By `Class as usize`.
    pub(super) publish_duration: Vec<Histogram>,
    pub(super) confirm_duration: Histogram,
    pub(super) requests: IntCounterVec,
    /// Of the above, nearly all: those that ended well, or were refused because of the broker.
    pub(super) requests_as_a_rule: Vec<AsARule>,
    pub(super) connects: IntCounterVec,
    pub(super) disconnects: IntCounterVec,
    pub(super) link_down_seconds: Counter,
    /// By `Outcome as usize`.
    pub(super) retries: Vec<IntCounter>,
    pub(super) late_confirms: IntCounter,
    pub(super) breaker_transitions: IntCounterVec,
    breaker_state: IntGaugeVec,
    in_flight: IntGauge,
    in_flight_limit: IntGauge,
    link_up: IntGauge,
    link_state: IntGaugeVec,
    connections: IntGaugeVec,
    pub(super) replays: IntCounter,
    pub(super) spool_appends: IntCounterVec,
    pub(super) spool_deliveries: IntCounterVec,
    spool: SpoolGauges,
}

/// The gauges of the spool.
struct SpoolGauges {
    messages: IntGauge,
    bytes: IntGauge,
    bytes_limit: IntGauge,
    oldest_age: Gauge,
    age_limit: Gauge,
    parked: IntGauge,
    lost: IntGauge,
    failed: IntGauge,
}

impl SpoolGauges {
    fn new(declare: &Declaring) -> Result<Self> {
        let age =
            named("spool_oldest_age_seconds", "Age of the oldest message to be delivered; 0 without one.");
        let age_limit = named("spool_age_limit_seconds", "The age at which a message is parked.");
        Ok(Self {
            messages: declare.gauge("spool_messages", "Messages in the spool to be delivered.")?,
            bytes: declare.gauge("spool_bytes", "Bytes of the spool's database in use.")?,
            bytes_limit: declare.gauge("spool_bytes_limit", "Bytes of the spool's database, at most.")?,
            oldest_age: declare.register(Gauge::with_opts(age))?,
            age_limit: declare.register(Gauge::with_opts(age_limit))?,
            parked: declare.gauge("spool_parked_messages", "Messages kept for an operator.")?,
            lost: declare
                .gauge("spool_lost_messages", "Messages that were missing when the spool was opened.")?,
            failed: declare.gauge("spool_failed", "1 when the spool's disk has failed it.")?,
        })
    }

    fn observe(&self, spool: &ObservedSpool) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.messages.set(gauge(spool.messages));
        self.bytes.set(gauge(spool.bytes));
        self.bytes_limit.set(gauge(spool.bytes_limit));
        self.oldest_age.set(spool.oldest_age.as_secs_f64());
        self.age_limit.set(spool.age_limit.as_secs_f64());
        self.parked.set(gauge(spool.parked));
        self.lost.set(gauge(spool.lost));
        self.failed.set(i64::from(spool.failed));
    }
}

/// Registers families under the prefix that all share.
struct Declaring(Registry);

impl Declaring {
    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, collector: Result<C>) -> Result<C> {
        let collector = collector?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.register(IntCounterVec::new(named(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::with_opts(named(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::with_opts(named(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(named(name, help), &[label]))
    }
}

/// The prefix is ours alone: the process collector's names stay the ones every Prometheus client uses.
fn named(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("amqpost")
}

fn timed(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("amqpost").buckets(SECONDS.to_vec())
}

/// Outcomes that are not about a message.
const fn is_about_a_message(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::NotFound | Outcome::MethodNotAllowed)
}

/// In the order of their numbers.
const CLASSES: [Class; 4] = [Class::Confirmed, Class::Spooled, Class::NotPublished, Class::Unknown];

/// The requests of one method and route that were answered with one status.
pub(super) struct AsARule {
    method: &'static str,
    route: &'static str,
    status: u16,
    pub(super) count: IntCounter,
}

impl AsARule {
    fn of_all(routes: &[(&'static str, &'static str)], requests: &IntCounterVec) -> Vec<Self> {
        let of = |(method, route), status: u16| Self {
            method,
            route,
            status,
            count: requests.with_label_values(&[method, route, &status.to_string()]),
        };
        [200, 503].iter().flat_map(|&status| routes.iter().map(move |&path| of(path, status))).collect()
    }

    pub(super) fn is_of(&self, method: &str, route: &str, status: u16) -> bool {
        self.status == status && self.method == method && self.route == route
    }
}

impl Families {
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self> {
        let declare = Declaring(Registry::new());
        let publishes =
            declare.counters("publishes_total", "Messages by what became of them.", &["outcome", "code"])?;
        let durations = timed("publish_duration_seconds", "From a request's first byte to its outcome.");
        let publish_duration = declare.register(HistogramVec::new(durations, &["outcome"]))?;
        let confirms = timed("confirm_duration_seconds", "From the hand-over to the broker's verdict.");
        let why = "Publishes tried again, by why the attempt failed.";
        let retries = declare.counters("retries_total", why, &["reason"])?;
        let requests =
            declare.counters("requests_total", "HTTP requests.", &["method", "route", "status"])?;
        let down = named("link_down_seconds_total", "Seconds in which no connection was up.");
        let families = Self {
            publishes: of_outcomes(is_about_a_message, |outcome| {
                publishes.with_label_values(&[outcome.class().as_str(), outcome.code()])
            }),
            publish_duration: CLASSES.map(|of| publish_duration.with_label_values(&[of.as_str()])).into(),
            confirm_duration: declare.register(Histogram::with_opts(confirms))?,
            retries: of_outcomes(is_tried_again, |outcome| retries.with_label_values(&[outcome.code()])),
            requests_as_a_rule: AsARule::of_all(vocabulary.routes, &requests),
            requests,
            connects: declare.counters(
                "connects_total",
                "Attempts to connect to the broker.",
                &["result"],
            )?,
            disconnects: declare.counters("disconnects_total", "Connections lost.", &["reason"])?,
            link_down_seconds: declare.register(Counter::with_opts(down))?,
            late_confirms: declare.counter(
                "late_confirms_total",
                "Verdicts that arrived after their request was answered unknown.",
            )?,
            breaker_transitions: declare.counters(
                "breaker_transitions_total",
                "Changes of a destination's circuit breaker.",
                &["to"],
            )?,
            breaker_state: declare.gauges(
                "breaker_state",
                "Destinations that failed of late, by the state of their circuit breaker.",
                "state",
            )?,
            in_flight: declare.gauge("in_flight", "Publishes in flight.")?,
            in_flight_limit: declare.gauge("in_flight_limit", "The most publishes in flight.")?,
            link_up: declare.gauge("link_up", "1 while a connection is up.")?,
            link_state: declare.gauges("link_state", "1 for the link's present state.", "state")?,
            connections: declare.gauges("connections", "Connections by state.", "state")?,
            replays: declare.counter(
                "idempotency_replays_total",
                "Requests that were answered with the outcome of an earlier one.",
            )?,
            spool_appends: declare.counters(
                "spool_appends_total",
                "Appends to the spool, by what became of them.",
                &["result"],
            )?,
            spool_deliveries: declare.counters(
                "spool_deliveries_total",
                "Deliveries from the spool, by what became of them.",
                &["result"],
            )?,
            spool: SpoolGauges::new(&declare)?,
            registry: declare.0.clone(),
        };
        families.touch(vocabulary)?;
        Ok(families)
    }

    /// Brings every series into being.
    fn touch(&self, vocabulary: &Vocabulary) -> Result<()> {
        for result in std::iter::once(&"ok").chain(vocabulary.connect_failures) {
            self.connects.with_label_values(&[*result]);
        }
        for reason in vocabulary.loss_reasons {
            self.disconnects.with_label_values(&[*reason]);
        }
        for state in vocabulary.breaker_states {
            self.breaker_transitions.with_label_values(&[*state]);
        }
        for result in vocabulary.spool_appends {
            self.spool_appends.with_label_values(&[*result]);
        }
        for result in vocabulary.spool_deliveries {
            self.spool_deliveries.with_label_values(&[*result]);
        }
        let build = IntGaugeVec::new(named("build_info", "The version that runs."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        self.registry.register(Box::new(build))?;
        self.registry.register(Box::new(ProcessCollector::new(std::process::id().cast_signed(), "")))?;
        Ok(())
    }

    /// Sets the gauges that are read at the moment of a scrape.
    pub(super) fn observe(&self, vocabulary: &Vocabulary, observed: &Observed) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.spool.observe(&observed.spool);
        self.in_flight.set(gauge(observed.in_flight));
        self.in_flight_limit.set(gauge(observed.in_flight_limit));
        self.link_up.set(i64::from(observed.link_state == "up"));
        for state in vocabulary.breaker_states {
            let destinations = observed.breakers.iter().find(|(name, _)| name == state);
            self.breaker_state
                .with_label_values(&[*state])
                .set(gauge(destinations.map_or(0, |(_, number)| *number)));
        }
        for state in vocabulary.link_states {
            self.link_state.with_label_values(&[*state]).set(i64::from(observed.link_state == *state));
            let connections = observed.connections.iter().filter(|connection| *connection == state).count();
            self.connections.with_label_values(&[*state]).set(gauge(connections));
        }
    }
}

/// Outcomes after which a publish may be tried again.
const fn is_tried_again(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::LinkDown
            | Outcome::LinkStalled
            | Outcome::BrokerBlocked
            | Outcome::BreakerOpen
            | Outcome::Overloaded
            | Outcome::LinkLost
            | Outcome::Nacked
    )
}

/// A counter for each outcome, by `Outcome as usize`.
fn of_outcomes(occurs: fn(Outcome) -> bool, counter: impl Fn(Outcome) -> IntCounter) -> Vec<IntCounter> {
    Outcome::ALL
        .into_iter()
        .map(|outcome| if occurs(outcome) { counter(outcome) } else { detached() })
        .collect()
}

/// A counter that no registry shows, for outcomes that cannot occur in a family.
fn detached() -> IntCounter {
    IntCounter::new("detached", "not shown").expect("the name is valid")
}
