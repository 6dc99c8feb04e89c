//! The scene of a measurement: a broker of its own, a network and a sidecar.

use crate::harness::{
    AmqpClient, Broker, FaultProxy, Sidecar, SidecarBuilder, Tap, Vhost, arguments, eventually, text,
};
use std::time::Duration;

/// Requests to a queue that keeps only the last messages, for long loads.
pub(crate) const LAST: &str = "/v1/queues/last/messages";

/// Requests to the queue that [`KEPT_QUEUE`] names.
pub(crate) const KEPT: &str = "/v1/queues/kept/messages";

/// A queue that keeps everything.
pub(crate) const KEPT_QUEUE: &str = "kept";

const LAST_MESSAGES: i32 = 10_000;

/// The way from the sidecar to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing in between.
    Direct,
    /// Through the fault proxy.
    Proxy,
    /// Through the tap.
    Tap,
}

/// All of it.
pub(crate) struct Scene {
    /// The node.
    pub(crate) broker: Broker,
    /// A network with injected faults.
    pub(crate) proxy: FaultProxy,
    /// A network that reports when the broker blocks.
    pub(crate) tap: Tap,
    /// The measured sidecar.
    pub(crate) sidecar: Sidecar,
    /// The node's part with the queues.
    pub(crate) vhost: Vhost,
}

impl Scene {
    /// Starts everything and waits until the link is up. `settings` are the sidecar's, beyond its
    /// defaults.
    pub(crate) async fn set(route: Route, settings: &[(&str, &str)]) -> Self {
        let broker = Broker::start().await;
        let vhost = broker.vhost("figures").await;
        let client = AmqpClient::connect(&vhost.uri()).await;
        let last = arguments([("x-max-length", LAST_MESSAGES.into()), ("x-overflow", text("drop-head"))]);
        client.declare_queue("last", true, last).await;
        client.declare_queue(KEPT_QUEUE, true, arguments([])).await;
        let (proxy, tap) = (FaultProxy::to_port(broker.amqp_port()), Tap::to_port(broker.amqp_port()));
        let uri = match route {
            Route::Direct => vhost.uri(),
            Route::Proxy => vhost.uri_via(proxy.port()),
            Route::Tap => vhost.uri_via(tap.port()),
        };
        let sidecar = started(&uri, settings).await;
        Self { broker, proxy, tap, sidecar, vhost }
    }

    /// Another sidecar in place of the first, for a user of the vhost.
    pub(crate) async fn with_user(mut self, user: &str, password: &str, settings: &[(&str, &str)]) -> Self {
        self.sidecar = started(&self.vhost.uri_as(user, password), settings).await;
        self
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn is_quiet(&self) {
        eventually("nothing is in flight any more", Duration::from_secs(30), async || {
            let in_flight = self.sidecar.metric("amqpost_in_flight").await;
            if in_flight == 0.0 { Ok(()) } else { Err(in_flight) }
        })
        .await;
    }

    /// Waits until all connections to the broker are up, so that the next fault meets all of them.
    pub(crate) async fn is_whole(&self) {
        eventually("all connections are up", Duration::from_secs(30), async || {
            let up = self.sidecar.metric("amqpost_connections{state=\"up\"}").await;
            if up == 2.0 { Ok(()) } else { Err(up) }
        })
        .await;
    }
}

async fn started(uri: &str, settings: &[(&str, &str)]) -> Sidecar {
    let builder = settings
        .iter()
        .fold(Sidecar::builder(uri), |builder: SidecarBuilder, (key, value)| builder.set(key, value));
    builder.start().await.with_link_up().await
}
