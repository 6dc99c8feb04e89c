//! `ParkAfter`: a duration or `never`.

use super::kind::Kind;
use super::problems::Mismatch;
use super::raw::Raw;
use super::setting::Setting;
use crate::text::quantities::format_duration;
use serde::{Serialize, Serializer};
use std::time::Duration;

const NEVER: &str = "never";

/// How long the broker may refuse a destination before its messages are parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkAfter {
    /// This long.
    Time(Duration),
    /// Never: no message is parked because its destination is refused.
    Never,
}

impl Serialize for ParkAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Time(time) => serializer.serialize_str(&format_duration(*time)),
            Self::Never => serializer.serialize_str(NEVER),
        }
    }
}

impl Setting for ParkAfter {
    fn read(raw: &Raw, kind: &Kind) -> Result<Self, Vec<Mismatch>> {
        if raw.text() == Some(NEVER) {
            return Ok(Self::Never);
        }
        Duration::read(raw, kind).map(Self::Time)
    }
}
