//! `LogLevel` and `LogFormat`: what a log line is about and what it looks like.

use serde::Serialize;

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs an operator.
    Error,
    /// And what may soon need one.
    Warn,
    /// And what changed.
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogLevel {
    /// The levels as they are written, in the order of `ALL`.
    pub(super) const WORDS: &[&str] = &["error", "warn", "info", "debug", "trace"];
    pub(super) const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
}

impl LogFormat {
    /// The formats as they are written, in the order of `ALL`.
    pub(super) const WORDS: &[&str] = &["text", "json"];
    pub(super) const ALL: [Self; 2] = [Self::Text, Self::Json];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values_stand_in_the_same_order() {
        let written = |value: String| value.trim_matches('"').to_owned();
        let levels = LogLevel::ALL.map(|level| written(serde_json::to_string(&level).unwrap()));
        assert_eq!(levels.as_slice(), LogLevel::WORDS);
        let formats = LogFormat::ALL.map(|format| written(serde_json::to_string(&format).unwrap()));
        assert_eq!(formats.as_slice(), LogFormat::WORDS);
    }
}
