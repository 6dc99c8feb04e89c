//! The idempotency keys, shared: a request that is published holds a claim on its key until it ends.

use super::fingerprint::Fingerprint;
use super::keys::{Begun, Keys};
use crate::message::ShortText;
use crate::outcome::Outcome;
use crate::spool::store::{FinalOutcome, Idempotency};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// All keys in memory. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Claims(Arc<Mutex<Keys>>);

/// The right to publish under a key. If it is dropped unsettled, the request may be tried again.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    pub(super) key: Fingerprint,
    pub(super) request: Fingerprint,
    /// The id of the first attempt's message.
    pub(super) message_id: ShortText,
    ended: bool,
}

/// Why a request with a key is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoClaim {
    /// It was published before, with this outcome and message id.
    Replay(Outcome, ShortText),
    /// It is refused with this outcome.
    Refused(Outcome),
}

impl Claims {
    pub(super) fn new(window: Duration, max: usize) -> Self {
        Self(Arc::new(Mutex::new(Keys::new(window, max))))
    }

    /// A claim on the key for this request, or why not.
    pub(super) fn claim(
        &self,
        key: Fingerprint,
        request: Fingerprint,
        message_id: &ShortText,
    ) -> Result<Claim, NoClaim> {
        match self.lock().begin(key, request, message_id, Instant::now()) {
            Begun::Go(message_id) => {
                Ok(Claim { claims: self.clone(), key, request, message_id, ended: false })
            }
            Begun::Replay(outcome, message_id) => Err(NoClaim::Replay(outcome, message_id)),
            Begun::InUse => Err(NoClaim::Refused(Outcome::IdempotencyKeyInUse)),
            Begun::Reused => Err(NoClaim::Refused(Outcome::IdempotencyKeyReused)),
            Begun::Full => Err(NoClaim::Refused(Outcome::Overloaded)),
        }
    }

    // The table is consistent between any two statements that could panic.
    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// The request ended with a final outcome, which repeated requests are answered, with this message id.
    pub(super) fn settle(mut self, outcome: Outcome, message_id: &ShortText) {
        self.ended = true;
        self.claims.lock().end(self.key, Some((outcome, message_id)), Instant::now());
    }

    /// The key belongs to another request, as the disk knows.
    pub(super) fn forget(mut self) {
        self.ended = true;
        self.claims.lock().forget(self.key);
    }

    /// What the spool remembers.
    pub(super) fn to_remember(&self, outcome: FinalOutcome) -> Idempotency {
        Idempotency {
            key: self.key,
            request: self.request,
            outcome,
            message_id: self.message_id.as_str().to_owned(),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.ended {
            self.claims.lock().end(self.key, None, Instant::now());
        }
    }
}
