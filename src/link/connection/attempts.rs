//! Connects with several attempts side by side, so that a silent endpoint does not delay one that
//! answers.

use super::dial::{Dialled, dial};
use super::failure::DialError;
use super::files::BrokerFiles;
use crate::config::{BrokerConfig, Endpoint};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;
use tokio::time::Instant;

/// If an attempt has not ended after this, another one starts beside it. A lost packet of a
/// handshake is sent again only after one, three and seven seconds, which is too long to wait once
/// the network is back.
const COMPANY_AFTER: Duration = Duration::from_secs(1);

/// The most attempts at the same time.
const SIDE_BY_SIDE_MAX: usize = 3;

/// The endpoints in turn, starting at this connection's own place. In each round, endpoints that
/// another connection is up at come last, because two connections to one node are lost together.
#[derive(Debug)]
pub(crate) struct Rotation {
    next: usize,
    /// Endpoints that were not tried yet in this round.
    round: Vec<usize>,
}

impl Rotation {
    /// Connections start at different endpoints, so that they are spread.
    pub(crate) fn starting_at(slot: usize) -> Self {
        Self { next: slot, round: Vec::new() }
    }

    /// Connected: the next round starts after this endpoint with all endpoints.
    pub(crate) fn connected(&mut self) {
        self.round.clear();
    }

    fn next<'a>(&mut self, endpoints: &'a [Endpoint], is_taken: &impl Fn(&str) -> bool) -> &'a Endpoint {
        let count = endpoints.len();
        if self.round.is_empty() {
            self.round = (0..count).map(|step| (self.next + step) % count).collect();
        }
        let free = |place: &usize| !is_taken(&endpoints[*place].authority());
        let place = self.round.remove(self.round.iter().position(free).unwrap_or(0));
        self.next = (place + 1) % count;
        &endpoints[place]
    }
}

/// The endpoint of an attempt as `host:port`, and its result.
pub(crate) type Attempted = (String, Result<Dialled, DialError>);

/// Connects to one of the endpoints. Returns the first connection, or the first failure while no
/// other attempt is running; earlier failures go to `failed`. The remaining attempts are dropped
/// with their sockets.
pub(crate) async fn connect(
    broker: &BrokerConfig,
    files: &BrokerFiles,
    rotation: &mut Rotation,
    is_taken: impl Fn(&str) -> bool,
    trying: impl Fn(&str),
    failed: impl FnMut(&str, &DialError),
) -> Attempted {
    let start = || {
        let endpoint = rotation.next(&broker.endpoints, &is_taken);
        let authority = endpoint.authority();
        trying(&authority);
        Box::pin(async move { (authority, dial(endpoint, broker, files).await) })
    };
    side_by_side(start, failed).await
}

/// Runs the attempts that `start` makes, a few at a time.
async fn side_by_side<A, T, E>(mut start: impl FnMut() -> A, mut failed: impl FnMut(&str, &E)) -> A::Output
where
    A: Future<Output = (String, Result<T, E>)> + Unpin,
{
    let mut attempts = FuturesUnordered::new();
    let mut started = Instant::now();
    attempts.push(start());
    loop {
        tokio::select! {
            Some((authority, attempted)) = attempts.next() => match attempted {
                Err(error) if !attempts.is_empty() => failed(&authority, &error),
                ended => return (authority, ended),
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
    use crate::config::Secret;
    use std::cell::RefCell;

    fn endpoints() -> Vec<Endpoint> {
        let named = |host: &str| Endpoint {
            tls: false,
            host: host.to_owned(),
            port: 5672,
            user: "guest".to_owned(),
            password: Secret::new("guest"),
            vhost: "/".to_owned(),
        };
        ["a", "b", "c"].map(named).into()
    }

    fn round(rotation: &mut Rotation, taken: &str) -> String {
        let endpoints = endpoints();
        let is_taken = |authority: &str| authority.starts_with(taken);
        (0..endpoints.len()).map(|_| rotation.next(&endpoints, &is_taken).host.clone()).collect()
    }

    #[test]
    fn an_endpoint_that_another_connection_uses_comes_last_and_comes() {
        assert_eq!(round(&mut Rotation::starting_at(0), "a"), "bca");
        assert_eq!(round(&mut Rotation::starting_at(1), "b"), "cab");
    }

    #[test]
    fn every_endpoint_is_tried_in_each_round() {
        let mut rotation = Rotation::starting_at(1);
        assert_eq!(round(&mut rotation, "-"), "bca");
        assert_eq!(round(&mut rotation, "-"), "bca");
    }

    #[test]
    fn after_a_connection_the_next_endpoint_is_another_one() {
        let endpoints = endpoints();
        let mut rotation = Rotation::starting_at(0);
        assert_eq!(rotation.next(&endpoints, &|_| false).host, "a");
        rotation.connected();
        assert_eq!(rotation.next(&endpoints, &|_| false).host, "b");
    }

    #[tokio::test(start_paused = true)]
    async fn while_packets_vanish_an_attempt_starts_every_second() {
        let begun = Instant::now();
        let starts = RefCell::new(Vec::new());
        let vanishing = || {
            starts.borrow_mut().push(begun.elapsed().as_secs_f64());
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                (String::new(), Err::<(), _>("broker.connect_timeout passed"))
            })
        };

        let trying = side_by_side(vanishing, |_, _| {});
        tokio::time::timeout(Duration::from_secs(60), trying).await.expect_err("there is always another one");

        let starts = starts.into_inner();
        let slowest = starts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        assert!(slowest < 1.1, "{slowest} s between two attempts: {starts:?}");
    }
}
