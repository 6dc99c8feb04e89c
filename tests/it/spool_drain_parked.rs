//! A message that the broker never accepts is parked with its reason, or waits; no message is
//! dropped, and no other destination waits.

use crate::harness::*;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

async fn counts(sidecar: &Sidecar, ready: f64, parked: f64) {
    eventually("the spool has what it should", PATIENCE, async || {
        let seen = (
            sidecar.metric("amqpost_spool_messages").await,
            sidecar.metric("amqpost_spool_parked_messages").await,
        );
        if seen == (ready, parked) { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_queue_and_no_exchange_takes_is_parked_and_its_key_goes_on() {
    let vhost = shared().await.vhost("parked_unroutable").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    client.declare_exchange("orders", lapin::ExchangeKind::Topic).await;
    let spool = SpoolDir::new();
    let optional = |id| amqpost::message::Message { mandatory: false, ..spooled("orders", "nobody", id) };
    let messages = [
        spooled("", "q", "q-0"),
        spooled("orders", "nobody", "unroutable-1"),
        optional("nobody-2"),
        spooled("missing", "x", "exchange-3"),
        spooled("missing", "x", "exchange-4"),
        spooled("", "q", "q-1"),
    ];
    spool.fill(messages).await;

    let mut sidecar = Sidecar::builder(&vhost.uri())
        .set("spool.path", &spool.setting())
        .set("spool.park_after", "\"2s\"")
        .start()
        .await;
    counts(&sidecar, 0.0, 4.0).await;
    let confirmed = sidecar.metric("amqpost_spool_deliveries_total{result=\"confirmed\"}").await;
    let parked = sidecar.metric("amqpost_spool_deliveries_total{result=\"parked\"}").await;
    assert_eq!((confirmed, parked), (2.0, 4.0), "with a destination all that waits for it is parked");
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());

    let expected = [
        ("exchange-3", "exchange_not_found"),
        ("exchange-4", "exchange_not_found"),
        ("nobody-2", "unroutable"),
        ("unroutable-1", "unroutable"),
    ];
    // Numbers give an order only within a destination.
    let mut parked = spool.parked().await;
    parked.sort_unstable();
    assert_eq!(parked, expected.map(|(id, reason)| (id.to_owned(), reason.to_owned())));
    let arrived: Vec<_> = client.drain("q").await.iter().map(Received::text).collect();
    assert_eq!(arrived, ["q-0", "q-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_user_may_not_publish_is_parked() {
    let vhost = shared().await.vhost("parked_refused").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_exchange("secret", lapin::ExchangeKind::Topic).await;
    client.declare_queue("q", true, arguments([])).await;
    vhost.broker().add_user("limited_drain", "pw").await;
    vhost.set_permissions("limited_drain", ".*", "^(q|amq\\.default)$", ".*").await;
    let spool = SpoolDir::new();
    spool.fill([spooled("secret", "x", "refused-0"), spooled("", "q", "q-0")]).await;

    let uri = vhost.uri_as("limited_drain", "pw");
    let mut sidecar = Sidecar::builder(&uri)
        .set("spool.path", &spool.setting())
        .set("spool.park_after", "\"2s\"")
        .start()
        .await;
    counts(&sidecar, 0.0, 1.0).await;
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());

    assert_eq!(spool.parked().await, [("refused-0".to_owned(), "access_refused".to_owned())]);
    assert_eq!(client.depth("q").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_while_it_waited_is_parked_and_not_delivered() {
    let vhost = shared().await.vhost("parked_expired").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let spool = SpoolDir::new();
    let mut short_lived = spooled("", "q", "short-0");
    short_lived.properties.expiration_ms = Some(1);
    spool.fill([short_lived, spooled("", "q", "q-1")]).await;

    let mut sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await;
    counts(&sidecar, 0.0, 1.0).await;
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());

    assert_eq!(spool.parked().await, [("short-0".to_owned(), "expired".to_owned())]);
    let arrived: Vec<_> = client.drain("q").await.iter().map(Received::text).collect();
    assert_eq!(arrived, ["q-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_damaged_on_the_disk_is_parked_and_not_delivered() {
    let vhost = shared().await.vhost("parked_damaged").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let spool = SpoolDir::new();
    let bodies = ["first-sound", "to-be-damaged", "last-sound"];
    spool
        .fill(bodies.map(|id| amqpost::message::Message { payload: id.into(), ..spooled("", "q", "id") }))
        .await;
    flip(&spool.path().join("spool.db"), b"to-be-damaged");

    let mut sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await;
    counts(&sidecar, 0.0, 1.0).await;
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());

    assert_eq!(spool.parked().await, [("id".to_owned(), "damaged".to_owned())]);
    let arrived: Vec<_> = client.drain("q").await.iter().map(Received::text).collect();
    assert_eq!(arrived, ["first-sound", "last-sound"]);
}

/// Flips a bit of these bytes in a file.
fn flip(path: &std::path::Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
    let mut content = Vec::new();
    file.read_to_end(&mut content).expect("the file is there");
    let at = content.windows(bytes.len()).position(|window| window == bytes).expect("they are there");
    file.seek(SeekFrom::Start(at as u64)).expect("the file is there");
    file.write_all(&[content[at] ^ 1]).expect("the file is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_holds_up_its_own_key_until_its_time_is_over() {
    let vhost = shared().await.vhost("parked_nacked").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", 1.into()), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.declare_queue("q", true, arguments([])).await;
    client.put("full", b"in the way").await;
    let spool = SpoolDir::new();
    spool.fill([spooled("", "full", "full-0"), spooled("", "full", "full-1"), spooled("", "q", "q-0")]).await;

    let mut sidecar = Sidecar::builder(&vhost.uri())
        .set("spool.path", &spool.setting())
        .set("spool.park_after", "\"2s\"")
        .start()
        .await;
    eventually("the other key does not wait", PATIENCE, async || client.depth("q").await == 1).await;
    counts(&sidecar, 0.0, 2.0).await;
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());

    let nacked = |id: &str| (id.to_owned(), "nacked".to_owned());
    assert_eq!(spool.parked().await, [nacked("full-0"), nacked("full-1")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_that_is_emptied_gets_its_messages_in_order() {
    let vhost = shared().await.vhost("drain_emptied").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", 1.into()), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"in the way").await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("", &["full"], 3)).await;

    let sidecar = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await;
    eventually("a delivery was nacked", PATIENCE, async || {
        sidecar.metric("amqpost_spool_deliveries_total{result=\"deferred\"}").await >= 1.0
    })
    .await;
    let mut arrived = Vec::new();
    eventually("all arrive", PATIENCE, async || {
        arrived.extend(client.drain("full").await.iter().map(Received::text));
        if arrived.len() == 4 { Ok(()) } else { Err(arrived.clone()) }
    })
    .await;
    assert_eq!(arrived, ["in the way", "full-0", "full-1", "full-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_parked_a_key_waits_until_its_exchange_is_there() {
    let vhost = shared().await.vhost("drain_waits").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let spool = SpoolDir::new();
    let mut messages = spooled_for("later", &["k"], 5);
    messages.push(spooled("", "q", "q-0"));
    spool.fill(messages).await;

    let sidecar = Sidecar::builder(&vhost.uri())
        .set("spool.path", &spool.setting())
        .set("spool.park_after", "\"never\"")
        .start()
        .await;
    eventually("the other key does not wait", PATIENCE, async || client.depth("q").await == 1).await;
    counts(&sidecar, 5.0, 0.0).await;
    client.declare_queue("all", true, arguments([])).await;
    client.declare_exchange("later", lapin::ExchangeKind::Fanout).await;
    // Nothing is routed before the binding exists, so the test waits for that as well.
    client.bind("all", "later", "").await;

    counts(&sidecar, 0.0, 0.0).await;
    let arrived: Vec<_> = client.drain("all").await.iter().map(Received::text).collect();
    assert_eq!(arrived, ["k-0", "k-1", "k-2", "k-3", "k-4"]);
}
