//! Decides when a connection moves to an address that has fewer of them, such as a node that is
//! back. Pure, apart from the lock: the clock is an argument.
//!
//! Connections move one at a time, and not before they have been uneven for a while. A node that
//! keeps losing the connections it gets is left alone for longer each time.

use crate::locking::lock;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Moves follow each other at this part of `broker.rebalance_after`: 16 connections are even again
/// within two of them.
const MOVES_IN_A_PERIOD: u32 = 10;

/// The longest that an unstable node is left alone, in periods of `broker.rebalance_after`.
const PERIODS_MAX: u32 = 10;

/// The decision, shared by all connections.
#[derive(Debug)]
pub(crate) struct Homing {
    period: Duration,
    plan: Mutex<Plan>,
    /// There is one connection at a time beside the configured ones: the one that a connection
    /// moves to, or one that tries a token.
    pub(crate) extra: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Plan {
    /// The addresses of all endpoints, and since when they are known.
    targets: Vec<SocketAddr>,
    looked_up: Option<Instant>,
    uneven_since: Option<Instant>,
    last_move: Option<Instant>,
    /// Addresses that failed lately.
    unstable: HashMap<SocketAddr, Unstable>,
}

#[derive(Debug)]
struct Unstable {
    /// Connections in a row that were lost soon.
    losses: u32,
    until: Instant,
}

impl Homing {
    /// `period` is `broker.rebalance_after`.
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, plan: Mutex::default(), extra: Arc::new(Semaphore::new(1)) }
    }

    /// The time between two questions of a connection.
    pub(crate) fn interval(&self) -> Duration {
        // Sidecars of a fleet ask at different times.
        self.period.mul_f64((0.5 + fastrand::f64()) / f64::from(MOVES_IN_A_PERIOD))
    }

    /// Whether names should be looked up before the next question.
    pub(crate) fn wants_targets(&self, now: Instant) -> bool {
        lock(&self.plan).looked_up.is_none_or(|looked_up| now.duration_since(looked_up) >= self.period)
    }

    /// All addresses that there are.
    pub(crate) fn know_targets(&self, targets: Vec<SocketAddr>, now: Instant) {
        let mut plan = lock(&self.plan);
        plan.unstable.retain(|address, _| targets.contains(address));
        plan.targets = targets;
        plan.looked_up = Some(now);
    }

    /// Where the connection to `from` should move to now, if anywhere. `open` has the addresses of
    /// all connections, all of which are up.
    pub(crate) fn destination(
        &self,
        from: SocketAddr,
        open: &[SocketAddr],
        now: Instant,
    ) -> Option<SocketAddr> {
        let mut plan = lock(&self.plan);
        let load = |address: &SocketAddr| open.iter().filter(|open| *open == address).count();
        let least = plan.targets.iter().map(load).min()?;
        let most = open.iter().map(load).max()?;
        if most < least + 2 {
            plan.uneven_since = None;
            return None;
        }
        let since = *plan.uneven_since.get_or_insert(now);
        let is_due = now.duration_since(since) >= self.period;
        let pause = self.period / MOVES_IN_A_PERIOD;
        let is_too_soon = plan.last_move.is_some_and(|last| now.duration_since(last) < pause);
        if !is_due || is_too_soon {
            return None;
        }
        let is_stable =
            |address: &&SocketAddr| plan.unstable.get(address).is_none_or(|unstable| unstable.until <= now);
        let to = *plan.targets.iter().filter(is_stable).min_by_key(|address| load(address))?;
        if load(&from) < load(&to) + 2 {
            return None;
        }
        plan.last_move = Some(now);
        Some(to)
    }

    /// The address did not take a connection.
    pub(crate) fn failed(&self, address: SocketAddr, now: Instant) {
        let mut plan = lock(&self.plan);
        let unstable = plan.unstable.entry(address).or_insert(Unstable { losses: 0, until: now });
        unstable.until = unstable.until.max(now + self.period);
    }

    /// A connection to the address was lost after it had lived for `lived`.
    pub(crate) fn lost(&self, address: SocketAddr, lived: Duration, now: Instant) {
        let mut plan = lock(&self.plan);
        let unstable = plan.unstable.entry(address).or_insert(Unstable { losses: 0, until: now });
        // Of several connections that are lost together, one counts.
        if unstable.losses > 0 && unstable.until > now + self.period / 4 {
            return;
        }
        unstable.losses = if lived < self.period * PERIODS_MAX { unstable.losses + 1 } else { 1 };
        let periods = 2u32.saturating_pow(unstable.losses - 1).min(PERIODS_MAX * 2);
        unstable.until = now + self.period / 2 * periods;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn node(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 5672))
    }

    /// Connections and nodes in virtual time.
    struct World {
        homing: Homing,
        now: Instant,
        /// The address of each connection, and since when.
        open: Vec<(SocketAddr, Instant)>,
        reachable: Vec<SocketAddr>,
        moves: usize,
    }

    impl World {
        fn new(connections: usize, nodes: u8) -> Self {
            let now = Instant::now();
            let homing = Homing::new(PERIOD);
            let reachable: Vec<_> = (0..nodes).map(node).collect();
            homing.know_targets(reachable.clone(), now);
            let open = (0..connections).map(|slot| (reachable[slot % reachable.len()], now)).collect();
            Self { homing, now, open, reachable, moves: 0 }
        }

        fn load(&self, address: SocketAddr) -> usize {
            self.open.iter().filter(|(open, _)| *open == address).count()
        }

        /// The node is away; its connections are at the others at once.
        fn lose(&mut self, away: SocketAddr) {
            self.reachable.retain(|address| *address != away);
            for slot in 0..self.open.len() {
                let (address, since) = self.open[slot];
                if address == away {
                    self.homing.lost(away, self.now - since, self.now);
                    let least = *self.reachable.iter().min_by_key(|address| self.load(**address)).unwrap();
                    self.open[slot] = (least, self.now);
                }
            }
        }

        /// Each connection asks once a second.
        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += SECOND;
                for slot in 0..self.open.len() {
                    let open: Vec<_> = self.open.iter().map(|(address, _)| *address).collect();
                    let Some(to) = self.homing.destination(open[slot], &open, self.now) else { continue };
                    self.moves += 1;
                    if self.reachable.contains(&to) {
                        self.open[slot] = (to, self.now);
                    } else {
                        self.homing.failed(to, self.now);
                    }
                }
            }
        }

        fn is_even(&self) -> bool {
            let loads = self.reachable.iter().map(|address| self.load(*address));
            loads.clone().max().unwrap() <= loads.min().unwrap() + 1
        }
    }

    #[test]
    fn even_connections_never_move() {
        for (connections, nodes) in [(2, 3), (4, 2), (5, 3), (16, 3), (1, 1)] {
            let mut world = World::new(connections, nodes);
            world.pass(Duration::from_secs(3600));
            assert_eq!(world.moves, 0, "{connections} at {nodes}");
        }
    }

    #[test]
    fn a_node_that_is_back_gets_its_connections_within_90_seconds_however_long_it_was_away() {
        for (connections, nodes) in [(4, 2), (16, 2), (16, 3), (5, 2)] {
            for away in [3, 20, 45, 61, 600, 3601] {
                let mut world = World::new(connections, nodes);
                world.pass(PERIOD);
                world.lose(node(0));
                world.pass(Duration::from_secs(away));
                world.reachable.push(node(0));
                world.pass(Duration::from_secs(85));
                assert!(world.is_even(), "{connections} at {nodes}, {away} s: {:?}", world.open);
            }
        }
    }

    #[test]
    fn connections_move_one_at_a_time_with_pauses() {
        let mut world = World::new(16, 2);
        world.lose(node(0));
        world.reachable.push(node(0));
        let mut last = 0;
        for _ in 0..120 {
            world.pass(SECOND);
            assert!(world.moves <= last + 1);
            last = world.moves;
        }
        assert_eq!(world.moves, 8);
    }

    #[test]
    fn a_node_that_flaps_gets_few_connections() {
        let mut world = World::new(6, 3);
        for _ in 0..120 {
            world.lose(node(2));
            world.pass(3 * SECOND);
            world.reachable.push(node(2));
            world.pass(57 * SECOND);
        }
        // Two hours. Without a memory of losses, two would move each minute.
        assert!(world.moves <= 60, "{} moves", world.moves);
    }

    #[test]
    fn a_node_that_is_new_gets_connections() {
        let mut world = World::new(4, 1);
        world.homing.know_targets(vec![node(0), node(1)], world.now);
        world.reachable.push(node(1));
        world.pass(Duration::from_secs(60));
        assert!(world.is_even());
    }
}
