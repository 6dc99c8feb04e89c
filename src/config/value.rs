//! `Value`: a raw value, once its key's kind has made something valid of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::kind::Kind;
use super::listen::{ListenAddress, parse_address};
use super::problems::Mismatch;
use super::raw::Raw;
use super::secret::{Secret, is_credential};
use crate::text::quantities::{parse_duration, parse_number, parse_size};

/// A parsed value; which variant, the key's kind decides.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Flag(bool),
    Number(u64),
    Duration(Duration),
    Text(String),
    /// The position among the words of the kind.
    Choice(usize),
    Listen(Vec<ListenAddress>),
    Address(SocketAddr),
    Endpoints(Vec<Endpoint>),
    Credential(Secret),
    Path(PathBuf),
}

// === impl Value ===

impl Value {
    /// Reads a raw value as the kind demands; or says everything that is wrong with it.
    pub(super) fn parse(kind: &Kind, raw: &Raw) -> Result<Self, Vec<Mismatch>> {
        let value = match kind {
            Kind::Listen => return listen(kind, raw).map(Self::Listen),
            Kind::Endpoints => return endpoints(kind, raw).map(Self::Endpoints),
            Kind::Flag => flag(raw).map(Self::Flag),
            Kind::Count { min, max } => number(raw, parse_number).filter(between(min, max)).map(Self::Number),
            Kind::Size { min, max } => number(raw, parse_size).filter(between(min, max)).map(Self::Number),
            Kind::Duration { min, max } => duration(raw).filter(between(min, max)).map(Self::Duration),
            Kind::WholeSeconds { min, max } => duration(raw)
                .filter(between(min, max))
                .filter(|duration| duration.subsec_nanos() == 0)
                .map(Self::Duration),
            Kind::Text { max_characters } => raw
                .text()
                .filter(|text| between(&1, max_characters)(&text.chars().count()))
                .filter(|text| !text.contains(char::is_control))
                .map(|text| Self::Text(text.to_owned())),
            Kind::Choice(words) => {
                raw.text().and_then(|text| words.iter().position(|word| *word == text)).map(Self::Choice)
            }
            Kind::Address => raw.text().and_then(parse_address).map(Self::Address),
            Kind::Credential => {
                raw.text().filter(|text| is_credential(text)).map(|text| Self::Credential(Secret::new(text)))
            }
            Kind::Path | Kind::Directory => raw
                .text()
                .filter(|text| !text.is_empty() && !text.contains('\0'))
                .map(|text| Self::Path(PathBuf::from(text))),
        };
        value.ok_or_else(|| vec![Mismatch::new(raw.shown(kind), kind.to_string())])
    }
}

fn between<T: PartialOrd>(min: &T, max: &T) -> impl Fn(&T) -> bool {
    move |value| (min..=max).contains(&value)
}

fn flag(raw: &Raw) -> Option<bool> {
    match raw {
        Raw::Boolean(flag) => Some(*flag),
        Raw::Plain(text) => text.parse().ok(),
        Raw::String(_) | Raw::Integer(_) | Raw::Array(_) | Raw::Other(_) => None,
    }
}

/// A TOML string may hold a size, but not a bare number: `connections = "2"` is a slip of the pen.
fn number(raw: &Raw, parse: fn(&str) -> Option<u64>) -> Option<u64> {
    match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Plain(text) => parse(text),
        Raw::String(text) => parse(text).filter(|_| parse_number(text).is_none()),
        Raw::Boolean(_) | Raw::Array(_) | Raw::Other(_) => None,
    }
}

fn duration(raw: &Raw) -> Option<Duration> {
    raw.text().and_then(parse_duration)
}

fn listen(kind: &Kind, raw: &Raw) -> Result<Vec<ListenAddress>, Vec<Mismatch>> {
    let mut seen: Vec<ListenAddress> = Vec::new();
    list(kind, raw, |text| {
        let address = ListenAddress::parse(text).map_err(|expected| vec![expected.to_owned()])?;
        if let Some(taken) = seen.iter().find(|taken| taken.collides_with(&address)) {
            return Err(vec![format!("an address that {taken} leaves free")]);
        }
        seen.push(address.clone());
        Ok(address)
    })
}

fn endpoints(kind: &Kind, raw: &Raw) -> Result<Vec<Endpoint>, Vec<Mismatch>> {
    list(kind, raw, Endpoint::parse)
}

/// Reads each item of a list that must not be empty; with one bad item the others are still looked at.
fn list<T>(
    kind: &Kind,
    raw: &Raw,
    mut parse: impl FnMut(&str) -> Result<T, Vec<String>>,
) -> Result<Vec<T>, Vec<Mismatch>> {
    let items = raw.items();
    if items.is_empty() {
        return Err(vec![Mismatch::new(raw.shown(kind), "at least one item")]);
    }
    let (mut values, mut mismatches) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let result = match item.text() {
            Some(text) => parse(text),
            None => Err(vec![kind.to_string()]),
        };
        match result {
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
