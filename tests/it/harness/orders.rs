//! The setup of most scenarios: a queue `orders` in a vhost of its own, and a sidecar for it.

use super::broker::{Broker, shared};
use super::queue::{AmqpClient, arguments};
use super::sidecar::{Sidecar, SidecarBuilder};
use super::vhost::Vhost;

impl Vhost {
    /// A client in the vhost, which has declared the queue `orders`.
    pub async fn with_orders(&self) -> AmqpClient {
        let client = AmqpClient::connect(&self.uri()).await;
        client.declare_queue("orders", true, arguments([])).await;
        client
    }
}

/// The queue `orders` in a fresh vhost, a client there, and a sidecar for it, not yet started.
pub async fn orders(broker: &Broker, vhost: &str) -> (AmqpClient, SidecarBuilder) {
    let vhost = broker.vhost(vhost).await;
    (vhost.with_orders().await, Sidecar::builder(&vhost.uri()))
}

/// The same on the shared broker, with the sidecar started and its link up.
pub async fn orders_up(vhost: &str) -> (AmqpClient, Sidecar) {
    let (client, sidecar) = orders(shared().await, vhost).await;
    (client, sidecar.start().await.with_link_up().await)
}
