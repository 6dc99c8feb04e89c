//! Whose turn it is among the connections: publishes go to them in bursts.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Publishes that go to one connection before the next one has its turn: what is handed over together is written
/// together, and acknowledged together (ADR-0006). A queue that has stopped must not get so many in one burst that the
/// broker stops reading the connection before it is noticed, which takes more than 230 (ADR-0004).
const BURST: usize = 128;

/// A larger publish counts as one for each of so many bytes, so that a few large ones are not in each other's way while another
/// connection is idle.
const BURST_BYTES: usize = 4 << 10;

/// Counts what went by.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicUsize);

impl Turns {
    /// The number of the turn that a publish of so many bytes is in; it ascends, and a connection's is its remainder.
    pub(crate) fn of(&self, bytes: usize) -> usize {
        // Not more than a burst: the next publish is in the next turn then, not in one of the same connection again.
        let counts = (1 + bytes / BURST_BYTES).min(BURST);
        self.0.fetch_add(counts, Ordering::Relaxed) / BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_publishes_go_to_a_connection_128_at_a_time() {
        let turns = Turns::default();
        let of_each: Vec<usize> = (0..300).map(|_| turns.of(1024)).collect();
        assert!(of_each[..128].iter().all(|turn| *turn == 0));
        assert!(of_each[128..256].iter().all(|turn| *turn == 1));
        assert!(of_each[256..].iter().all(|turn| *turn == 2));
    }

    #[test]
    fn large_publishes_take_turns() {
        let turns = Turns::default();
        assert_eq!([1 << 20; 4].map(|bytes| turns.of(bytes)), [0, 1, 2, 3]);
        assert_eq!([64 << 10; 16].map(|bytes| turns.of(bytes)).iter().filter(|turn| **turn == 4).count(), 8);
    }
}
