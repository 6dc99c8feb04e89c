//! Every request is answered by its deadline, and the answer tells what may have happened to the
//! message.

use crate::harness::*;
use bytes::Bytes;
use futures::future::join_all;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";

/// With one connection the first message proves the destination for all that follow, which then
/// share a channel. The frozen broker must go unnoticed, because this tests the deadline.
async fn one_connection(vhost: &Vhost) -> Sidecar {
    let sidecar = Sidecar::builder(&vhost.uri()).set("broker.connections", "1");
    sidecar.patient().start().await.with_link_up().await
}

#[tokio::test]
async fn a_broker_that_gives_no_verdict_is_a_confirm_timeout() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("frozen").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = one_connection(&vhost).await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");

    broker.pause().await;
    let answer = sidecar.post(QUEUE, &[("amqpost-timeout", "500ms")], "x").await;
    broker.resume().await;

    assert_eq!(answer.verdict(), (504, "confirm_timeout"));
    assert_eq!((answer.outcome(), &answer.json()["retry"]), ("unknown", &"may_duplicate".into()));
    assert!(answer.elapsed >= Duration::from_millis(490), "not before the deadline: {:?}", answer.elapsed);
    assert!(answer.elapsed < Duration::from_secs(5), "not long after it: {:?}", answer.elapsed);
    eventually("the late verdict is counted", Duration::from_secs(20), async || {
        sidecar.metric("amqpost_late_confirms_total").await == 1.0
    })
    .await;
    assert_eq!(sidecar.metric("amqpost_in_flight").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_waits_behind_a_full_window_is_not_sent_and_never_arrives() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("window").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = one_connection(&vhost).await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");

    broker.pause().await;
    // More than the sockets' buffers and the window of 4 MiB take together.
    let payload = Bytes::from(vec![b'x'; 1024 * 1024]);
    let answers =
        join_all((0..48).map(|_| sidecar.post(QUEUE, &[("amqpost-timeout", "2s")], payload.clone()))).await;
    broker.resume().await;

    let sidecar = sidecar.with_link_up().await;
    eventually("everything is resolved", Duration::from_secs(30), async || {
        sidecar.metric("amqpost_in_flight").await == 0.0
    })
    .await;
    let arrived: Vec<_> =
        client.drain("orders").await.iter().map(|message| message.message_id().unwrap().to_owned()).collect();
    let not_sent: Vec<_> = answers.iter().filter(|answer| answer.code() == "deadline_not_sent").collect();
    assert!(!not_sent.is_empty(), "the window was never full");
    for answer in &answers {
        assert!(["deadline_not_sent", "confirm_timeout"].contains(&answer.code()), "{}", answer.text());
    }
    for answer in not_sent {
        assert_eq!((answer.status(), answer.outcome()), (503, "not_published"));
        assert!(!arrived.contains(&answer.message_id().to_owned()), "a ghost");
    }
}

#[tokio::test]
async fn the_deadline_counts_from_the_first_byte() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("first_byte").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let sidecar = one_connection(&vhost).await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;

    let begun = std::time::Instant::now();
    let mut client = SlowClient::connect(sidecar.http()).await;
    client.send("POST /v1/queues/orders/messages HTTP/1.1\r\nhost: x\r\namqpost-timeout: 4s\r\n").await;
    client.pause(Duration::from_secs(3)).await;
    client.send("content-length: 1\r\n\r\nx").await;
    let head = client.read_head(Duration::from_secs(20)).await;
    let elapsed = begun.elapsed();
    broker.resume().await;

    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    // If it counted from the end of the head, it would be seven seconds.
    assert!(elapsed < Duration::from_secs(6), "{elapsed:?}");
}

#[tokio::test]
async fn a_deadline_of_a_millisecond_is_answered_like_any_other() {
    let vhost = shared().await.vhost("short_deadline").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    for _ in 0..200 {
        let answer = sidecar.post(QUEUE, &[("amqpost-timeout", "1ms")], "x").await;
        let possible = ["confirmed", "confirm_timeout", "deadline_not_sent", "request_timeout"];
        assert!(possible.contains(&answer.code()), "{}", answer.text());
    }
    eventually("nothing stays in flight", Duration::from_secs(10), async || {
        sidecar.metric("amqpost_in_flight").await == 0.0
    })
    .await;
}
