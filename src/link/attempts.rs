//! Several attempts to connect side by side: a silent endpoint holds up none that answers.

use super::dial::{Dialled, dial};
use super::failure::DialError;
use crate::config::{BrokerConfig, Endpoint};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;

/// An attempt that has not ended after this gets company. A lost packet of a handshake is sent again after one,
/// three, seven seconds, which is too long to wait for when the network is back.
const COMPANY_AFTER: Duration = Duration::from_secs(1);

/// Attempts at a time.
const SIDE_BY_SIDE_MAX: usize = 3;

/// The endpoints of a link in turn, starting where this connection's place is.
#[derive(Debug)]
pub(super) struct Rotation {
    next: usize,
}

impl Rotation {
    /// Connections start at different endpoints, so that they are spread.
    pub(super) fn starting_at(slot: usize) -> Self {
        Self { next: slot }
    }

    fn next<'a>(&mut self, broker: &'a BrokerConfig) -> &'a Endpoint {
        let endpoint = &broker.endpoints[self.next % broker.endpoints.len()];
        self.next = self.next.wrapping_add(1);
        endpoint
    }
}

/// What an attempt came to, and at which endpoint: `host:port`.
pub(super) type Attempted = (String, Result<Dialled, DialError>);

/// Connects to one of the endpoints. Ends with the first connection, or with the first failure while no other
/// attempt is under way; failures before that go to `failed`. Attempts that lose leave nothing behind.
pub(super) async fn connect(
    broker: &BrokerConfig,
    rotation: &mut Rotation,
    trying: impl Fn(&str),
    mut failed: impl FnMut(&str, &DialError),
) -> Attempted {
    let mut attempts: FuturesUnordered<BoxFuture<'_, Attempted>> = FuturesUnordered::new();
    let mut start = || {
        let endpoint = rotation.next(broker);
        let authority = endpoint.authority();
        trying(&authority);
        Box::pin(async move { (authority, dial(endpoint, broker).await) })
    };
    attempts.push(start());
    loop {
        tokio::select! {
            Some((authority, attempted)) = attempts.next() => match attempted {
                Err(error) if !attempts.is_empty() => failed(&authority, &error),
                ended => return (authority, ended),
            },
            () = tokio::time::sleep(COMPANY_AFTER), if attempts.len() < SIDE_BY_SIDE_MAX => {
                attempts.push(start());
            }
        }
    }
}
