//! What the outcome of a delivery means for its record and for the records behind it. Pure.

use super::parking::Refused;
use crate::labels::DeliveryResult;
use crate::message::Message;
use crate::outcome::{Outcome, Redelivery};

/// The prefix of the names of the broker's own exchanges. None of these exchanges keeps a message
/// that it returns.
const BUILT_IN: &str = "amq.";

/// What must be repaired before the broker accepts a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The exchange, and so every destination on it.
    Exchange,
    /// This destination alone.
    Destination,
}

/// What happens to a record after one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The broker confirmed it: it is removed.
    Delivered,
    /// Certainly not published, and not because of its destination: tried again as soon as the link
    /// takes it.
    Again,
    /// Not accepted this time: tried again after its destination has paused.
    AfterPause,
    /// It may have been published: tried again after a pause, with the mark.
    MaybeDelivered,
    /// The broker refused it: it is tried again and parked by time. Those behind it wait.
    Refused(Refused, Broken),
    /// The sidecar is shutting down.
    Stop,
}

/// The knowledge about copies of a message that the broker refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copies {
    /// Whether it goes to one queue at most. Then repeated nacks do not leave copy after copy. One
    /// copy may be there: the broker also nacks messages that a classic queue took just before its
    /// node went away.
    goes_to_one_queue: bool,
    /// Whether a return says that no queue has it.
    returns_are_certain: bool,
}

impl Copies {
    /// What is known before the delivery.
    pub(super) fn of(message: &Message) -> Self {
        let goes_to_one_queue = message.exchange.is_empty() && message.copies().next().is_none();
        let is_built_in = message.exchange.as_str().starts_with(BUILT_IN);
        Self { goes_to_one_queue, returns_are_certain: goes_to_one_queue || is_built_in }
    }

    /// The same knowledge; `is_certain` says that the link knows what a return of the exchange
    /// means.
    pub(super) fn with(self, is_certain: bool) -> Self {
        Self { returns_are_certain: self.returns_are_certain || is_certain, ..self }
    }

    fn refused(is_certain: bool) -> Consequence {
        let what = if is_certain { Refused::Destination } else { Refused::Copied };
        Consequence::Refused(what, Broken::Destination)
    }
}

/// The consequence of a delivery that ended in `outcome`.
pub(super) fn consequence(outcome: Outcome, copies: Copies) -> Consequence {
    match outcome.row().redelivery {
        Redelivery::Delivered => Consequence::Delivered,
        Redelivery::AtOnce => Consequence::Again,
        Redelivery::AfterPause => Consequence::AfterPause,
        Redelivery::Marked => Consequence::MaybeDelivered,
        Redelivery::Unanswered => Consequence::Refused(Refused::Unanswered, Broken::Destination),
        Redelivery::Nacked => Copies::refused(copies.goes_to_one_queue),
        Redelivery::Returned => Copies::refused(copies.returns_are_certain),
        Redelivery::Undeliverable => Consequence::Refused(Refused::Message, Broken::Destination),
        Redelivery::ExchangeClosed => Consequence::Refused(Refused::Destination, Broken::Exchange),
        Redelivery::Stop => Consequence::Stop,
    }
}

impl Consequence {
    /// How the delivery is counted. A parked record is counted once more when it is parked.
    pub(super) fn result(self) -> Option<DeliveryResult> {
        match self {
            Consequence::Delivered => Some(DeliveryResult::Confirmed),
            Consequence::Again
            | Consequence::AfterPause
            | Consequence::MaybeDelivered
            | Consequence::Refused(_, _) => Some(DeliveryResult::Deferred),
            Consequence::Stop => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{HeaderValue, Properties, ShortText};
    use crate::outcome::Class;

    const CERTAIN: Copies = Copies { goes_to_one_queue: true, returns_are_certain: true };
    const UNCERTAIN: Copies = Copies { goes_to_one_queue: false, returns_are_certain: false };

    fn to(exchange: &str, headers: &[&str]) -> Message {
        let text = |text: &str| ShortText::new(text).unwrap();
        let header = |name: &&str| (text(name), HeaderValue::Text("x".to_owned()));
        let properties =
            Properties { headers: headers.iter().map(header).collect(), ..Properties::default() };
        let (exchange, routing_key) = (text(exchange), text("k"));
        Message { exchange, routing_key, mandatory: true, properties, payload: "x".into() }
    }

    #[test]
    fn only_what_was_confirmed_is_removed() {
        for outcome in Outcome::ALL {
            for copies in [CERTAIN, UNCERTAIN] {
                let delivered = consequence(outcome, copies) == Consequence::Delivered;
                assert_eq!(delivered, outcome == Outcome::Confirmed, "{}", outcome.code());
            }
        }
    }

    #[test]
    fn what_may_have_been_published_is_not_tried_at_once() {
        for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.class() == Class::Unknown) {
            assert_ne!(consequence(outcome, UNCERTAIN), Consequence::Again, "{}", outcome.code());
        }
    }

    #[test]
    fn a_nack_leaves_no_copy_where_there_is_one_queue_and_a_return_also_where_it_is_certain() {
        for (exchange, headers, is_certain, nack_left_none, return_left_none) in [
            ("", &[][..], false, true, true),
            ("", &["CC"][..], false, false, false),
            ("", &["BCC"][..], false, false, false),
            ("orders", &[][..], false, false, false),
            ("orders", &[][..], true, false, true),
            ("amq.topic", &[][..], false, false, true),
        ] {
            let copies = Copies::of(&to(exchange, headers)).with(is_certain);
            let left_none = |outcome| {
                consequence(outcome, copies)
                    == Consequence::Refused(Refused::Destination, Broken::Destination)
            };
            assert_eq!(left_none(Outcome::Nacked), nack_left_none, "{exchange} {headers:?}");
            assert_eq!(left_none(Outcome::Unroutable), return_left_none, "{exchange} {headers:?}");
        }
    }

    #[test]
    fn the_table_as_a_whole() {
        let table: Vec<_> = Outcome::ALL
            .iter()
            .map(|outcome| format!("{}: {:?}", outcome.code(), consequence(*outcome, UNCERTAIN)))
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r#"
        confirmed: Delivered
        spooled: AfterPause
        link_down: Again
        link_stalled: Again
        broker_blocked: Again
        breaker_open: AfterPause
        overloaded: AfterPause
        deadline_not_sent: AfterPause
        draining: Stop
        spool_full: AfterPause
        spool_failed: AfterPause
        destination_unavailable: AfterPause
        unroutable: Refused(Copied, Destination)
        exchange_not_found: Refused(Destination, Exchange)
        access_refused: Refused(Destination, Exchange)
        refused_by_broker: Refused(Message, Destination)
        invalid_request: Refused(Message, Destination)
        idempotency_key_in_use: AfterPause
        idempotency_key_reused: AfterPause
        unsupported_media_type: AfterPause
        payload_too_large: Refused(Message, Destination)
        request_timeout: AfterPause
        not_found: AfterPause
        method_not_allowed: AfterPause
        confirm_timeout: Refused(Unanswered, Destination)
        link_lost: MaybeDelivered
        nacked: Refused(Copied, Destination)
        internal: AfterPause
        spool_unsure: AfterPause
        "#);
    }
}
