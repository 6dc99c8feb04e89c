//! Queues that never confirm, and a stalled link: no other request waits, and few messages are
//! handed over.

use crate::harness::*;
use futures::future::join_all;
use lapin::ExchangeKind;
use lapin::types::AMQPValue;
use std::collections::BTreeMap;
use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// A vhost with the queue `fine`, and the queue `stuck` that never confirms.
async fn fine_and_stuck(name: &str) -> (Vhost, AmqpClient) {
    let vhost = shared().await.vhost(name).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("stuck", true, arguments([])).await;
    client.declare_queue("fine", true, arguments([])).await;
    vhost.suspend_queue("stuck").await;
    (vhost, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_never_confirms_holds_up_no_other_queue() {
    let (vhost, _client) = fine_and_stuck("stuck").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    // The first message after the link came up, and one more.
    for _ in 0..2 {
        let answer = sidecar.post("/v1/queues/stuck/messages", &[("amqpost-timeout", "500ms")], "x").await;
        assert_eq!(answer.verdict(), (504, "confirm_timeout"));
    }

    for n in 0..20 {
        let answer = sidecar.post("/v1/queues/fine/messages", &[("amqpost-timeout", "1s")], "x").await;
        assert_eq!(answer.verdict(), (200, "confirmed"), "number {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_that_lead_to_a_silent_queue_starve_no_new_exchange() {
    let (vhost, client) = fine_and_stuck("stuck_exchanges").await;
    for n in 0..4 {
        let exchange = format!("bad-{n}");
        client.declare_exchange(&exchange, ExchangeKind::Fanout).await;
        client.bind("stuck", &exchange, "").await;
    }
    client.declare_exchange("good", ExchangeKind::Fanout).await;
    client.bind("fine", "good", "").await;
    let sidecar = Sidecar::builder(&vhost.uri()).set("broker.connections", "1");
    let sidecar = sidecar.start().await.with_link_up().await;

    for n in 0..4 {
        let path = format!("/v1/exchanges/bad-{n}/messages");
        let answer = sidecar.post(&path, &[("amqpost-timeout", "300ms")], "x").await;
        assert_eq!(answer.verdict(), (504, "confirm_timeout"));
    }

    let answer = sidecar.post("/v1/exchanges/good/messages", &[("amqpost-timeout", "2s")], "x").await;
    assert_eq!(answer.verdict(), (200, "confirmed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_window_bounds_what_is_handed_over_however_many_wait_for_room() {
    const MESSAGES: usize = 200;
    const QUEUE: &str = "/v1/queues/orders/messages";
    let vhost = shared().await.vhost("write_window").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("broker.connections", "1")
        .set("broker.heartbeat", "\"60s\"")
        .set("broker.stall_timeout", "\"60s\"")
        .set("broker.write_window", "\"256KiB\"");
    let sidecar = &sidecar.start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    let body = bytes::Bytes::from(vec![b'x'; MIB / 4]);

    proxy.hold(Direction::ToBroker);
    let posts =
        join_all((0..MESSAGES).map(|_| sidecar.post(QUEUE, &[("amqpost-timeout", "8s")], body.clone())));
    let trickling = async {
        eventually("all wait for room", Duration::from_secs(6), async || {
            let seen = sidecar.metric("amqpost_in_flight").await;
            if seen == MESSAGES as f64 { Ok(()) } else { Err(seen) }
        })
        .await;
        proxy.throttle(Direction::ToBroker, 1_000_000);
    };
    let (answers, ()) = tokio::join!(posts, trickling);

    let mut codes = BTreeMap::<_, usize>::new();
    for answer in &answers {
        *codes.entry(answer.code()).or_default() += 1;
    }
    let not_sent = codes.get("deadline_not_sent").copied().unwrap_or_default();
    let handed_over = (MESSAGES - not_sent) * body.len() / MIB;
    println!("{handed_over} MiB were handed over: {codes:?}");
    // Some 8 MB trickle through, the kernel's buffers take at most some 10 MiB, the window
    // 0.25 MiB.
    assert!(handed_over < 24, "{handed_over} MiB were handed over: {codes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_never_confirm_and_queues_that_nack_starve_no_new_queue_together() {
    let (vhost, client) = fine_and_stuck("stuck_and_full").await;
    for n in 0..8 {
        client.declare_queue(&format!("stuck-{n}"), true, arguments([])).await;
        vhost.suspend_queue(&format!("stuck-{n}")).await;
        let full =
            arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
        client.declare_queue(&format!("full-{n}"), true, full).await;
        client.put(&format!("full-{n}"), b"the only place").await;
    }
    let sidecar = Sidecar::builder(&vhost.uri()).set("broker.connections", "1");
    let sidecar = &sidecar.start().await.with_link_up().await;
    let to = |queue: String, timeout: &'static str| async move {
        let headers = [("amqpost-timeout", timeout), ("amqpost-retry", "off")];
        sidecar.post(&format!("/v1/queues/{queue}/messages"), &headers, "x").await
    };

    // Eight channels each wait long for a confirm, and also get nacks.
    join_all((0..8).map(|n| to(format!("stuck-{n}"), "1300ms"))).await;
    for n in 0..8 {
        to(format!("full-{n}"), "2s").await;
    }

    let answer = to("fine".to_owned(), "3s").await;
    assert_eq!(answer.verdict(), (200, "confirmed"));
}
