//! The circuit breaker: a failing destination is refused, and no other one.

use crate::harness::*;
use std::time::Duration;

#[tokio::test]
async fn a_queue_that_nacks_opens_its_own_breaker_and_recovers_within_seconds() {
    let vhost = shared().await.vhost("breaker").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.declare_queue("good", true, arguments([])).await;
    client.put("full", b"the only place").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    the_breaker_opens(&sidecar).await;
    let refused = sidecar.post("/v1/queues/full/messages", &[], "x").await;
    assert_eq!((refused.verdict(), refused.outcome()), ((503, "breaker_open"), "not_published"));
    let good = load(&sidecar, "/v1/queues/good/messages", "g", 8, |n| n >= 200).await;
    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 200)]);
    assert_eq!(sidecar.metric("amqpost_breaker_state{state=\"open\"}").await, 1.0);

    client.purge("full").await;
    eventually("the repaired destination works", Duration::from_secs(5), async || {
        let answer = sidecar.post("/v1/queues/full/messages", &[], "x").await;
        if answer.code() == "confirmed" { Ok(()) } else { Err(answer.code().to_owned()) }
    })
    .await;
    assert_eq!(sidecar.metric("amqpost_breaker_transitions_total{to=\"closed\"}").await, 1.0);
}

async fn the_breaker_opens(sidecar: &Sidecar) {
    eventually("the breaker opens", Duration::from_secs(10), async || {
        let answer = sidecar.post("/v1/queues/full/messages", &[], "x").await;
        assert!(["nacked", "breaker_open"].contains(&answer.code()), "{}", answer.text());
        answer.code() == "breaker_open"
    })
    .await;
}

#[tokio::test]
async fn while_the_link_is_down_that_is_the_reason_and_not_the_breaker() {
    let vhost = shared().await.vhost("breaker_down").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"the only place").await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let spool = SpoolDir::new();
    // If there is a spool, only the envelope tells the mode, so the link is asked after the body
    // was read.
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port())).set("spool.path", &spool.setting());
    let sidecar = sidecar.set("breaker.open_for", "\"60s\"").start().await.with_link_up().await;
    the_breaker_opens(&sidecar).await;

    proxy.refuse();
    proxy.reset_all();
    sidecar.link_is("down", Duration::from_secs(10)).await;
    let envelope = r#"{"exchange": "amq.default", "routing_key": "full", "payload": "x"}"#;
    let answer = sidecar.post("/v1/messages", &[("content-type", "application/json")], envelope).await;

    assert_eq!(answer.verdict(), (503, "link_down"));
}
