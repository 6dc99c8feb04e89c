//! Refusals by the broker: each is about its own message, and a repaired destination works at once.

use crate::harness::*;
use lapin::ExchangeKind;
use std::time::Duration;

fn reject_when_full(places: i32) -> lapin::types::FieldTable {
    arguments([("x-max-length", AMQPValue::LongInt(places)), ("x-overflow", text("reject-publish"))])
}

#[tokio::test]
async fn a_mandatory_message_that_no_queue_takes_is_unroutable() {
    let vhost = shared().await.vhost("unroutable").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    let answer = sidecar.post("/v1/queues/nobody/messages", &[], "x").await;

    assert_eq!(answer.verdict(), (422, "unroutable"));
    assert_eq!(answer.outcome(), "not_published");
    assert_eq!(answer.json()["retry"], "safe");
}

#[tokio::test]
async fn a_message_that_need_not_be_taken_is_confirmed_without_a_queue() {
    let vhost = shared().await.vhost("optional").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    let headers = [("amqpost-mandatory", "false")];
    let answer = sidecar.post("/v1/queues/nobody/messages", &headers, "x").await;

    assert_eq!(answer.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn a_full_queue_that_rejects_is_a_nack_and_may_duplicate() {
    let vhost = shared().await.vhost("nacked").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("full", true, reject_when_full(1)).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    assert_eq!(sidecar.post("/v1/queues/full/messages", &[], "first").await.code(), "confirmed");
    let answer = sidecar.post("/v1/queues/full/messages", &[], "second").await;

    assert_eq!(answer.verdict(), (502, "nacked"));
    assert_eq!((answer.outcome(), &answer.json()["retry"]), ("unknown", &"may_duplicate".into()));
    assert_eq!(client.depth("full").await, 1);
}

#[tokio::test]
async fn a_missing_exchange_is_not_found_and_works_as_soon_as_it_exists() {
    let vhost = shared().await.vhost("missing_exchange").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let path = "/v1/exchanges/orders/messages?routing_key=created";

    let answer = sidecar.post(path, &[], "x").await;
    assert_eq!(answer.verdict(), (404, "exchange_not_found"));
    assert!(answer.detail().contains("'orders'"), "{}", answer.detail());

    client.declare_exchange("orders", ExchangeKind::Topic).await;
    client.declare_queue("created", true, arguments([])).await;
    client.bind("created", "orders", "created").await;
    assert_eq!(sidecar.post(path, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn an_exchange_that_disappears_is_unavailable_at_first() {
    let vhost = shared().await.vhost("deleted_exchange").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_exchange("orders", ExchangeKind::Fanout).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "orders", "").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let path = "/v1/exchanges/orders/messages";
    assert_eq!(sidecar.post(path, &[], "x").await.code(), "confirmed");

    client.delete_exchange("orders").await;

    // The first publish after it may discover this on a shared channel, where the verdict is
    // uncertain.
    eventually("the exchange is unavailable", Duration::from_secs(5), async || {
        let answer = sidecar.post(path, &[], "x").await;
        assert!(["destination_unavailable", "link_lost"].contains(&answer.code()), "{}", answer.code());
        answer.code() == "destination_unavailable"
    })
    .await;
}

#[tokio::test]
async fn a_user_without_permission_is_refused_and_names_no_user() {
    let broker = shared().await;
    let vhost = broker.vhost("forbidden").await;
    broker.add_user("limited-user", "secret").await;
    vhost.set_permissions("limited-user", "", "^allowed$", "").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_exchange("allowed", ExchangeKind::Fanout).await;
    client.declare_exchange("closed", ExchangeKind::Fanout).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "allowed", "").await;
    let sidecar = Sidecar::up(&vhost.uri_as("limited-user", "secret")).await;

    let refused = sidecar.post("/v1/exchanges/closed/messages", &[], "x").await;
    let allowed = sidecar.post("/v1/exchanges/allowed/messages", &[], "x").await;

    assert_eq!(refused.verdict(), (403, "access_refused"));
    assert!(!refused.text().contains("limited-user"), "{}", refused.text());
    assert_eq!(allowed.verdict(), (200, "confirmed"));

    vhost.set_permissions("limited-user", "", "^(allowed|closed)$", "").await;
    client.bind("all", "closed", "").await;
    eventually("the permission works", Duration::from_secs(5), async || {
        let answer = sidecar.post("/v1/exchanges/closed/messages", &[], "x").await;
        if answer.code() == "confirmed" { Ok(()) } else { Err(answer.code().to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn a_foreign_user_id_is_refused_by_the_broker_and_harms_nobody() {
    let vhost = shared().await.vhost("user_id").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let path = "/v1/queues/orders/messages";

    let own = sidecar.post(path, &[("amqp-user-id", "guest")], "x").await;
    let foreign = sidecar.post(path, &[("amqp-user-id", "somebody")], "x").await;

    assert_eq!(own.verdict(), (200, "confirmed"));
    assert_eq!(foreign.verdict(), (400, "refused_by_broker"));
    assert_eq!(foreign.json()["retry"], "safe", "another user may be allowed to send it");
    assert!(foreign.detail().contains("user_id"), "{}", foreign.detail());
    assert_eq!(client.depth("orders").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_missing_exchanges_harm_no_good_request() {
    let vhost = shared().await.vhost("collateral").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    let good = load(&sidecar, "/v1/queues/orders/messages", "g", 32, |n| n >= 3_000);
    let bad = load(&sidecar, "/v1/exchanges/missing/messages", "b", 8, |n| n >= 600);
    let (good, bad) = tokio::join!(good, bad);

    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 3_000)]);
    assert_eq!(codes(&bad).into_iter().collect::<Vec<_>>(), [("exchange_not_found".to_owned(), 600)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn one_hundred_thousand_requests_to_missing_exchanges_harm_no_good_request() {
    const BAD: usize = 100_000;
    let vhost = shared().await.vhost("much_collateral").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;

    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = |_| over.load(std::sync::atomic::Ordering::Relaxed);
    let good = load(sidecar, "/v1/queues/orders/messages", "g", 16, is_over);
    let bad = async {
        let to_missing = |n| (format!("/v1/exchanges/missing-{}/messages", n % 100), "x".into());
        let bad = load_of(sidecar, to_missing, "b", 64, |n| n >= BAD).await;
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        bad
    };
    let (good, bad) = tokio::join!(good, bad);

    let slowest = quantile(&good.iter().collect::<Vec<_>>(), 1.0);
    println!("beside {:?} good {:?}, the slowest took {slowest:?}", codes(&bad), codes(&good));
    assert_eq!(codes(&good).into_keys().collect::<Vec<_>>(), ["confirmed"]);
    assert_eq!(codes(&bad).into_iter().collect::<Vec<_>>(), [("exchange_not_found".to_owned(), BAD)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_refusals_than_a_connection_has_channel_ids_change_nothing() {
    let vhost = shared().await.vhost("worn_out").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar =
        Sidecar::builder(&vhost.uri()).set("broker.connections", "1").start().await.with_link_up().await;

    // Each one costs a channel, because the names differ. The connection is replaced before the ids
    // run out, without effect on requests.
    for n in 0..2_200 {
        let answer = sidecar.post(&format!("/v1/exchanges/missing-{n}/messages"), &[], "x").await;
        assert_eq!(answer.code(), "exchange_not_found", "number {n}");
    }

    let sidecar = sidecar.with_link_up().await;
    assert_eq!(sidecar.post("/v1/queues/orders/messages", &[], "x").await.verdict(), (200, "confirmed"));
    assert!(sidecar.metric("amqpost_disconnects_total{reason=\"replaced\"}").await >= 5.0);
}
