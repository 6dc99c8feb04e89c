//! `Kind`: the values that a key accepts, in a form that both the parser and the documents use.

use crate::text::quantities::{format_duration, format_size};
use std::fmt;
use std::time::Duration;

/// The type and range of a key. Its `Display` is the expected form that an error names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// An integer in a range, ends included.
    Count { min: u64, max: u64 },
    /// A duration in a range, ends included.
    Duration { min: Duration, max: Duration },
    /// A duration in a range, ends included, or `never`.
    DurationOrNever { min: Duration, max: Duration },
    /// A duration in whole seconds, for values that the broker's protocol counts in seconds.
    WholeSeconds { min: Duration, max: Duration },
    /// Bytes in a range, ends included.
    Size { min: u64, max: u64 },
    /// 1 to this many characters.
    Text { max_characters: usize },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One listen address or a list of them.
    Listen,
    /// One TCP address.
    Address,
    /// One broker URI or a list of them.
    Endpoints,
    /// A user name or password; never shown.
    Credential,
    /// The path of a file.
    Path,
    /// The path of a directory.
    Directory,
}

pub(super) const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

pub(super) const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

pub(super) const fn duration(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max }
}

pub(super) const fn duration_or_never(min: Duration, max: Duration) -> Kind {
    Kind::DurationOrNever { min, max }
}

pub(super) const fn whole_seconds(min: u64, max: u64) -> Kind {
    Kind::WholeSeconds { min: seconds(min), max: seconds(max) }
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

impl Kind {
    /// Whether a value is never shown, not even in part.
    pub(super) fn is_secret(&self) -> bool {
        *self == Self::Credential
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("true or false"),
            Self::Count { min, max } => write!(formatter, "an integer from {min} to {max}"),
            Self::Duration { min, max } => {
                let (min, max) = (format_duration(*min), format_duration(*max));
                write!(formatter, "a duration from {min} to {max}, such as \"5s\"")
            }
            Self::DurationOrNever { min, max } => {
                let (min, max) = (format_duration(*min), format_duration(*max));
                write!(formatter, "a duration from {min} to {max}, such as \"5s\", or \"never\"")
            }
            Self::WholeSeconds { min, max } => {
                let (min, max) = (format_duration(*min), format_duration(*max));
                write!(formatter, "a duration of whole seconds from {min} to {max}, such as \"5s\"")
            }
            Self::Size { min, max } => {
                let (min, max) = (format_size(*min), format_size(*max));
                write!(formatter, "a size from {min} to {max}, such as \"64KiB\"")
            }
            Self::Text { max_characters } => {
                write!(formatter, "a text of 1 to {max_characters} characters, none a control character")
            }
            Self::Choice(words) => write!(formatter, "one of {}", words.join(", ")),
            Self::Listen => {
                formatter.write_str("host:port or unix:/path, or a list of these without doubles")
            }
            Self::Address => formatter.write_str("host:port, the host an IP address or localhost"),
            Self::Endpoints => {
                formatter.write_str("amqp://user:password@host:port/vhost or amqps://…, or a list of these")
            }
            Self::Credential => formatter.write_str("a text that is not empty and has no control characters"),
            Self::Path => formatter.write_str("the path of a file"),
            Self::Directory => formatter.write_str("the path of a directory"),
        }
    }
}
