//! An idempotency key as a client gives it.

use std::fmt;

/// An idempotency key as the client gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(String);

impl ClientKey {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Takes the key: 1 to 255 printable ASCII characters, bare or in double quotes, as the IETF
    /// draft of the header has it. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = if text.starts_with('"') { unquoted(text)? } else { text.to_owned() };
        let printable = key.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        (printable && (1..=Self::MAX_BYTES).contains(&key.len())).then_some(Self(key))
    }

    /// The key without its quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientKey {
    /// A key lets its holder ask for the outcome of a request, so it reaches no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey")
    }
}

/// The text of a quoted string (RFC 9651 §3.3.3) that ends with its closing quote.
fn unquoted(text: &str) -> Option<String> {
    let mut characters = text.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut key = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => key.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            '"' => return None,
            other => key.push(other),
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_bare_and_quoted_alike() {
        assert!(ClientKey::parse("abc").is_some() && ClientKey::parse("abc") == ClientKey::parse("\"abc\""));
        assert_eq!(ClientKey::parse("\"a\\\"b\""), ClientKey::parse("a\"b"));
        let long = "x".repeat(256);
        for refused in ["", "\"\"", "\"a", "\"", "\"a\"b\"", "\"a\\b\"", "\"a\";p=1", "é", "a\tb", &long] {
            assert!(ClientKey::parse(refused).is_none(), "{refused}");
        }
    }
}
