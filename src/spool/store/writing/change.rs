//! What the writer can be asked for, and what became of it.

use crate::spool::store::entry::{Address, Appended, FirstUse, Idempotency, NewRecord, Seq};
use crate::spool::store::errors::FullReason;
use crate::spool::store::format::record;
use bytes::Bytes;

/// Records that one change touches at most, where it means a whole set; whoever asked asks again.
pub(crate) const SET_MAX: usize = 256;

/// A record as it is written, encoded where it came from and not by the writer.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) destination: Address,
    pub(crate) meta: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) expiration_ms: Option<u32>,
    pub(crate) idempotency: Option<Idempotency>,
}

/// What the writer can be asked for.
#[derive(Debug)]
pub(crate) enum Change {
    Append(Box<Prepared>),
    Remember(Idempotency),
    Confirm(Vec<Seq>),
    Attempted(Vec<Seq>),
    Park(Vec<Seq>, String),
    ParkExpired { now_ms: i64, limit: usize },
    Redrive(Vec<Seq>),
    Discard(Vec<Seq>),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Appended(Appended),
    Remembered(Option<FirstUse>),
    Changed(u64),
    Full(FullReason),
    Failed,
    Unsure,
}

impl Prepared {
    pub(crate) fn of(record: NewRecord) -> Self {
        let NewRecord { message, idempotency } = record;
        Self {
            destination: Address::of(&message),
            meta: record::encode(&message),
            expiration_ms: message.properties.expiration_ms,
            body: message.payload,
            idempotency,
        }
    }
}

impl Change {
    /// The record, where this is an append.
    pub(crate) fn appended(&self) -> Option<&Prepared> {
        if let Change::Append(record) = self { Some(record) } else { None }
    }
}
