//! `ConfigError`: every problem of a configuration, one per line, without secrets.

use std::fmt;
use std::path::PathBuf;

/// Characters of a value that a message shows; a longer value is cut.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// All problems of a configuration, at least one. `Display` writes one per line, and the process
/// exits with 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One thing that is wrong. None of its texts holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key as it was written, such as `broker.connections`; `--config` for the file as a whole.
    pub key: String,
    /// Which part of the value, such as `item 2`; `None` for all of it.
    pub part: Option<String>,
    /// The value as it was given, redacted; `None` if showing it could reveal a secret.
    pub got: Option<String>,
    /// Where it was given.
    pub origin: Origin,
    /// What was expected instead.
    pub verdict: String,
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In the file of `--config`.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In the environment variable of this name.
    Environment(String),
    /// On the command line.
    Flag,
}

/// A value, or a part of one, that differs from what was expected. Its texts may be shown.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) part: Option<String>,
    pub(super) got: String,
    pub(super) expected: String,
}

/// The problems found so far. A problem in one place must not hide one in another.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl ConfigError {
    /// The problems, in the order found: the file, unknown keys, values in the order of the
    /// reference, contradictions.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Problem {
    /// About the whole of a key whose value must not be shown.
    pub(super) fn new(key: &str, origin: Origin, verdict: String) -> Self {
        Self { key: key.to_owned(), part: None, got: None, origin, verdict }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            formatter.write_str("\"\"")?;
        }
        write!(formatter, "{}", self.key.escape_debug())?;
        if let Some(part) = &self.part {
            write!(formatter, ", {part}")?;
        }
        if let Some(got) = &self.got {
            write!(formatter, " = {got}")?;
        }
        write!(formatter, " ({}): {}", self.origin, self.verdict)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => {
                write!(formatter, "{} line {line}", path.display().to_string().escape_debug())
            }
            Self::Environment(name) => write!(formatter, "environment {}", name.escape_debug()),
            Self::Flag => formatter.write_str("flag"),
        }
    }
}

impl Mismatch {
    /// Of a whole value.
    pub(super) fn new(got: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { part: None, got: got.into(), expected: expected.into() }
    }
}

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Records that the value of `key` does not have the expected form.
    pub(super) fn mismatch(&mut self, key: &str, origin: &Origin, mismatch: Mismatch) {
        let Mismatch { part, got, expected } = mismatch;
        let problem = Problem::new(key, origin.clone(), format!("expected {expected}"));
        self.push(Problem { part, got: Some(got), ..problem });
    }

    /// The value if there are no problems; else all problems.
    pub(super) fn or<T>(self, value: T) -> Result<T, ConfigError> {
        if self.0.is_empty() { Ok(value) } else { Err(ConfigError { problems: self.0 }) }
    }
}

/// A text in quotes, on one line, cut when long.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{cut}\"", shown.escape_debug())
}
