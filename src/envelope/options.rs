//! The options of publishing that a request sets: timeout, mandatory, mode, retry.

use super::Invalid;
use crate::message::{Mode, RetryPolicy};
use std::time::Duration;

/// How a message is published. Absent values take their defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// From the request's first byte; absent: `publish.timeout`.
    pub timeout: Option<Duration>,
    /// Absent: true.
    pub mandatory: Option<bool>,
    /// Absent: that of the exchange's route.
    pub mode: Option<Mode>,
    /// Absent: safe.
    pub retry: Option<RetryPolicy>,
}

impl PublishOptions {
    /// These values, and those of `fallback` for the absent ones.
    #[must_use]
    pub fn or(self, fallback: PublishOptions) -> PublishOptions {
        PublishOptions {
            timeout: self.timeout.or(fallback.timeout),
            mandatory: self.mandatory.or(fallback.mandatory),
            mode: self.mode.or(fallback.mode),
            retry: self.retry.or(fallback.retry),
        }
    }

    /// The time from the first byte to the deadline.
    ///
    /// # Errors
    /// If the request asks for more than `max`: a shorter deadline than it asked for would be a
    /// surprise.
    pub fn timeout_within(self, field: &str, default: Duration, max: Duration) -> Result<Duration, Invalid> {
        match self.timeout {
            Some(timeout) if timeout > max => {
                let max = format!("{}ms", max.as_millis());
                Err(Invalid::new(field, format_args!("at most {max} (publish.max_timeout)")))
            }
            Some(timeout) => Ok(timeout),
            None => Ok(default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_beyond_the_cap_is_refused_not_shortened() {
        let options = PublishOptions { timeout: Some(Duration::from_secs(61)), ..PublishOptions::default() };
        let refused =
            options.timeout_within("Amqpost-Timeout", Duration::from_secs(5), Duration::from_secs(60));
        let refused = refused.unwrap_err().to_string();
        assert_eq!(refused, "Amqpost-Timeout: at most 60000ms (publish.max_timeout)");
    }
}
