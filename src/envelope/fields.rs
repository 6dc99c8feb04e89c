//! The fields that an envelope and the headers of a request have in common: texts read as values.
//! Each function refuses a text that is not of the described form, and says what is wrong.

use crate::labels::Label;
use crate::message::{ClientKey, Mode, RetryPolicy, ShortText};
use crate::text::quantities::parse_duration;
use std::fmt::Display;
use std::time::Duration;

/// The longest detail, in bytes. It may quote a client's own text, and that may be a whole body.
const DETAIL_BYTES_MAX: usize = 512;

/// A field with a value that is not acceptable: `field: problem`, for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// The problem with `field`, cut after 512 bytes.
    #[must_use]
    pub fn new(field: &str, problem: impl Display) -> Self {
        Self(shortened(format!("{field}: {problem}")))
    }

    /// The text for the client.
    #[must_use]
    pub fn into_detail(self) -> String {
        self.0
    }
}

fn shortened(mut detail: String) -> String {
    if detail.len() > DETAIL_BYTES_MAX {
        let end = (0..=DETAIL_BYTES_MAX).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
        detail.truncate(end);
        detail.push('…');
    }
    detail
}

/// A duration such as `250ms` or `5s`, more than zero.
pub fn timeout(field: &str, text: &str) -> Result<Duration, Invalid> {
    // Of the units of a duration, only these two end in an s.
    parse_duration(text).filter(|timeout| text.ends_with('s') && !timeout.is_zero()).ok_or_else(|| {
        Invalid::new(field, "expected a whole number with ms or s, such as 250ms or 5s, more than zero")
    })
}

/// `true` or `false`.
pub fn mandatory(field: &str, text: &str) -> Result<bool, Invalid> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Invalid::new(field, "expected true or false")),
    }
}

/// `direct`, `fallback` or `spool`.
pub fn mode(field: &str, text: &str) -> Result<Mode, Invalid> {
    Mode::from_word(text).ok_or_else(|| Invalid::new(field, "expected direct, fallback or spool"))
}

/// `off`, `safe` or `at_least_once`.
pub fn retry(field: &str, text: &str) -> Result<RetryPolicy, Invalid> {
    match text {
        "off" => Ok(RetryPolicy::Off),
        "safe" => Ok(RetryPolicy::Safe),
        "at_least_once" => Ok(RetryPolicy::AtLeastOnce),
        _ => Err(Invalid::new(field, "expected off, safe or at_least_once")),
    }
}

/// An idempotency key.
pub fn client_key(field: &str, text: &str) -> Result<ClientKey, Invalid> {
    let problem = "expected 1 to 255 printable ASCII characters, bare or in double quotes";
    ClientKey::parse(text).ok_or_else(|| Invalid::new(field, problem))
}

/// A message id: not empty, and valid as the value of a header.
pub fn message_id(field: &str, text: &str) -> Result<ShortText, Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(field, "is empty: leave it out and one is assigned"));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "has control characters"));
    }
    short(field, text)
}

/// Unix seconds. A later moment than the year 9999 is milliseconds or microseconds by mistake, and
/// consumers fail on it.
pub fn timestamp(field: &str, seconds: Option<u64>) -> Result<u64, Invalid> {
    const LAST: u64 = 253_402_300_799;
    let problem = format_args!("expected Unix seconds, at most {LAST} (the end of the year 9999)");
    seconds.filter(|seconds| *seconds <= LAST).ok_or_else(|| Invalid::new(field, problem))
}

/// A text of at most 255 bytes.
pub fn short(field: &str, text: &str) -> Result<ShortText, Invalid> {
    ShortText::new(text).map_err(|too_long| Invalid::new(field, too_long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_number_with_its_unit() {
        for (text, milliseconds) in [("250ms", 250), ("5s", 5000), ("1ms", 1)] {
            assert_eq!(timeout("t", text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "s", "ms", "0s", "-1s", "+1s", "1.5s", "5", "5m", "1 s", "99999999999999999999s"] {
            assert!(timeout("t", text).is_err(), "{text}");
        }
    }
}
