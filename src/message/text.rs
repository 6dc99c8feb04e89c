//! `ShortText`: UTF-8 of at most 255 bytes, the AMQP short string.

use std::fmt;
use std::sync::Arc;

/// UTF-8 text of at most [`ShortText::MAX_BYTES`] bytes (AMQP 0.9.1 §4.2.5.3, short strings).
/// Cloning shares it.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortText(Arc<str>);

/// The text had more bytes than a short string can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has {0} bytes, at most {max} are allowed", max = ShortText::MAX_BYTES)]
pub struct TooLong(pub usize);

impl ShortText {
    /// The longest text, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Takes the text if it is short enough.
    ///
    /// # Errors
    /// [`TooLong`] with the number of bytes it has.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, TooLong> {
        let text = text.into();
        if text.len() > Self::MAX_BYTES { Err(TooLong(text.len())) } else { Ok(Self(text)) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes of the text.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl serde::Serialize for ShortText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_not_characters() {
        assert!(ShortText::new("é".repeat(127)).is_ok());
        assert_eq!(ShortText::new("é".repeat(128)), Err(TooLong(256)));
        assert!(ShortText::new("x".repeat(255)).is_ok());
    }
}
