//! Learns from verdicts and from silence, and replaces channels that stand still.

use super::Publisher;
use crate::link::destinations::{FaultScope, MANY};
use crate::link::lanes::{Flight, FlightEnd, LaneKind, Verdict};
use tokio::time::Instant;

impl Publisher {
    /// Looks for channels and destinations that stand still, and moves all other messages away from
    /// them.
    pub(crate) fn look(&mut self, now: Instant) {
        let heard = self.vitals.heard();
        // With few publishes in flight no destination can owe many verdicts, so idle sidecars skip
        // the look at each publish.
        let looked_at = if self.lanes.in_flight() > MANY || self.standstill.any() { usize::MAX } else { 0 };
        let held = self.standstill.look(now, heard, self.lanes.unanswered().take(looked_at));
        let hung = self.lanes.check(now, heard.last_word);
        if held || hung {
            self.lanes.replace_shared(now);
        }
        if self.standstill.any() || !self.waiting.stuck.is_empty() {
            self.route_again();
        }
    }

    /// A publish has ended: learns from it about its destination and its channel.
    pub(crate) fn learn(&mut self, kind: LaneKind, flight: &Flight, verdict: &FlightEnd) {
        let message = &*flight.message;
        let (is_proof, is_nack) = match verdict {
            FlightEnd::Verdict(Verdict::Acked | Verdict::Returned) => (true, false),
            // The destination is open to this user, although the queue refused the message.
            FlightEnd::Verdict(Verdict::Nacked) => (true, true),
            FlightEnd::NotPublished | FlightEnd::Displaced | FlightEnd::Refused(_) | FlightEnd::Lost => {
                (false, false)
            }
        };
        if is_proof {
            self.proven.insert(message);
        }
        // The ordinary case needs no look-up.
        let is_ack = is_proof && !is_nack;
        let is_ordinary = kind == LaneKind::Shared && !is_nack;
        if is_ordinary && self.nacking.is_empty() && !self.standstill.any() {
            return;
        }
        let scope = FaultScope::of(message);
        match kind {
            LaneKind::Solo => {
                self.probing.remove(&scope);
                if is_ack && self.nacking.acked_alone(&scope) {
                    self.lanes.replace_shared(Instant::now());
                } else if is_nack {
                    self.nacking.nacked_alone(&scope, Instant::now());
                }
            }
            LaneKind::Shared if is_ack => self.nacking.acked_together(&scope),
            LaneKind::Shared if is_nack => self.nacking.nacked(scope.clone()),
            LaneKind::Shared => {}
        }
        self.standstill.settled(&scope, is_proof.then_some(flight.handed_over_at));
    }
}
