//! `Secret`: a text that no log line, error or serialiser can show.

use serde::{Serialize, Serializer};
use std::fmt;

/// Shown instead of a secret.
pub(super) const REDACTED: &str = "***";

/// Whether a text can be a credential: PLAIN separates user and password by NUL, and a newline is
/// only there if the end of a file was read by mistake.
pub(super) fn is_credential(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// A password or the like. `Debug` and `Serialize` show `***`; `Display` is deliberately absent.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the clear text.
    pub fn new(clear_text: impl Into<String>) -> Self {
        Self(clear_text.into())
    }

    /// The clear text. Call it only where the broker's handshake needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_only_by_expose() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "hunter2");
    }
}
