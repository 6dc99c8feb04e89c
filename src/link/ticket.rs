//! One publish between its request and a channel, and the hand-over: the point after which it
//! cannot be cancelled.

use crate::admission::Permit;
use crate::locking::lock;
use crate::message::Message;
use crate::outcome::Outcome;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// A message with the permit that bounds it.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) message: Arc<Message>,
    pub(super) permit: Permit,
}

/// Why a request stopped waiting for its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GaveUp {
    /// Its deadline passed.
    DeadlinePassed,
    /// Its client closed the connection.
    ClientLeft,
}

/// What became of a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withdrawal {
    /// No byte of the message reaches the broker.
    InTime,
    /// It was handed over already and may reach the broker.
    TooLate,
}

/// The answer of a channel to a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// The outcome, with a detail for the client where the outcome does not say everything.
    Settled(Outcome, Option<String>),
    /// The message was never handed over, and comes back for another attempt.
    NotHandedOver(Parcel, Outcome),
    /// Another publish closed its channel before the broker processed this one, or its connection
    /// has to prove first that the broker answers. The message comes back, and this does not count
    /// as an attempt.
    Displaced(Parcel),
}

#[derive(Debug)]
enum TicketState {
    Waiting(Parcel),
    HandedOver,
    GivenUp { handed_over: bool, why: GaveUp },
}

/// Shared by a request and the channel that may publish its message.
#[derive(Debug)]
pub(super) struct Ticket(Mutex<TicketState>);

/// A ticket on its way to a channel, with the channel for its reply.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: Arc<Ticket>,
    pub(super) reply: oneshot::Sender<Reply>,
    /// Whether it travels over a channel of its own whatever its destination, as a breaker's probe
    /// does.
    pub(super) alone: bool,
}

impl Ticket {
    pub(super) fn new(parcel: Parcel) -> Arc<Self> {
        Arc::new(Self(Mutex::new(TicketState::Waiting(parcel))))
    }

    /// **The hand-over**: takes the message out for the channel that publishes it.
    ///
    /// Before this call a request can withdraw its message, and then no byte of it is ever sent.
    /// After this call nothing can cancel it, because lapin's queue does not give frames back
    /// (ADR-0001). Returns `None` if the request has withdrawn. Nothing else in the program takes a
    /// message out of a ticket for sending.
    pub(super) fn hand_over(&self) -> Option<Parcel> {
        let mut state = lock(&self.0);
        match std::mem::replace(&mut *state, TicketState::HandedOver) {
            TicketState::Waiting(parcel) => Some(parcel),
            other @ (TicketState::HandedOver | TicketState::GivenUp { .. }) => {
                *state = other;
                None
            }
        }
    }

    /// The request stops waiting. A message that is not handed over yet is dropped here together
    /// with its permit.
    pub(super) fn withdraw(&self, why: GaveUp) -> Withdrawal {
        let mut state = lock(&self.0);
        let (handed_over, withdrawal) = match &*state {
            TicketState::Waiting(_) => (false, Withdrawal::InTime),
            TicketState::HandedOver | TicketState::GivenUp { handed_over: true, .. } => {
                (true, Withdrawal::TooLate)
            }
            TicketState::GivenUp { handed_over: false, .. } => (false, Withdrawal::InTime),
        };
        *state = TicketState::GivenUp { handed_over, why };
        withdrawal
    }

    /// Looks at the message while it still waits; `None` once it is handed over or withdrawn.
    pub(super) fn peek<T>(&self, look: impl FnOnce(&Message) -> T) -> Option<T> {
        match &*lock(&self.0) {
            TicketState::Waiting(parcel) => Some(look(&parcel.message)),
            TicketState::HandedOver | TicketState::GivenUp { .. } => None,
        }
    }

    /// Why the request gave up; `None` if it still waits.
    pub(super) fn given_up(&self) -> Option<GaveUp> {
        match &*lock(&self.0) {
            TicketState::GivenUp { why, .. } => Some(*why),
            TicketState::Waiting(_) | TicketState::HandedOver => None,
        }
    }
}

impl Job {
    /// Gives the message back to its request unpublished, if the request still waits.
    pub(super) fn give_back(self, outcome: Outcome) {
        if let Some(parcel) = self.ticket.hand_over() {
            // The request may have left at this very moment; then the message is dropped
            // unpublished.
            drop(self.reply.send(Reply::NotHandedOver(parcel, outcome)));
        }
    }

    /// Gives the message back to its request, which looks for another connection.
    pub(super) fn give_way(self) {
        if let Some(parcel) = self.ticket.hand_over() {
            drop(self.reply.send(Reply::Displaced(parcel)));
        }
    }

    /// Answers the request that its message cannot be published, and why.
    pub(super) fn reject(self, outcome: Outcome, detail: Option<String>) {
        if self.ticket.hand_over().is_some() {
            drop(self.reply.send(Reply::Settled(outcome, detail)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use crate::message::testing::message_to;

    fn ticket(admission: &Admission) -> Arc<Ticket> {
        let message = message_to("", "");
        Ticket::new(Parcel { message: Arc::new(message), permit: admission.admit().unwrap() })
    }

    #[test]
    fn withdrawn_before_the_hand_over_is_never_handed_over() {
        let admission = Admission::new(1, 1);
        let ticket = ticket(&admission);
        assert_eq!(ticket.withdraw(GaveUp::DeadlinePassed), Withdrawal::InTime);
        assert!(ticket.hand_over().is_none());
        assert_eq!(admission.in_flight(), 0, "the permit is given back at once");
    }

    #[test]
    fn withdrawn_after_the_hand_over_is_too_late_and_keeps_its_permit() {
        let admission = Admission::new(1, 1);
        let ticket = ticket(&admission);
        let parcel = ticket.hand_over();
        assert_eq!(ticket.withdraw(GaveUp::ClientLeft), Withdrawal::TooLate);
        assert_eq!(ticket.given_up(), Some(GaveUp::ClientLeft));
        assert_eq!(admission.in_flight(), 1);
        drop(parcel);
        assert_eq!(admission.in_flight(), 0);
    }

    #[test]
    fn a_message_is_handed_over_once() {
        let ticket = ticket(&Admission::new(1, 1));
        assert!(ticket.hand_over().is_some());
        assert!(ticket.hand_over().is_none());
    }
}
