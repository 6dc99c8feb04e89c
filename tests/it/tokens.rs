//! A token as a password: it is renewed before it ends, and its end is about the moment.

use crate::harness::*;
use lapin::ExchangeKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A channel of RabbitMQ remembers the permissions of the last 12 exchanges it was asked about.
const EXCHANGES: usize = 30;

const HOUR: Duration = Duration::from_secs(3600);

/// A node that accepts tokens, with many exchanges, and a file with a token.
struct Scene {
    vhost: Vhost,
    client: AmqpClient,
    directory: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let broker = Broker::with_tokens().await;
        let vhost = broker.vhost("tokens").await;
        let client = AmqpClient::connect(&vhost.uri()).await;
        client.declare_queue("all", true, arguments([])).await;
        for number in 0..EXCHANGES {
            client.declare_exchange(&format!("e{number}"), ExchangeKind::Fanout).await;
            client.bind("all", &format!("e{number}"), "").await;
        }
        Self { vhost, client, directory: tempfile::tempdir().expect("a directory") }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// Replaces the file as Kubernetes and careful programs do.
    fn put(&self, token: &str) {
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, token).expect("the directory is ours");
        std::fs::rename(fresh, self.file()).expect("the directory is ours");
    }

    async fn sidecar(&self) -> Sidecar {
        Sidecar::builder(&self.vhost.uri())
            .set("broker.password_file", &format!("\"{}\"", self.file().display()))
            .set("spool.path", &format!("\"{}\"", self.directory.path().join("spool").display()))
            .start()
            .await
            .with_link_up()
            .await
    }
}

/// Publishes to each exchange in turn, until `is_over` and for one more turn. Returns the codes.
async fn publish_until(sidecar: &Sidecar, mut is_over: impl FnMut() -> bool) -> Vec<String> {
    let mut codes = Vec::new();
    loop {
        let is_last = is_over();
        for number in 0..EXCHANGES {
            let path = format!("/v1/exchanges/e{number}/messages");
            let answer = sidecar.post(&path, &[], "x").await;
            let is_good = [(200, "confirmed"), (503, "destination_unavailable")].contains(&answer.verdict());
            assert!(is_good, "{}", answer.text());
            codes.push(answer.code().to_owned());
        }
        if is_last {
            return codes;
        }
    }
}

async fn parked(sidecar: &Sidecar) -> f64 {
    sidecar.metric("amqpost_spool_parked_messages").await
}

#[tokio::test]
async fn a_token_that_is_replaced_before_its_end_is_renewed_on_the_open_connections() {
    let scene = Scene::new().await;
    let end = SystemTime::now() + Duration::from_secs(15);
    scene.put(&token(Duration::from_secs(15)));
    let sidecar = scene.sidecar().await;
    let ends = sidecar.metric("amqpost_token_end_timestamp_seconds").await;
    publish_until(&sidecar, || true).await;

    scene.put(&token(HOUR));

    let codes = publish_until(&sidecar, || SystemTime::now() > end + Duration::from_secs(2)).await;
    let unavailable = codes.iter().filter(|code| *code != "confirmed").count();
    assert_eq!(unavailable, 0, "of {}: {}", codes.len(), sidecar.log());
    assert!(sidecar.metric("amqpost_token_end_timestamp_seconds").await > ends + 3000.0);
    assert_eq!(sidecar.metric("amqpost_token_lifetime_seconds").await, 3600.0);
    assert_eq!(sidecar.metric("amqpost_connects_total{result=\"ok\"}").await, 2.0, "{}", sidecar.log());
}

#[tokio::test]
async fn a_token_that_the_broker_refuses_harms_no_open_connection() {
    let scene = Scene::new().await;
    scene.put(&token(HOUR));
    let sidecar = scene.sidecar().await;

    scene.put(&forged_token(HOUR));
    eventually("the refusal is in the log", PATIENCE, async || {
        let log = sidecar.log();
        if log.contains("the broker refuses the new token") { Ok(()) } else { Err(log) }
    })
    .await;
    let codes = publish_until(&sidecar, || true).await;
    assert!(codes.iter().all(|code| code == "confirmed"), "{codes:?}");

    scene.put(&token(2 * HOUR));
    eventually("the good token is in use", PATIENCE, async || {
        let lifetime = sidecar.metric("amqpost_token_lifetime_seconds").await;
        if lifetime == 7200.0 { Ok(()) } else { Err((lifetime, sidecar.log())) }
    })
    .await;
    assert_eq!(sidecar.metric("amqpost_connects_total{result=\"ok\"}").await, 2.0, "{}", sidecar.log());
}

#[tokio::test]
async fn a_token_that_ends_is_waited_for_and_nothing_is_parked() {
    let scene = Scene::new().await;
    scene.put(&token(Duration::from_secs(15)));
    let sidecar = scene.sidecar().await;
    publish_until(&sidecar, || true).await;
    assert_eq!(scene.client.purge("all").await as usize, EXCHANGES);

    eventually("the token has ended", PATIENCE, async || {
        let codes = publish_until(&sidecar, || true).await;
        if codes.iter().any(|code| code == "destination_unavailable") { Ok(()) } else { Err(codes) }
    })
    .await;
    scene.client.purge("all").await;
    for number in 0..10 {
        let path = format!("/v1/exchanges/e{number}/messages");
        let kept = sidecar.post(&path, &[("amqpost-mode", "spool")], format!("kept {number}")).await;
        assert_eq!(kept.verdict(), (202, "spooled"));
    }
    scene.put(&token(HOUR));

    eventually("everything kept has arrived", PATIENCE, async || {
        let waiting = sidecar.metric("amqpost_spool_messages").await;
        if waiting == 0.0 { Ok(()) } else { Err((waiting, sidecar.log())) }
    })
    .await;
    assert_eq!(parked(&sidecar).await, 0.0);
    assert_eq!(scene.client.drain("all").await.len(), 10);
    let codes = publish_until(&sidecar, || true).await;
    assert!(codes.iter().all(|code| code == "confirmed"), "{codes:?}");
}
