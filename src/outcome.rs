//! The one table of outcomes: what became of a message, and what each outcome means to a client.

/// What became of one message. Every request that asks for a publish ends in exactly one of these.
///
/// The variants are the contract's codes; everything that depends on an outcome (HTTP status, JSON `code`,
/// retry advice, metric label, log field) is read from [`Outcome::row`], so there is no second list to drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The broker acknowledged the message and did not return it.
    Confirmed,
    /// The message is in the spool, synced to disk, and will be delivered at least once.
    Spooled,
    /// No connection to the broker is up.
    LinkDown,
    /// The socket is open, and the broker has stopped answering.
    LinkStalled,
    /// The broker announced `connection.blocked` (memory or disk alarm).
    BrokerBlocked,
    /// The circuit breaker of the destination is open.
    BreakerOpen,
    /// The in-flight limit (publishes or bytes) is reached.
    Overloaded,
    /// The deadline passed before the message was handed to the link.
    DeadlineNotSent,
    /// The sidecar is shutting down.
    Draining,
    /// The spool has no room for the message.
    SpoolFull,
    /// The spool takes nothing: its disk has failed it, or it is closed.
    SpoolFailed,
    /// Mandatory, and the broker returned it: no queue takes it.
    Unroutable,
    /// The exchange does not exist.
    ExchangeNotFound,
    /// The broker refuses this user the exchange.
    AccessRefused,
    /// A value of the request is not acceptable; the detail names it.
    InvalidRequest,
    /// A request with the same idempotency key is under way.
    IdempotencyKeyInUse,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The body's media type is not one that the endpoint takes.
    UnsupportedMediaType,
    /// The body is larger than the limit.
    PayloadTooLarge,
    /// The body stopped arriving.
    RequestTimeout,
    /// No such endpoint.
    NotFound,
    /// The endpoint exists, the method does not.
    MethodNotAllowed,
    /// Handed to the link, and no verdict before the deadline.
    ConfirmTimeout,
    /// The connection or channel died after the hand-over and before the verdict.
    LinkLost,
    /// `basic.nack`: at least one queue refused it; another may have it.
    Nacked,
    /// The message was handed to the spool, and nobody knows whether it is on disk.
    SpoolUnsure,
}

/// The four answers to "where is my message?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Safe with the broker.
    Confirmed,
    /// Safe on our disk.
    Spooled,
    /// It never reaches a queue.
    NotPublished,
    /// It may have been published.
    Unknown,
}

/// What a client may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// There is nothing to retry.
    None,
    /// A retry cannot duplicate the message.
    Safe,
    /// A retry with the same message cannot help.
    Pointless,
    /// A retry may duplicate the message: use the same message id.
    MayDuplicate,
}

/// One row of the outcome table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The JSON `code`, the metric label and the log field.
    pub code: &'static str,
    /// The JSON `outcome`.
    pub class: Class,
    /// The HTTP status.
    pub status: u16,
    /// The JSON `retry`.
    pub retry: Retry,
    /// Seconds for `Retry-After`; `None` sends no such header.
    pub retry_after: Option<u32>,
    /// The problem's `title`, and the default of its `detail`.
    pub title: &'static str,
}

impl Class {
    /// The text used in JSON, headers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Confirmed => "confirmed",
            Class::Spooled => "spooled",
            Class::NotPublished => "not_published",
            Class::Unknown => "unknown",
        }
    }
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

const fn confirmed(code: &'static str, title: &'static str) -> Row {
    Row { code, class: Class::Confirmed, status: 200, retry: Retry::None, retry_after: None, title }
}

const fn spooled(code: &'static str, title: &'static str) -> Row {
    Row { code, class: Class::Spooled, status: 202, retry: Retry::None, retry_after: None, title }
}

const fn refused(code: &'static str, retry_after: Option<u32>, title: &'static str) -> Row {
    Row { code, class: Class::NotPublished, status: 503, retry: Retry::Safe, retry_after, title }
}

const fn rejected(code: &'static str, status: u16, title: &'static str) -> Row {
    Row { code, class: Class::NotPublished, status, retry: Retry::Pointless, retry_after: None, title }
}

const fn unknown(code: &'static str, status: u16, title: &'static str) -> Row {
    Row { code, class: Class::Unknown, status, retry: Retry::MayDuplicate, retry_after: None, title }
}

impl Outcome {
    /// Every outcome, in the order of the contract's table.
    pub const ALL: [Outcome; 26] = [
        Outcome::Confirmed,
        Outcome::Spooled,
        Outcome::LinkDown,
        Outcome::LinkStalled,
        Outcome::BrokerBlocked,
        Outcome::BreakerOpen,
        Outcome::Overloaded,
        Outcome::DeadlineNotSent,
        Outcome::Draining,
        Outcome::SpoolFull,
        Outcome::SpoolFailed,
        Outcome::Unroutable,
        Outcome::ExchangeNotFound,
        Outcome::AccessRefused,
        Outcome::InvalidRequest,
        Outcome::IdempotencyKeyInUse,
        Outcome::IdempotencyKeyReused,
        Outcome::UnsupportedMediaType,
        Outcome::PayloadTooLarge,
        Outcome::RequestTimeout,
        Outcome::NotFound,
        Outcome::MethodNotAllowed,
        Outcome::ConfirmTimeout,
        Outcome::LinkLost,
        Outcome::Nacked,
        Outcome::SpoolUnsure,
    ];

