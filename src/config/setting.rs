//! `Setting`: the types that keys have. Each type reads a raw value and shows it again.

use super::endpoint::Endpoint;
use super::files::{Content, FromFile, open};
use super::kind::Kind;
use super::listen::{ListenAddress, parse_address};
use super::problems::Mismatch;
use super::raw::Raw;
use super::secret::{Secret, is_credential};
use crate::labels::Label;
use crate::text::quantities::{format_duration, format_size, parse_duration, parse_number, parse_size};
use serde::{Serialize, Serializer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The type of a key.
pub(super) trait Setting: Sized + Serialize {
    /// Reads a raw value as the kind demands, or returns everything that is wrong with it.
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>>;

    /// What an unset key of the type means; `None` if it must not be unset.
    fn unset() -> Option<Self> {
        None
    }

    /// Serialises it as the file would spell it.
    fn show<S: Serializer>(&self, _kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

/// A key that may stay unset.
impl<T: Setting> Setting for Option<T> {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        T::read(raw, kind).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }

    fn show<S: Serializer>(&self, kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.show(kind, serializer),
            None => serializer.serialize_none(),
        }
    }
}

/// A word of a closed list.
impl<T: Label + Serialize> Setting for T {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        fits(raw, kind, raw.text().and_then(T::from_word))
    }
}

impl Setting for bool {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        let flag = match raw {
            Raw::Boolean(flag) => Some(*flag),
            Raw::Plain(text) => text.parse().ok(),
            Raw::String(_) | Raw::Integer(_) | Raw::Array(_) | Raw::Other(_) => None,
        };
        fits(raw, kind, flag)
    }
}

impl Setting for u64 {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        let number = if let Kind::Count { min, max } = kind {
            number(raw, parse_number).filter(between(min, max))
        } else if let Kind::Size { min, max } = kind {
            number(raw, parse_size).filter(between(min, max))
        } else {
            None
        };
        fits(raw, kind, number)
    }

    fn show<S: Serializer>(&self, kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
        if let Kind::Size { .. } = kind {
            serializer.serialize_str(&format_size(*self))
        } else {
            serializer.serialize_u64(*self)
        }
    }
}

macro_rules! narrower_numbers {
    ($($type:ty),+) => { $(
        /// The largest bounds fit; where addresses have 32 bits, 4 GiB are cut by a byte.
        impl Setting for $type {
            fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
                u64::read(raw, kind).map(|number| Self::try_from(number).unwrap_or(Self::MAX))
            }

            fn show<S: Serializer>(&self, kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
                u64::try_from(*self).unwrap_or(u64::MAX).show(kind, serializer)
            }
        }
    )+ };
}

narrower_numbers!(u32, usize);

impl Setting for Duration {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        let duration = raw.text().and_then(parse_duration).filter(|duration| {
            if let Kind::WholeSeconds { min, max } = kind {
                between(min, max)(duration) && duration.subsec_nanos() == 0
            } else if let Kind::Duration { min, max } | Kind::DurationOrNever { min, max } = kind {
                between(min, max)(duration)
            } else {
                false
            }
        });
        fits(raw, kind, duration)
    }

    fn show<S: Serializer>(&self, _kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*self))
    }
}

impl Setting for String {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        let max = if let Kind::Text { max_characters } = kind { *max_characters } else { 0 };
        let text = raw.text().filter(|text| (1..=max).contains(&text.chars().count()));
        fits(raw, kind, text.filter(|text| !text.contains(char::is_control)).map(str::to_owned))
    }
}

impl Setting for SocketAddr {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        fits(raw, kind, raw.text().and_then(parse_address))
    }
}

impl Setting for Secret {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        fits(raw, kind, raw.text().filter(|text| is_credential(text)).map(Self::new))
    }
}

impl Setting for PathBuf {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        fits(raw, kind, raw.text().filter(|text| !text.is_empty() && !text.contains('\0')).map(Self::from))
    }
}

/// The path of a file, which is read at once.
impl<T: Content> Setting for FromFile<T> {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        open(PathBuf::read(raw, kind)?)
    }
}

impl Setting for Vec<ListenAddress> {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        let mut seen: Self = Vec::new();
        list(raw, kind, |text| {
            let address = ListenAddress::parse(text).map_err(|expected| vec![expected.to_owned()])?;
            if let Some(taken) = seen.iter().find(|taken| taken.collides_with(&address)) {
                return Err(vec![format!("an address that {taken} leaves free")]);
            }
            seen.push(address.clone());
            Ok(address)
        })
    }
}

impl Setting for Vec<Endpoint> {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        list(raw, kind, Endpoint::parse)
    }
}

/// The value, if there is one; otherwise an error with the given and the expected form.
fn fits<T>(raw: &Raw, kind: &Kind, value: Option<T>) -> Result<T, Vec<Mismatch>> {
    value.ok_or_else(|| vec![Mismatch::new(raw.shown(kind), kind.to_string())])
}

fn between<T: PartialOrd>(min: &T, max: &T) -> impl Fn(&T) -> bool {
    move |value| (min..=max).contains(&value)
}

/// A TOML string may hold a size, but not a bare number: `connections = "2"` is a mistake.
fn number(raw: &Raw, parse: fn(&str) -> Option<u64>) -> Option<u64> {
    match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Plain(text) => parse(text),
        Raw::String(text) => parse(text).filter(|_| parse_number(text).is_none()),
        Raw::Boolean(_) | Raw::Array(_) | Raw::Other(_) => None,
    }
}

/// Reads each item of a list that must not be empty; after a bad item it still looks at the others.
fn list<T>(
    raw: &Raw,
    kind: &Kind,
    mut parse: impl FnMut(&str) -> Result<T, Vec<String>>,
) -> Result<Vec<T>, Vec<Mismatch>> {
    let items = raw.items();
    if items.is_empty() {
        return Err(vec![Mismatch::new(raw.shown(kind), "at least one item")]);
    }
    let (mut values, mut mismatches) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        match item.text().map_or_else(|| Err(vec![kind.to_string()]), &mut parse) {
            Ok(value) => values.push(value),
            Err(expected) => mismatches.extend(expected.into_iter().map(|expected| Mismatch {
                part: (items.len() > 1).then(|| format!("item {}", index + 1)),
                got: item.shown(kind),
                expected,
            })),
        }
    }
    if mismatches.is_empty() { Ok(values) } else { Err(mismatches) }
}
