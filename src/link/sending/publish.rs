//! Takes one message from its request to its outcome: the breaker, the attempts, the wait for the
//! verdict.

use super::judge::Judge;
use super::retry::{RetryBudget, pauses};
use crate::admission::{Admission, Permit};
use crate::link::destinations::Breakers;
use crate::link::stage::draining;
use crate::link::ticket::{GaveUp, Job, Parcel, Reply, Ticket, Withdrawal};
use crate::link::{LinkHandle, NoLane};
use crate::message::{Deadline, Message, RetryPolicy, Settlement};
use crate::outcome::{Class, Evidence, Outcome};
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The data that all attempts share, in every clone of a handle.
#[derive(Debug)]
pub(crate) struct Attempting {
    pub(crate) admission: Admission,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) budget: RetryBudget,
    pub(crate) attempts_max: u32,
    pub(crate) judge: Judge,
}

/// How an attempt should be made.
#[derive(Clone, Copy)]
struct Way {
    deadline: Deadline,
    /// Over a channel of its own.
    alone: bool,
}

impl LinkHandle {
    /// Publishes a message, or returns at once why it cannot. Ends by the deadline.
    pub async fn publish(
        &self,
        mut message: Arc<Message>,
        permit: Permit,
        deadline: Deadline,
        policy: RetryPolicy,
    ) -> Settlement {
        self.attempting.budget.earn();
        // A breaker matters only while the link is up. If the link is not up, that is the reason to
        // give.
        if let Some(refusal) = self.refusal() {
            return Settlement::of(refusal);
        }
        let Some(passing) = self.attempting.breakers.admit(&message) else {
            return Settlement::of(Outcome::BreakerOpen);
        };
        let judge = &self.attempting.judge;
        if judge.ignores_returns(&message) {
            Arc::make_mut(&mut message).mandatory = false;
        }
        let way = Way { deadline, alone: passing.is_probe() };
        let settlement = self.attempt_until(&message, permit, policy, way).await;
        passing.ended(settlement.outcome);
        if settlement.outcome == Outcome::Confirmed {
            judge.accepted(&message);
        } else if matches!(settlement.outcome.row().evidence, Evidence::Nacked | Evidence::Unanswered) {
            judge.not_confirmed(&message);
        } else if settlement.outcome.row().is_refusal {
            // This future is in a box of its own, so that an ordinary publish does not pay for it
            // (ADR-0006).
            return Box::pin(judge.judge(&message, settlement, deadline)).await;
        }
        settlement
    }

    async fn attempt_until(
        &self,
        message: &Arc<Message>,
        permit: Permit,
        policy: RetryPolicy,
        way: Way,
    ) -> Settlement {
        let mut permit = Some(permit);
        let mut pauses = pauses();
        let mut attempts = 0;
        // If an earlier attempt may have published the message, the outcome stays unknown unless a
        // later attempt is confirmed.
        let mut unknown: Option<Outcome> = None;
        loop {
            let attempt = self.attempt(message, &mut permit, way, &mut attempts).await;
            let (outcome, detail, handed_over) = match attempt {
                Err(outcome) => (outcome, None, false),
                Ok(Reply::NotHandedOver(parcel, outcome)) => {
                    permit = Some(parcel.permit);
                    (outcome, None, false)
                }
                // Another publish was at fault, so this counts neither as an attempt nor as a
                // retry. The publish that closed the channel travels alone from now on.
                Ok(Reply::Displaced(parcel)) => {
                    permit = Some(parcel.permit);
                    attempts -= 1;
                    continue;
                }
                Ok(Reply::Settled(outcome, detail)) => (outcome, detail, true),
            };
            if outcome.class() == Class::Unknown {
                unknown = Some(outcome);
            }
            let again = policy.repeats(outcome, handed_over)
                // While no connection is up, a message that is certainly not published is answered
                // at once.
                && (unknown.is_some() || self.refusal().is_none())
                && self.is_serving()
                && attempts < self.attempting.attempts_max
                // A message that was not handed over puts no load on a broker, so moving it to
                // another connection is free.
                && (!handed_over || self.attempting.budget.spend());
            let pause_ends = again.then(|| Instant::now() + pauses.next_delay());
            let Some(pause_ends) = pause_ends.filter(|ends| *ends < way.deadline.instant()) else {
                let confirmed = outcome == Outcome::Confirmed;
                let outcome = if confirmed { outcome } else { unknown.unwrap_or(outcome) };
                return Settlement { detail, attempts, ..Settlement::of(outcome) };
            };
            self.metrics.retried(outcome);
            let mut stage = self.stage.clone();
            tokio::select! {
                () = tokio::time::sleep_until(pause_ends) => {}
                () = draining(&mut stage) => {}
            }
        }
    }

