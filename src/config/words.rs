//! The settings whose values are words, such as log levels.

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

    /// What a return of a mandatory message means.
    Returns {
        /// The destination does not take messages at the moment, if it is known to take them.
        Moment = "moment",
        /// That no queue takes this message.
        Verdict = "verdict",
        /// Nothing, because the exchange keeps messages that it returns: messages are published
        /// without mandatory.
        Nothing = "nothing",
    }

    /// Whether new messages in mode `fallback` may overtake those that wait in the spool.
    Overtaking {
        /// They may: the broker gets them as soon as it takes the destination.
        Relaxed = "relaxed",
        /// They may not: they go to the spool, behind the waiting messages.
        Strict = "strict",
    }

    /// What happens to a message of the spool that the broker refuses.
    Undeliverable {
        /// It is parked in the end.
        Park = "park",
        /// It is tried until it is delivered.
        Wait = "wait",
    }
}
