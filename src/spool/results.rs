//! What becomes of appends and deliveries, as metrics name it.

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// It is on disk.
    Stored,
    /// Its idempotency key was there already; nothing was stored.
    Seen,
    /// There was no room.
    Full,
    /// The store takes nothing.
    Failed,
    /// Nobody knows whether it is on disk.
    Unsure,
}

/// What became of an attempt to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The broker has the message; it leaves the spool.
    Confirmed,
    /// It stays, and is tried again.
    Deferred,
    /// It is set aside for an operator.
    Parked,
}

impl AppendResult {
    /// Every result, in the order of the declaration.
    pub const ALL: [Self; 5] = [Self::Stored, Self::Seen, Self::Full, Self::Failed, Self::Unsure];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AppendResult::Stored => "stored",
            AppendResult::Seen => "seen",
            AppendResult::Full => "full",
            AppendResult::Failed => "failed",
            AppendResult::Unsure => "unsure",
        }
    }
}

impl DeliveryResult {
    /// Every result, in the order of the declaration.
    pub const ALL: [Self; 3] = [Self::Confirmed, Self::Deferred, Self::Parked];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryResult::Confirmed => "confirmed",
            DeliveryResult::Deferred => "deferred",
            DeliveryResult::Parked => "parked",
        }
    }
}
