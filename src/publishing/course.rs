//! The course of an order that has a key or may need the spool: its key, the broker's part, the
//! spool's part, one answer.

use super::claims::Claim;
use super::keeping::{Keeping, Kept};
use super::keys::NoClaim;
use super::{Ways, fingerprint, split};
use crate::admission::Permit;
use crate::config::{Overtaking, RouteConfig};
use crate::message::{Mode, Order, Settlement, ShortText};
use crate::outcome::{Class, Outcome, Recourse};
use crate::spool::marked;
use crate::spool::store::{Address, FinalOutcome, FirstUse};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// An order under way, and the request that waits for its outcome.
pub(super) struct Course {
    ways: Arc<Ways>,
    order: Order,
    answer: Answering,
}

/// The one answer. It does not matter if the client has left.
pub(super) struct Answering {
    reply: oneshot::Sender<Settlement>,
    message_id: ShortText,
}

impl Answering {
    pub(super) fn give(self, settlement: Settlement) {
        drop(self.reply.send(settlement.about(self.message_id)));
    }

    fn replay(self, outcome: Outcome, message_id: ShortText) {
        let settlement = Settlement { replayed: true, ..Settlement::of(outcome) };
        drop(self.reply.send(settlement.about(message_id)));
    }

    /// Answers by the spool's memory of the key: with the outcome of the same request, or with a
    /// refusal because the key belongs to another request.
    fn seen(self, seen: &FirstUse, claim: Claim) {
        if !seen.same_request {
            claim.forget();
            return self.give(Settlement::of(Outcome::IdempotencyKeyReused));
        }
        // A short text was stored; a longer one can only be damage.
        let message_id = ShortText::new(&*seen.message_id).unwrap_or_else(|_| self.message_id.clone());
        let outcome = match seen.outcome {
            FinalOutcome::Confirmed => Outcome::Confirmed,
            FinalOutcome::Spooled => Outcome::Spooled,
        };
        claim.settle(outcome, &message_id);
        self.replay(outcome, message_id);
    }
}

impl Course {
    pub(super) fn new(ways: Arc<Ways>, order: Order, reply: oneshot::Sender<Settlement>) -> Self {
        let message_id = order.message_id().clone();
        Self { ways, order, answer: Answering { reply, message_id } }
    }

    /// Takes the order to its end, and answers by its deadline.
    pub(super) async fn run(mut self, permit: Permit) {
        let claim = match self.claim() {
            Ok(claim) => claim,
            Err(NoClaim::Replay(outcome, message_id)) => return self.answer.replay(outcome, message_id),
            Err(NoClaim::Refused(outcome)) => return self.answer.give(Settlement::of(outcome)),
        };
        if let Some(claim) = &claim {
            // An earlier attempt may have reached the broker: consumers must see one id.
            Arc::make_mut(&mut self.order.message).properties.message_id = claim.message_id.clone();
            self.answer.message_id = claim.message_id.clone();
        }
        match self.order.mode {
            Mode::Direct => self.direct(claim, permit).await,
            Mode::Fallback | Mode::Spool => match self.recall(claim).await {
                Some((course, claim)) if course.order.mode == Mode::Fallback => {
                    course.fallback(claim, permit).await
                }
                Some((course, claim)) => course.keep(claim, Some(permit), None).await,
                None => {}
            },
        }
    }

    fn claim(&self) -> Result<Option<Claim>, NoClaim> {
        let Order { client, message, mode, key, id_is_assigned, .. } = &self.order;
        let Some(key) = key else { return Ok(None) };
        let request = fingerprint::of_request(message, *mode, *id_is_assigned);
        let id = &message.properties.message_id;
        self.ways.claims.claim(fingerprint::of_key(client, key), request, id).map(Some)
    }

    async fn direct(self, claim: Option<Claim>, permit: Permit) {
        let Order { message, deadline, retry, .. } = self.order;
        let settlement = self.ways.to_broker(message, permit, deadline, retry).await;
        if let Some(claim) = claim.filter(|_| settlement.outcome == Outcome::Confirmed) {
            claim.settle(Outcome::Confirmed, &self.answer.message_id);
        }
        self.answer.give(settlement);
    }

    /// Looks the key up in the spool, which remembers it beyond a restart. `None` if that gave the
    /// answer.
    async fn recall(self, claim: Option<Claim>) -> Option<(Self, Option<Claim>)> {
        let (Some(claim), Some(spool)) = (claim, &self.ways.spool) else { return Some((self, None)) };
        let recalling = spool.store.recall(claim.key, claim.request);
        match timeout_at(self.order.deadline.instant(), recalling).await {
            Ok(Ok(None)) => return Some((self, Some(claim))),
            Ok(Ok(Some(seen))) => self.answer.seen(&seen, claim),
            // The key may be remembered, and then going on would publish the message twice.
            Ok(Err(error)) => {
                tracing::error!(%error, "an idempotency key cannot be looked up in the spool");
                let detail = Some(format!("the idempotency key cannot be looked up: {error}"));
                self.answer.give(Settlement { detail, ..Settlement::of(Outcome::SpoolFailed) });
            }
            Err(_) => self.answer.give(Settlement::of(Outcome::DeadlineNotSent)),
        }
        None
    }

