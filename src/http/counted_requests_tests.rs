//! Whole requests, from bytes to bytes over a pipe in memory, whose instructions
//! `scripts/instructions` counts.

use super::times;
use crate::admission::Admission;
use crate::config::{Config, Live, Sources};
use crate::http::{self, Door, routes};
use crate::link::{Link, LinkHandle};
use crate::listener::testing::connected;
use crate::metrics::Metrics;
use crate::publishing::PublishService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

#[path = "../../benches/cost/sink.rs"]
mod sink;

fn config(broker: &str) -> Live {
    let flags = vec![("broker.endpoints".to_owned(), broker.to_owned())];
    Live::new(Config::load(&Sources { flags, ..Sources::default() }).unwrap())
}

/// A link and what shares its bounds.
fn link(config: &Live) -> (Link, LinkHandle, Admission, Metrics) {
    let metrics = Metrics::new(http::ROUTES);
    let admission = Admission::new(1024, 1 << 26);
    let (link, handle) = Link::start(config, crate::link::Waits::never(), admission.clone(), metrics.clone());
    (link, handle, admission, metrics)
}

/// A door, and what keeps it open.
fn door(
    config: &Live,
    link: LinkHandle,
    admission: Admission,
    metrics: Metrics,
) -> (Arc<Door>, watch::Sender<bool>) {
    let service = PublishService::new(config, link, None, admission.clone(), metrics.clone());
    // The sender is kept: without a sender, everything would be stopped from the start.
    let (stopper, stop) = watch::channel(false);
    (Door::new(config, service, admission, metrics, stop), stopper)
}

/// A door whose link is down.
pub(in crate::http) fn without_a_broker() -> (Arc<Door>, watch::Sender<bool>) {
    let config = config("amqp://127.0.0.1:1");
    // The link is dropped, so that nothing dials. Dialling would be counted, and it depends on the
    // clock.
    let (_, handle, admission, metrics) = link(&config);
    door(&config, handle, admission, metrics)
}

/// A door before a broker that only acks, which is a thread of this process.
pub(in crate::http) async fn with_a_broker() -> (Link, Arc<Door>, watch::Sender<bool>) {
    let sink = sink::Sink::listen().unwrap();
    let config = config(&format!("amqp://guest:guest@{}/%2f", sink.address().unwrap()));
    std::thread::spawn(|| sink.serve());
    let (link, handle, admission, metrics) = link(&config);
    let up = async {
        while handle.refusal().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), up).await.unwrap();
    let (door, stopper) = door(&config, handle, admission, metrics);
    (link, door, stopper)
}

/// Publishes 1 KiB, one request after the other; each is answered with this status.
async fn requests(mut client: DuplexStream, status: &str) {
    let head = "POST /v1/queues/orders/messages HTTP/1.1\r\nhost: sidecar\r\n\
        user-agent: client/1.0\r\naccept: */*\r\n\
        content-type: application/json\r\ncontent-length: 1024\r\n\r\n";
    let request = [head.as_bytes(), &[b'x'; 1024]].concat();
    let mut answer = [0; 4096];
    for _ in 0..times() {
        client.write_all(&request).await.unwrap();
        // One write of the server is one read here.
        let read = client.read(&mut answer).await.unwrap();
        let answer = std::str::from_utf8(&answer[..read]).unwrap();
        assert!(answer.starts_with(status) && answer.ends_with('}'), "{answer}");
    }
}

#[tokio::test]
async fn a_request_while_the_link_is_down() {
    let (door, _stopper) = without_a_broker();
    requests(connected(routes(door)), "HTTP/1.1 503 ").await;
}

/// With all that lapin does for it.
#[tokio::test]
async fn a_request_that_is_confirmed() {
    let (_link, door, _stopper) = with_a_broker().await;
    requests(connected(routes(door)), "HTTP/1.1 200 ").await;
}
