//! Spooled messages reach the broker in order, even if connections fail on the way.

use crate::harness::*;
use std::time::Duration;

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
const PATIENCE: Duration = Duration::from_secs(40);

/// A durable queue that gets every message of a topic exchange.
async fn everything(client: &AmqpClient) {
    client.declare_exchange("orders", lapin::ExchangeKind::Topic).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "orders", "#").await;
}

async fn is_empty(sidecar: &Sidecar) {
    eventually("the spool is empty", PATIENCE, async || {
        let left = sidecar.metric("amqpost_spool_messages").await;
        if left == 0.0 { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_run_left_arrives_once_and_each_keys_in_order() {
    let vhost = shared().await.vhost("drain_order").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    everything(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("orders", &KEYS, 200)).await;
    let arrivals = Arrivals::of(&client, "all").await;

    let mut sidecar = Sidecar::builder(&vhost.uri())
        .set("spool.path", &spool.setting())
        .set("spool.drain_rate", "5000")
        .start()
        .await;

    arrivals.reach(1000, PATIENCE).await;
    is_empty(&sidecar).await;
    arrivals.assert_in_order(KEYS.len(), 200);
    assert!(arrivals.repeated().is_empty(), "none arrives twice");
    assert!(arrivals.all().iter().all(|arrival| !arrival.marked), "none is marked");
    let confirmed = sidecar.metric("amqpost_spool_deliveries_total{result=\"confirmed\"}").await;
    assert_eq!(confirmed, 1000.0);
    let shown = &sidecar.admin("/link").await.json()["spool"];
    assert!(shown["deliveries_per_second"].as_f64().unwrap() > 10.0, "{shown}");
    assert_eq!(sidecar.published("confirmed", "confirmed").await, 0.0, "no request asked for them");
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());
    assert!(spool.entries().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_destinations_than_are_served_side_by_side_all_have_their_turn() {
    let vhost = shared().await.vhost("drain_many").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    everything(&client).await;
    let names: Vec<String> = (0..300).map(|n| format!("key{n}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let spool = SpoolDir::new();
    spool.fill(spooled_for("orders", &keys, 5)).await;
    let arrivals = Arrivals::of(&client, "all").await;

    let sidecar = Sidecar::builder(&vhost.uri())
        .set("spool.path", &spool.setting())
        .set("spool.drain_rate", "5000")
        .start()
        .await;

    arrivals.reach(1500, PATIENCE).await;
    is_empty(&sidecar).await;
    arrivals.assert_in_order(300, 5);
    assert!(arrivals.repeated().is_empty(), "none arrives twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_while_it_drains_lose_nothing_and_change_no_order() {
    let vhost = shared().await.vhost("drain_breaking").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    everything(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("orders", &KEYS, 400)).await;
    let arrivals = Arrivals::of(&client, "all").await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());

    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("spool.path", &spool.setting())
        .set("spool.drain_rate", "1000")
        .start()
        .await;
    for cut in 1..=6 {
        arrivals.reach(cut * 250, PATIENCE).await;
        match cut % 3 {
            0 => {
                // The broker has the messages, but its confirms are lost.
                proxy.black_hole(Direction::FromBroker);
                let before = arrivals.distinct();
                let heard = arrivals.reach(before + KEYS.len(), Duration::from_secs(2));
                tokio::time::timeout(Duration::from_millis(300), heard).await.ok();
                proxy.reset_all();
                proxy.pass();
            }
            1 => proxy.reset_all(),
            _ => proxy.close_all(),
        }
    }

    arrivals.reach(2000, PATIENCE).await;
    is_empty(&sidecar).await;
    arrivals.assert_in_order(KEYS.len(), 400);
    let repeated = arrivals.repeated();
    assert!(repeated.iter().all(|arrival| arrival.marked), "a repeated message is marked: {repeated:?}");
    println!("6 cuts: {} arrived again", repeated.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_it_waits_and_keeps_everything() {
    let vhost = shared().await.vhost("drain_no_broker").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    everything(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("orders", &KEYS, 20)).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    proxy.refuse();

    let mut sidecar =
        Sidecar::builder(&vhost.uri_via(proxy.port())).set("spool.path", &spool.setting()).start().await;
    sidecar.link_is("down", PATIENCE).await;
    assert_eq!(sidecar.metric("amqpost_spool_messages").await, 100.0);
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());

    let entries = spool.entries().await;
    assert_eq!(entries.len(), 100);
    assert!(entries.iter().all(|entry| entry.reason.is_none() && entry.attempts == 0));
    assert!(!spool.path().join("delivering").exists(), "nothing was delivered, so nothing is suspected");
    assert_eq!(client.depth("all").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ending_while_it_drains_leaves_the_rest_and_repeats_nothing() {
    let vhost = shared().await.vhost("drain_ended").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    everything(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("orders", &KEYS, 200)).await;
    let arrivals = Arrivals::of(&client, "all").await;

    for run in 1..=3 {
        let mut sidecar = Sidecar::builder(&vhost.uri())
            .set("spool.path", &spool.setting())
            .set("spool.drain_rate", "2000")
            .start()
            .await;
        arrivals.reach(run * 300, PATIENCE).await;
        assert!(sidecar.terminate(Duration::from_secs(15)).await.success());
    }
    let sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await;

    arrivals.reach(1000, PATIENCE).await;
    is_empty(&sidecar).await;
    arrivals.assert_in_order(KEYS.len(), 200);
    assert!(arrivals.repeated().is_empty(), "none arrives twice");
    assert!(arrivals.all().iter().all(|arrival| !arrival.marked), "none is marked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_it_drains_goes_behind_what_is_there() {
    let vhost = shared().await.vhost("drain_coming").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    everything(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("orders", &KEYS, 100)).await;
    let arrivals = Arrivals::of(&client, "all").await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("spool.path", &spool.setting())
        .set("route", r#"[{ exchange = "orders", order = "strict" }]"#)
        .set("spool.drain_rate", "2000")
        .start()
        .await
        .with_link_up()
        .await;

    let coming = KEYS.map(async |key| {
        for n in 100..300 {
            let id = format!("{key}-{n}");
            let path = format!("/v1/exchanges/orders/messages?routing_key={key}");
            // On a strict route both modes put it behind the messages that wait for its key.
            let mode = if n % 2 == 0 { "fallback" } else { "spool" };
            let headers = [("amqp-message-id", id.as_str()), ("amqpost-mode", mode)];
            let answer = sidecar.post(&path, &headers, id.clone()).await;
            assert!(matches!(answer.status(), 200 | 202), "{:?}", answer.verdict());
            if n == 200 && key == "a" {
                proxy.reset_all();
            }
        }
    });
    futures::future::join_all(coming).await;

    arrivals.reach(1500, PATIENCE).await;
    is_empty(&sidecar).await;
    arrivals.assert_in_order(KEYS.len(), 300);
    let repeated = arrivals.repeated();
    assert!(repeated.iter().all(|arrival| arrival.marked), "a repeated message is marked: {repeated:?}");
}
