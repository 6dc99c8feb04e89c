//! The six promises, a test of its name for each; the other scenarios test more cases.

use crate::harness::*;
use futures::future::join_all;
use futures::{StreamExt, stream};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";

/// How late after its deadline an answer may be.
const LATE: Duration = Duration::from_millis(50);

/// The largest delay that a machine busy with other tests may explain.
const EXPLAINED_MAX: Duration = Duration::from_millis(950);

async fn broker_with_queue(name: &str) -> (Broker, Vhost, AmqpClient) {
    let broker = Broker::start().await;
    let vhost = broker.vhost(name).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    (broker, vhost, client)
}

async fn ids_in(client: &AmqpClient) -> HashSet<String> {
    let messages = client.drain("orders").await;
    messages.iter().map(|message| message.message_id().expect("every message has an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hangs() {
    let (broker, vhost, _client) = broker_with_queue("no_hangs").await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;
    // The clients' connections are opened beforehand, so that only the answer is timed.
    load(sidecar, QUEUE, "proof", 100, |n| n >= 500).await;

    let machine = Machine::measure(sidecar.pid());
    broker.pause().await;
    let requests = (0..100u64).map(|n| async move {
        let timeout = Duration::from_millis(100 + n * 30);
        let headers = [("amqpost-timeout", format!("{}ms", timeout.as_millis()))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = sidecar.post(QUEUE, &headers, "x").await;
        let answered = Instant::now();
        (answered - answer.elapsed + timeout, answered)
    });
    let answered = join_all(requests).await;
    broker.resume().await;

    let late = answered.iter().map(|(deadline, answered)| {
        let explained = machine.explains(*deadline, *answered).min(EXPLAINED_MAX);
        (answered.saturating_duration_since(*deadline), explained)
    });
    let (worst, explained) = late.max_by_key(|(late, explained)| late.saturating_sub(*explained)).unwrap();
    println!("no hangs: {worst:?} beyond a deadline at most, of which the machine explains {explained:?}");
    assert!(worst < LATE + explained, "{worst:?} beyond a deadline, the machine explains {explained:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ghosts() {
    let (_broker, vhost, client) = broker_with_queue("no_ghosts").await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = &Sidecar::up(&vhost.uri_via(proxy.port())).await;
    load(sidecar, QUEUE, "proof", 8, |n| n >= 50).await;

    proxy.hold(Direction::Both);
    let begun = Instant::now();
    let sent = paced_load(sidecar, QUEUE, "g", 300, |_| begun.elapsed() > Duration::from_secs(4)).await;
    proxy.pass();
    sidecar.link_is("up", Duration::from_secs(15)).await;
    load(sidecar, QUEUE, "after", 8, |n| n >= 50).await;

    assert!(with_outcome(&sent, "not_published").len() > 100, "{:?}", codes(&sent));
    assert_no_loss_and_no_ghost(&sent, &ids_in(&client).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_storms() {
    const LIMIT: usize = 64;
    let (broker, vhost, client) = broker_with_queue("no_storms").await;
    let sidecar =
        &Sidecar::builder(&vhost.uri()).set("publish.max_in_flight", "64").start().await.with_link_up().await;
    load(sidecar, QUEUE, "proof", 8, |n| n >= 50).await;

    broker.pause().await;
    let begun = Instant::now();
    let sent = paced_load(sidecar, QUEUE, "s", 500, |_| begun.elapsed() > Duration::from_secs(6)).await;
    broker.resume().await;
    sidecar.link_is("up", Duration::from_secs(15)).await;
    load(sidecar, QUEUE, "after", 8, |n| n >= 50).await;

    let unknown = with_outcome(&sent, "unknown").len();
    let burst = ids_in(&client).await.iter().filter(|id| id.starts_with("s-")).count();
    println!("no storms: {} requests in 6 s, {unknown} unknown, {burst} arrived afterwards", sent.len());
    assert!(unknown <= LIMIT, "{unknown} unknown answers: {:?}", codes(&sent));
    assert!(burst <= LIMIT, "{burst} messages of the outage arrived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_loss() {
    let (broker, vhost, client) = broker_with_queue("no_loss").await;
    drop(client);
    let sidecar = Sidecar::up(&vhost.uri()).await;

    let killed = AtomicBool::new(false);
    let confirmed = async {
        let mut confirmed = Vec::new();
        for n in 0.. {
            if killed.load(Ordering::Relaxed) {
                break;
            }
            let id = format!("l-{n}");
            let headers = [("amqp-message-id", id.as_str())];
            let answer = sidecar.try_send(sidecar.request("POST", QUEUE, &headers, "x")).await;
            if answer.is_ok_and(|answer| answer.code() == "confirmed") {
                confirmed.push(id);
            }
        }
        confirmed
    };
    let kill_both = async {
        eventually("messages flow", Duration::from_secs(20), async || {
            sidecar.published("confirmed", "confirmed").await > 500.0
        })
        .await;
        sidecar.signal("KILL");
        broker.kill_9().await;
        killed.store(true, Ordering::Relaxed);
    };
    let (confirmed, ()) = tokio::join!(confirmed, kill_both);
    broker.restart().await;

    let arrived = ids_in(&AmqpClient::connect(&vhost.uri()).await).await;
    let lost = confirmed.iter().filter(|id| !arrived.contains(*id)).count();
    assert_eq!((lost, confirmed.len() > 400), (0, true), "of {} confirmed", confirmed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_loss_of_what_was_spooled() {
    let (broker, vhost, client) = broker_with_queue("no_loss_spooled").await;
    drop(client);
    let spool = SpoolDir::new();
    let sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    let sidecar = sidecar.start().await.with_link_up().await;

    let clients = (0..8).map(|client| spooled_until_no_answer(&sidecar, client));
    let kill_both = async {
        eventually("some are delivered, and more wait", Duration::from_secs(20), async || {
            let delivered = sidecar.metric("amqpost_spool_deliveries_total{result=\"confirmed\"}").await;
            let waiting = sidecar.metric("amqpost_spool_messages").await;
            if delivered > 50.0 && waiting > 200.0 { Ok(()) } else { Err((delivered, waiting)) }
        })
        .await;
        sidecar.signal("KILL");
        broker.kill_9().await;
    };
    let (spooled, ()) = tokio::join!(join_all(clients), kill_both);
    let spooled: HashSet<_> = spooled.concat().into_iter().collect();
    broker.restart().await;
    let sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await;
    eventually("the spool is empty", Duration::from_secs(60), async || {
        sidecar.metric("amqpost_spool_messages").await == 0.0
    })
    .await;

    let arrived = ids_in(&AmqpClient::connect(&vhost.uri()).await).await;
    let lost = spooled.difference(&arrived).count();
    println!("no loss: {} answered spooled before both were killed, {lost} lost", spooled.len());
    assert_eq!((lost, spooled.len() > 250), (0, true), "of {} spooled", spooled.len());
}

/// The ids that were answered `spooled`, until the sidecar is gone.
async fn spooled_until_no_answer(sidecar: &Sidecar, client: usize) -> Vec<String> {
    let mut spooled = Vec::new();
    for n in 0.. {
        let id = format!("s{client}-{n}");
        let headers = [("amqp-message-id", id.as_str()), ("amqpost-mode", "spool")];
        match sidecar.try_send(sidecar.request("POST", QUEUE, &headers, "x")).await {
            Ok(answer) => assert_eq!(answer.verdict(), (202, "spooled")),
            Err(_) => break,
        }
        spooled.push(id);
    }
    spooled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lies() {
    let (_broker, vhost, client) = broker_with_queue("no_lies").await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"the only place").await;
    let sidecar = Sidecar::builder(&vhost.uri()).set("breaker.failures", "10000");
    let sidecar = &sidecar.start().await.with_link_up().await;

    let kinds = [
        ("/v1/queues/orders/messages", "confirmed"),
        ("/v1/queues/full/messages", "nacked"),
        ("/v1/queues/nobody/messages", "unroutable"),
        ("/v1/exchanges/missing/messages", "exchange_not_found"),
    ];
    let lies: Vec<_> = stream::iter(0..4_000)
        .map(|n| async move {
            let (path, truth) = kinds[n * 7 % kinds.len()];
            let answer = sidecar.post(path, &[], "x").await;
            (answer.code() != truth).then(|| (truth, answer.code().to_owned()))
        })
        .buffer_unordered(128)
        .filter_map(|lie| async move { lie })
        .collect()
        .await;

    assert!(lies.is_empty(), "{} lies, the first {:?}", lies.len(), lies.first());
    assert_eq!(client.depth("orders").await, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_collateral() {
    let (_broker, vhost, _client) = broker_with_queue("no_collateral").await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;

    let good = load(sidecar, QUEUE, "g", 32, |n| n >= 4_000);
    let bad = stream::iter(0..400)
        .map(|n| async move {
            let (path, name, value) = match n % 5 {
                0 => ("/v1/exchanges/missing/messages", "amqp-type", "x"),
                1 => (QUEUE, "amqp-user-id", "somebody"),
                2 => (QUEUE, "amqp-priority", "300"),
                3 => (QUEUE, "amqp-reply-to", "amq.rabbitmq.reply-to"),
                _ => ("/v1/queues/nobody/messages", "amqp-type", "x"),
            };
            sidecar.post(path, &[(name, value)], "x").await.status()
        })
        .buffer_unordered(8)
        .collect::<Vec<_>>();
    let (good, bad) = tokio::join!(good, bad);

    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 4_000)]);
    assert!(bad.iter().all(|status| (400..500).contains(status)), "{bad:?}");
}
