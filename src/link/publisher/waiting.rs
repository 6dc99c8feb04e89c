//! Jobs that wait for their turn on a channel.

use crate::link::ticket::Job;
use crate::message::Message;
use crate::outcome::Outcome;
use std::collections::VecDeque;

/// Four queues: `shared` and `solo` wait for a lane of that kind, `held` waits for a publish with
/// the same message id to end, and `stuck` for a destination that stands still.
///
/// The in-flight limit bounds them, since every waiting message holds a permit. Withdrawn tickets
/// hold none: they are skipped when their turn comes, and swept out before they pile up.
#[derive(Debug, Default)]
pub(crate) struct WaitingJobs {
    pub(crate) shared: VecDeque<Job>,
    pub(crate) solo: VecDeque<Job>,
    pub(crate) held: VecDeque<Job>,
    pub(crate) stuck: VecDeque<Job>,
    sweep_above: usize,
}

impl WaitingJobs {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        Self { sweep_above: 2 * max_in_flight, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.solo.is_empty() && self.held.is_empty() && self.stuck.is_empty()
    }

    /// Drops withdrawn tickets from queues that have grown long.
    pub(crate) fn sweep(&mut self) {
        let sweep_above = self.sweep_above;
        for queue in self.queues() {
            if queue.len() > sweep_above {
                queue.retain(|job| job.ticket.peek(|_| ()).is_some());
            }
        }
    }

    /// Publishes have ended: the jobs that were held behind them come first now.
    pub(crate) fn release_held(&mut self) {
        while let Some(job) = self.held.pop_back() {
            self.shared.push_front(job);
        }
    }

    /// Rejects every job in `solo` whose message `matches`.
    pub(crate) fn reject_solo(
        &mut self,
        outcome: Outcome,
        detail: Option<&str>,
        matches: impl Fn(&Message) -> bool,
    ) {
        for job in std::mem::take(&mut self.solo) {
            match job.ticket.peek(&matches) {
                Some(true) => job.reject(outcome, detail.map(str::to_owned)),
                Some(false) => self.solo.push_back(job),
                None => {}
            }
        }
    }

    /// Gives every message back to its request, unpublished.
    pub(crate) fn give_back(&mut self, outcome: Outcome) {
        for job in self.queues().into_iter().flat_map(std::mem::take) {
            job.give_back(outcome);
        }
    }

    /// Gives every message back to its request, which looks for another connection.
    pub(crate) fn give_way(&mut self) {
        self.queues().into_iter().flat_map(std::mem::take).for_each(Job::give_way);
    }

    /// The number of jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.shared.len() + self.solo.len() + self.held.len() + self.stuck.len()
    }

    fn queues(&mut self) -> [&mut VecDeque<Job>; 4] {
        [&mut self.shared, &mut self.solo, &mut self.held, &mut self.stuck]
    }
}
