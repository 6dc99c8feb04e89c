//! Decides which channel a message goes to, and when: with others, alone, later, or not at all.

use super::Publisher;
use crate::link::acceptance::{may_close_its_channel, unacceptable};
use crate::link::destinations::{FaultScope, Standing};
use crate::link::lanes::{Lane, transfer_time};
use crate::link::ticket::Job;
use crate::message::{Message, ShortText};
use crate::outcome::Outcome;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Where a message goes when it arrives.
enum Placement {
    Shared,
    Solo,
    Stuck,
    Silent,
    Rejected(Outcome, String),
}

/// What must be known about a message before it travels alone.
struct Solo {
    scope: FaultScope,
    message_id: ShortText,
    alone: bool,
    fits: bool,
}

/// Whether the destination of a message that travels alone is free.
enum SoloTurn {
    Now,
    /// Another message to the same destination is before it.
    Later,
    /// The message before it hangs, and with it the destination.
    Silent,
}

impl Publisher {
    /// Puts a message into the queue where it waits for its turn, or answers it.
    pub(crate) fn route(&mut self, mut job: Job) {
        if !self.nacking.is_empty()
            && let Some(scope) = job.ticket.peek(FaultScope::of)
        {
            job.alone |= self.nacking.tries_alone(&scope, Instant::now());
        }
        match job.ticket.peek(|message| self.route_of(message, job.alone)) {
            Some(Placement::Shared) => self.waiting.shared.push_back(job),
            Some(Placement::Solo) => self.waiting.solo.push_back(job),
            Some(Placement::Stuck) => self.waiting.stuck.push_back(job),
            Some(Placement::Silent) => job.give_back(Outcome::BreakerOpen),
            Some(Placement::Rejected(outcome, detail)) => job.reject(outcome, Some(detail)),
            None => {}
        }
    }

    /// Decides again about every message that waits for the shared lane or for its destination.
    pub(crate) fn route_again(&mut self) {
        let (shared, stuck) = (&mut self.waiting.shared, &mut self.waiting.stuck);
        for job in [shared, stuck].into_iter().flat_map(std::mem::take).collect::<Vec<_>>() {
            self.route(job);
        }
    }

    fn route_of(&self, message: &Message, alone: bool) -> Placement {
        if let Some(problem) = unacceptable(message, self.properties_max) {
            return Placement::Rejected(Outcome::InvalidRequest, problem);
        }
        if let Some(problem) = self.payload_sizes.problem(message.payload.len()) {
            return Placement::Rejected(Outcome::PayloadTooLarge, problem);
        }
        if self.standstill.any() && !alone {
            match self.standstill.of(&FaultScope::of(message)) {
                Standing::Moving => {}
                Standing::Held => return Placement::Stuck,
                Standing::Silent => return Placement::Silent,
            }
        }
        if self.goes_alone(message, alone) { Placement::Solo } else { Placement::Shared }
    }

    fn goes_alone(&self, message: &Message, alone: bool) -> bool {
        if self.lanes.has_no_solo() {
            return false;
        }
        alone
            || !self.proven.contains(message)
            || self.payload_sizes.is_unproven(message.payload.len())
            || may_close_its_channel(message, &self.user)
    }

    /// Hands over every message that can be handed over now. Returns whether there was any.
    pub(crate) fn dispatch(&mut self) -> bool {
        let (solo, waits_for_the_window) = self.dispatch_solo();
        // A large message waits until the write window is empty. If others went first, that moment
        // would never come.
        let shared = !waits_for_the_window && self.dispatch_shared();
        shared || solo
    }

    fn dispatch_shared(&mut self) -> bool {
        let mut any = false;
        while let Some(job) = self.waiting.shared.pop_front() {
            let room = |message: &Message| self.lanes.window_takes(message.weight());
            let returnable_id = |message: &Message| -> Option<ShortText> {
                message.mandatory.then(|| message.properties.message_id.clone())
            };
            let Some((fits, id)) = job.ticket.peek(|message| (room(message), returnable_id(message))) else {
                continue;
            };
            let Some(lane) = self.lanes.shared().filter(|_| fits) else {
                self.waiting.shared.push_front(job);
                break;
            };
            if id.is_some_and(|id| lane.carries(&id)) {
                self.waiting.held.push_back(job);
            } else {
                any |= start(lane, job);
            }
        }
        any
    }

    /// Returns whether anything was done, and whether a message waits only for the write window.
    fn dispatch_solo(&mut self) -> (bool, bool) {
        let (mut any, mut waits, mut laneless) = (false, false, 0);
        let mut later = VecDeque::new();
        while let Some(job) = self.waiting.solo.pop_front() {
            let known = job.ticket.peek(|message| Solo {
                scope: FaultScope::of(message),
                message_id: message.properties.message_id.clone(),
                alone: self.goes_alone(message, job.alone),
                fits: self.lanes.window_takes(message.weight()),
            });
            let Some(Solo { scope, message_id, alone, fits }) = known else { continue };
            if !alone {
                self.waiting.shared.push_back(job);
                any = true;
                continue;
            }
            let turn = self.turn_of(&scope, job.alone);
            match (turn, self.lanes.idle_solo(&message_id)) {
                (SoloTurn::Silent, _) => {
                    job.give_back(Outcome::BreakerOpen);
                    any = true;
                }
                (SoloTurn::Now, Some(lane)) if fits => {
                    if start(lane, job) {
                        self.probing.insert(scope, Instant::now());
                        any = true;
                    }
                }
                (SoloTurn::Now, Some(_)) => {
                    waits = true;
                    later.push_back(job);
                }
                (SoloTurn::Now, None) => {
                    laneless += 1;
                    later.push_back(job);
                }
                (SoloTurn::Later, _) => later.push_back(job),
            }
        }
        any |= laneless > 0 && self.lanes.open_solo(laneless);
        self.waiting.solo = later;
        (any, waits)
    }

    /// If the broker does not process a publish while it answers others, the publish's channel
    /// hangs. Messages behind it are refused, except for one now and then that tries another
    /// channel.
    fn turn_of(&self, scope: &FaultScope, alone: bool) -> SoloTurn {
        let Some(since) = self.probing.get(scope).copied() else { return SoloTurn::Now };
        let (waited, patience) = (since.elapsed(), self.silent_after + transfer_time(self.lanes.owed()));
        let others_are_answered = self.vitals.last_word() > since + patience / 2;
        if waited < patience || !others_are_answered {
            SoloTurn::Later
        } else if alone || waited >= 2 * patience {
            SoloTurn::Now
        } else {
            SoloTurn::Silent
        }
    }
}

fn start(lane: &mut Lane, job: Job) -> bool {
    let Some(parcel) = job.ticket.hand_over() else { return false };
    lane.publish(parcel, job.ticket, job.reply);
    true
}
