//! The changes that the writer makes, and their effects.

use crate::spool::store::entry::{
    Address, Appended, FirstUse, Idempotency, NewRecord, RefusalNote, Seq, TriedUntil,
};
use crate::spool::store::errors::FullReason;
use crate::spool::store::format::record;
use bytes::Bytes;

/// The largest number of records that one change to a set touches; the caller repeats it.
pub(crate) const SET_MAX: usize = 256;

/// A record in its stored form. The caller encodes it, not the writer.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) destination: Address,
    pub(crate) meta: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) expiration_ms: Option<u32>,
    pub(crate) idempotency: Option<Idempotency>,
}

/// A change that the writer makes.
#[derive(Debug)]
pub(crate) enum Change {
    Append(Box<Prepared>),
    Remember(Idempotency),
    Confirm(Vec<Seq>),
    Attempted(Vec<Seq>),
    Park(Vec<Seq>, String),
    ParkExpired { now_ms: i64, tried: Seq, limit: usize },
    Refused(Box<RefusalNote>),
    Accepted(Address),
    ParkKept { of: Address, last: Seq, reason: String, limit: usize },
    Tried { until: TriedUntil, from_ms: i64 },
    Redrive(Vec<Seq>),
    Discard(Vec<Seq>),
}

/// The effect of a change.
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
    /// The record, if this is an append.
    pub(crate) fn appended(&self) -> Option<&Prepared> {
        if let Change::Append(record) = self { Some(record) } else { None }
    }
}
