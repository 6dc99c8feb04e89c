//! Retries: by default only safe ones, more if the client asks for it, never without a bound.

use crate::harness::*;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";

/// A connection that is lost with its confirms, after the broker accepted the message.
async fn lose_the_confirm(name: &str, retry: &str) -> (Answer, AmqpClient) {
    let vhost = shared().await.vhost(name).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port())).set("broker.connections", "1");
    let sidecar = sidecar.patient().start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");

    proxy.black_hole(Direction::FromBroker);
    let headers = [("amqpost-retry", retry), ("amqpost-timeout", "30s"), ("amqp-message-id", "the-one")];
    let publishing = sidecar.post(QUEUE, &headers, "x");
    let cut = async {
        eventually("the broker has the message", Duration::from_secs(10), async || {
            client.depth("orders").await == 2
        })
        .await;
        proxy.reset_all();
        proxy.pass();
    };
    (tokio::join!(publishing, cut).0, client)
}

#[tokio::test]
async fn at_least_once_tries_again_what_may_have_been_published_with_the_same_id() {
    let (answer, client) = lose_the_confirm("at_least_once", "at_least_once").await;

    assert_eq!(answer.verdict(), (200, "confirmed"));
    assert_eq!((answer.header("amqpost-attempts"), &answer.json()["attempts"]), ("2", &2.into()));
    let copies = client.drain("orders").await;
    assert_eq!(copies.iter().filter(|message| message.message_id() == Some("the-one")).count(), 2);
}

#[tokio::test]
async fn safe_does_not_try_again_what_may_have_been_published() {
    let (answer, client) = lose_the_confirm("safe", "safe").await;

    assert_eq!(answer.verdict(), (502, "link_lost"));
    let copies = client.drain("orders").await;
    assert_eq!(copies.iter().filter(|message| message.message_id() == Some("the-one")).count(), 1);
}

#[tokio::test]
async fn a_queue_that_nacks_is_tried_a_bounded_number_of_times() {
    let vhost = shared().await.vhost("bounded_attempts").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("orders", true, full).await;
    client.put("orders", b"the only place").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    let answer = sidecar.post(QUEUE, &[("amqpost-retry", "at_least_once")], "x").await;

    assert_eq!(answer.verdict(), (502, "nacked"));
    assert_eq!(answer.header("amqpost-attempts"), "3");
    assert_eq!(sidecar.metric("amqpost_retries_total{reason=\"nacked\"}").await, 2.0);
}

#[tokio::test]
async fn a_retry_that_would_outlive_the_deadline_is_not_made() {
    let vhost = shared().await.vhost("deadline_bounds_retries").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("orders", true, full).await;
    client.put("orders", b"the only place").await;
    let sidecar =
        Sidecar::builder(&vhost.uri()).set("publish.max_attempts", "10").set("breaker.failures", "10000");
    let sidecar = sidecar.start().await.with_link_up().await;

    let headers = [("amqpost-retry", "at_least_once"), ("amqpost-timeout", "300ms")];
    let answer = sidecar.post(QUEUE, &headers, "x").await;

    assert_eq!(answer.outcome(), "unknown");
    assert!(answer.elapsed < Duration::from_secs(3), "{:?}", answer.elapsed);
}

#[tokio::test]
async fn with_the_budget_spent_nothing_is_tried_again() {
    let vhost = shared().await.vhost("retry_budget").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("orders", true, full).await;
    client.put("orders", b"the only place").await;
    let sidecar = Sidecar::builder(&vhost.uri()).set("publish.retry_percent", "0");
    let sidecar = sidecar.start().await.with_link_up().await;

    let answer = sidecar.post(QUEUE, &[("amqpost-retry", "at_least_once")], "x").await;

    assert_eq!((answer.verdict(), answer.header("amqpost-attempts")), ((502, "nacked"), ""));
}
