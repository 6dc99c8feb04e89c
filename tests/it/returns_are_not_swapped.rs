//! Exact attribution: a returned, nacked or missing message never determines another one's verdict.

use crate::harness::*;
use futures::{StreamExt, stream};
use std::collections::HashSet;

const MESSAGES: usize = 100_000;
const IN_FLIGHT: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hundred_thousand_publishes_half_unroutable_each_get_their_own_verdict() {
    let vhost = shared().await.vhost("returns").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("taken", true, arguments([])).await;
    client.bind("taken", "amq.direct", "taken").await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;

    let wrong: Vec<_> = stream::iter(0..MESSAGES)
        .map(|n| async move {
            let routable = is_routable(n);
            let key = if routable { "taken" } else { "nobody" };
            let id = format!("r{n}");
            let path = format!("/v1/exchanges/amq.direct/messages?routing_key={key}");
            let headers = [("amqp-message-id", id.as_str()), ("amqpost-timeout", "60s")];
            let answer = sidecar.post(&path, &headers, "x").await;
            let expected = if routable { (200, "confirmed") } else { (422, "unroutable") };
            (answer.verdict() != expected).then(|| (n, routable, answer.code().to_owned()))
        })
        .buffer_unordered(IN_FLIGHT)
        .filter_map(|wrong| async move { wrong })
        .collect()
        .await;

    assert!(wrong.is_empty(), "{} wrong verdicts, the first {:?}", wrong.len(), wrong.first());
    let arrived: HashSet<_> =
        client.drain("taken").await.iter().map(|message| message.message_id().unwrap().to_owned()).collect();
    let expected: HashSet<_> = (0..MESSAGES).filter(|n| is_routable(*n)).map(|n| format!("r{n}")).collect();
    assert_eq!(arrived.len(), expected.len());
    assert!(arrived == expected, "exactly the routable messages are in the queue");
}

/// An irregular pattern with as many of one kind as of the other.
fn is_routable(n: usize) -> bool {
    (n.wrapping_mul(2_654_435_761) >> 7).is_multiple_of(2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacked_returned_and_confirmed_messages_keep_apart_in_one_stream() {
    let vhost = shared().await.vhost("mixed_verdicts").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("taken", true, arguments([])).await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"the only place").await;
    // This tests attribution, not the breaker, which this many nacks would open.
    let sidecar = Sidecar::builder(&vhost.uri()).set("breaker.failures", "10000");
    let sidecar = &sidecar.start().await.with_link_up().await;

    let kinds = [("taken", (200, "confirmed")), ("full", (502, "nacked")), ("nobody", (422, "unroutable"))];
    let wrong: Vec<_> = stream::iter(0..6_000)
        .map(|n| async move {
            let (queue, expected) = kinds[n * 7 % 3];
            let answer = sidecar.post(&format!("/v1/queues/{queue}/messages"), &[], "x").await;
            (answer.verdict() != expected).then(|| (queue, answer.code().to_owned()))
        })
        .buffer_unordered(IN_FLIGHT)
        .filter_map(|wrong| async move { wrong })
        .collect()
        .await;

    assert!(wrong.is_empty(), "{} wrong verdicts, the first {:?}", wrong.len(), wrong.first());
    assert_eq!(client.depth("taken").await, 2_000);
    assert_eq!(client.depth("full").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_with_the_same_id_each_get_their_own_verdict() {
    let vhost = shared().await.vhost("same_id").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("taken", true, arguments([])).await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;

    let wrong: Vec<_> = stream::iter(0..600)
        .map(|n| async move {
            let queue = if n % 2 == 0 { "taken" } else { "nobody" };
            let path = format!("/v1/queues/{queue}/messages");
            let answer = sidecar.post(&path, &[("amqp-message-id", "always-the-same")], "x").await;
            let expected = if n % 2 == 0 { "confirmed" } else { "unroutable" };
            (answer.code() != expected).then(|| (n, answer.code().to_owned()))
        })
        .buffer_unordered(32)
        .filter_map(|wrong| async move { wrong })
        .collect()
        .await;

    assert!(wrong.is_empty(), "{} wrong verdicts, the first {:?}", wrong.len(), wrong.first());
    assert_eq!(client.depth("taken").await, 300);
}
