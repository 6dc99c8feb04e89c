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

    /// What happens to a message of the spool that the broker refuses.
    Undeliverable {
        /// It is parked in the end.
        Park = "park",
        /// It is tried until it is delivered.
        Wait = "wait",
    }
}
