//! Connects with several attempts side by side, so that a silent endpoint does not delay one that
//! answers.

use super::addresses::Target;
use super::dial::{Dialled, dial};
use super::failure::DialError;
use crate::labels::ConnectFailure;
use crate::link::LinkSettings;
use crate::locking::lock;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// If an attempt has not ended after this, another one starts beside it. A lost packet of a
/// handshake is sent again only after one, three and seven seconds, which is too long to wait once
/// the network is back.
const COMPANY_AFTER: Duration = Duration::from_secs(1);

/// The most attempts at the same time.
const SIDE_BY_SIDE_MAX: usize = 3;

/// The targets in turn, starting at this connection's own place. Those come first in a round that
/// the fewest other connections are open to, because connections to one node are lost together.
#[derive(Debug)]
pub(crate) struct Rotation {
    next: usize,
    /// Targets that were tried in this round.
    tried: Vec<Target>,
    /// Targets that were not.
    left: usize,
}

impl Rotation {
    /// Connections start at different targets, so that they are spread.
    pub(crate) fn starting_at(slot: usize) -> Self {
        Self { next: slot, tried: Vec::new(), left: 0 }
    }

    /// Connected: the next round starts after this target with all targets.
    pub(crate) fn connected(&mut self) {
        self.tried.clear();
        self.left = 0;
    }

    /// Whether this round has targets that were not tried. They are tried without a pause.
    pub(crate) fn has_more(&self) -> bool {
        self.left > 0
    }

    /// The next of the targets that there are now; there is at least one. `load` counts the other
    /// connections that are open to an address.
    fn next(&mut self, targets: &[Target], load: impl Fn(SocketAddr) -> usize) -> Target {
        let count = targets.len();
        let from_here = || (0..count).map(|step| (self.next + step) % count);
        let load = |place: &usize| targets[*place].address.as_ref().map_or(0, |address| load(*address));
        let untried = from_here().filter(|place| !self.tried.contains(&targets[*place]));
        let (place, is_new_round) = match untried.min_by_key(load) {
            Some(place) => (place, false),
            None => (from_here().min_by_key(load).expect("a configuration names an endpoint"), true),
        };
        if is_new_round {
            self.tried.clear();
        }
        self.tried.push(targets[place].clone());
        self.left = targets.iter().filter(|target| !self.tried.contains(target)).count();
        self.next = (place + 1) % count;
        targets[place].clone()
    }
}

/// Where an attempt goes to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The endpoint as `host:port`.
    pub(crate) endpoint: String,
    /// The address, if it is known.
    pub(crate) address: Option<SocketAddr>,
}

impl Place {
    /// What connections to the same node have in common.
    pub(crate) fn node(&self) -> String {
        self.address.map_or_else(|| self.endpoint.clone(), |address| address.to_string())
    }
}

/// For people: the endpoint, and its address if the endpoint is a name.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.endpoint)?;
        match self.address.map(|address| address.to_string()) {
            Some(address) if address != self.endpoint => write!(formatter, " at {address}"),
            Some(_) | None => Ok(()),
        }
    }
}

/// The place of an attempt, and its result.
pub(crate) type Attempted = (Place, Result<Dialled, DialError>);

/// Connects to one of the targets. Returns the first connection, or the first failure while no
/// other attempt is running; earlier failures go to `failed`. The remaining attempts are dropped
/// with their sockets.
pub(crate) async fn connect(
    settings: &LinkSettings,
    rotation: &mut Rotation,
    load: impl Fn(SocketAddr) -> usize + Sync,
    trying: impl Fn(&Place) + Sync,
    failed: impl FnMut(&Place, &DialError),
) -> Attempted {
    let LinkSettings { broker, addresses, .. } = settings;
    let rotation = Mutex::new(rotation);
    let (rotation, load, trying) = (&rotation, &load, &trying);
    let start = || {
        Box::pin(async move {
            let targets = addresses.targets(&broker.endpoints).await;
            let target = lock(rotation).next(&targets, load);
            let endpoint = &broker.endpoints[target.endpoint];
            let place = Place { endpoint: endpoint.authority(), address: target.address.clone().ok() };
            trying(&place);
            let dialled = match target.address {
                Ok(address) => dial(endpoint, address, settings).await,
                Err(reason) => Err(DialError::new(ConnectFailure::Dns, reason)),
            };
            (place, dialled)
        })
    };
    side_by_side(start, failed).await
}

