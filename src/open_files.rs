//! The limit on open files. Each connection needs one file, and shells allow 1,024 by default.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit as far as the system allows and returns it; `None` means no limit.
///
/// A high limit is safe, because the process does not use `select`.
pub fn raise_limit() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let highest = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, highest) {
        Ok(()) => highest.current,
        // A sandbox may forbid it.
        Err(_) => before.current,
    }
}

/// Files for everything but clients: connections to the broker, logs, the spool, the admin
/// listener.
const OURS: u64 = 64;

/// Whether `limit` allows this many connected clients.
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
    fn a_limit_also_covers_files_that_are_not_clients() {
        assert!(suffices_for(Some(1_064), 1_000) && !suffices_for(Some(1_063), 1_000));
        assert!(suffices_for(None, usize::MAX));
    }
}
