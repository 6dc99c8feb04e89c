//! Decides which attempts are repeated and after which pause, with a budget that keeps retries from
//! multiplying load.

use crate::link::backoff::Backoff;
use crate::message::RetryPolicy;
use crate::outcome::{Class, Outcome, Recourse};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

impl RetryPolicy {
    /// Whether an attempt with this outcome may be repeated. `handed_over`: it was settled
    /// instead of given back, so that the message may have reached the broker.
    pub(super) fn repeats(self, outcome: Outcome, handed_over: bool) -> bool {
        match self {
            RetryPolicy::Off => false,
            RetryPolicy::Safe => !handed_over,
            // After a confirm timeout no time is left.
            RetryPolicy::AtLeastOnce => {
                let may_be_published = outcome.class() == Class::Unknown;
                !handed_over || (may_be_published && outcome.row().recourse == Recourse::RetryOrSpool)
            }
        }
    }
}

/// Full-jitter pauses between the attempts of one publish.
pub(crate) fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(20), Duration::from_secs(1))
}

/// Limits retries to a share of the traffic: each publish earns a part of a retry, and each retry
/// spends a whole one.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In hundredths of a retry.
    balance: AtomicU64,
    percent: u64,
}

/// The most that may be saved up, in hundredths, so that a short burst of failures is retried
/// completely.
const BALANCE_MAX: u64 = 100 * 100;

impl RetryBudget {
    /// A budget of `percent` retries per hundred publishes.
    pub(crate) fn new(percent: u32) -> Self {
        let balance = if percent == 0 { 0 } else { BALANCE_MAX };
        Self { balance: AtomicU64::new(balance), percent: u64::from(percent) }
    }

    /// A publish was asked for.
    pub(crate) fn earn(&self) {
        let earned =
            |balance: u64| (balance < BALANCE_MAX).then(|| (balance + self.percent).min(BALANCE_MAX));
        // Usually the balance is at its maximum and stays unchanged, which costs one load.
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned).ok();
    }

    /// Spends a retry if the budget has one. Returns whether it had.
    pub(crate) fn spend(&self) -> bool {
        let spent = |balance: u64| balance.checked_sub(100);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_repeats_only_what_was_not_handed_over() {
        for outcome in Outcome::ALL {
            assert!(RetryPolicy::Safe.repeats(outcome, false));
            assert!(!RetryPolicy::Safe.repeats(outcome, true));
            assert!(!RetryPolicy::Off.repeats(outcome, false));
        }
    }

    #[test]
    fn at_least_once_also_repeats_what_may_have_been_published() {
        let repeated: Vec<_> = Outcome::ALL
            .into_iter()
            .filter(|outcome| RetryPolicy::AtLeastOnce.repeats(*outcome, true))
            .collect();
        assert_eq!(repeated, [Outcome::LinkLost, Outcome::Nacked]);
    }

    #[test]
    fn retries_stay_a_share_of_the_traffic() {
        let budget = RetryBudget::new(20);
        while budget.spend() {}
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }
        assert_eq!(retries, 200);
    }
}
