//! The kinds of metric families, and how each registers itself with every series at zero.

use crate::labels::Label;
use crate::outcome::{Outcome, Recourse};
use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, Result,
};
use std::marker::PhantomData;

/// From half a millisecond, since a confirm is rarely faster even on loopback, to the longest
/// ordinary deadline.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// A family as it is declared: its name, its help text and its labels.
pub(super) struct Declared {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
}

impl Declared {
    /// Only our own names have the prefix. The process collector keeps the names that every
    /// Prometheus client uses.
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help.trim_start()).namespace("amqpost")
    }
}

/// A kind of family.
pub(super) trait Family: Sized {
    /// Registers the family.
    ///
    /// # Errors
    /// When its name is taken.
    fn register(declared: &Declared, registry: &Registry) -> Result<Self>;
}

fn registered<C: Collector + Clone + 'static>(collector: C, registry: &Registry) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// One metric for each value of a label.
pub(super) struct By<L, M> {
    metrics: Vec<M>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M> By<L, M> {
    pub(super) fn of(&self, value: L) -> &M {
        &self.metrics[value.index()]
    }

    fn new(metric: impl Fn(&str) -> M) -> Self {
        Self { metrics: L::ALL.iter().map(|value| metric(value.as_str())).collect(), label: PhantomData }
    }
}

macro_rules! kinds {
    ($($metric:ty, $vector:ty: $opts:expr;)+) => {$(
        impl Family for $metric {
            fn register(declared: &Declared, registry: &Registry) -> Result<Self> {
                registered(Self::with_opts($opts(declared.opts()))?, registry)
            }
        }
    )+};
    (by $($metric:ty, $vector:ty: $opts:expr;)+) => {$(
        kinds! { $metric, $vector: $opts; }

        impl<L: Label> Family for By<L, $metric> {
            fn register(declared: &Declared, registry: &Registry) -> Result<Self> {
                let vector = registered(<$vector>::new($opts(declared.opts()), declared.labels)?, registry)?;
                Ok(Self::new(|value| vector.with_label_values(&[value])))
            }
        }
    )+};
}

kinds! {
    Counter, (): std::convert::identity;
    Gauge, (): std::convert::identity;
}

kinds! { by
    IntCounter, IntCounterVec: std::convert::identity;
    IntGauge, IntGaugeVec: std::convert::identity;
    Histogram, HistogramVec: |opts| HistogramOpts::from(opts).buckets(SECONDS.to_vec());
}

/// Counters by a list of labels whose values are not closed: series appear as they occur.
impl Family for IntCounterVec {
    fn register(declared: &Declared, registry: &Registry) -> Result<Self> {
        registered(Self::new(declared.opts(), declared.labels)?, registry)
    }
}

/// Counters of attempts: the good ones, and the failed ones by their reason.
pub(super) struct Attempts<L> {
    pub(super) ok: IntCounter,
    pub(super) failed: By<L, IntCounter>,
}

impl<L: Label> Family for Attempts<L> {
    fn register(declared: &Declared, registry: &Registry) -> Result<Self> {
        let counters = IntCounterVec::register(declared, registry)?;
        let ok = counters.with_label_values(&["ok"]);
        Ok(Self { ok, failed: By::new(|reason| counters.with_label_values(&[reason])) })
    }
}

/// Counters of messages by the class and the code of their outcome.
pub(super) struct Publishes(Vec<Option<IntCounter>>);

impl Publishes {
    /// `None` for an outcome that is not about a message.
    pub(super) fn of(&self, outcome: Outcome) -> Option<&IntCounter> {
        self.0[outcome as usize].as_ref()
    }
}

impl Family for Publishes {
    fn register(declared: &Declared, registry: &Registry) -> Result<Self> {
        let counters = IntCounterVec::register(declared, registry)?;
        let of = |outcome: Outcome| {
            let is_counted = outcome.row().recourse != Recourse::NoMessage;
            is_counted.then(|| counters.with_label_values(&[outcome.class().as_str(), outcome.code()]))
        };
        Ok(Self(Outcome::ALL.map(of).into()))
    }
}

/// Counters of retries by the code of the attempt that failed.
pub(super) struct Retries(IntCounterVec);

impl Retries {
    /// Looks the counter up by its name, so that every retry is counted, whatever the table of
    /// outcomes says. Retries are rare.
    pub(super) fn of(&self, failed: Outcome) -> IntCounter {
        self.0.with_label_values(&[failed.code()])
    }
}

impl Family for Retries {
    fn register(declared: &Declared, registry: &Registry) -> Result<Self> {
        let retries = Self(IntCounterVec::register(declared, registry)?);
        let is_retried = |outcome: &Outcome| outcome.row().recourse == Recourse::RetryOrSpool;
        Outcome::ALL.into_iter().filter(is_retried).for_each(|outcome| drop(retries.of(outcome)));
        Ok(retries)
    }
}

/// A gauge that is always 1 and has the version in its label.
pub(super) struct Build;

impl Family for Build {
    fn register(declared: &Declared, registry: &Registry) -> Result<Self> {
        let build = registered(IntGaugeVec::new(declared.opts(), declared.labels)?, registry)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self)
    }
}
