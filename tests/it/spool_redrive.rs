//! After a repair, redriven messages arrive soon, marked if they may have arrived before.

use crate::harness::*;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(40);

/// A sidecar that parks after a second.
async fn parking(uri: &str, spool: &SpoolDir) -> Sidecar {
    let builder = Sidecar::builder(uri).set("spool.path", &spool.setting());
    builder.set("spool.park_after", "\"1s\"").start().await
}

async fn parked(sidecar: &Sidecar, count: f64) {
    eventually("they are parked", PATIENCE, async || {
        let seen = sidecar.metric("amqpost_spool_parked_messages").await;
        if seen == count { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_parked_for_want_of_a_queue_arrives_once_it_is_declared_and_redriven() {
    let vhost = shared().await.vhost("redriven").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let spool = SpoolDir::new();
    let sidecar = parking(&vhost.uri(), &spool).await.with_link_up().await;
    for body in ["one", "two", "three"] {
        let answer = sidecar.post("/v1/queues/late/messages", &[("amqpost-mode", "spool")], body).await;
        assert_eq!(answer.verdict(), (202, "spooled"));
    }
    parked(&sidecar, 3.0).await;
    let listed = spool.command(&["ls", "--state", "parked", "--reason", "unroutable", "--json"]).await;
    assert_eq!(listed.lines().count(), 3, "{listed}");

    client.declare_queue("late", true, arguments([])).await;
    let said = spool.command(&["redrive", "--reason", "unroutable"]).await;

    assert_eq!(said, "3 of 3 messages to be delivered again\n");
    eventually("they arrive", PATIENCE, async || client.depth("late").await == 3).await;
    let arrived = client.drain("late").await;
    assert_eq!(arrived.iter().map(Received::text).collect::<Vec<_>>(), ["one", "two", "three"]);
    let marks: Vec<_> =
        arrived.iter().map(|message| message.header("x-amqpost-redelivered").is_some()).collect();
    assert!(marks[0], "it was handed over before it was parked");
    parked(&sidecar, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_run_may_have_delivered_is_marked_even_when_it_was_parked_and_redriven_two_runs_later()
{
    let vhost = shared().await.vhost("redriven_marked").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let spool = SpoolDir::new();
    spool.fill([spooled("", "q", "q-0")]).await;
    let start = async || {
        let uri = vhost.uri_via(proxy.port());
        parking(&uri, &spool).await
    };
    // The broker has it, and the sidecar dies before it learns of that.
    let tap = Arrivals::of(&client, "q").await;
    proxy.delay(Direction::FromBroker, Duration::from_millis(250));
    let killed = start().await;
    tap.reach(1, PATIENCE).await;
    killed.signal("KILL");
    drop((killed, tap));
    proxy.pass();
    client.delete_queue("q").await;
    let mut parking = start().await;
    parked(&parking, 1.0).await;
    assert!(parking.terminate(PATIENCE).await.success());

    client.declare_queue("q", true, arguments([])).await;
    let _redriving = start().await;
    spool.command(&["redrive", "--all"]).await;

    eventually("it arrives again", PATIENCE, async || client.depth("q").await == 1).await;
    let again = client.drain("q").await;
    assert_eq!(again[0].header("x-amqpost-redelivered"), Some(&text("true")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_answered_spooled_again_though_an_operator_has_dropped_its_message() {
    let vhost = shared().await.vhost("dropped_key").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let spool = SpoolDir::new();
    let sidecar = parking(&vhost.uri(), &spool).await.with_link_up().await;
    let headers = [("amqpost-mode", "spool"), ("idempotency-key", "order-17")];
    let first = sidecar.post("/v1/queues/poison/messages", &headers, "x").await;
    assert_eq!(first.verdict(), (202, "spooled"));
    parked(&sidecar, 1.0).await;
    spool.command(&["drop", "--all"]).await;
    client.declare_queue("poison", true, arguments([])).await;

    let again = sidecar.post("/v1/queues/poison/messages", &headers, "x").await;

    assert_eq!((again.verdict(), again.header("idempotency-replayed")), ((202, "spooled"), "true"));
    assert_eq!(again.message_id(), first.message_id());
    let left = sidecar.metric("amqpost_spool_messages").await;
    assert_eq!((left, client.depth("poison").await), (0.0, 0), "what was dropped does not come back");
}

const KEYS: usize = 100;

/// A sidecar that keeps trying messages of [`KEYS`] keys to `exchange`, none of which can be
/// delivered, until each has been tried `times`.
async fn with_a_hundred_keys_waiting(vhost: &Vhost, exchange: &str, times: usize) -> (SpoolDir, Sidecar) {
    let spool = SpoolDir::new();
    let names: Vec<String> = (0..KEYS).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    spool.fill(spooled_for(exchange, &keys, 1)).await;
    let sidecar = Sidecar::builder(&vhost.uri())
        .set("spool.path", &spool.setting())
        .set("spool.park_after", "\"never\"")
        .start()
        .await;
    let tried = async || sidecar.metric("amqpost_spool_deliveries_total{result=\"deferred\"}").await;
    let enough = (KEYS * times) as f64;
    eventually("all of them wait", Duration::from_secs(90), async || tried().await > enough).await;
    (spool, sidecar)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_hundred_keys_without_a_queue_the_one_that_gets_its_queue_is_delivered_within_five_seconds() {
    let vhost = shared().await.vhost("mended_one").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("all", true, arguments([])).await;
    client.declare_exchange("orders", lapin::ExchangeKind::Direct).await;
    // The messages are tried so often that each pause has reached its maximum.
    let (_spool, _sidecar) = with_a_hundred_keys_waiting(&vhost, "amq.direct", 8).await;

    let arrivals = Arrivals::of(&client, "all").await;
    let mut worst = Duration::ZERO;
    for key in ["k7", "k50", "k99"] {
        let begun = Instant::now();
        client.bind("all", "amq.direct", key).await;
        let has = async || arrivals.all().iter().any(|arrival| arrival.key == key);
        eventually("it is delivered", PATIENCE, has).await;
        worst = worst.max(begun.elapsed());
    }

    println!("mended with {KEYS} keys waiting: at most {worst:?}");
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    let arrived: BTreeSet<_> = arrivals.all().into_iter().map(|arrival| arrival.key).collect();
    assert_eq!(arrived.len(), 3, "and nobody else's: {arrived:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_hundred_keys_of_a_missing_exchange_all_are_delivered_within_seconds_of_its_declaration() {
    let vhost = shared().await.vhost("mended_exchange").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("all", true, arguments([])).await;
    let (_spool, _sidecar) = with_a_hundred_keys_waiting(&vhost, "later", 5).await;

    let arrivals = Arrivals::of(&client, "all").await;
    let begun = Instant::now();
    client.declare_exchange("later", lapin::ExchangeKind::Fanout).await;
    client.bind("all", "later", "").await;
    arrivals.reach(KEYS, PATIENCE).await;

    println!("{KEYS} keys of an exchange arrive {:?} after its declaration", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_spool_so_deep_down_that_no_socket_path_reaches_it_is_controlled_all_the_same() {
    let deep = SpoolDir::deep(150);
    deep.fill([spooled("amq.topic", "k", "k-0")]).await;
    let mut sidecar = Sidecar::builder("amqp://127.0.0.1:1").set("spool.path", &deep.setting()).start().await;

    let status = deep.command(&["status"]).await;
    let said = deep.command(&["park", "--all"]).await;

    assert!(status.starts_with("sidecar   working"), "{status}");
    assert_eq!(said, "1 of 1 messages parked\n");
    assert!(sidecar.terminate(PATIENCE).await.success());
    assert!(!deep.path().join("control.sock").exists(), "it is removed at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_note_on_the_disk_nothing_is_delivered_and_the_log_says_why() {
    let vhost = shared().await.vhost("no_note").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let spool = SpoolDir::new();
    spool.fill([spooled("", "q", "q-0")]).await;
    // No exchange with that name can be declared.
    let note = spool.path().join("delivering");
    std::os::unix::fs::symlink("nowhere/at/all", &note).expect("a link");

    let sidecar =
        Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await.with_link_up().await;
    let said = format!("making {}: No such file or directory", note.display());
    eventually("the log says why", PATIENCE, async || sidecar.log().contains(&said)).await;

    assert!(sidecar.log().contains("nothing is delivered"), "{}", sidecar.log());
    assert_eq!(client.depth("q").await, 0);
    std::fs::remove_file(&note).expect("it is there");
    eventually("it is delivered once that is mended", PATIENCE, async || client.depth("q").await == 1).await;
}
