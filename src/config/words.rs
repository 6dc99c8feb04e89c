//! The settings that are words: log levels and the like.

use serde::Serialize;

use super::kind::Kind;
use super::problems::Mismatch;
use super::raw::Raw;
use super::setting::{Setting, word};
use crate::message::Mode;

/// Declares an enum of which each variant is one word in the configuration.
macro_rules! words {
    ($( $(#[doc = $about:literal])+ $name:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal, )+ } )+) => { $(
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum $name { $( $(#[doc = $doc])+ #[serde(rename = $word)] $variant, )+ }

        impl $name {
            /// How the values are written, in the order of `ALL`.
            pub(super) const WORDS: &[&str] = &[$($word),+];
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        }

        impl Setting for $name {
            fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
                word(raw, kind, Self::ALL)
            }
        }
    )+ };
}

words! {
    /// How much is logged.
    LogLevel {
        /// Only what needs an operator.
        Error = "error",
        /// And what may soon need one.
        Warn = "warn",
        /// And what changed.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And every step.
        Trace = "trace",
    }

    /// The form of a log line.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }

    /// What happens with a message of the spool that the broker will never take.
    Undeliverable {
        /// It is parked, and those behind it go on.
        Park = "park",
        /// It is tried again and again, and those behind it wait.
        Wait = "wait",
    }
}

impl Setting for Mode {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        word(raw, kind, &Self::ALL)
    }
}
