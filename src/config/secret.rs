//! `Secret`: a text that no log line, error or serialiser can show.

use std::fmt;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::files::read_text;

/// What stands where a secret would.
pub(super) const REDACTED: &str = "***";

/// What a credential must be to reach the broker unharmed: PLAIN separates user and password by NUL, and a
/// newline is a file's end that was read along.
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

    /// Reads the one line of a file such as `broker.password_file` names; newlines at its end do not count. A file
    /// may be rotated: who reads it again later reads it by this same rule.
    ///
    /// # Errors
    ///
    /// What was expected of the file, without anything it holds.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = read_text(path)?;
        // Editors and `echo` end a file with a newline that nobody means.
        let line = text.trim_end_matches(['\r', '\n']);
        if is_credential(line) {
            Ok(Self::new(line))
        } else {
            Err("a file with one line, not empty and without control characters".to_owned())
        }
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
    fn a_secret_shows_itself_to_nobody_who_does_not_ask() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "hunter2");
    }
}
