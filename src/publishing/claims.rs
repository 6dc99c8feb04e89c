//! Shares the idempotency keys between requests: a request holds a claim on its key until it ends.

use super::fingerprint::Fingerprint;
use super::keys::{Keys, NoClaim};
use crate::locking::lock;
use crate::message::ShortText;
use crate::outcome::Outcome;
use crate::spool::store::{FinalOutcome, Idempotency};
use std::sync::{Arc, Mutex};
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
        let message_id = lock(&self.0).begin(key, request, message_id, Instant::now())?;
        Ok(Claim { claims: self.clone(), key, request, message_id, ended: false })
    }
}

impl Claim {
    /// The request ended with a final outcome. Repeated requests get this outcome, with this
    /// message id.
    pub(super) fn settle(mut self, outcome: Outcome, message_id: &ShortText) {
        self.ended = true;
        lock(&self.claims.0).end(self.key, Some((outcome, message_id)), Instant::now());
    }

    /// The key belongs to another request, as the disk knows.
    pub(super) fn forget(mut self) {
        self.ended = true;
        lock(&self.claims.0).forget(self.key);
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
            lock(&self.claims.0).end(self.key, None, Instant::now());
        }
    }
}
