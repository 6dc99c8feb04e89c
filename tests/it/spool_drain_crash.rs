//! A sidecar that is killed while it drains loses nothing and repeats at most one batch, with
//! marks.

use crate::harness::*;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The most messages that may arrive twice after a crash.
const BATCH: usize = 256;

/// The route of an exchange whose order holds in every mode.
const STRICT: &str = r#"[{ exchange = "orders", order = "strict" }]"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_twenty_times_while_it_drains_it_loses_nothing_and_repeats_at_most_a_batch_each_time() {
    const KILLS: usize = 20;
    const EACH: usize = 400;
    let vhost = shared().await.vhost("drain_killed").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_exchange("orders", lapin::ExchangeKind::Topic).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "orders", "#").await;
    let names: Vec<String> = (0..16).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let spool = SpoolDir::new();
    spool.fill(spooled_for("orders", &keys, EACH)).await;
    let arrivals = Arrivals::of(&client, "all").await;
    let all = keys.len() * EACH;

    let mut worst = 0;
    for kill in 1..=KILLS {
        let repeated = arrivals.repeated().len();
        let sidecar = Sidecar::builder(&vhost.uri())
            .set("spool.path", &spool.setting())
            .set("spool.drain_rate", "4000")
            .start()
            .await;
        // Somewhere in the next part, at a number inside a batch.
        let more = arrivals.distinct() + fastrand::usize(20..all / KILLS - 20);
        arrivals.reach(more.min(all), Duration::from_secs(30)).await;
        sidecar.signal("KILL");
        drop(sidecar);
        worst = worst.max(arrivals.repeated().len() - repeated);
        println!("kill {kill}: {} arrived, {} again", arrivals.distinct(), arrivals.repeated().len());
    }
    let sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await;
    arrivals.reach(all, Duration::from_secs(60)).await;
    eventually("the spool is empty", Duration::from_secs(20), async || {
        sidecar.metric("amqpost_spool_messages").await == 0.0
    })
    .await;

    arrivals.assert_in_order(keys.len(), EACH);
    let repeated = arrivals.repeated();
    println!("{KILLS} kills: {} of {all} arrived again, at most {worst} after one", repeated.len());
    assert!(repeated.iter().all(|arrival| arrival.marked), "a repeated message is marked");
    assert!(worst <= BATCH, "{worst} after one crash");
}

/// The client of a key: publishes one message at a time until it gets no answer.
struct KeyClient {
    key: String,
    next: usize,
    /// The ids that were answered 2xx.
    safe: Vec<String>,
}

impl KeyClient {
    async fn publish_until_there_is_no_answer(&mut self, sidecar: &Sidecar, mode: &str, safe: &AtomicUsize) {
        loop {
            let id = format!("{}-{}", self.key, self.next);
            self.next += 1;
            let path = format!("/v1/exchanges/orders/messages?routing_key={}", self.key);
            let headers = [("amqp-message-id", id.as_str()), ("amqpost-mode", mode)];
            match sidecar.try_send(sidecar.request("POST", &path, &headers, id.clone())).await {
                Ok(answer) if matches!(answer.status(), 200 | 202) => {
                    safe.fetch_add(1, Ordering::Relaxed);
                    self.safe.push(id);
                }
                Ok(answer) => panic!("{:?}: {}", answer.verdict(), answer.text()),
                Err(_) => return,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_twenty_times_under_load_everything_answered_arrives_and_in_order() {
    const KILLS: usize = 20;
    let vhost = shared().await.vhost("load_killed").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_exchange("orders", lapin::ExchangeKind::Topic).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "orders", "#").await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let spool = SpoolDir::new();
    let arrivals = Arrivals::of(&client, "all").await;
    let clients = (0..16).map(|n| KeyClient { key: format!("k{n}"), next: 0, safe: Vec::new() });
    let mut clients: Vec<_> = clients.collect();
    let start = async || {
        let uri = vhost.uri_via(proxy.port());
        let builder = Sidecar::builder(&uri).set("spool.path", &spool.setting()).set("route", STRICT);
        builder.set("spool.drain_rate", "3000").start().await
    };

    let mut worst = 0;
    for kill in 1..=KILLS {
        let repeated = arrivals.repeated().len();
        // Every fourth run has no broker; every third one lets the sidecar choose.
        if kill % 4 == 0 {
            proxy.refuse()
        } else {
            proxy.pass()
        }
        let mode = if kill % 3 == 0 { "fallback" } else { "spool" };
        let sidecar = start().await;
        let (safe, enough) = (AtomicUsize::new(0), fastrand::usize(100..500));
        let load = join_all(
            clients.iter_mut().map(|client| client.publish_until_there_is_no_answer(&sidecar, mode, &safe)),
        );
        let killing = async {
            eventually("enough is answered", Duration::from_secs(30), async || {
                safe.load(Ordering::Relaxed) >= enough
            })
            .await;
            sidecar.signal("KILL");
        };
        tokio::join!(load, killing);
        worst = worst.max(arrivals.repeated().len() - repeated);
    }
    proxy.pass();
    let sidecar = start().await;
    let safe: BTreeSet<_> = clients.iter().flat_map(|client| client.safe.clone()).collect();
    eventually("the spool is empty", Duration::from_secs(60), async || {
        let left = sidecar.metric("amqpost_spool_messages").await;
        if left == 0.0 { Ok(()) } else { Err(left) }
    })
    .await;

    eventually("everything answered 2xx arrives", Duration::from_secs(20), async || {
        let arrived: BTreeSet<_> = arrivals.all().into_iter().map(|arrival| arrival.id).collect();
        let missing: Vec<_> = safe.difference(&arrived).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
    .await;
    for (key, numbers) in arrivals.first_arrivals() {
        assert!(numbers.is_sorted(), "the order of {key}: {numbers:?}");
    }
    let repeated = arrivals.repeated();
    println!(
        "{KILLS} kills: {} answered 2xx, {} arrived again, at most {worst} after one",
        safe.len(),
        repeated.len()
    );
    assert!(repeated.iter().all(|arrival| arrival.marked), "a repeated message is marked");
    assert!(worst <= BATCH, "{worst} after one crash");
}
