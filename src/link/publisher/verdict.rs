//! Turns the end of a publish into an outcome, and delivers it.

use crate::link::lanes::{Verdict, blames_the_broker};
use crate::link::ticket::{GaveUp, Reply, Ticket};
use crate::message::Message;
use crate::metrics::Metrics;
use crate::outcome::{Evidence, Outcome};
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use tokio::sync::oneshot;

/// The reply to a publish that has the broker's verdict.
pub(crate) fn of_broker(verdict: Verdict, message: &Message) -> Reply {
    match verdict {
        Verdict::Acked => Reply::Settled(Outcome::Confirmed, None),
        Verdict::Returned => {
            let (exchange, key) = (message.exchange.as_str(), message.routing_key.as_str());
            let detail = if exchange.is_empty() {
                format!("the broker has no queue '{key}'")
            } else {
                format!("no queue is bound to '{exchange}' for the routing key '{key}'")
            };
            Reply::Settled(Outcome::Unroutable, Some(detail))
        }
        Verdict::Nacked => Reply::Settled(Outcome::Nacked, None),
    }
}

/// The outcome of the publish that made the broker close its channel.
///
/// The broker's own text names its user and virtual host, so it goes to the log and never to the
/// client.
pub(crate) fn refused(error: &lapin::Error, message: &Message) -> (Outcome, Option<String>) {
    const UNKNOWN: (Outcome, Option<String>) = (Outcome::LinkLost, None);
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return UNKNOWN };
    let AMQPErrorKind::Soft(soft) = amqp.kind() else { return UNKNOWN };
    let (text, exchange) = (amqp.get_message().as_str(), message.exchange.as_str());
    tracing::debug!(reason = text, "the broker closed a channel because of one publish");
    let (outcome, detail) = match soft {
        AMQPSoftError::NOTFOUND => {
            (Outcome::ExchangeNotFound, format!("the broker has no exchange '{exchange}'"))
        }
        AMQPSoftError::ACCESSREFUSED if blames_the_broker(text, message) => {
            let detail = "the broker cannot check the sidecar's permissions at the moment".to_owned();
            (Outcome::DestinationUnavailable, detail)
        }
        AMQPSoftError::ACCESSREFUSED => {
            let detail = format!("the broker does not let the sidecar's user publish to '{exchange}'");
            (Outcome::AccessRefused, detail)
        }
        AMQPSoftError::PRECONDITIONFAILED if text.contains("user_id") => {
            (Outcome::RefusedByBroker, "user_id: not the user of the sidecar's connection".to_owned())
        }
        AMQPSoftError::PRECONDITIONFAILED if text.contains("invalid expiration") => {
            (Outcome::RefusedByBroker, "expiration: the broker does not take this value".to_owned())
        }
        AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::CONTENTTOOLARGE => {
            (Outcome::RefusedByBroker, "the broker does not accept a property of the message".to_owned())
        }
        AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS | AMQPSoftError::RESOURCELOCKED => {
            return UNKNOWN;
        }
    };
    (outcome, Some(detail))
}

/// Sends the reply. If nobody listens any more, the outcome is still counted.
pub(crate) fn deliver(reply_to: oneshot::Sender<Reply>, reply: Reply, ticket: &Ticket, metrics: &Metrics) {
    let Err(Reply::Settled(outcome, _)) = reply_to.send(reply) else { return };
    match ticket.given_up() {
        Some(GaveUp::DeadlinePassed) if is_confirm(outcome) => metrics.late_confirm(),
        // It was answered as unknown, and stays so.
        Some(GaveUp::DeadlinePassed) => {}
        // Without a record, the request was dropped while it was being answered: its client left.
        Some(GaveUp::ClientLeft) | None => metrics.published(outcome),
    }
}

/// Whether the broker confirmed the publish, with an ack or a nack.
fn is_confirm(outcome: Outcome) -> bool {
    matches!(outcome.row().evidence, Evidence::Works | Evidence::Nacked)
}
