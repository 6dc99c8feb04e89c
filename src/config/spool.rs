//! Sections `spool` and `idempotency`, and what a route says: the settings of messages that are kept on disk.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::settings::Settings;
use crate::message::Mode;
use crate::text::quantities;

/// Section `spool`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpoolConfig {
    /// The directory of the spool; `None`: there is no spool, and every message goes directly.
    pub path: Option<PathBuf>,
    /// Bytes the database may take, 1 MiB to 1 TiB.
    #[serde(serialize_with = "quantities::size_text")]
    pub max_bytes: u64,
    /// A message that is older is parked; 1 s to 1 year.
    #[serde(serialize_with = "quantities::duration_text")]
    pub max_age: Duration,
    /// Messages a second that leave the spool at most, 1 to 100000.
    pub drain_rate: u32,
    /// What one destination may take of `max_bytes`, in percent, 1 to 100.
    pub destination_percent: u32,
    /// Free bytes that the spool leaves on the disk, 0 to 1 TiB.
    #[serde(serialize_with = "quantities::size_text")]
    pub disk_reserve: u64,
    /// A message that was nacked more often is undeliverable; 0 to 10000.
    pub nacks_max: u32,
    /// What happens with a message that can not be delivered.
    pub undeliverable: Undeliverable,
}

/// Section `idempotency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdempotencyConfig {
    /// How long a key is remembered; 1 s to 7 days.
    #[serde(serialize_with = "quantities::duration_text")]
    pub window: Duration,
    /// Keys in memory at a time, 1 to 10000000.
    pub max_keys: usize,
}

/// One table `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteConfig {
    /// The exchanges it is about: a name in which each `*` stands for any characters.
    pub exchange: String,
    /// The mode of requests that name none.
    pub mode: Mode,
    /// Whether a request may name another mode.
    pub r#override: bool,
}

/// What happens with a message of the spool that the broker will never take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Undeliverable {
    /// It is parked, and those behind it go on.
    Park,
    /// It is tried again and again, and those behind it wait.
    Wait,
}

impl SpoolConfig {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            path: settings.find("spool.path"),
            max_bytes: settings.get("spool.max_bytes"),
            max_age: settings.get("spool.max_age"),
            drain_rate: settings.get("spool.drain_rate"),
            destination_percent: settings.get("spool.destination_percent"),
            disk_reserve: settings.get("spool.disk_reserve"),
            nacks_max: settings.get("spool.nacks_max"),
            undeliverable: settings.get("spool.undeliverable"),
        }
    }
}

impl IdempotencyConfig {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { window: settings.get("idempotency.window"), max_keys: settings.get("idempotency.max_keys") }
    }
}

impl Undeliverable {
    /// The choices as they are written, in the order of `ALL`.
    pub(super) const WORDS: &[&str] = &["park", "wait"];
    pub(super) const ALL: [Self; 2] = [Self::Park, Self::Wait];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values_stand_in_the_same_order() {
        let written = |value: String| value.trim_matches('"').to_owned();
        let choices = Undeliverable::ALL.map(|choice| written(serde_json::to_string(&choice).unwrap()));
        assert_eq!(choices.as_slice(), Undeliverable::WORDS);
    }
}
