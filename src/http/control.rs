//! What a request says about how it is published: deadline, mandatory, mode, retry.

use super::rejection::Rejection;
use crate::message::{Mode, RetryPolicy};
use std::time::Duration;

/// How a message is published. Absent values take their defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// From the request's first byte; absent: `publish.timeout`.
    pub(super) timeout: Option<Duration>,
    /// Absent: true.
    pub(super) mandatory: Option<bool>,
    /// Absent: that of the exchange's route.
    pub(super) mode: Option<Mode>,
    /// Absent: safe.
    pub(super) retry: Option<RetryPolicy>,
}

impl Control {
    /// These values, and those of `fallback` where there are none here.
    pub(super) fn or(self, fallback: Control) -> Control {
        Control {
            timeout: self.timeout.or(fallback.timeout),
            mandatory: self.mandatory.or(fallback.mandatory),
            mode: self.mode.or(fallback.mode),
            retry: self.retry.or(fallback.retry),
        }
    }

    /// The time from the first byte to the deadline.
    ///
    /// # Errors
    /// When the request asks for more than `max`: a shorter deadline than asked for would be a surprise.
    pub(super) fn timeout_within(
        self,
        field: &str,
        default: Duration,
        max: Duration,
    ) -> Result<Duration, Rejection> {
        match self.timeout {
            Some(timeout) if timeout > max => {
                let max = format!("{}ms", max.as_millis());
                Err(Rejection::invalid(field, format_args!("at most {max} (publish.max_timeout)")))
            }
            Some(timeout) => Ok(timeout),
            None => Ok(default),
        }
    }
}

/// A duration such as `250ms` or `5s`, more than zero.
pub(super) fn timeout(field: &str, text: &str) -> Result<Duration, Rejection> {
    let problem = || {
        Rejection::invalid(field, "expected a whole number with ms or s, such as 250ms or 5s, more than zero")
    };
    let (digits, milliseconds_per_unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => return Err(problem()),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number).ok_or_else(problem)?;
    match number.checked_mul(milliseconds_per_unit) {
        Some(milliseconds) if milliseconds > 0 => Ok(Duration::from_millis(milliseconds)),
        Some(_) | None => Err(problem()),
    }
}

/// `true` or `false`.
pub(super) fn mandatory(field: &str, text: &str) -> Result<bool, Rejection> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Rejection::invalid(field, "expected true or false")),
    }
}

/// `direct`, `fallback` or `spool`.
pub(super) fn mode(field: &str, text: &str) -> Result<Mode, Rejection> {
    Mode::from_word(text).ok_or_else(|| Rejection::invalid(field, "expected direct, fallback or spool"))
}

/// `off`, `safe` or `at_least_once`.
pub(super) fn retry(field: &str, text: &str) -> Result<RetryPolicy, Rejection> {
    match text {
        "off" => Ok(RetryPolicy::Off),
        "safe" => Ok(RetryPolicy::Safe),
        "at_least_once" => Ok(RetryPolicy::AtLeastOnce),
        _ => Err(Rejection::invalid(field, "expected off, safe or at_least_once")),
    }
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

    #[test]
    fn a_deadline_beyond_the_cap_is_refused_not_shortened() {
        let control = Control { timeout: Some(Duration::from_secs(61)), ..Control::default() };
        let refused =
            control.timeout_within("Amqpost-Timeout", Duration::from_secs(5), Duration::from_secs(60));
        let refused = refused.unwrap_err().to_string();
        assert_eq!(refused, "Amqpost-Timeout: at most 60000ms (publish.max_timeout)");
    }
}
