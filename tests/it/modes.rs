//! The modes: the broker or an error, the broker or else the spool, the spool and then the broker.

use crate::harness::*;
use std::time::Duration;
use tempfile::TempDir;

const QUEUE: &str = "/v1/queues/orders/messages";
const FALLBACK: (&str, &str) = ("amqpost-mode", "fallback");
const SPOOL: (&str, &str) = ("amqpost-mode", "spool");

/// A port that nobody listens on.
const NO_BROKER: &str = "amqp://127.0.0.1:1";

/// A sidecar with a spool in `directory`, before it is started.
fn with_spool(uri: &str, directory: &TempDir) -> SidecarBuilder {
    let path = directory.path().join("spool");
    Sidecar::builder(uri).set("spool.path", &format!("{path:?}")).set("spool.disk_reserve", "0")
}

async fn stored(sidecar: &Sidecar) -> f64 {
    sidecar.metric("amqpost_spool_appends_total{result=\"stored\"}").await
}

/// Transactions that the spool has committed, as `/link` shows them.
async fn commits(sidecar: &Sidecar) -> u64 {
    sidecar.admin("/link").await.json()["spool"]["commits"].as_u64().expect("a number")
}

#[tokio::test]
async fn without_a_spool_the_modes_that_need_one_are_refused_by_name() {
    let sidecar = Sidecar::builder(NO_BROKER).start().await;
    for mode in ["fallback", "spool"] {
        let answer = sidecar.post(QUEUE, &[("amqpost-mode", mode)], "x").await;
        assert_eq!(answer.verdict(), (400, "invalid_request"));
        assert_eq!(answer.detail(), format!("amqpost-mode: {mode} needs a spool, and spool.path is not set"));
    }
    let answer = sidecar.post(QUEUE, &[("amqpost-mode", "direct")], "x").await;
    assert_eq!(answer.verdict(), (503, "link_down"));
    assert_eq!(sidecar.metric("amqpost_spool_messages").await, 0.0, "the series is there all the same");
    assert!(sidecar.admin("/link").await.json().get("spool").is_none());
}

#[tokio::test]
async fn what_is_answered_spooled_is_on_disk_and_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(NO_BROKER, &directory).start().await;
    let before = commits(&sidecar).await;

    let answer = sidecar.post(QUEUE, &[SPOOL, ("amqp-message-id", "m-1")], "one").await;
    assert_eq!((answer.verdict(), answer.outcome()), ((202, "spooled"), "spooled"));
    assert_eq!(answer.json()["message_id"], "m-1");
    assert_eq!(stored(&sidecar).await, 1.0);
    assert_eq!(sidecar.metric("amqpost_spool_messages").await, 1.0);
    assert!(sidecar.metric("amqpost_spool_bytes").await > 0.0);
    assert_eq!(sidecar.published("spooled", "spooled").await, 1.0);
    let shown = &sidecar.admin("/link").await.json()["spool"];
    assert_eq!((&shown["state"], &shown["messages"]), (&"working".into(), &1.into()));
    assert_eq!(shown["appended"], 1);
    assert!(commits(&sidecar).await > before);
    assert!(shown["appends_per_second"].as_f64().unwrap() > 0.0, "{shown}");
    assert_eq!(shown["deliveries_per_second"], 0.0, "nobody takes it");

    sidecar.signal("KILL");
    drop(sidecar);
    let sidecar = with_spool(NO_BROKER, &directory).start().await;
    assert_eq!(sidecar.metric("amqpost_spool_messages").await, 1.0);
    assert_eq!(sidecar.metric("amqpost_spool_lost_messages").await, 0.0);
}

#[tokio::test]
async fn an_envelope_names_its_mode_too() {
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(NO_BROKER, &directory).start().await;
    let json = [("content-type", "application/json")];
    for mode in ["fallback", "spool"] {
        let envelope = format!(r#"{{"exchange":"","routing_key":"q","payload":"x","mode":"{mode}"}}"#);
        let envelope = envelope.replace("\"exchange\":\"\"", "\"exchange\":\"amq.default\"");
        assert_eq!(sidecar.post("/v1/messages", &json, envelope).await.verdict(), (202, "spooled"));
    }
}

#[tokio::test]
async fn fallback_without_a_broker_is_spooled_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(NO_BROKER, &directory).start().await;
    let answer = sidecar.post(QUEUE, &[FALLBACK, ("amqpost-timeout", "20s")], "x").await;
    assert_eq!(answer.verdict(), (202, "spooled"));
    assert!(answer.elapsed < Duration::from_secs(5), "{:?}", answer.elapsed);
}

#[tokio::test]
async fn fallback_leaves_the_spool_time_when_the_broker_does_not_answer() {
    let vhost = shared().await.vhost("fallback_silent").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(&vhost.uri_via(proxy.port()), &directory)
        .set("broker.stall_timeout", "\"30s\"")
        .set("broker.heartbeat", "\"60s\"")
        .start()
        .await
        .with_link_up()
        .await;

    proxy.black_hole(Direction::FromBroker);
    let headers = [FALLBACK, ("amqpost-timeout", "2s"), ("amqp-message-id", "m-1")];
    let answer = sidecar.post(QUEUE, &headers, "x").await;

    assert_eq!((answer.verdict(), answer.message_id()), ((202, "spooled"), "m-1"));
    assert!(answer.elapsed < Duration::from_millis(2_500), "{:?}", answer.elapsed);
    assert_eq!(stored(&sidecar).await, 1.0);
}