/// Runs the attempts that `start` makes, a few at a time.
async fn side_by_side<A, P, T, E>(mut start: impl FnMut() -> A, mut failed: impl FnMut(&P, &E)) -> A::Output
where
    A: Future<Output = (P, Result<T, E>)> + Unpin,
{
    let mut attempts = FuturesUnordered::new();
    let mut started = Instant::now();
    attempts.push(start());
    loop {
        tokio::select! {
            Some((place, attempted)) = attempts.next() => match attempted {
                Err(error) if !attempts.is_empty() => failed(&place, &error),
                ended => return (place, ended),
            },
            // Counted from the start of the last attempt, not from a failure: attempts keep
            // starting at this interval until one succeeds.
            () = tokio::time::sleep_until(started + COMPANY_AFTER), if attempts.len() < SIDE_BY_SIDE_MAX => {
                started = Instant::now();
                attempts.push(start());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::net::IpAddr;

    /// Three addresses, of two endpoints.
    fn targets() -> Vec<Target> {
        let target = |(endpoint, last): (usize, u8)| Target {
            endpoint,
            address: Ok(SocketAddr::from(([10, 0, 0, last], 5672))),
        };
        [(0, 1), (0, 2), (1, 3)].map(target).into()
    }

    /// The last bytes of the addresses that a round tries, while others are open to `taken`.
    fn round(rotation: &mut Rotation, taken: &[u8]) -> Vec<u8> {
        let last = |address: SocketAddr| match address.ip() {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let load = |address| taken.iter().filter(|taken| **taken == last(address)).count();
        (0..3).map(|_| last(rotation.next(&targets(), load).address.unwrap())).collect()
    }

    #[test]
    fn an_address_that_other_connections_use_comes_last_and_comes() {
        assert_eq!(round(&mut Rotation::starting_at(0), &[1]), [2, 3, 1]);
        assert_eq!(round(&mut Rotation::starting_at(1), &[2]), [3, 1, 2]);
        assert_eq!(round(&mut Rotation::starting_at(0), &[1, 1, 2, 3, 3, 3]), [2, 1, 3]);
    }

    #[test]
    fn every_address_is_tried_in_each_round() {
        let mut rotation = Rotation::starting_at(1);
        assert_eq!(round(&mut rotation, &[]), [2, 3, 1]);
        assert!(!rotation.has_more());
        rotation.next(&targets(), |_| 0);
        assert!(rotation.has_more());
        rotation.next(&targets(), |_| 0);
        rotation.next(&targets(), |_| 0);
        assert!(!rotation.has_more());
    }

    #[test]
    fn after_a_connection_the_next_address_is_another_one() {
        let mut rotation = Rotation::starting_at(0);
        assert_eq!(rotation.next(&targets(), |_| 0), targets()[0]);
        rotation.connected();
        assert_eq!(rotation.next(&targets(), |_| 0), targets()[1]);
    }

    #[test]
    fn an_address_that_a_name_gains_during_a_round_is_tried_in_it() {
        let mut rotation = Rotation::starting_at(0);
        let before = [targets()[0].clone(), targets()[2].clone()];
        rotation.next(&before, |_| 0);
        rotation.next(&before, |_| 0);
        assert_eq!(rotation.next(&targets(), |_| 0), targets()[1]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_packets_vanish_an_attempt_starts_every_second() {
        let begun = Instant::now();
        let starts = RefCell::new(Vec::new());
        let vanishing = || {
            starts.borrow_mut().push(begun.elapsed().as_secs_f64());
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                ((), Err::<(), _>("broker.connect_timeout passed"))
            })
        };

        let trying = side_by_side(vanishing, |_, _| {});
        tokio::time::timeout(Duration::from_secs(60), trying).await.expect_err("there is always another one");

        let starts = starts.into_inner();
        let slowest = starts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        assert!(slowest < 1.1, "{slowest} s between two attempts: {starts:?}");
    }
}
