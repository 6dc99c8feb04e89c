//! The circuit breaker: a destination that fails is left alone, and nobody else with it.

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

    eventually("the breaker opens", Duration::from_secs(10), async || {
        let answer = sidecar.post("/v1/queues/full/messages", &[], "x").await;
        assert!(["nacked", "breaker_open"].contains(&answer.code()), "{}", answer.text());
        answer.code() == "breaker_open"
    })
    .await;
    let refused = sidecar.post("/v1/queues/full/messages", &[], "x").await;
    assert_eq!((refused.verdict(), refused.outcome()), ((503, "breaker_open"), "not_published"));
    let good = load(&sidecar, "/v1/queues/good/messages", "g", 8, |n| n >= 200).await;
    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 200)]);
    assert_eq!(sidecar.metric("amqpost_breaker_state{state=\"open\"}").await, 1.0);

    client.purge("full").await;
    eventually("what is mended works", Duration::from_secs(5), async || {
        let answer = sidecar.post("/v1/queues/full/messages", &[], "x").await;
        if answer.code() == "confirmed" { Ok(()) } else { Err(answer.code().to_owned()) }
    })
    .await;
    assert_eq!(sidecar.metric("amqpost_breaker_transitions_total{to=\"closed\"}").await, 1.0);
}
