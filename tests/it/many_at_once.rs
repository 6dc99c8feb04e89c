//! Many requests over one connection, and many idle connections: each request gets its own answer,
//! without delay.

use crate::harness::*;
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_each_for_itself_and_in_their_order() {
    const REQUESTS: usize = 200;
    let (client, sidecar) = orders(shared().await, "pipelining").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let queue = |n: usize| if n % 3 == 1 { "nobody" } else { "orders" };
    let request = |n: usize| {
        let queue = queue(n);
        let head = format!("POST /v1/queues/{queue}/messages HTTP/1.1\r\nhost: x\r\namqp-message-id: p-{n}");
        format!("{head}\r\ncontent-length: 5\r\n\r\n{n:05}")
    };

    let mut wire = SlowClient::connect(sidecar.http()).await;
    wire.send((0..REQUESTS).map(request).collect::<String>()).await;

    for n in 0..REQUESTS {
        let (head, body) = wire.read_answer(PATIENCE).await;
        let status = if queue(n) == "orders" { "200" } else { "422" };
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "number {n}: {head}");
        assert!(body.contains(&format!("\"message_id\":\"p-{n}\"")), "number {n}: {body}");
    }
    let arrived = client.drain("orders").await;
    let ids: Vec<_> = arrived.iter().map(|message| message.message_id().expect("an id").to_owned()).collect();
    let expected: Vec<_> =
        (0..REQUESTS).filter(|n| queue(*n) == "orders").map(|n| format!("p-{n}")).collect();
    assert_eq!(ids, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_hold_up_nobody_and_are_closed_in_the_end() {
    const IDLE: usize = 3_000;
    let (_client, sidecar) = orders(shared().await, "idle_thousands").await;
    let sidecar = sidecar.set("http.idle_timeout", "\"20s\"").start().await.with_link_up().await;
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE / 100 {
        idle.extend(join_all((0..100).map(|_| SlowClient::connect(sidecar.http()))).await);
    }

    let sent = load(&sidecar, QUEUE, "m", 16, |n| n >= 500).await;

    assert_eq!(codes(&sent).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 500)]);
    let closed = join_all(idle.iter_mut().map(|wire| wire.is_closed(Duration::from_secs(60)))).await;
    assert!(closed.into_iter().all(|closed| closed), "idle connections are closed in the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_in_the_middle_give_their_places_back_and_harm_none_of_the_others() {
    const STREAMS: usize = 600;
    let (_client, sidecar) = orders(shared().await, "resets").await;
    let sidecar = &sidecar.start().await.with_link_up().await;
    let http2: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let http2 = &http2;

    // A few at a time: a client that resets hundreds at once counts as an attacker and is
    // disconnected.
    let answered: Vec<_> = stream::iter(0..STREAMS)
        .map(|n| async move {
            let id = format!("h-{n}");
            let request = sidecar.request("POST", QUEUE, &[("amqp-message-id", &id)], id.clone());
            // Dropping a request resets its stream.
            let patience = if n % 2 == 0 { PATIENCE } else { Duration::from_millis(n as u64 % 7) };
            let answer = tokio::time::timeout(patience, http2.request(request)).await;
            (n % 2 == 0).then(|| answer.expect("in time").expect("answered").status().as_u16())
        })
        .buffer_unordered(8)
        .filter_map(|answered| async move { answered })
        .collect()
        .await;

    assert_eq!(answered, vec![200; STREAMS / 2]);
    sidecar.in_flight_is(0).await;
}
