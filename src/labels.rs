//! The closed lists of words: states, reasons and results, each with its word in metrics, JSON and
//! logs.
//!
//! They are declared below all rooms, so that metrics can count by them without naming the room
//! that a word comes from.

/// A value of a closed list, as a metric's label shows it.
pub trait Label: Copy + 'static {
    /// Every value, in the order of the declaration.
    const ALL: &'static [Self];

    /// The value's word.
    fn as_str(self) -> &'static str;

    /// The value's place in `ALL`.
    fn index(self) -> usize;

    /// The value with this word; `None` for any other text.
    #[must_use]
    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.as_str() == word)
    }
}

/// Declares closed lists: enums whose values have a word each.
macro_rules! labels {
    ($($(#[$list:meta])+ $name:ident {
        $($(#[$meaning:meta])+ $value:ident = $word:literal,)+
    })+) => {$(
        $(#[$list])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$meaning])+ $value,)+
        }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$value),+];

            /// Every word, in the order of the declaration.
            pub const WORDS: &[&str] = &[$($word),+];

            /// The word in metrics, JSON and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }

        impl $crate::labels::Label for $name {
            const ALL: &'static [Self] = &$name::ALL;

            fn as_str(self) -> &'static str {
                self.as_str()
            }

            fn index(self) -> usize {
                self as usize
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )+};
}

pub(crate) use labels;

labels! {
    /// The state of one connection, or of the link as a whole.
    ConnectionState {
        /// The first attempt to connect since the start has not ended yet.
        Connecting = "connecting",
        /// Publishes are accepted.
        Up = "up",
        /// The broker sent `connection.blocked`.
        Blocked = "blocked",
        /// The socket is open and the broker has stopped answering.
        Stalled = "stalled",
        /// Not connected: waiting for the next attempt, or trying.
        Down = "down",
        /// Shutting down; final.
        Draining = "draining",
    }

    /// Why an attempt to connect failed.
    ConnectFailure {
        /// The host's name does not resolve.
        Dns = "dns",
        /// Nothing listens there.
        Refused = "refused",
        /// It took longer than `broker.connect_timeout`.
        Timeout = "timeout",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The broker does not know the user or the password.
        Authentication = "authentication",
        /// The virtual host does not exist, or is closed to the user.
        VirtualHost = "virtual_host",
        /// A file with credentials could not be read.
        Credentials = "credentials",
        /// Any other I/O error.
        Io = "io",
        /// The peer broke the protocol, or closed the connection for another reason.
        Protocol = "protocol",
    }

    /// Why an established connection was lost.
    LossReason {
        /// The socket broke.
        Io = "io",
        /// The broker closed the connection.
        ClosedByBroker = "closed_by_broker",
        /// No heartbeat arrived in time.
        Heartbeat = "heartbeat",
        /// The broker stopped answering, and the connection was aborted.
        Stalled = "stalled",
        /// The broker or the network broke the protocol.
        Protocol = "protocol",
        /// Replaced on purpose: its channels were used up or stood still, or it moved to another
        /// endpoint.
        Replaced = "replaced",
    }

    /// The state of a destination's circuit breaker.
    BreakerState {
        /// Publishes pass.
        Closed = "closed",
        /// Publishes are refused.
        Open = "open",
        /// One publish at a time passes, as a probe.
        HalfOpen = "half_open",
    }

    /// The result of an append to the spool.
    AppendResult {
        /// It is on disk.
        Stored = "stored",
        /// Its idempotency key was there already; nothing was stored.
        Seen = "seen",
        /// There was no room.
        Full = "full",
        /// The store takes nothing.
        Failed = "failed",
        /// Nobody knows whether it is on disk.
        Unsure = "unsure",
    }

    /// The result of an attempt to deliver a message from the spool.
    DeliveryResult {
        /// The broker has the message; it leaves the spool.
        Confirmed = "confirmed",
        /// It stays, and is tried again.
        Deferred = "deferred",
        /// It is set aside for an operator.
        Parked = "parked",
    }
}
