//! Connections move to an endpoint that is back, and no publish is lost by it.

use crate::harness::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(60);

/// A vhost with the queue `orders`, and a sidecar with four connections to two endpoints that lead
/// there: the node itself and a proxy.
async fn scene(name: &str) -> (Vhost, FaultProxy, Sidecar) {
    let vhost = shared().await.vhost(name).await;
    vhost.with_orders().await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let endpoints = format!("[\"{}\", \"{}\"]", vhost.uri(), vhost.uri_via(proxy.port()));
    let sidecar = Sidecar::builder("amqp://unused")
        .set_instead("broker.endpoints", &endpoints)
        .set("broker.connections", "4")
        .set("broker.rebalance_after", "\"1s\"")
        .start()
        .await
        .with_link_up()
        .await;
    (vhost, proxy, sidecar)
}

/// Waits until this many connections are up through the proxy, and all others elsewhere.
async fn at_proxy(sidecar: &Sidecar, proxy: &FaultProxy, count: usize) {
    eventually(&format!("{count} connections lead through the proxy"), PATIENCE, async || {
        let link = sidecar.admin("/link").await.json();
        let connections = link["connections"].as_array().expect("a list").clone();
        let is_up = connections.iter().all(|connection| connection["state"] == "up");
        let address = proxy.address().to_string();
        let there = connections.iter().filter(|connection| connection["address"] == address.as_str());
        if is_up && there.count() == count { Ok(()) } else { Err((link, sidecar.log())) }
    })
    .await;
}

#[tokio::test]
async fn connections_go_back_to_an_endpoint_that_was_away_without_losing_a_publish() {
    let (vhost, proxy, sidecar) = scene("homing").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    at_proxy(&sidecar, &proxy, 2).await;
    proxy.refuse();
    proxy.reset_all();
    at_proxy(&sidecar, &proxy, 0).await;
    client.purge("orders").await;

    proxy.pass();
    let is_even = AtomicBool::new(false);
    let sending = load(&sidecar, QUEUE, "h", 32, |_| is_even.load(Ordering::Relaxed));
    let (sent, ()) = tokio::join!(sending, async {
        at_proxy(&sidecar, &proxy, 2).await;
        is_even.store(true, Ordering::Relaxed);
    });

    assert_eq!(codes(&sent).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), sent.len())]);
    assert_eq!(client.purge("orders").await as usize, sent.len());
    assert_eq!(sidecar.metric("amqpost_disconnects_total{reason=\"replaced\"}").await, 2.0);
}

#[tokio::test]
async fn a_broker_that_takes_no_further_connection_is_done_without() {
    let (vhost, proxy, sidecar) = scene("no_extra").await;
    at_proxy(&sidecar, &proxy, 2).await;
    proxy.refuse();
    proxy.reset_all();
    at_proxy(&sidecar, &proxy, 0).await;
    let (name, limit) = (vhost.name(), vhost.connections().await);
    let set =
        format!(r#"rabbit_vhost_limit:set(<<"{name}">>, [{{<<"max-connections">>, {limit}}}], <<"it">>)."#);
    vhost.broker().run_ok(&set).await;

    proxy.pass();
    eventually("a move was refused", PATIENCE, async || {
        sidecar.metric("amqpost_connects_total{result=\"virtual_host\"}").await >= 1.0
    })
    .await;
    at_proxy(&sidecar, &proxy, 0).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}