#[tokio::test]
async fn fallback_with_a_broker_never_touches_the_spool() {
    let vhost = shared().await.vhost("fallback_up").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(&vhost.uri(), &directory).start().await.with_link_up().await;

    assert_eq!(sidecar.post(QUEUE, &[FALLBACK], "x").await.verdict(), (200, "confirmed"));
    let unroutable = sidecar.post("/v1/queues/nowhere/messages", &[FALLBACK], "x").await;
    assert_eq!(unroutable.verdict(), (422, "unroutable"), "the client's fault is not kept");
    let missing = sidecar.post("/v1/exchanges/nowhere/messages", &[FALLBACK], "x").await;
    assert_eq!(missing.verdict(), (404, "exchange_not_found"));

    assert_eq!(stored(&sidecar).await, 0.0);
    assert_eq!(client.depth("orders").await, 1);
}

#[tokio::test]
async fn direct_never_touches_the_spool() {
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(NO_BROKER, &directory).start().await;
    for headers in [vec![], vec![("amqpost-mode", "direct")], vec![("idempotency-key", "k")]] {
        assert_eq!(sidecar.post(QUEUE, &headers, "x").await.verdict(), (503, "link_down"));
    }
    assert_eq!(stored(&sidecar).await, 0.0);
    assert_eq!(sidecar.metric("amqpost_spool_messages").await, 0.0);
}

#[tokio::test]
async fn routes_give_exchanges_their_mode_and_say_whether_a_request_may_choose() {
    let directory = tempfile::tempdir().unwrap();
    let routes = r#"[
        { exchange = "orders.*", mode = "spool", override = false },
        { exchange = "amq.default", mode = "fallback" },
    ]"#;
    let sidecar = with_spool(NO_BROKER, &directory).set("route", &routes.replace('\n', " ")).start().await;
    let orders = "/v1/exchanges/orders.eu/messages";

    assert_eq!(sidecar.post(orders, &[], "x").await.verdict(), (202, "spooled"));
    assert_eq!(sidecar.post(orders, &[SPOOL], "x").await.verdict(), (202, "spooled"));
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (202, "spooled"));
    assert_eq!(sidecar.post(QUEUE, &[("amqpost-mode", "direct")], "x").await.verdict(), (503, "link_down"));
    assert_eq!(sidecar.post("/v1/exchanges/other/messages", &[], "x").await.verdict(), (503, "link_down"));
    let refused = sidecar.post(orders, &[("amqpost-mode", "direct")], "x").await;
    assert_eq!(refused.verdict(), (400, "invalid_request"));
    assert_eq!(
        refused.detail(),
        "amqpost-mode: the route of the exchange, \"orders.*\", is spool and may not be overridden"
    );
}

#[tokio::test]
async fn a_full_spool_says_so_and_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(NO_BROKER, &directory)
        .set("spool.max_bytes", "\"1MiB\"")
        .set("spool.destination_percent", "100")
        .start()
        .await;
    let mut spooled = 0.0;
    let refused = loop {
        let answer = sidecar.post(QUEUE, &[SPOOL], vec![b'x'; 64 << 10]).await;
        if answer.status() != 202 {
            break answer;
        }
        spooled += 1.0;
        assert!(spooled < 20.0, "a megabyte holds no more");
    };
    assert_eq!((refused.verdict(), refused.outcome()), ((503, "spool_full"), "not_published"));
    assert_eq!((refused.detail().as_str(), refused.header("retry-after")), ("the spool is full", "1"));
    assert_eq!(sidecar.metric("amqpost_spool_messages").await, spooled);
    let fallback = sidecar.post(QUEUE, &[FALLBACK], vec![b'x'; 64 << 10]).await;
    assert_eq!(fallback.verdict(), (503, "spool_full"));
}

/// The database is locked for longer than any deadline, as on a disk that hangs.
#[tokio::test]
async fn a_disk_that_hangs_hangs_nobody_and_its_key_stays_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let sidecar = with_spool(NO_BROKER, &directory).start().await;
    let database = rusqlite::Connection::open(directory.path().join("spool/spool.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();

    let headers = [SPOOL, ("amqpost-timeout", "300ms"), ("idempotency-key", "k")];
    let answer = sidecar.post(QUEUE, &headers, "x").await;
    assert_eq!((answer.verdict(), answer.outcome()), ((502, "spool_unsure"), "unknown"));
    assert!(answer.elapsed < Duration::from_secs(4), "{:?}", answer.elapsed);
    let again = sidecar.post(QUEUE, &headers, "x").await;
    assert_eq!(again.verdict(), (409, "idempotency_key_in_use"), "the writer may still succeed");

    database.execute_batch("ROLLBACK").unwrap();
    let replay = eventually("the append is done", Duration::from_secs(10), async || {
        let again = sidecar.post(QUEUE, &headers, "x").await;
        if again.status() == 202 { Ok(again) } else { Err(again) }
    })
    .await;
    assert_eq!((replay.header("idempotency-replayed"), replay.message_id()), ("true", answer.message_id()));
    assert_eq!(sidecar.metric("amqpost_spool_messages").await, 1.0);
    assert_eq!(sidecar.metric("amqpost_in_flight").await, 0.0);
}
