//! The one table of outcomes: what can happen to a message, and what each outcome means to each
//! room.

use crate::labels::{Label, labels};

/// One row of the outcome table. A room reads in a column what an outcome means to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The JSON `code`, the metric label and the log field.
    pub code: &'static str,
    /// The problem's `title`, and the default of its `detail`.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The JSON `outcome`.
    pub class: Class,
    /// The JSON `retry`.
    pub retry: Retry,
    /// Seconds for `Retry-After`; `None` sends no such header. A settlement may have a larger
    /// value.
    pub retry_after: Option<u32>,
    /// What may still be done for the message within its request.
    pub recourse: Recourse,
    /// What it proves about the message's destination.
    pub evidence: Evidence,
    /// Whether the broker refuses the destination of the message.
    pub is_refusal: bool,
    /// What the drain does with a spooled record whose delivery had this outcome.
    pub redelivery: Redelivery,
}

labels! {
    /// The four answers to "where is my message?".
    Class {
        /// Safe with the broker.
        Confirmed = "confirmed",
        /// Safe on our disk.
        Spooled = "spooled",
        /// It never reaches a queue.
        NotPublished = "not_published",
        /// It may have been published.
        Unknown = "unknown",
    }
}

/// What a client may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// There is nothing to retry.
    None,
    /// A retry cannot duplicate the message.
    Safe,
    /// amqpost itself would refuse the same request again.
    Pointless,
    /// A retry may duplicate the message: use the same message id.
    MayDuplicate,
}

impl Retry {
    /// The text used in JSON; `None` where a retry is meaningless.
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Retry::None => None,
            Retry::Safe => Some("safe"),
            Retry::Pointless => Some("pointless"),
            Retry::MayDuplicate => Some("may_duplicate"),
        }
    }
}

/// What amqpost may still do for a message after an attempt with this outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recourse {
    /// Another attempt if the retry policy allows it; otherwise the spool if the mode allows it.
    RetryOrSpool,
    /// The spool if the mode allows it: there is no time for another attempt.
    Spool,
    /// Nothing: this is the answer.
    Final,
    /// Nothing: the request asked for no publish, and is not counted as a message.
    NoMessage,
}

/// What an outcome proves about the destination of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It works: the broker confirmed the publish, with or without a queue for it.
    Works,
    /// It refuses messages.
    Nacked,
    /// Its connection found that it confirms nothing.
    Silent,
    /// It did not confirm in time, which means something only if the time was long.
    Unanswered,
    /// Nothing.
    None,
}

/// What the drain does with a record after a delivery with this outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// Nothing more: the broker has it.
    Delivered,
    /// It is certainly not published, and its destination is not the reason: it is tried again as
    /// soon as the link takes it.
    AtOnce,
    /// The record is tried again after a pause. This also holds for outcomes that the link never
    /// gives: nothing is known to be wrong with the record.
    AfterPause,
    /// It may have been published: it is tried again after a pause, marked as a possible duplicate.
    Marked,
    /// It may have been published, and no verdict came: it is tried again a few times, with growing
    /// pauses.
    Unanswered,
    /// The broker refuses it; whether a queue has it depends on the destination. Parked by time.
    Nacked,
    /// No queue took it; whether the exchange kept it depends on the destination. Parked by time.
    Returned,
    /// The broker does not take this message: parked alone after a few refusals.
    Undeliverable,
    /// The broker takes nothing for its exchange. Parked by time.
    ExchangeClosed,
    /// It stays for the next run: the sidecar ends.
    Stop,
}

