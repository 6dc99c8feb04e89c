//! What the outcome of a delivery means for its record and for the records behind it. Pure.

use crate::labels::DeliveryResult;
use crate::outcome::{Outcome, Redelivery};

/// What to do with records that the broker does not accept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// After more nacks than this a record is undeliverable.
    pub(super) nacks_max: u32,
    /// Whether an undeliverable record is parked. If not, it is tried again and those behind it
    /// wait.
    pub(super) parks: bool,
}

/// What must be repaired before the broker accepts a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The exchange, and so every destination on it.
    Exchange,
    /// This destination alone.
    Destination,
}

/// What becomes of a record after one delivery.
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
    /// It is parked with this reason, and those behind it continue.
    Park(&'static str),
    /// It is not accepted until somebody repairs this: it is tried again after a pause, and those
    /// behind it wait.
    Wait(Broken),
    /// The sidecar is shutting down.
    Stop,
}

/// The consequence of a delivery that ended in `outcome`. `nacks` counts the record's nacks,
/// including this one.
pub(super) fn consequence(outcome: Outcome, nacks: u32, rules: Rules) -> Consequence {
    match outcome.row().redelivery {
        Redelivery::Delivered => Consequence::Delivered,
        Redelivery::AtOnce => Consequence::Again,
        Redelivery::AfterPause => Consequence::AfterPause,
        Redelivery::Marked => Consequence::MaybeDelivered,
        Redelivery::MarkedUnlessOften if nacks > rules.nacks_max => {
            undeliverable(outcome, Broken::Destination, rules)
        }
        Redelivery::MarkedUnlessOften => Consequence::MaybeDelivered,
        Redelivery::Undeliverable => undeliverable(outcome, Broken::Destination, rules),
        Redelivery::ExchangeClosed => undeliverable(outcome, Broken::Exchange, rules),
        Redelivery::Stop => Consequence::Stop,
    }
}

impl Consequence {
    /// How the delivery is counted. A parked record is counted when it is parked.
    pub(super) fn result(self) -> Option<DeliveryResult> {
        match self {
            Consequence::Delivered => Some(DeliveryResult::Confirmed),
            Consequence::Again
            | Consequence::AfterPause
            | Consequence::MaybeDelivered
            | Consequence::Wait(_) => Some(DeliveryResult::Deferred),
            Consequence::Park(_) | Consequence::Stop => None,
        }
    }
}

fn undeliverable(outcome: Outcome, broken: Broken, rules: Rules) -> Consequence {
    if rules.parks { Consequence::Park(outcome.code()) } else { Consequence::Wait(broken) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Class, Retry};

    const PARKS: Rules = Rules { nacks_max: 3, parks: true };
    const WAITS: Rules = Rules { nacks_max: 3, parks: false };

    #[test]
    fn only_what_was_confirmed_is_removed() {
        for outcome in Outcome::ALL {
            for rules in [PARKS, WAITS] {
                let delivered = consequence(outcome, 1, rules) == Consequence::Delivered;
                assert_eq!(delivered, outcome == Outcome::Confirmed, "{}", outcome.code());
            }
        }
    }

    #[test]
    fn what_may_have_been_published_is_marked_when_it_is_tried_again() {
        for outcome in Outcome::ALL {
            let unknown = outcome.class() == Class::Unknown && outcome != Outcome::SpoolUnsure;
            assert_eq!(
                consequence(outcome, 1, PARKS) == Consequence::MaybeDelivered,
                unknown,
                "{}",
                outcome.code()
            );
        }
    }

    #[test]
    fn only_what_cannot_help_is_parked() {
        for outcome in Outcome::ALL {
            if let Consequence::Park(reason) = consequence(outcome, 1, PARKS) {
                assert_eq!((reason, outcome.row().retry), (outcome.code(), Retry::Pointless));
            }
        }
    }

    #[test]
    fn where_undeliverable_records_wait_none_is_parked() {
        for outcome in Outcome::ALL {
            let (parks, waits) = (consequence(outcome, 9, PARKS), consequence(outcome, 9, WAITS));
            assert!(!matches!(waits, Consequence::Park(_)), "{}", outcome.code());
            assert_eq!(
                matches!(parks, Consequence::Park(_)),
                matches!(waits, Consequence::Wait(_)),
                "{}",
                outcome.code()
            );
        }
    }

    #[test]
    fn a_nacked_record_is_parked_once_it_was_nacked_too_often() {
        assert_eq!(consequence(Outcome::Nacked, 3, PARKS), Consequence::MaybeDelivered);
        assert_eq!(consequence(Outcome::Nacked, 4, PARKS), Consequence::Park("nacked"));
        assert_eq!(consequence(Outcome::Nacked, 4, WAITS), Consequence::Wait(Broken::Destination));
    }

    #[test]
    fn the_table_as_a_whole() {
        let table: Vec<_> = Outcome::ALL
            .iter()
            .map(|outcome| format!("{}: {:?}", outcome.code(), consequence(*outcome, 1, PARKS)))
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
        unroutable: Park("unroutable")
        exchange_not_found: Park("exchange_not_found")
        access_refused: Park("access_refused")
        invalid_request: Park("invalid_request")
        idempotency_key_in_use: AfterPause
        idempotency_key_reused: AfterPause
        unsupported_media_type: AfterPause
        payload_too_large: Park("payload_too_large")
        request_timeout: AfterPause
        not_found: AfterPause
        method_not_allowed: AfterPause
        confirm_timeout: MaybeDelivered
        link_lost: MaybeDelivered
        nacked: MaybeDelivered
        spool_unsure: AfterPause
        "#);
    }
}
