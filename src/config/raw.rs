//! `Raw`: a value as a source gives it, before it is read as the type of its key.

use super::endpoint::redact;
use super::kind::Kind;
use super::problems::quoted;
use super::secret::REDACTED;
use std::borrow::Cow;

/// A value from any source. It has no `Debug`, since it may be a secret in clear.
#[derive(Clone)]
pub(super) enum Raw {
    /// Text from the environment, a flag or a default; its key decides how it is read.
    Plain(String),
    /// A TOML string.
    String(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array.
    Array(Vec<Raw>),
    /// The type of a TOML value that no key accepts, in `<…>`.
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

    /// The items of a list: those of an array, or the parts of a plain text between commas. A TOML
    /// string is a list of one item.
    pub(super) fn items(&self) -> Cow<'_, [Raw]> {
        match self {
            Self::Plain(text) => text.split(',').map(|item| Self::Plain(item.trim().to_owned())).collect(),
            Self::Array(items) => Cow::Borrowed(items),
            Self::String(_) | Self::Integer(_) | Self::Boolean(_) | Self::Other(_) => {
                Cow::Borrowed(std::slice::from_ref(self))
            }
        }
    }

    /// The value as a message may show it, for a key of this kind.
    pub(super) fn shown(&self, kind: &Kind) -> String {
        if kind.is_secret() {
            return REDACTED.to_owned();
        }
        let secret = *kind == Kind::Endpoints;
        match self {
            Self::Plain(_) if secret => {
                let items: Vec<_> = self.items().iter().filter_map(Raw::text).map(redact).collect();
                quoted(&items.join(","))
            }
            Self::String(text) if secret => quoted(&redact(text)),
            // A URI under the wrong key may hold credentials too.
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