/// Declares the outcomes: each one's variant, code and title, which is its meaning, and then its
/// columns.
macro_rules! outcomes {
    ($(
        $(#[doc = $more:literal])* $outcome:ident = $code:literal: $title:literal,
        $status:literal, $class:ident, $retry:ident, $retry_after:expr,
        $recourse:ident, $evidence:ident, $is_refusal:literal, $redelivery:ident;
    )+) => {
        /// The outcome of one message. Every request that asks for a publish ends in exactly one of
        /// these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Outcome {
            $(#[doc = $title] $(#[doc = $more])* $outcome,)+
        }

        impl Outcome {
            /// Every outcome, in the order of the table.
            pub const ALL: [Outcome; [$($code),+].len()] = [$(Outcome::$outcome),+];

            /// This outcome's row of the table.
            #[must_use]
            pub const fn row(self) -> Row {
                // A match, not an array: with an array a refusal's answer takes 8 % more
                // instructions.
                match self {
                    $(Outcome::$outcome => Row {
                        code: $code,
                        title: $title,
                        status: $status,
                        class: Class::$class,
                        retry: Retry::$retry,
                        retry_after: $retry_after,
                        recourse: Recourse::$recourse,
                        evidence: Evidence::$evidence,
                        is_refusal: $is_refusal,
                        redelivery: Redelivery::$redelivery,
                    },)+
                }
            }
        }
    };
}

// Columns: status, class, retry, seconds for Retry-After, recourse, evidence, is_refusal,
// redelivery.
outcomes! {
    /// The broker acknowledged the message and did not return it.
    Confirmed = "confirmed": "The broker has the message",
    200, Confirmed,    None,         None,    Final,        Works,      false, Delivered;
    /// The message is in the spool, synced to disk, and will be delivered at least once.
    Spooled = "spooled": "The message is on disk and will be delivered",
    202, Spooled,      None,         None,    Final,        None,       false, AfterPause;
    LinkDown = "link_down": "No connection to the broker is up",
    503, NotPublished, Safe,         Some(1), RetryOrSpool, None,       false, AtOnce;
    LinkStalled = "link_stalled": "The broker has stopped answering",
    503, NotPublished, Safe,         Some(1), RetryOrSpool, None,       false, AtOnce;
    /// The broker announced `connection.blocked` (memory or disk alarm).
    BrokerBlocked = "broker_blocked": "The broker accepts no publishes at the moment",
    503, NotPublished, Safe,         Some(1), RetryOrSpool, None,       false, AtOnce;
    BreakerOpen = "breaker_open": "The circuit breaker of this destination is open",
    503, NotPublished, Safe,         Some(1), RetryOrSpool, Silent,     false, AfterPause;
    Overloaded = "overloaded": "The in-flight limit is reached",
    503, NotPublished, Safe,         Some(1), RetryOrSpool, None,       false, AfterPause;
    DeadlineNotSent = "deadline_not_sent": "The deadline passed before the message was sent",
    503, NotPublished, Safe,         None,    Spool,        None,       false, AfterPause;
    Draining = "draining": "The sidecar is shutting down",
    503, NotPublished, Safe,         Some(1), Spool,        None,       false, Stop;
    SpoolFull = "spool_full": "The spool has no room for the message",
    503, NotPublished, Safe,         Some(1), Final,        None,       false, AfterPause;
    /// The spool takes nothing: its disk has failed, or it is closed.
    SpoolFailed = "spool_failed": "The spool takes no messages",
    503, NotPublished, Safe,         Some(1), Final,        None,       false, AfterPause;
    /// The broker refuses a destination that it is known to take: the refusal is about the moment,
    /// not about the message.
    DestinationUnavailable = "destination_unavailable":
        "The broker does not take this destination at the moment",
    503, NotPublished, Safe,         Some(1), Spool,        None,       true,  AfterPause;
    /// The message is mandatory and the broker returned it: no queue takes it.
    Unroutable = "unroutable": "No queue takes this message",
    422, NotPublished, Safe,         None,    Final,        Works,      true,  Returned;
    ExchangeNotFound = "exchange_not_found": "The exchange does not exist",
    404, NotPublished, Safe,         None,    Final,        None,       true,  ExchangeClosed;
    AccessRefused = "access_refused": "The broker refuses this user the exchange",
    403, NotPublished, Safe,         None,    Final,        None,       true,  ExchangeClosed;
    /// The broker refuses this message itself, such as one with a foreign `user_id`.
    RefusedByBroker = "refused_by_broker": "The broker refuses this message",
    400, NotPublished, Safe,         None,    Final,        None,       false, Undeliverable;
    /// A value of the request is not acceptable; the detail names it.
    InvalidRequest = "invalid_request": "The request is not valid",
    400, NotPublished, Pointless,    None,    Final,        None,       false, Undeliverable;
    IdempotencyKeyInUse = "idempotency_key_in_use": "A request with this idempotency key is under way",
    409, NotPublished, Safe,         Some(1), Final,        None,       false, AfterPause;
    IdempotencyKeyReused = "idempotency_key_reused": "This idempotency key was used for another request",
    422, NotPublished, Pointless,    None,    Final,        None,       false, AfterPause;
    UnsupportedMediaType = "unsupported_media_type": "This endpoint does not take that media type",
    415, NotPublished, Pointless,    None,    Final,        None,       false, AfterPause;
    PayloadTooLarge = "payload_too_large": "The body is too large",
    413, NotPublished, Pointless,    None,    Final,        None,       false, Undeliverable;
    RequestTimeout = "request_timeout": "The body stopped arriving",
    408, NotPublished, Safe,         None,    Final,        None,       false, AfterPause;
    NotFound = "not_found": "There is no such endpoint",
    404, NotPublished, Pointless,    None,    NoMessage,    None,       false, AfterPause;
    MethodNotAllowed = "method_not_allowed": "The endpoint does not take this method",
    405, NotPublished, Pointless,    None,    NoMessage,    None,       false, AfterPause;
    /// Handed to the link, and no verdict before the deadline.
    ConfirmTimeout = "confirm_timeout": "The broker gave no verdict before the deadline",
    504, Unknown,      MayDuplicate, None,    Spool,        Unanswered, false, Unanswered;
    /// The connection or channel died after the hand-over and before the verdict.
    LinkLost = "link_lost": "The connection was lost before the broker's verdict",
    502, Unknown,      MayDuplicate, None,    RetryOrSpool, None,       false, Marked;
    /// `basic.nack`: at least one queue refused it; another may have it.
    Nacked = "nacked": "The broker refused the message (basic.nack)",
    502, Unknown,      MayDuplicate, None,    RetryOrSpool, Nacked,     false, Nacked;
    /// A fault of amqpost in this request alone: nobody knows how far the message came.
    Internal = "internal": "amqpost failed while it served this request",
    500, Unknown,      MayDuplicate, None,    Final,        None,       false, AfterPause;
    /// The message was handed to the spool, and nobody knows whether it is on disk.
    SpoolUnsure = "spool_unsure": "It is not known whether the spool has the message",
    502, Unknown,      MayDuplicate, None,    Final,        None,       false, AfterPause;
}

impl Outcome {
    /// The JSON `code`, metric label and log field.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Whether the message is safe, was not published, or may have been.
    #[must_use]
    pub const fn class(self) -> Class {
        self.row().class
    }
}

impl Label for Outcome {
    const ALL: &'static [Self] = &Outcome::ALL;

    fn as_str(self) -> &'static str {
        self.code()
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_declaration() {
        for (position, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, position, "{}", outcome.code());
        }
    }

    #[test]
    fn every_code_is_listed_once() {
        let mut codes: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Outcome::ALL.len());
    }

    #[test]
    fn a_code_leads_back_to_its_outcome_and_another_text_to_none() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_word(outcome.code()), Some(outcome));
        }
        for other in ["", "Confirmed", "confirmed "] {
            assert_eq!(Outcome::from_word(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_status_alone_tells_whether_a_retry_is_safe() {
        for outcome in Outcome::ALL {
            let row = outcome.row();
            let expected: &[Retry] = match row.status {
                200..=299 => &[Retry::None],
                // Something must change first. `retry` says whether amqpost itself would refuse the
                // same request again.
                400..=499 => &[Retry::Safe, Retry::Pointless],
                503 => &[Retry::Safe],
                500 | 502 | 504 => &[Retry::MayDuplicate],
                other => panic!("{} has the unexpected status {other}", row.code),
            };
            assert!(expected.contains(&row.retry), "{}", row.code);
        }
    }

    #[test]
    fn a_word_of_the_broker_is_never_pointless() {
        let words = [
            Outcome::DestinationUnavailable,
            Outcome::Unroutable,
            Outcome::ExchangeNotFound,
            Outcome::AccessRefused,
            Outcome::RefusedByBroker,
            Outcome::Nacked,
        ];
        assert!(words.iter().all(|outcome| outcome.row().retry != Retry::Pointless));
    }

    #[test]
    fn only_the_unknown_class_may_duplicate() {
        for outcome in Outcome::ALL {
            let row = outcome.row();
            assert_eq!(row.class == Class::Unknown, row.retry == Retry::MayDuplicate, "{}", row.code);
        }
    }
}
