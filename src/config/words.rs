//! The settings that are words: log levels and the like.

use crate::labels::labels;

labels! {
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
