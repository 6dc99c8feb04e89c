//! Makes the connection that an open one moves to, once `homing` says so.

use super::attempts::Place;
use super::dial::{Dialled, dial};
use super::reporter::Reporter;
use crate::link::LinkSettings;
use crate::link::stage::Stage;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// A connection that takes the place of another one.
pub(crate) struct Successor {
    pub(crate) place: Place,
    pub(crate) dialled: Dialled,
    /// Held until the other one is closed.
    pub(crate) extra: OwnedSemaphorePermit,
}

impl Successor {
    /// The connection at its place, and the permit for it.
    pub(crate) fn split(self) -> (Box<(Place, Dialled)>, OwnedSemaphorePermit) {
        (Box::new((self.place, self.dialled)), self.extra)
    }
}

/// Ends with a connection to an address that has fewer of them than `from`. It is ready to publish.
pub(crate) async fn successor(
    settings: &LinkSettings,
    reporter: &Reporter,
    stage: &watch::Receiver<Stage>,
    from: Option<SocketAddr>,
) -> Successor {
    let Some(from) = from.filter(|_| settings.broker.connections > 1) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(settings.homing.interval()).await;
        if *stage.borrow() != Stage::Serving {
            return std::future::pending().await;
        }
        if let Some(successor) = attempt(settings, reporter, from).await {
            return successor;
        }
    }
}

async fn attempt(settings: &LinkSettings, reporter: &Reporter, from: SocketAddr) -> Option<Successor> {
    let LinkSettings { broker, addresses, homing, .. } = settings;
    // A connection that is not up will choose the best address by itself.
    reporter.state.addresses_if_all_are_up()?;
    // Somebody else moves.
    let extra = Arc::clone(&homing.extra).try_acquire_owned().ok()?;
    if homing.wants_targets(Instant::now()) {
        let targets = addresses.targets(&broker.endpoints).await;
        let known = targets.iter().filter_map(|target| target.address.clone().ok()).collect();
        homing.know_targets(known, Instant::now());
    }
    let open = reporter.state.addresses_if_all_are_up()?;
    let to = homing.destination(from, &open, Instant::now())?;
    let endpoint = broker.endpoints.get(addresses.endpoint_of(to, &broker.endpoints)?)?;
    let place = Place { endpoint: endpoint.authority(), address: Some(to) };
    match dial(endpoint, to, settings).await {
        Ok(dialled) => Some(Successor { place, dialled, extra }),
        Err(error) => {
            tracing::debug!(endpoint = %place, cause = error.text, "a connection cannot move there");
            reporter.metrics.connect_failed(error.failure);
            homing.failed(to, Instant::now());
            None
        }
    }
}
