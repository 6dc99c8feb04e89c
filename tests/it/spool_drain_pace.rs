//! After an outage nothing bursts out: spooled messages leave at a paced, ramping rate.

use crate::harness::*;
use std::time::{Duration, Instant};

/// The most that may have left this long after the start of a ramp: it begins at a tenth of the
/// rate and grows by half in each second up to the whole rate.
fn ramped(rate: f64, after: Duration) -> f64 {
    let (whole, after) = (10f64.ln() / 1.5f64.ln(), after.as_secs_f64());
    let ramp = rate * 0.1 * (1.5f64.powf(after.min(whole)) - 1.0) / 1.5f64.ln();
    ramp + rate * (after - whole).max(0.0)
}

/// Fails if at any time more messages had arrived than a ramp since `begun` and a margin allow. A
/// busy machine makes messages late, perhaps in bursts, but never early; `drain/pace.rs` shows that
/// the pace itself makes no bursts.
fn assert_ramped(arrivals: &[Arrival], begun: Instant, rate: f64, more: usize) {
    for (before, arrival) in arrivals.iter().enumerate() {
        let (after, most) = (arrival.at - begun, ramped(rate, arrival.at - begun));
        assert!(before as f64 <= most * 1.02 + more as f64, "{before} after {after:?}, at most {most}");
    }
}

async fn storm(name: &str, count: usize, rate: usize, patience: Duration) {
    let vhost = shared().await.vhost(name).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_exchange("orders", lapin::ExchangeKind::Topic).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "orders", "#").await;
    let spool = SpoolDir::new();
    let names: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    spool.fill(spooled_for("orders", &keys, count / keys.len())).await;
    let arrivals = Arrivals::of(&client, "all").await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    proxy.refuse();
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("spool.path", &spool.setting())
        .set("spool.drain_rate", &rate.to_string())
        .start()
        .await;
    sidecar.link_is("down", Duration::from_secs(10)).await;

    let begun = Instant::now();
    proxy.pass();
    arrivals.reach(count, patience).await;

    let seconds = arrivals.by_second();
    println!(
        "{count} messages at {rate}/s: busiest second {}, by second {seconds:?}",
        arrivals.busiest_second()
    );
    arrivals.assert_in_order(keys.len(), count / keys.len());
    assert_ramped(&arrivals.all(), begun, rate as f64, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_returns_is_given_what_was_spooled_at_a_ramping_pace() {
    storm("storm", 5_000, 400, Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes"]
async fn a_broker_that_returns_is_given_fifty_thousand_at_a_ramping_pace() {
    storm("storm_50k", 50_000, 500, Duration::from_secs(180)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_outage_begins_the_ramp_again() {
    let vhost = shared().await.vhost("storm_again").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("", &["q"], 1_000)).await;
    let arrivals = Arrivals::of(&client, "q").await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("spool.path", &spool.setting())
        .set("spool.drain_rate", "300")
        .start()
        .await;
    arrivals.reach(300, Duration::from_secs(30)).await;
    proxy.refuse();
    proxy.reset_all();
    sidecar.link_is("down", Duration::from_secs(10)).await;
    let before = arrivals.all().len();

    let begun = Instant::now();
    proxy.pass();
    arrivals.reach(1_000, Duration::from_secs(30)).await;

    // 64 destinations at the same time: messages that the broker had when the connection broke may
    // still have been on their way.
    assert_ramped(&arrivals.all()[before..], begun, 300.0, 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_requests_are_not_much_slower_while_it_drains() {
    let vhost = shared().await.vhost("drain_live").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("live", true, arguments([])).await;
    client.declare_exchange("orders", lapin::ExchangeKind::Topic).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "orders", "#").await;
    let spool = SpoolDir::new();
    let names: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    spool.fill(spooled_for("orders", &keys, 600)).await;
    let path = "/v1/queues/live/messages";

    // Alternately, so that other work of the machine affects both.
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut left = 0.0;
    for _ in 0..3 {
        let without = Sidecar::up(&vhost.uri()).await;
        alone.push(p99(&paced_load(&without, path, "alone", 200, |n| n >= 600).await));
        drop(without);
        let mut sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await;
        eventually("it drains", Duration::from_secs(20), async || {
            sidecar.metric("amqpost_spool_deliveries_total{result=\"confirmed\"}").await > 500.0
        })
        .await;
        beside.push(p99(&paced_load(&sidecar, path, "beside", 200, |n| n >= 600).await));
        left = sidecar.metric("amqpost_spool_messages").await;
        assert!(sidecar.terminate(Duration::from_secs(15)).await.success());
    }

    println!("p99 alone {alone:?}, beside the drain {beside:?}; {left} left in the spool");
    assert!(left > 0.0, "it drained all the while");
    alone.sort_unstable();
    // Other work of the machine need not affect every round; the cost of the drain does.
    let (alone, beside) = (alone[1], beside.into_iter().min().expect("three rounds"));
    let loosely = alone * 2 + Duration::from_millis(100);
    assert!(beside <= loosely, "p99 {beside:?} beside the drain, {alone:?} alone");
}

/// The p99 of messages that were all confirmed.
fn p99(sent: &[Sent]) -> Duration {
    let confirmed = with_outcome(sent, "confirmed");
    assert_eq!(confirmed.len(), sent.len(), "{:?}", codes(sent));
    quantile(&confirmed, 0.99)
}