    /// One attempt. It is refused before it begins if no connection is up or the deadline has
    /// passed.
    async fn attempt(
        &self,
        message: &Arc<Message>,
        permit: &mut Option<Permit>,
        way: Way,
        attempts: &mut u32,
    ) -> Result<Reply, Outcome> {
        if way.deadline.has_passed() {
            return Err(Outcome::DeadlineNotSent);
        }
        let bytes = message.payload.len();
        let lane = match self.lane(*attempts, bytes) {
            Ok(lane) => lane,
            Err(NoLane::Refused(outcome)) => return Err(outcome),
            // This future is in a box of its own, so that an ordinary publish does not pay for it
            // (ADR-0006).
            Err(NoLane::NotBefore(_)) => {
                Box::pin(self.lane_when_proven(*attempts, bytes, way.deadline.instant())).await?
            }
        };
        let permit = permit.take().map_or_else(|| self.permit_for(message), Ok)?;
        *attempts += 1;
        Ok(over(&lane, Parcel { message: Arc::clone(message), permit }, way).await)
    }

    /// A permit for one more attempt; the previous attempt took its own permit along.
    fn permit_for(&self, message: &Message) -> Result<Permit, Outcome> {
        let mut permit = self.attempting.admission.admit().map_err(|_| Outcome::Overloaded)?;
        permit.reserve(message.payload.len()).map_err(|_| Outcome::Overloaded)?;
        Ok(permit)
    }
}

/// Withdraws the ticket if the request is dropped before its answer because the client left.
struct WithdrawOnDrop {
    ticket: Arc<Ticket>,
    answered: bool,
}

impl Drop for WithdrawOnDrop {
    fn drop(&mut self) {
        if !self.answered {
            self.ticket.withdraw(GaveUp::ClientLeft);
        }
    }
}

/// One attempt over one connection.
async fn over(lane: &mpsc::Sender<Job>, parcel: Parcel, Way { deadline, alone }: Way) -> Reply {
    let (reply, mut answer) = oneshot::channel();
    let ticket = Ticket::new(parcel);
    let mut waiting = WithdrawOnDrop { ticket: Arc::clone(&ticket), answered: false };
    let refusal = match lane.try_send(Job { ticket: Arc::clone(&ticket), reply, alone }) {
        Ok(()) => None,
        Err(TrySendError::Full(_)) => Some(Outcome::Overloaded),
        Err(TrySendError::Closed(_)) => Some(Outcome::LinkDown),
    };
    let heard = match refusal {
        None => tokio::time::timeout_at(deadline.instant(), &mut answer).await.ok(),
        Some(_) => None,
    };
    waiting.answered = true;
    match (refusal, heard) {
        (Some(refusal), _) => match ticket.hand_over() {
            Some(parcel) => Reply::NotHandedOver(parcel, refusal),
            None => Reply::Settled(refusal, None),
        },
        (None, Some(Ok(reply))) => reply,
        // The publisher's task is gone without a reply, which only a bug in it can cause.
        (None, Some(Err(_))) => unanswered(&ticket, Outcome::LinkDown, Outcome::LinkLost),
        (None, None) => match answer.try_recv() {
            Ok(reply) => reply,
            Err(_) => unanswered(&ticket, Outcome::DeadlineNotSent, Outcome::ConfirmTimeout),
        },
    }
}

fn unanswered(ticket: &Ticket, not_sent: Outcome, unknown: Outcome) -> Reply {
    match ticket.withdraw(GaveUp::DeadlinePassed) {
        Withdrawal::InTime => Reply::Settled(not_sent, None),
        Withdrawal::TooLate => Reply::Settled(unknown, None),
    }
}
