//! The spool's part of an order: it is checked, counted in the backlog, appended, and answered by
//! the deadline whatever the disk does.

use crate::admission::Permit;
use crate::labels::AppendResult;
use crate::link;
use crate::message::{Deadline, Message, Settlement};
use crate::metrics::Metrics;
use crate::outcome::{Class, Outcome};
use crate::spool::store::{Address, AppendError, Appended, FirstUse, Idempotency, NewRecord};
use crate::spool::{MARK_BYTES, SpoolHandle};
use std::sync::Arc;
use tokio::time::timeout_at;

/// The most bytes that the properties of a spooled message may take, so that the broker takes them
/// with the mark.
pub(super) const fn properties_max(frame_max: usize) -> usize {
    link::properties_max(frame_max).saturating_sub(MARK_BYTES)
}

/// A message on its way to the disk.
pub(super) struct Keeping {
    pub(super) spool: SpoolHandle,
    pub(super) message: Arc<Message>,
    /// `None` if the permit of a publish that may still be under way bounds the message.
    pub(super) permit: Option<Permit>,
    pub(super) deadline: Deadline,
    /// How the broker's part ended.
    pub(super) before: Option<Settlement>,
    pub(super) properties_max: usize,
}

/// What became of the message.
pub(super) enum Kept {
    /// Its key was known already.
    Seen(FirstUse),
    /// Anything else.
    Settled(Settlement),
}

impl Keeping {
    /// Appends the message. If the deadline passes first, `unsure` gets the answer to send, and the
    /// append continues, because it cannot be taken back. Returns when the store has reported the
    /// result.
    pub(super) async fn run(
        self,
        idempotency: Option<Idempotency>,
        metrics: &Metrics,
        unsure: impl FnOnce(Settlement),
    ) -> Kept {
        let Keeping { spool, message, permit, deadline, before, properties_max } = self;
        let attempts = before.as_ref().map_or(0, |before| before.attempts);
        if let Some(problem) = link::unacceptable(&message, properties_max) {
            let detail = Some(problem);
            let invalid = Settlement { detail, attempts, ..Settlement::of(Outcome::InvalidRequest) };
            return Kept::Settled(before.unwrap_or(invalid));
        }
        if deadline.has_passed() {
            let late = Settlement { attempts, ..Settlement::of(Outcome::DeadlineNotSent) };
            return Kept::Settled(before.unwrap_or(late));
        }
        let pending = spool.backlog.pending(Address::of(&message));
        let appending = spool.store.append(NewRecord { message: Arc::unwrap_or_clone(message), idempotency });
        tokio::pin!(appending);
        let appended = match timeout_at(deadline.instant(), &mut appending).await {
            Ok(appended) => appended,
            Err(_) => {
                let detail = Some("the disk did not answer before the deadline".to_owned());
                unsure(Settlement { detail, attempts, ..Settlement::of(Outcome::SpoolUnsure) });
                appending.await
            }
        };
        drop(permit);
        metrics.spool_appended(result(&appended));
        // An unsure message may be there after a restart, so nothing may overtake it until then.
        if !matches!(appended, Err(AppendError::Unsure)) {
            pending.settled();
        }
        let settled = |outcome| Settlement { attempts, ..Settlement::of(outcome) };
        match appended {
            Ok(Appended::Stored(_)) => {
                spool.flow.appended();
                Kept::Settled(settled(Outcome::Spooled))
            }
            Ok(Appended::Seen(seen)) => Kept::Seen(seen),
            Err(AppendError::Unsure) => Kept::Settled(settled(Outcome::SpoolUnsure)),
            Err(error @ AppendError::Full(_)) => Kept::Settled(neither(before, Outcome::SpoolFull, error)),
            Err(error @ AppendError::Failed) => Kept::Settled(neither(before, Outcome::SpoolFailed, error)),
        }
    }
}

/// The broker did not confirm the message and the spool does not have it. If the broker may have
/// it, that stays unknown.
fn neither(before: Option<Settlement>, outcome: Outcome, error: AppendError) -> Settlement {
    let Some(before) = before else {
        return Settlement { detail: Some(error.to_string()), ..Settlement::of(outcome) };
    };
    let detail = Some(format!("the broker: {}; and {error}", before.outcome.code()));
    let outcome = if before.outcome.class() == Class::Unknown { before.outcome } else { outcome };
    Settlement { outcome, detail, ..before }
}

fn result(appended: &Result<Appended, AppendError>) -> AppendResult {
    match appended {
        Ok(Appended::Stored(_)) => AppendResult::Stored,
        Ok(Appended::Seen(_)) => AppendResult::Seen,
        Err(AppendError::Full(_)) => AppendResult::Full,
        Err(AppendError::Failed) => AppendResult::Failed,
        Err(AppendError::Unsure) => AppendResult::Unsure,
    }
}
