//! The limit on open files: each client and each broker connection takes one, and shells allow 1,024 by default.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit as far as the system lets it, and says what it is: `None` when there is none.
///
/// Nothing else of the process depends on a low limit: it uses no `select`.
pub fn raise_limit() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let highest = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, highest) {
        Ok(()) => highest.current,
        // A sandbox may forbid it.
        Err(_) => before.current,
    }
}

/// Files that are no client's: connections to the broker, logs, the spool, the admin listener.
const OURS: u64 = 64;

/// Whether so many clients can be connected at a time under `limit`.
#[must_use]
pub fn suffices_for(limit: Option<u64>, clients: usize) -> bool {
    limit.is_none_or(|limit| limit.saturating_sub(OURS) >= clients as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        assert_eq!(raise_limit(), getrlimit(Resource::Nofile).maximum);
    }

    #[test]
    fn a_limit_has_to_leave_room_for_what_is_no_clients() {
        assert!(suffices_for(Some(1_064), 1_000) && !suffices_for(Some(1_063), 1_000));
        assert!(suffices_for(None, usize::MAX));
    }
}
