//! Picks the connection whose turn it is: publishes go to connections in bursts.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Publishes that go to one connection before it is the next one's turn: publishes that are handed
/// over together are written together and acknowledged together (ADR-0006). A burst must stay below
/// the 230 publishes to a stopped queue after which the broker may stop reading the connection
/// before anybody notices (ADR-0004).
const BURST: usize = 128;

/// A larger publish counts once for each this many bytes, so that a few large ones do not queue on
/// one connection while another is idle.
const BURST_BYTES: usize = 4 << 10;

/// Counts publishes.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicUsize);

impl Turns {
    /// The number of the turn that a publish of this many bytes falls into. Turn numbers ascend;
    /// the remainder by the number of connections picks the connection.
    pub(crate) fn of(&self, bytes: usize) -> usize {
        // At most one burst, so that the next publish falls into the next turn and not into a later
        // turn of the same connection.
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
