//! Why an attempt to connect failed or a connection was lost: a label for metrics, a text for
//! people.

use crate::labels::{ConnectFailure, LossReason};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{ConnectionState, ErrorKind};
use std::io;

/// A reason with the text of its cause. The text never holds credentials: it comes from the
/// operating system or the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DialError {
    pub(crate) failure: ConnectFailure,
    pub(crate) text: String,
}

impl DialError {
    pub(crate) fn new(failure: ConnectFailure, text: impl ToString) -> Self {
        Self { failure, text: text.to_string() }
    }

    /// The failure of a TCP connect.
    pub(crate) fn tcp(error: &io::Error) -> Self {
        let failure = match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectFailure::Refused,
            io::ErrorKind::TimedOut => ConnectFailure::Timeout,
            _ => ConnectFailure::Io,
        };
        Self::new(failure, error)
    }

    /// The failure of the AMQP handshake or of the first channel.
    pub(crate) fn amqp(error: &lapin::Error) -> Self {
        let failure = match error.kind() {
            ErrorKind::ProtocolError(amqp) => match amqp.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ConnectFailure::Authentication,
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH) => {
                    ConnectFailure::VirtualHost
                }
                AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => ConnectFailure::Protocol,
            },
            ErrorKind::IOError(io) if io.kind() == io::ErrorKind::TimedOut => ConnectFailure::Timeout,
            ErrorKind::IOError(_) => ConnectFailure::Io,
            _ => ConnectFailure::Protocol,
        };
        Self::new(failure, error)
    }
}

/// Why an established connection ended.
pub(crate) fn loss_reason(error: &lapin::Error) -> LossReason {
    match error.kind() {
        ErrorKind::IOError(_) | ErrorKind::RuntimeShutdownError(_) => LossReason::Io,
        ErrorKind::ProtocolError(_) => LossReason::ClosedByBroker,
        // The sidecar never closes a connection that it still uses, so these states follow the
        // broker's close.
        ErrorKind::InvalidConnectionState(ConnectionState::Closing | ConnectionState::Closed) => {
            LossReason::ClosedByBroker
        }
        ErrorKind::InvalidConnectionState(ConnectionState::Error) => LossReason::Io,
        ErrorKind::MissingHeartbeatError => LossReason::Heartbeat,
        _ => LossReason::Protocol,
    }
}
