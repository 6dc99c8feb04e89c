//! A message that the broker refuses is tried again for some time before it is parked; a refusal
//! that is about the moment parks nothing.

use crate::harness::*;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(40);

async fn deferred(sidecar: &Sidecar, count: f64) {
    eventually("deliveries are refused", PATIENCE, async || {
        let seen = sidecar.metric("amqpost_spool_deliveries_total{result=\"deferred\"}").await;
        if seen >= count { Ok(()) } else { Err(seen) }
    })
    .await;
}

async fn parked(sidecar: &Sidecar, count: f64) {
    eventually("they are parked", PATIENCE, async || {
        let seen = sidecar.metric("amqpost_spool_parked_messages").await;
        if seen == count { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// Stores messages `{prefix}-0` and on, each after the answer for the one before.
async fn spool_to(sidecar: &Sidecar, path: &str, count: usize) {
    for n in 0..count {
        let id = format!("m-{n}");
        let headers = [("amqpost-mode", "spool"), ("amqp-message-id", id.as_str())];
        assert_eq!(sidecar.post(path, &headers, id.clone()).await.verdict(), (202, "spooled"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_is_deleted_and_declared_again_gets_its_messages_in_order_without_an_operator() {
    let vhost = shared().await.vhost("time_exchange").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let spool = SpoolDir::new();
    let sidecar =
        Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await.with_link_up().await;
    spool_to(&sidecar, "/v1/exchanges/orders/messages", 20).await;
    deferred(&sidecar, 3.0).await;
    let refused = async || sidecar.metric("amqpost_spool_refused_seconds").await;
    eventually("operators see for how long it is refused", PATIENCE, async || refused().await > 1.0).await;

    client.declare_exchange("orders", lapin::ExchangeKind::Fanout).await;
    client.bind("q", "orders", "").await;

    let begun = Instant::now();
    eventually("they arrive", PATIENCE, async || client.depth("q").await == 20).await;
    println!("20 messages arrive {:?} after the declaration", begun.elapsed());
    let arrived: Vec<_> = client.drain("q").await.iter().map(Received::text).collect();
    assert_eq!(arrived, (0..20).map(|n| format!("m-{n}")).collect::<Vec<_>>());
    parked(&sidecar, 0.0).await;
    eventually("nothing is refused any more", PATIENCE, async || refused().await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_taken_away_and_given_back_parks_nothing() {
    let vhost = shared().await.vhost("time_permission").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    vhost.broker().add_user("moody", "pw").await;
    vhost.set_permissions("moody", ".*", "^$", ".*").await;
    let spool = SpoolDir::new();
    let uri = vhost.uri_as("moody", "pw");
    let sidecar =
        Sidecar::builder(&uri).set("spool.path", &spool.setting()).start().await.with_link_up().await;
    spool_to(&sidecar, "/v1/queues/q/messages", 20).await;
    deferred(&sidecar, 3.0).await;

    vhost.set_permissions("moody", ".*", ".*", ".*").await;

    eventually("they arrive", PATIENCE, async || client.depth("q").await == 20).await;
    let arrived: Vec<_> = client.drain("q").await.iter().map(Received::text).collect();
    assert_eq!(arrived, (0..20).map(|n| format!("m-{n}")).collect::<Vec<_>>());
    parked(&sidecar, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fanout_with_one_full_queue_leaves_no_more_copies_in_the_other_one_than_tries_are_allowed() {
    let vhost = shared().await.vhost("time_fanout").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", 1.into()), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.declare_queue("other", true, arguments([])).await;
    client.put("full", b"in the way").await;
    for queue in ["full", "other"] {
        client.bind(queue, "amq.fanout", "").await;
    }
    let spool = SpoolDir::new();
    spool.fill([spooled("amq.fanout", "k", "k-0"), spooled("amq.fanout", "k", "k-1")]).await;

    let begun = Instant::now();
    let mut sidecar = Sidecar::builder(&vhost.uri())
        .set("spool.path", &spool.setting())
        .set("spool.park_after", "\"8s\"")
        .set("spool.nacks_max", "2")
        .start()
        .await;
    parked(&sidecar, 2.0).await;
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(sidecar.terminate(Duration::from_secs(15)).await.success());

    let nacked = |id: &str| (id.to_owned(), "nacked".to_owned());
    assert_eq!(spool.parked().await, [nacked("k-0"), nacked("k-1")]);
    let copies: Vec<_> = client.drain("other").await.iter().map(Received::text).collect();
    assert_eq!(copies, ["k-0", "k-0"], "only the first one is tried, and no more often than allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_accepted_brings_the_spools_messages_along() {
    let vhost = shared().await.vhost("time_accepted").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let full = arguments([("x-max-length", 1.into()), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"in the way").await;
    client.bind("full", "amq.fanout", "").await;
    let spool = SpoolDir::new();
    spool.fill([spooled("amq.fanout", "k", "k-0")]).await;
    let sidecar =
        Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting()).start().await.with_link_up().await;
    // After the third refusal the pause is 16 s.
    deferred(&sidecar, 3.0).await;

    client.delete_queue("full").await;
    client.declare_queue("roomy", true, arguments([])).await;
    client.bind("roomy", "amq.fanout", "").await;
    let begun = Instant::now();
    let answer = sidecar.post("/v1/exchanges/amq.fanout/messages?routing_key=k", &[], "direct").await;
    assert_eq!(answer.verdict(), (200, "confirmed"));

    eventually("both are there", PATIENCE, async || client.depth("roomy").await == 2).await;
    println!("the spool's message arrives {:?} after the request's", begun.elapsed());
    let arrived = client.drain("roomy").await;
    let marks: Vec<_> =
        arrived.iter().map(|message| message.header("x-amqpost-redelivered").is_some()).collect();
    assert_eq!((arrived[1].text().as_str(), marks), ("k-0", vec![false, true]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_grew_too_old_while_the_broker_was_away_is_delivered() {
    let vhost = shared().await.vhost("time_age").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("q", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    proxy.refuse();
    let spool = SpoolDir::new();
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("spool.path", &spool.setting())
        .set("spool.max_age", "\"1s\"")
        .start()
        .await;
    spool_to(&sidecar, "/v1/queues/q/messages", 3).await;
    let age = "amqpost_spool_oldest_age_seconds";
    eventually("they are too old", PATIENCE, async || sidecar.metric(age).await > 3.0).await;
    assert_eq!(sidecar.metric("amqpost_spool_parked_messages").await, 0.0);

    proxy.pass();

    eventually("they arrive", PATIENCE, async || client.depth("q").await == 3).await;
    parked(&sidecar, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_whose_node_is_away_gets_its_messages_in_order_when_the_node_is_back() {
    let cluster = Cluster::start(2).await;
    cluster.add_vhost("time_node").await;
    let uris = cluster.uris("time_node");
    AmqpClient::connect(&uris[1]).await.declare_queue("q", true, arguments([])).await;
    let spool = SpoolDir::new();
    let sidecar = Sidecar::builder(&uris[0]).set("spool.path", &spool.setting()).start().await;
    let sidecar = sidecar.with_link_up().await;
    cluster.nodes()[1].run_ok("rabbit:stop().").await;
    spool_to(&sidecar, "/v1/queues/q/messages", 20).await;
    deferred(&sidecar, 3.0).await;

    cluster.nodes()[1].run_ok("rabbit:start().").await;
    cluster.wait_until_all_joined().await;

    let client = AmqpClient::connect(&uris[0]).await;
    eventually("they arrive", PATIENCE, async || client.try_depth("q").await.ok() == Some(20)).await;
    let arrived: Vec<_> = client.drain("q").await.iter().map(Received::text).collect();
    assert_eq!(arrived, (0..20).map(|n| format!("m-{n}")).collect::<Vec<_>>());
    parked(&sidecar, 0.0).await;
}
