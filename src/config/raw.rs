//! `Raw`: a value as it was given, before its key says what it must be.

use std::borrow::Cow;

use super::endpoint::redact;
use super::kind::Kind;
use super::secret::REDACTED;

/// Longer values are cut in messages.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// A value from any source. It has no `Debug`, since it may be a secret in clear.
#[derive(Clone)]
pub(super) enum Raw {
    /// From the environment, a flag or the table's defaults: text only, of which the key makes what it wants.
    Plain(String),
    /// A TOML string.
    String(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array.
    Array(Vec<Raw>),
    /// A TOML value of a type that no key takes, by its type, in `<…>`.
    Other(&'static str),
}

impl Raw {
    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::String(text) => Some(text),
            Self::Integer(_) | Self::Boolean(_) | Self::Array(_) | Self::Other(_) => None,
        }
    }

    /// The items of a list: of an array, or between commas where all is text. A TOML string is a list of one.
    pub(super) fn items(&self) -> Cow<'_, [Raw]> {
        match self {
            Self::Plain(text) => text.split(',').map(|item| Self::Plain(item.trim().to_owned())).collect(),
            Self::Array(items) => Cow::Borrowed(items),
            Self::String(_) | Self::Integer(_) | Self::Boolean(_) | Self::Other(_) => {
                Cow::Borrowed(std::slice::from_ref(self))
            }
        }
    }

    /// What a message may show of it as the value of a key of this kind.
    pub(super) fn shown(&self, kind: &Kind) -> String {
        let secret = match kind {
            Kind::Credential => return REDACTED.to_owned(),
            Kind::Endpoints => true,
            Kind::Flag
            | Kind::Count { .. }
            | Kind::Duration { .. }
            | Kind::WholeSeconds { .. }
            | Kind::Size { .. }
            | Kind::Text { .. }
            | Kind::Choice(_)
            | Kind::Listen
            | Kind::Address
            | Kind::Path
            | Kind::Directory => false,
        };
        match self {
            Self::Plain(_) if secret => {
                let items: Vec<_> = self.items().iter().filter_map(Raw::text).map(redact).collect();
                quoted(&items.join(","))
            }
            Self::String(text) if secret => quoted(&redact(text)),
            // Somebody's URI under the wrong key is still somebody's URI.
            Self::Plain(text) | Self::String(text) if text.contains("://") => quoted(&redact(text)),
            Self::Plain(text) | Self::String(text) => quoted(text),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| item.shown(kind)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Other(name) => (*name).to_owned(),
        }
    }
}

/// A text in quotes, on one line, cut when long.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{cut}\"", shown.escape_debug())
}
