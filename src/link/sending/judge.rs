//! Decides whether a refusal by the broker is about the message or about the moment.

use crate::config::{Live, Returns, RouteConfig};
use crate::link::destinations::{Existence, Histories, Inquiries, Meaning, Prior, Word};
use crate::locking::lock;
use crate::message::{Deadline, Message, Refusal, Settlement};
use crate::outcome::Outcome;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// The longest `Retry-After` of a destination that stays unavailable.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Tells which destinations have messages that wait for them in the spool. Such a destination
/// counts as proven.
#[derive(Clone)]
pub struct Waits(Arc<dyn Fn(&Message) -> bool + Send + Sync>);

impl Waits {
    /// Asks `waits` whether messages wait for the destination of this message.
    #[must_use]
    pub fn new(waits: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(waits))
    }

    /// No message ever waits.
    #[must_use]
    pub fn never() -> Self {
        Self::new(|_| false)
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

/// The knowledge of the process about destinations, over all connections.
#[derive(Debug)]
pub(crate) struct Judge {
    live: Live,
    waits: Waits,
    inquiries: Arc<Inquiries>,
    histories: Mutex<Histories>,
}

impl Judge {
    pub(crate) fn new(live: Live, waits: Waits, inquiries: Arc<Inquiries>) -> Self {
        Self { live, waits, inquiries, histories: Mutex::default() }
    }

    /// Whether a message with this destination is published without mandatory, because its exchange
    /// returns messages that it keeps.
    pub(crate) fn ignores_returns(&self, message: &Message) -> bool {
        message.mandatory && self.route(message).1 == Some(Returns::Nothing)
    }

    /// The settings of the route of the message's exchange: whether the exchange is known, and what
    /// a return means.
    fn route(&self, message: &Message) -> (bool, Option<Returns>) {
        let config = self.live.now();
        let route = RouteConfig::of(&config.route, &message.exchange);
        route.map_or((false, None), |route| (route.known, route.returns))
    }

    /// The broker confirmed the message.
    pub(crate) fn accepted(&self, message: &Message) {
        lock(&self.histories).accepted(message, Instant::now());
    }

    /// The broker nacked the message, or did not answer in time.
    pub(crate) fn not_confirmed(&self, message: &Message) {
        lock(&self.histories).not_confirmed(message, Instant::now());
    }

    /// Whether the broker's word of the last second is against the destination.
    pub(crate) fn refuses(&self, message: &Message) -> bool {
        lock(&self.histories).refused_lately(message, Instant::now())
    }

    /// Gives a settlement whose outcome is a refusal its meaning: a verdict, or about the moment.
    pub(crate) async fn judge(
        &self,
        message: &Message,
        settlement: Settlement,
        deadline: Deadline,
    ) -> Settlement {
        let word = if settlement.outcome == Outcome::Unroutable { Word::Returned } else { Word::Closed };
        let was_routable = lock(&self.histories).was_routable(message);
        let route = self.route(message);
        let refusal = Refusal {
            // A broker at fault cannot check the permission.
            word: match settlement.outcome == Outcome::DestinationUnavailable {
                true => Outcome::AccessRefused,
                false => settlement.outcome,
            },
            returns_are_certain: was_routable || route.1 == Some(Returns::Moment),
        };
        let settlement = Settlement { refusal: Some(refusal), ..settlement };
        let prior = self.prior(message, settlement.outcome, route, was_routable, deadline).await;
        let Some(prior) = prior else { return settlement };
        let proven_for = self.live.now().publish.proven_for;
        match lock(&self.histories).refused(message, word, prior, proven_for, Instant::now()) {
            Meaning::Verdict => settlement,
            Meaning::Moment(lasts) => unavailable(settlement, lasts),
        }
    }

    /// The knowledge of the destination apart from its history; `None` if a return is always a
    /// verdict.
    async fn prior(
        &self,
        message: &Message,
        outcome: Outcome,
        (known, returns): (bool, Option<Returns>),
        was_routable: bool,
        deadline: Deadline,
    ) -> Option<Prior> {
        if outcome == Outcome::DestinationUnavailable {
            return Some(Prior::BrokerAtFault);
        }
        if outcome == Outcome::Unroutable && returns == Some(Returns::Verdict) {
            return None;
        }
        if known || (self.waits.0)(message) {
            return Some(Prior::Proven);
        }
        if outcome == Outcome::Unroutable && message.exchange.is_empty() && !was_routable {
            let asking = self.inquiries.exists(&message.routing_key);
            let existence = tokio::time::timeout_at(deadline.instant(), asking).await;
            return Some(match existence {
                Ok(Existence::Exists) => Prior::Proven,
                Ok(Existence::Missing | Existence::NotAsked) | Err(_) => Prior::Unknown,
            });
        }
        Some(Prior::Unknown)
    }
}

fn unavailable(settlement: Settlement, lasts: Duration) -> Settlement {
    let detail = settlement.detail.map(|said| match settlement.outcome == Outcome::DestinationUnavailable {
        true => said,
        false => format!("{said} at the moment, although the destination is known to take messages"),
    });
    let seconds = lasts.clamp(Duration::from_secs(1), RETRY_AFTER_MAX).as_secs();
    let retry_after = Some(u32::try_from(seconds).unwrap_or(1));
    Settlement { outcome: Outcome::DestinationUnavailable, detail, retry_after, ..settlement }
}
