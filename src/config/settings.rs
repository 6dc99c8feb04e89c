//! `Settings`: each key's value, parsed and in range.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::keys::{KEYS, Key};
use super::layers::Layers;
use super::listen::ListenAddress;
use super::problems::Problems;
use super::raw::Raw;
use super::secret::Secret;
use super::value::Value;
use super::{LogFormat, LogLevel, Undeliverable};

/// The values of all keys. A key whose value was no good is marked bad and has its default instead, so that the
/// search for problems can go on.
#[derive(Debug)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, Value>,
    bad: BTreeSet<&'static str>,
}

/// A type that a field of the configuration has, made of the value that its key has.
pub(super) trait FromValue: Sized {
    /// `None` if the key's kind gives another variant, or a range that the type does not hold.
    fn from_value(value: &Value) -> Option<Self>;
}

impl Settings {
    pub(super) fn parse(layers: &Layers, problems: &mut Problems) -> Self {
        let mut settings = Self { values: BTreeMap::new(), bad: BTreeSet::new() };
        for key in KEYS {
            let Some(given) = layers.of(key.path) else { continue };
            match Value::parse(&key.kind, &given.raw) {
                Ok(value) => {
                    settings.values.insert(key.path, value);
                }
                Err(mismatches) => {
                    for mismatch in mismatches {
                        problems.mismatch(key.path, &given.origin, mismatch);
                    }
                    settings.mark_bad(key.path);
                    settings.values.extend(default_of(key).map(|value| (key.path, value)));
                }
            }
        }
        settings
    }

    /// The value of a key with a default.
    pub(super) fn get<T: FromValue>(&self, path: &str) -> T {
        self.find(path).expect("the table declares the key with a default and a kind that fits the field")
    }

    /// The value of an optional key, if it was given and good.
    pub(super) fn find<T: FromValue>(&self, path: &str) -> Option<T> {
        self.values.get(path).and_then(T::from_value)
    }

    /// Records that the key's value, though well formed, is no good.
    pub(super) fn mark_bad(&mut self, path: &'static str) {
        self.bad.insert(path);
    }

    /// Whether the key's value was no good and stands at its default.
    pub(super) fn is_bad(&self, path: &str) -> bool {
        self.bad.contains(path)
    }
}

fn default_of(key: &Key) -> Option<Value> {
    Value::parse(&key.kind, &Raw::Plain(key.default?.to_owned())).ok()
}

macro_rules! from_value {
    ($($variant:ident => $type:ty),+ $(,)?) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                if let Value::$variant(inner) = value { inner.clone().try_into().ok() } else { None }
            }
        }
    )+};
}

from_value! {
    Flag => bool,
    Number => u32,
    Number => u64,
    Duration => Duration,
    Text => String,
    Listen => Vec<ListenAddress>,
    Address => SocketAddr,
    Endpoints => Vec<Endpoint>,
    Credential => Secret,
    Path => PathBuf,
}

/// 4 GiB is the largest size; where addresses have 32 bits, it is cut by a byte.
impl FromValue for usize {
    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }
}

/// 0 stands for "as the machine suggests".
impl FromValue for Option<NonZeroUsize> {
    fn from_value(value: &Value) -> Option<Self> {
        usize::from_value(value).map(NonZeroUsize::new)
    }
}

impl FromValue for LogLevel {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Choice(position) = value { Self::ALL.get(*position).copied() } else { None }
    }
}

impl FromValue for LogFormat {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Choice(position) = value { Self::ALL.get(*position).copied() } else { None }
    }
}

impl FromValue for Undeliverable {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Choice(position) = value { Self::ALL.get(*position).copied() } else { None }
    }
}
