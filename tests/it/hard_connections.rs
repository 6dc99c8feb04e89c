//! Connections that are worn out, short of channels, blocked, slow or lied to do not harm requests.

use crate::harness::*;
use futures::future::join_all;
use futures::{StreamExt, stream};
use lapin::ExchangeKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

/// A sidecar with one connection, which is up.
async fn one_connection(uri: &str) -> Sidecar {
    Sidecar::builder(uri).set("broker.connections", "1").start().await.with_link_up().await
}

/// Publishes to this many missing exchanges, each of which costs a channel.
async fn wear_out(sidecar: &Sidecar, missing: usize) {
    let posts = stream::iter(0..missing).map(|n| async move {
        let answer = sidecar.post(&format!("/v1/exchanges/missing-{n}/messages"), &[], "x").await;
        assert_eq!(answer.code(), "exchange_not_found", "number {n}");
    });
    posts.buffer_unordered(8).collect::<()>().await;
}

/// The answer to the only publish under way when its message is queued and `lie` replaces its
/// confirm.
async fn is_unknown_after(name: &str, lie: Vec<u8>) {
    let vhost = shared().await.vhost(name).await;
    let client = vhost.with_orders().await;
    let impostor = Impostor::to_port(vhost.broker().amqp_port());
    let sidecar = one_connection(&vhost.uri_via(impostor.port())).await;
    // Proven beforehand, so that the message under test travels over the shared channel, which is
    // channel 1.
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");

    impostor.mute_broker();
    let headers = [("amqpost-timeout", "5s"), ("amqpost-retry", "off")];
    let publishing = sidecar.post(QUEUE, &headers, "x");
    let lying = async {
        eventually("the broker has it", PATIENCE, async || client.depth("orders").await == 2).await;
        impostor.say(lie);
    };
    let (answer, ()) = tokio::join!(publishing, lying);

    assert_eq!(
        (answer.verdict(), answer.outcome()),
        ((502, "link_lost"), "unknown"),
        "it is in the queue: {}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_with_a_soft_code_says_nothing_of_a_lone_publish() {
    is_unknown_after("lie_soft", connection_close(403, "ACCESS_REFUSED - token expired")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_that_lapin_does_not_know_says_nothing_of_a_lone_publish() {
    let (tag, multiple) = (999u64.to_be_bytes(), [0]);
    is_unknown_after("lie_ack", method_frame(1, 60, 80, &[&tag[..], &multiple].concat())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worn_out_connection_is_replaced_unnoticed() {
    let vhost = shared().await.vhost("worn").await;
    vhost.with_orders().await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;
    let over = &AtomicBool::new(false);

    let wearing = async {
        wear_out(sidecar, 2_000).await;
        over.store(true, Ordering::SeqCst);
    };
    let good = load(sidecar, QUEUE, "g", 16, |_| over.load(Ordering::SeqCst));
    let (good, ()) = tokio::join!(good, wearing);

    assert_eq!(codes(&good).into_keys().collect::<Vec<_>>(), ["confirmed"]);
    assert!(sidecar.metric("amqpost_disconnects_total{reason=\"replaced\"}").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worn_out_connection_that_waits_for_a_silent_queue_does_not_keep_the_link_down() {
    let vhost = shared().await.vhost("worn_stuck").await;
    let client = vhost.with_orders().await;
    client.declare_queue("stuck", true, arguments([])).await;
    let sidecar = one_connection(&vhost.uri()).await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    vhost.suspend_queue("stuck").await;
    let answer = sidecar.post("/v1/queues/stuck/messages", &[("amqpost-timeout", "200ms")], "x").await;
    assert_eq!(answer.code(), "confirm_timeout");

    wear_out(&sidecar, 420).await;

    sidecar.link_is("up", Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_low_channel_max_costs_no_connection() {
    let broker = Broker::builder().config_line("channel_max = 3").start().await;
    let vhost = broker.vhost("few_channels").await;
    vhost.with_orders().await;
    let sidecar = one_connection(&vhost.uri()).await;

    let sent = load(&sidecar, QUEUE, "few", 16, |n| n >= 200).await;

    assert_eq!(codes(&sent).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 200)]);
    assert!(!sidecar.log().contains("connection lost"), "{}", sidecar.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_cannot_be_replaced_costs_no_connection() {
    let broker = Broker::builder().config_line("channel_max = 3").start().await;
    let vhost = broker.vhost("no_other_channel").await;
    vhost.with_orders().await;
    let sidecar = one_connection(&vhost.uri()).await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");

    vhost.suspend_queue("orders").await;
    let posts = join_all((0..40).map(|_| sidecar.post(QUEUE, &[("amqpost-retry", "off")], "x")));
    let passing = async {
        eventually("another channel is wanted", PATIENCE, async || {
            sidecar.log().contains("a channel is replaced")
        })
        .await;
        vhost.resume_queue("orders").await;
    };
    let (answers, ()) = tokio::join!(posts, passing);

    let codes: Vec<_> = answers.iter().map(Answer::code).collect();
    assert!(codes.iter().all(|code| *code == "confirmed"), "{codes:?}");
    assert_eq!(sidecar.post(QUEUE, &[], "after").await.code(), "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_being_opened_when_the_alarm_comes_costs_no_connection() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("alarm").await;
    let client = vhost.with_orders().await;
    let mut paths = vec![QUEUE.to_owned()];
    for n in 0..8 {
        let exchange = format!("x{n}");
        client.declare_exchange(&exchange, ExchangeKind::Fanout).await;
        client.bind("orders", &exchange, "").await;
        paths.push(format!("/v1/exchanges/{exchange}/messages"));
    }
    let proxy = FaultProxy::to_port(broker.amqp_port());
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("broker.connections", "1")
        .set("broker.connect_timeout", "\"1s\"");
    let sidecar = sidecar.start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    wear_out(&sidecar, 3).await;

    broker.set_memory_alarm(true).await;
    // The frame of the alarm is on its way when these need channels, so they wait longer than
    // opening one may take.
    proxy.delay(Direction::FromBroker, Duration::from_millis(100));
    let posts = paths.iter().map(|path| sidecar.post(path, &[("amqpost-timeout", "6s")], "x"));
    let answers = join_all(posts).await;

    assert!(
        answers.iter().any(|answer| answer.elapsed > Duration::from_secs(5)),
        "nobody waited: {answers:?}"
    );
    assert_eq!(sidecar.link_state().await, "blocked");
    assert!(!sidecar.log().contains("connection lost"), "the alarm cost the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_not_counted_as_a_late_verdict() {
    let vhost = shared().await.vhost("late").await;
    vhost.with_orders().await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = one_connection(&vhost.uri_via(proxy.port())).await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");

    proxy.black_hole(Direction::FromBroker);
    let answer = sidecar.post(QUEUE, &[("amqpost-timeout", "300ms")], "x").await;
    assert_eq!(answer.code(), "confirm_timeout");
    proxy.reset_all();
    proxy.pass();

    eventually("the connection is replaced and nothing is in flight", PATIENCE, async || {
        proxy.accepted_total() >= 2
            && sidecar.link_state().await == "up"
            && sidecar.metric("amqpost_in_flight").await == 0.0
    })
    .await;
    assert_eq!(sidecar.metric("amqpost_late_confirms_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_unproven_message_opens_one_channel() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("channels").await;
    vhost.with_orders().await;
    let channels = async || {
        let count = broker.run("length(rabbit_channel:list()).").await;
        count.parse::<usize>().expect("a number")
    };
    let sidecar = one_connection(&vhost.uri()).await;
    let before = channels().await;

    assert_eq!(sidecar.post(QUEUE, &[], "unproven").await.code(), "confirmed");

    // The broker works in order: it opens channels before it confirms messages that were sent
    // later.
    for _ in 0..50 {
        assert_eq!(sidecar.post(QUEUE, &[], "proven").await.code(), "confirmed");
    }
    assert_eq!(channels().await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_the_middle_of_its_body_is_told_at_once_that_the_link_is_down() {
    let sidecar = Sidecar::builder("amqp://127.0.0.1:1").start().await;
    sidecar.link_is("down", PATIENCE).await;
    let mut quickest = Duration::MAX;
    // A busy machine may delay one, but not each.
    for _ in 0..10 {
        let mut client = SlowClient::connect(sidecar.http()).await;
        let begun = Instant::now();
        client.send(format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nx")).await;
        let head = client.read_head(Duration::from_secs(20)).await;
        quickest = quickest.min(begun.elapsed());
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    }
    assert!(quickest < Duration::from_millis(500), "{quickest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_that_moves_is_not_given_up() {
    let vhost = shared().await.vhost("slow_link").await;
    vhost.with_orders().await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = one_connection(&vhost.uri_via(proxy.port())).await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");

    proxy.throttle(Direction::ToBroker, 1_000_000);
    let body = bytes::Bytes::from(vec![b'x'; 2 * 1024 * 1024]);
    let posts = (0..4).map(|_| sidecar.post(QUEUE, &[("amqpost-timeout", "30s")], body.clone()));
    let answers = join_all(posts).await;

    for answer in &answers {
        assert_eq!(answer.verdict(), (200, "confirmed"), "{}", answer.text());
    }
    assert!(!sidecar.log().contains("connection lost"), "{}", sidecar.log());
}
