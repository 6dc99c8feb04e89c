//! A message answered `confirmed` is in the queue, byte for byte.

use crate::harness::*;
use futures::{StreamExt, stream};
use std::collections::HashMap;

const MESSAGES: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_at_64_concurrent_arrive_byte_for_byte() {
    let vhost = shared().await.vhost("confirmed").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;

    let answers: Vec<_> = stream::iter(0..MESSAGES)
        .map(|n| async move {
            let (id, correlation, kind) = (format!("id-{n}"), format!("c{n}"), format!("kind {}", n % 7));
            let (priority, timestamp) = ((n % 256).to_string(), n.to_string());
            let headers = [
                ("amqp-message-id", id.as_str()),
                ("amqp-correlation-id", &correlation),
                ("amqp-type", &kind),
                ("amqp-priority", &priority),
                ("amqp-timestamp", &timestamp),
                ("content-type", "application/octet-stream"),
                ("amqp-header-number", &correlation),
            ];
            sidecar.post("/v1/queues/orders/messages", &headers, body(n)).await
        })
        .buffer_unordered(64)
        .collect()
        .await;

    assert!(answers.iter().all(|answer| answer.verdict() == (200, "confirmed")));
    let received = client.drain("orders").await;
    assert_eq!(received.len(), MESSAGES);
    let by_id: HashMap<_, _> =
        received.iter().map(|message| (message.message_id().unwrap().to_owned(), message)).collect();
    for n in 0..MESSAGES {
        let message = by_id[&format!("id-{n}")];
        let properties = &message.properties;
        assert_eq!(message.body, body(n));
        assert_eq!(properties.correlation_id().as_ref().unwrap().as_str(), format!("c{n}"));
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), format!("kind {}", n % 7));
        assert_eq!(properties.priority().map(usize::from), Some(n % 256));
        assert_eq!(properties.timestamp().map(|seconds| seconds as usize), Some(n));
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/octet-stream");
        assert_eq!(message.header("number"), Some(&text(&format!("c{n}"))));
    }
    assert_eq!(sidecar.published("confirmed", "confirmed").await as usize, MESSAGES);
    assert_eq!(sidecar.metric("amqpost_in_flight").await, 0.0);
}

/// Bytes of every value; each message has another length, and some are empty.
fn body(n: usize) -> Vec<u8> {
    (0..n % 300).map(|position| (position * 31 + n) as u8).collect()
}

#[tokio::test]
async fn a_message_without_an_id_gets_one_and_the_answer_names_it() {
    let vhost = shared().await.vhost("assigned_id").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    let answer = sidecar.post("/v1/queues/orders/messages", &[], "one").await;

    assert_eq!(answer.verdict(), (200, "confirmed"));
    let received = client.drain("orders").await;
    assert_eq!(received[0].message_id(), Some(answer.message_id()));
    assert_eq!(answer.json()["message_id"], answer.message_id());
}
