//! Why an attempt to connect failed or a connection was lost: a label for metrics, a text for people.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{ConnectionState, ErrorKind};
use std::io;

/// Why an attempt to connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// The host's name does not resolve.
    Dns,
    /// Nothing listens there.
    Refused,
    /// It took longer than `broker.connect_timeout`.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// The broker does not know the user or the password.
    Authentication,
    /// The virtual host does not exist, or is closed to the user.
    VirtualHost,
    /// A file with credentials could not be read.
    Credentials,
    /// Any other I/O error.
    Io,
    /// The peer broke the protocol, or closed the connection with another reason.
    Protocol,
}

/// Why an established connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// The socket broke.
    Io,
    /// The broker closed the connection.
    ClosedByBroker,
    /// No heartbeat arrived in time.
    Heartbeat,
    /// The broker stopped answering, and the connection was aborted.
    Stalled,
    /// The broker or the network broke the protocol.
    Protocol,
    /// Replaced on purpose, before the unusable channel ids run out.
    Replaced,
}

impl ConnectFailure {
    /// Every reason, in the order of the metrics.
    pub const ALL: [ConnectFailure; 9] = [
        ConnectFailure::Dns,
        ConnectFailure::Refused,
        ConnectFailure::Timeout,
        ConnectFailure::Tls,
        ConnectFailure::Authentication,
        ConnectFailure::VirtualHost,
        ConnectFailure::Credentials,
        ConnectFailure::Io,
        ConnectFailure::Protocol,
    ];

    /// The metric label and log field.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            ConnectFailure::Dns => "dns",
            ConnectFailure::Refused => "refused",
            ConnectFailure::Timeout => "timeout",
            ConnectFailure::Tls => "tls",
            ConnectFailure::Authentication => "authentication",
            ConnectFailure::VirtualHost => "virtual_host",
            ConnectFailure::Credentials => "credentials",
            ConnectFailure::Io => "io",
            ConnectFailure::Protocol => "protocol",
        }
    }
}

impl LossReason {
    /// Every reason, in the order of the metrics.
    pub const ALL: [LossReason; 6] = [
        LossReason::Io,
        LossReason::ClosedByBroker,
        LossReason::Heartbeat,
        LossReason::Stalled,
        LossReason::Protocol,
        LossReason::Replaced,
    ];

    /// The metric label and log field.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            LossReason::Io => "io",
            LossReason::ClosedByBroker => "closed_by_broker",
            LossReason::Heartbeat => "heartbeat",
            LossReason::Stalled => "stalled",
            LossReason::Protocol => "protocol",
            LossReason::Replaced => "replaced",
        }
    }
}

/// A reason with the text of its cause. The text never holds credentials: it comes from the operating system
/// or the broker.
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
        // We never close a connection that is to be used: these states follow the broker's close.
        ErrorKind::InvalidConnectionState(ConnectionState::Closing | ConnectionState::Closed) => {
            LossReason::ClosedByBroker
        }
        ErrorKind::InvalidConnectionState(ConnectionState::Error) => LossReason::Io,
        ErrorKind::MissingHeartbeatError => LossReason::Heartbeat,
        _ => LossReason::Protocol,
    }
}
