//! Without a broker: 503 at once, no ghosts, no losses, and confirms again as soon as the broker is
//! back.

use crate::harness::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_under_load_makes_no_ghosts_and_no_losses() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("killed").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let begun = Instant::now();
    let (until_kill, until_restart) = (Duration::from_secs(2), Duration::from_secs(6));

    let recovered = std::sync::atomic::AtomicBool::new(false);
    let publishing = paced_load(&sidecar, QUEUE, "k", 1_500, |_| {
        recovered.load(std::sync::atomic::Ordering::Relaxed) || begun.elapsed() > Duration::from_secs(60)
    });
    let outage = async {
        at(begun + until_kill).await;
        let killed = Instant::now();
        broker.kill_9().await;
        sidecar.link_is("down", Duration::from_secs(5)).await;
        at(begun + until_restart).await;
        let restarting = Instant::now();
        let started = broker.restart().await;
        sidecar.link_is("up", Duration::from_secs(30)).await;
        at(Instant::now() + Duration::from_millis(500)).await;
        recovered.store(true, std::sync::atomic::Ordering::Relaxed);
        (killed, restarting, started.port_open)
    };
    let (sent, (killed, restarting, accepted)) = tokio::join!(publishing, outage);

    let client = AmqpClient::connect(&vhost.uri()).await;
    let arrived: HashSet<_> =
        client.drain("orders").await.iter().map(|message| message.message_id().unwrap().to_owned()).collect();
    assert_no_loss_and_no_ghost(&sent, &arrived);
    report(&sent, killed, restarting, accepted);
    let unknown = with_outcome(&sent, "unknown").len();
    assert!(unknown <= 1024, "{unknown} unknown answers, more than were in flight: {:?}", codes(&sent));
    assert!(with_outcome(&sent, "not_published").iter().all(|message| message.status == 503));
}

/// The figures of this run, which documents quote. Only gross failures fail here: the machine is
/// noisy.
fn report(sent: &[Sent], killed: Instant, restarting: Instant, accepted: Instant) {
    let down: Vec<_> = sent.iter().filter(|message| message.code == "link_down").collect();
    // A booting broker takes the processors from the clients that are timed here.
    let timed: Vec<_> =
        down.iter().copied().filter(|message| message.at + message.took < restarting).collect();
    let first_down = down.iter().map(|message| message.at + message.took).min().expect("it was down");
    let last_down = down.iter().map(|message| message.at + message.took).max().expect("it was down");
    let again = sent
        .iter()
        .filter(|message| message.outcome == "confirmed" && message.at > last_down - Duration::from_secs(1))
        .map(|message| message.at + message.took)
        .filter(|answered| *answered > accepted)
        .min()
        .expect("confirmed again");
    let to_first_down = first_down.saturating_duration_since(killed);
    let to_confirmed = again.saturating_duration_since(accepted);
    println!(
        "kill -9: first link_down after {to_first_down:?}; {} answers link_down, before the restart p50 \
        {:?}, p99 {:?}; confirmed again {to_confirmed:?} after the port accepted; codes {:?}",
        down.len(),
        quantile(&timed, 0.5),
        quantile(&timed, 0.99),
        codes(sent),
    );
    assert!(to_first_down < Duration::from_secs(5), "the first link_down took {to_first_down:?}");
    assert!(to_confirmed < Duration::from_secs(10), "confirmed again after {to_confirmed:?}");
}

async fn at(moment: Instant) {
    eventually("time passes", Duration::from_secs(120), async || Instant::now() >= moment).await;
}

#[tokio::test]
async fn without_a_broker_at_the_start_it_answers_503_and_publishes_once_there_is_one() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("late").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    broker.kill_9().await;
    let sidecar = Sidecar::builder(&vhost.uri()).start().await;

    let answer = sidecar.post(QUEUE, &[("amqpost-timeout", "30s")], "x").await;
    assert_eq!(answer.verdict(), (503, "link_down"));
    assert_eq!((answer.outcome(), answer.header("retry-after")), ("not_published", "1"));
    assert!(answer.elapsed < Duration::from_secs(5), "at once, not at the deadline");
    assert_eq!(sidecar.admin("/readyz").await.status(), 200, "an outage takes no pod out of service");
    sidecar.link_is("down", Duration::from_secs(5)).await;

    broker.restart().await;
    let sidecar = sidecar.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn one_connection_that_is_up_is_enough() {
    let vhost = shared().await.vhost("one_of_two").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let endpoints = format!("[\"{}\", \"{}\"]", vhost.uri(), vhost.uri_via(proxy.port()));
    let sidecar = Sidecar::builder("amqp://unused")
        .set_instead("broker.endpoints", &endpoints)
        .start()
        .await
        .with_link_up()
        .await;
    eventually("both connections are up", Duration::from_secs(10), async || {
        sidecar.metric("amqpost_connections{state=\"up\"}").await == 2.0
    })
    .await;

    proxy.refuse();
    proxy.reset_all();
    let sent = load(&sidecar, QUEUE, "o", 16, |n| n >= 2_000).await;

    // Messages in flight on the broken connection may be unknown; nothing is refused.
    assert!(with_outcome(&sent, "not_published").is_empty(), "{:?}", codes(&sent));
    assert_eq!(sidecar.link_state().await, "up");
}
