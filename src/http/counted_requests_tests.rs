//! What `scripts/instructions` counts of whole requests, from bytes to bytes over a pipe in memory.

use super::times;
use crate::admission::Admission;
use crate::config::{Config, Sources};
use crate::http;
use crate::http::{Door, routes};
use crate::link::{Link, LinkHandle};
use crate::listener::testing::connected;
use crate::metrics::Metrics;
use crate::publishing::PublishService;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

#[path = "../../benches/cost/sink.rs"]
mod sink;

fn config(broker: &str) -> Config {
    let flags = vec![("broker.endpoints".to_owned(), broker.to_owned())];
    Config::load(&Sources { flags, ..Sources::default() }).unwrap()
}

/// A link and what shares its bounds.
fn link(config: &Config) -> (Link, LinkHandle, Admission, Metrics) {
    let metrics = Metrics::new(http::ROUTES);
    let admission = Admission::new(1024, 1 << 26);
    let (link, handle) = Link::start(config, admission.clone(), metrics.clone());
    (link, handle, admission, metrics)
}

/// A served connection, from its client's side.
fn client(
    config: &Config,
    link: LinkHandle,
    admission: Admission,
    metrics: Metrics,
) -> (DuplexStream, watch::Sender<bool>) {
    let service = PublishService::new(config, link, None, admission.clone(), metrics.clone());
    // Without a sender everything would have been stopped from the start.
    let (stopper, stop) = watch::channel(false);
    let client = connected(routes(Door::new(config, service, admission, metrics, stop)));
    (client, stopper)
}

/// Publishes 1 KiB, one request after the other; each is answered with this status.
async fn requests((mut client, _stopper): (DuplexStream, watch::Sender<bool>), status: &str) {
    let head = "POST /v1/queues/orders/messages HTTP/1.1\r\nhost: sidecar\r\nuser-agent: client/1.0\r\naccept: */*\r\n\
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
    let config = config("amqp://127.0.0.1:1");
    let (link, handle, admission, metrics) = link(&config);
    // Nobody dials any more: that would be counted as well, by the clock.
    drop(link);
    requests(client(&config, handle, admission, metrics), "HTTP/1.1 503 ").await;
}

/// With all that lapin does for it, and the broker that only acks, which is a thread of this process.
#[tokio::test]
async fn a_request_that_is_confirmed() {
    let sink = sink::Sink::listen().unwrap();
    let config = config(&format!("amqp://guest:guest@{}/%2f", sink.address().unwrap()));
    std::thread::spawn(|| sink.serve());
    let (_link, handle, admission, metrics) = link(&config);
    let up = async {
        while handle.refusal().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), up).await.unwrap();
    requests(client(&config, handle, admission, metrics), "HTTP/1.1 200 ").await;
}