    /// This outcome's row of the table.
    #[must_use]
    pub const fn row(self) -> Row {
        match self {
            Outcome::Confirmed => confirmed("confirmed", "The broker has the message"),
            Outcome::Spooled => spooled("spooled", "The message is on disk and will be delivered"),
            Outcome::LinkDown => refused("link_down", Some(1), "No connection to the broker is up"),
            Outcome::LinkStalled => refused("link_stalled", Some(1), "The broker has stopped answering"),
            Outcome::BrokerBlocked => {
                refused("broker_blocked", Some(1), "The broker accepts no publishes at the moment")
            }
            Outcome::BreakerOpen => {
                refused("breaker_open", Some(1), "The circuit breaker of this destination is open")
            }
            Outcome::Overloaded => refused("overloaded", Some(1), "The in-flight limit is reached"),
            Outcome::DeadlineNotSent => {
                refused("deadline_not_sent", None, "The deadline passed before the message was sent")
            }
            Outcome::Draining => refused("draining", Some(1), "The sidecar is shutting down"),
            Outcome::SpoolFull => refused("spool_full", Some(1), "The spool has no room for the message"),
            Outcome::SpoolFailed => refused("spool_failed", Some(1), "The spool takes no messages"),
            Outcome::Unroutable => rejected("unroutable", 422, "No queue takes this message"),
            Outcome::ExchangeNotFound => rejected("exchange_not_found", 404, "The exchange does not exist"),
            Outcome::AccessRefused => {
                rejected("access_refused", 403, "The broker refuses this user the exchange")
            }
            Outcome::InvalidRequest => rejected("invalid_request", 400, "The request is not valid"),
            Outcome::IdempotencyKeyInUse => Row {
                retry: Retry::Safe,
                retry_after: Some(1),
                ..rejected("idempotency_key_in_use", 409, "A request with this idempotency key is under way")
            },
            Outcome::IdempotencyKeyReused => {
                rejected("idempotency_key_reused", 422, "This idempotency key was used for another request")
            }
            Outcome::UnsupportedMediaType => {
                rejected("unsupported_media_type", 415, "This endpoint does not take that media type")
            }
            Outcome::PayloadTooLarge => rejected("payload_too_large", 413, "The body is too large"),
            Outcome::RequestTimeout => rejected("request_timeout", 408, "The body stopped arriving"),
            Outcome::NotFound => rejected("not_found", 404, "There is no such endpoint"),
            Outcome::MethodNotAllowed => {
                rejected("method_not_allowed", 405, "The endpoint does not take this method")
            }
            Outcome::ConfirmTimeout => {
                unknown("confirm_timeout", 504, "The broker gave no verdict before the deadline")
            }
            Outcome::LinkLost => {
                unknown("link_lost", 502, "The connection was lost before the broker's verdict")
            }
            Outcome::Nacked => unknown("nacked", 502, "The broker refused the message (basic.nack)"),
            Outcome::SpoolUnsure => {
                unknown("spool_unsure", 502, "It is not known whether the spool has the message")
            }
        }
    }

    /// The JSON `code`, metric label and log field.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The outcome with this code; `None` for a text that is no outcome's code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.code() == code)
    }

    /// Whether the message is safe, was not published, or may have been.
    #[must_use]
    pub const fn class(self) -> Class {
        self.row().class
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
            assert_eq!(Outcome::from_code(outcome.code()), Some(outcome));
        }
        for other in ["", "Confirmed", "confirmed "] {
            assert_eq!(Outcome::from_code(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_status_alone_tells_whether_a_retry_is_safe() {
        for outcome in Outcome::ALL {
            let row = outcome.row();
            let expected = match row.status {
                200..=299 => Retry::None,
                // Said to wait, and then the same request may be taken.
                400..=499 if row.retry_after.is_some() => Retry::Safe,
                400..=499 => Retry::Pointless,
                503 => Retry::Safe,
                502 | 504 => Retry::MayDuplicate,
                other => panic!("{} has the status {other}, which the contract does not know", row.code),
            };
            assert_eq!(row.retry, expected, "{}", row.code);
        }
    }

    #[test]
    fn only_the_unknown_class_may_duplicate() {
        for outcome in Outcome::ALL {
            let row = outcome.row();
            assert_eq!(row.class == Class::Unknown, row.retry == Retry::MayDuplicate, "{}", row.code);
        }
    }
}