    async fn fallback(mut self, claim: Option<Claim>, permit: Permit) {
        if self.takes_the_detour() {
            return self.keep(claim, Some(permit), None).await;
        }
        let Order { ref message, deadline, retry, .. } = self.order;
        let brokers_part = split::brokers_part(Instant::now(), deadline);
        let settlement = self.ways.to_broker(Arc::clone(message), permit, brokers_part, retry).await;
        if !is_for_the_spool(settlement.outcome) {
            if let Some(claim) = claim.filter(|_| settlement.outcome == Outcome::Confirmed) {
                remember(&self.ways, claim, deadline.instant()).await;
            }
            return self.answer.give(settlement);
        }
        let is_unknown = settlement.outcome.class() == Class::Unknown;
        // The permit went with the publish. If that may still be under way, it bounds this message
        // as well: during an outage all permits may be held by such publishes.
        let permit = self.another_permit();
        if permit.is_none() && !is_unknown {
            return self.answer.give(settlement);
        }
        if is_unknown {
            self.order.message = Arc::new(marked(Arc::unwrap_or_clone(self.order.message)));
        }
        self.keep(claim, permit, Some(settlement)).await;
    }

    fn another_permit(&self) -> Option<Permit> {
        let mut permit = self.ways.admission.admit().ok()?;
        permit.reserve(self.order.message.payload.len()).ok()?;
        Some(permit)
    }

    /// Whether the message goes to the spool at once. It does if the link takes nothing. It also
    /// does if others wait there for its destination, and the broker refuses that destination or
    /// the route keeps the order.
    fn takes_the_detour(&self) -> bool {
        let (message, link) = (&self.order.message, &self.ways.link);
        let waits = || {
            let backlog = self.ways.spool.as_ref().map(|spool| &spool.backlog);
            backlog.is_some_and(|backlog| backlog.has(&Address::of(message)))
        };
        link.refusal().is_some() || waits() && (link.refuses(message) || self.keeps_the_order())
    }

    fn keeps_the_order(&self) -> bool {
        let config = self.ways.live.now();
        let route = RouteConfig::of(&config.route, &self.order.message.exchange);
        route.is_some_and(|route| route.order == Overtaking::Strict)
    }

    async fn keep(self, claim: Option<Claim>, permit: Option<Permit>, before: Option<Settlement>) {
        let Order { message, deadline, .. } = self.order;
        let Some(spool) = self.ways.spool.clone() else {
            return self.answer.give(before.unwrap_or(Settlement::of(Outcome::SpoolFailed)));
        };
        let Some(_part) = self.ways.share.part(message.payload.len()) else {
            let too_much = "too many bytes are already waiting to be written to disk".to_owned();
            let overloaded = Settlement { detail: Some(too_much), ..Settlement::of(Outcome::Overloaded) };
            return self.answer.give(before.unwrap_or(overloaded));
        };
        let keeping =
            Keeping { spool, message, permit, deadline, before, properties_max: self.ways.properties_max };
        let remembered = claim.as_ref().map(|claim| claim.to_remember(FinalOutcome::Spooled));
        let message_id = self.answer.message_id.clone();
        let mut answer = Some(self.answer);
        let unsure = |settlement| {
            if let Some(answer) = answer.take() {
                answer.give(settlement);
            }
        };
        let kept = keeping.run(remembered, &self.ways.metrics, unsure).await;
        match (kept, claim, answer) {
            (Kept::Seen(seen), Some(claim), Some(answer)) => answer.seen(&seen, claim),
            (Kept::Settled(settlement), claim, answer) => {
                if let Some(claim) = claim.filter(|_| settlement.outcome == Outcome::Spooled) {
                    claim.settle(Outcome::Spooled, &message_id);
                }
                if let Some(answer) = answer {
                    answer.give(settlement);
                }
            }
            // It is answered already; a repeated request asks the disk again.
            (Kept::Seen(_), _, _) => {}
        }
    }
}

/// Remembers that the broker has the message: in memory, and on disk if that takes no longer than
/// `deadline`.
async fn remember(ways: &Ways, claim: Claim, deadline: Instant) {
    if let Some(spool) = &ways.spool {
        let remembering = spool.store.remember(claim.to_remember(FinalOutcome::Confirmed));
        // The outcome does not depend on it, and the spool reports its own failures.
        drop(timeout_at(deadline, remembering).await);
    }
    let message_id = claim.message_id.clone();
    claim.settle(Outcome::Confirmed, &message_id);
}

/// Whether a message whose publish had this outcome goes to the spool: yes if the fault is the
/// broker's or the network's, no if it is the client's.
fn is_for_the_spool(outcome: Outcome) -> bool {
    matches!(outcome.row().recourse, Recourse::RetryOrSpool | Recourse::Spool)
}
