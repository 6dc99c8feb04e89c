//! `Idempotency-Key`: a repeated request is published once and gets its first outcome again.

use crate::harness::*;
use futures::future::join_all;
use std::time::Duration;
use tempfile::TempDir;

const QUEUE: &str = "/v1/queues/orders/messages";
const KEY: (&str, &str) = ("idempotency-key", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"");

struct Scene {
    vhost: Vhost,
    client: AmqpClient,
    proxy: FaultProxy,
    directory: TempDir,
}

impl Scene {
    async fn set(name: &str) -> Self {
        let vhost = shared().await.vhost(name).await;
        let client = AmqpClient::connect(&vhost.uri()).await;
        client.declare_queue("orders", true, arguments([])).await;
        let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
        Self { vhost, client, proxy, directory: tempfile::tempdir().expect("a directory") }
    }

    async fn sidecar(&self) -> Sidecar {
        let path = self.directory.path().join("spool");
        Sidecar::builder(&self.vhost.uri_via(self.proxy.port()))
            .set("spool.path", &format!("{path:?}"))
            .set("spool.disk_reserve", "0")
            .start()
            .await
            .with_link_up()
            .await
    }
}

#[tokio::test]
async fn a_repeated_request_is_published_once_and_answered_alike() {
    let scene = Scene::set("idempotent").await;
    let sidecar = scene.sidecar().await;
    let first = sidecar.post(QUEUE, &[KEY], "one").await;
    assert_eq!((first.verdict(), first.header("idempotency-replayed")), ((200, "confirmed"), ""));

    let again = sidecar.post(QUEUE, &[("idempotency-key", KEY.1.trim_matches('"'))], "one").await;
    assert_eq!((again.verdict(), again.header("idempotency-replayed")), ((200, "confirmed"), "true"));
    assert_eq!(again.message_id(), first.message_id());
    let traced = sidecar.post(QUEUE, &[KEY, ("traceparent", "00-1-2-01")], "one").await;
    assert_eq!(traced.header("idempotency-replayed"), "true", "a trace does not make it another request");

    assert_eq!(scene.client.depth("orders").await, 1);
    assert_eq!(sidecar.published("confirmed", "confirmed").await, 1.0, "the message counts once");
    assert_eq!(sidecar.metric("amqpost_idempotency_replays_total").await, 2.0);
}

#[tokio::test]
async fn a_key_is_good_for_one_request_only() {
    let scene = Scene::set("key_reused").await;
    let sidecar = scene.sidecar().await;
    sidecar.post(QUEUE, &[KEY], "one").await;
    let others = [
        sidecar.post(QUEUE, &[KEY], "two").await,
        sidecar.post(QUEUE, &[KEY, ("amqp-priority", "1")], "one").await,
        sidecar.post(QUEUE, &[KEY, ("amqpost-mandatory", "false")], "one").await,
        sidecar.post("/v1/queues/other/messages", &[KEY], "one").await,
    ];
    for other in others {
        assert_eq!((other.verdict(), other.outcome()), ((422, "idempotency_key_reused"), "not_published"));
    }
    assert_eq!(scene.client.depth("orders").await, 1);
}

#[tokio::test]
async fn of_many_at_once_one_goes_and_the_others_are_told_to_wait() {
    let scene = Scene::set("key_in_use").await;
    let sidecar = scene.sidecar().await;
    scene.proxy.hold(Direction::FromBroker);
    let (first, waiting) = tokio::join!(sidecar.post(QUEUE, &[KEY], "one"), async {
        eventually("the first is under way", Duration::from_secs(5), async || {
            sidecar.metric("amqpost_in_flight").await >= 1.0
        })
        .await;
        let waiting = join_all((0..8).map(|_| sidecar.post(QUEUE, &[KEY], "one"))).await;
        scene.proxy.pass();
        waiting
    });
    assert_eq!(first.verdict(), (200, "confirmed"));
    for answer in waiting {
        assert_eq!(answer.verdict(), (409, "idempotency_key_in_use"));
        assert_eq!((answer.header("retry-after"), answer.json()["retry"].as_str()), ("1", Some("safe")));
    }
    assert_eq!(scene.client.depth("orders").await, 1);
}

#[tokio::test]
async fn what_was_not_final_is_tried_again_with_the_first_message_id() {
    let scene = Scene::set("key_again").await;
    let sidecar = scene.sidecar().await;
    let path = "/v1/queues/late/messages";
    let first = sidecar.post(path, &[KEY], "one").await;
    assert_eq!(first.verdict(), (422, "unroutable"));
    scene.client.declare_queue("late", true, arguments([])).await;

    let again = sidecar.post(path, &[KEY], "one").await;

    assert_eq!((again.verdict(), again.header("idempotency-replayed")), ((200, "confirmed"), ""));
    assert_eq!(again.message_id(), first.message_id());
    assert_eq!(scene.client.drain("late").await[0].message_id(), Some(first.message_id()));
}

#[tokio::test]
async fn a_client_that_left_learns_the_outcome_when_it_asks_again() {
    let scene = Scene::set("key_left").await;
    let sidecar = scene.sidecar().await;
    scene.proxy.hold(Direction::FromBroker);
    let impatient = tokio::time::timeout(Duration::from_millis(300), sidecar.post(QUEUE, &[KEY], "one"));
    assert!(impatient.await.is_err(), "nobody confirms yet");
    scene.proxy.pass();

    let again = eventually("the outcome is known", Duration::from_secs(5), async || {
        let again = sidecar.post(QUEUE, &[KEY], "one").await;
        if again.status() == 200 { Ok(again) } else { Err(again) }
    })
    .await;

    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(scene.client.depth("orders").await, 1);
}

#[tokio::test]
async fn what_is_on_disk_is_remembered_through_kill_9() {
    let scene = Scene::set("key_on_disk").await;
    let (spool, fallback) = (("amqpost-mode", "spool"), ("amqpost-mode", "fallback"));
    let other = ("idempotency-key", "other");
    let sidecar = scene.sidecar().await;
    let spooled = sidecar.post(QUEUE, &[KEY, spool], "one").await;
    let confirmed = sidecar.post("/v1/queues/second/messages", &[other, fallback], "two").await;
    assert_eq!((spooled.verdict(), confirmed.verdict()), ((202, "spooled"), (422, "unroutable")));
    scene.client.declare_queue("second", true, arguments([])).await;
    let confirmed = sidecar.post("/v1/queues/second/messages", &[other, fallback], "two").await;
    assert_eq!(confirmed.verdict(), (200, "confirmed"));
    sidecar.signal("KILL");
    drop(sidecar);

    let sidecar = scene.sidecar().await;
    let again = sidecar.post(QUEUE, &[KEY, spool], "one").await;
    assert_eq!((again.verdict(), again.header("idempotency-replayed")), ((202, "spooled"), "true"));
    assert_eq!(again.message_id(), spooled.message_id());
    let again = sidecar.post("/v1/queues/second/messages", &[other, fallback], "two").await;
    assert_eq!((again.verdict(), again.header("idempotency-replayed")), ((200, "confirmed"), "true"));
    assert_eq!(again.message_id(), confirmed.message_id());
    let changed = sidecar.post(QUEUE, &[KEY, spool], "three").await;
    assert_eq!(changed.verdict(), (422, "idempotency_key_reused"));

    assert_eq!(scene.client.depth("second").await, 1);
    assert_eq!(sidecar.metric("amqpost_spool_appends_total{result=\"stored\"}").await, 0.0);
}
