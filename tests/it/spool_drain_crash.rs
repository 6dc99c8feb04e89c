//! A sidecar that is killed while it drains loses nothing, and what it repeats is at most a batch, and marked.

use crate::harness::*;
use std::time::Duration;

/// What may arrive twice after a crash, at most.
const BATCH: usize = 256;

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
        // Somewhere in the next part, at a number that no batch ends on.
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
