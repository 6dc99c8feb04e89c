//! Finds out which publish was returned, although lapin attaches a `basic.return` to whichever
//! confirm completes next.
//!
//! lapin queues returned messages and attaches the oldest one to the next confirm that completes,
//! whatever its delivery tag (ADR-0001). Only the order of events on the socket is reliable: a
//! message's return is read before its own ack. For one channel with one poller, two rules follow:
//!
//! * A confirm that completes **without** a returned message found the queue empty, so every return
//!   read until then is attached to some confirm that completed earlier. Once all of those have
//!   been handled (a *pass* has ended with nothing ready), a publish without an entry here was not
//!   returned.
//! * A confirm that completes with **another** publish's return proves nothing about its own, which
//!   may still wait in lapin's queue. Such a publish stays *suspended* until its return appears, a
//!   confirm of a later pass completes without one, or nothing is in flight any more (a waiting
//!   return always belongs to a publish whose own ack has not come yet, so then none waits).
//!
//! Pure: no I/O, no clock. The property test drives it with a model of lapin's queue.

use crate::hashing::{Map, Set};
use crate::message::ShortText;

/// The broker's verdict on one publish, with its own return attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Acknowledged and not returned.
    Acked,
    /// Acknowledged after it was returned: no queue took it.
    Returned,
    /// Refused by at least one queue.
    Nacked,
}

/// Attribution of returns on one channel. A publish is identified by the slot that its lane gave
/// it.
#[derive(Debug, Default)]
pub(crate) struct Attribution {
    slot_by_id: Map<ShortText, usize>,
    returned: Set<usize>,
    acked: Vec<Acked>,
    suspended: Vec<Acked>,
    nacked: Vec<Acked>,
    queue_was_empty: bool,
    channel_died: bool,
}

#[derive(Debug)]
struct Acked {
    slot: usize,
    message_id: Option<ShortText>,
    certain: bool,
}

impl Attribution {
    /// Whether a publish with this message id is unresolved here. A second one must wait or use
    /// another channel.
    pub(crate) fn carries(&self, message_id: &ShortText) -> bool {
        self.slot_by_id.contains_key(message_id)
    }

    /// A mandatory publish enters. Its return, if any, is recognised by its message id.
    pub(crate) fn expect(&mut self, message_id: ShortText, slot: usize) {
        self.slot_by_id.insert(message_id, slot);
    }

    /// The confirm of `slot` completed with an ack or a nack, carrying the return of the message
    /// `carried`.
    ///
    /// `message_id` is the slot's own id when it is mandatory.
    pub(crate) fn completed(
        &mut self,
        slot: usize,
        message_id: Option<ShortText>,
        ack: bool,
        carried: Option<&ShortText>,
    ) {
        let carried_slot = carried.and_then(|id| self.slot_by_id.get(id).copied());
        if let Some(returned) = carried_slot {
            self.returned.insert(returned);
        }
        self.queue_was_empty |= carried.is_none();
        let certain = carried.is_none() || carried_slot == Some(slot) || message_id.is_none();
        let entry = Acked { slot, message_id, certain };
        if ack { self.acked.push(entry) } else { self.nacked.push(entry) }
    }

    /// A pass ended with nothing newly ready; `in_flight` publishes are still without a confirm.
    ///
    /// Adds every verdict that is certain now.
    pub(crate) fn end_of_pass(&mut self, in_flight: usize, verdicts: &mut Vec<(usize, Verdict)>) {
        let nothing_waits = in_flight == 0 && !self.channel_died;
        let earlier_are_certain = self.queue_was_empty || nothing_waits;
        self.queue_was_empty = false;
        for entry in std::mem::take(&mut self.nacked) {
            self.forget(&entry);
            verdicts.push((entry.slot, Verdict::Nacked));
        }
        for entry in std::mem::take(&mut self.suspended) {
            self.decide(entry, earlier_are_certain, verdicts);
        }
        let mut acked = std::mem::take(&mut self.acked);
        for entry in acked.drain(..) {
            let certain = entry.certain || nothing_waits;
            self.decide(entry, certain, verdicts);
        }
        self.acked = acked;
    }

    /// The channel died: returns that still wait in lapin's queue are lost with it.
    pub(crate) fn channel_died(&mut self) {
        self.channel_died = true;
    }

    /// The slots that were acked but whose return may have been lost with the channel.
    pub(crate) fn abandon(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.suspended).into_iter().map(|entry| entry.slot).collect()
    }

    /// A publish ended without a confirm: it was never written, or its channel died.
    pub(crate) fn withdraw(&mut self, slot: usize, message_id: Option<&ShortText>) {
        if let Some(id) = message_id {
            self.slot_by_id.remove(id);
        }
        self.returned.remove(&slot);
    }

    fn decide(&mut self, entry: Acked, certain: bool, verdicts: &mut Vec<(usize, Verdict)>) {
        if self.returned.contains(&entry.slot) {
            verdicts.push((entry.slot, Verdict::Returned));
            self.forget(&entry);
        } else if certain {
            verdicts.push((entry.slot, Verdict::Acked));
            self.forget(&entry);
        } else {
            self.suspended.push(entry);
        }
    }

    fn forget(&mut self, entry: &Acked) {
        self.withdraw(entry.slot, entry.message_id.as_ref());
    }
}

#[cfg(test)]
#[path = "attribution_tests.rs"]
mod tests;
