//! TLS to the broker: it works with the right authority and name; with wrong ones the reason is
//! reported.

use crate::harness::*;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

static WITH_TLS: OnceCell<Broker> = OnceCell::const_new();

/// The node with TLS that the tests of this file share.
async fn with_tls() -> &'static Broker {
    WITH_TLS.get_or_init(|| Broker::builder().tls().start()).await
}

/// A sidecar for `uri` with one connection that trusts the authority in `ca`.
fn trusting(uri: &str, ca: &std::path::Path) -> SidecarBuilder {
    Sidecar::builder(uri)
        .set("broker.connections", "1")
        .set("broker.reconnect_max", "\"200ms\"")
        .set("broker.ca_file", &format!("\"{}\"", ca.display()))
}

/// Connecting fails for one of `reasons`, requests get 503, and the process lives.
async fn assert_down_because(mut sidecar: Sidecar, reasons: &[&str]) {
    eventually("connects have failed", PATIENCE, async || {
        for reason in reasons {
            if sidecar.metric(&format!("amqpost_connects_total{{result=\"{reason}\"}}")).await >= 3.0 {
                return Ok(());
            }
        }
        Err(sidecar.log())
    })
    .await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (503, "link_down"));
    assert_eq!(sidecar.metric("amqpost_connects_total{result=\"ok\"}").await, 0.0);
    assert!(sidecar.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_authority_messages_small_and_large_are_confirmed() {
    let broker = with_tls().await;
    let vhost = broker.vhost("tls").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = trusting(&broker.tls_uri("tls"), broker.ca_pem()).start().await.with_link_up().await;

    let sent = load(&sidecar, QUEUE, "t", 32, |n| n >= 1_000).await;
    assert_eq!(codes(&sent).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 1_000)]);
    assert_eq!(client.purge("orders").await, 1_000);

    let payload: Vec<u8> = (0..4 * 1024 * 1024).map(|position: usize| (position * 31) as u8).collect();
    let large = sidecar.post(QUEUE, &[("amqpost-timeout", "60s")], payload.clone()).await;
    assert_eq!(large.verdict(), (200, "confirmed"));
    assert!(client.drain("orders").await[0].body == payload, "the same bytes");
}

#[tokio::test]
async fn a_connection_with_tls_that_breaks_comes_back() {
    let broker = with_tls().await;
    let vhost = broker.vhost("tls_again").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let proxy = FaultProxy::to_port(broker.tls_port());
    let uri = format!("amqps://guest:guest@127.0.0.1:{}/tls_again", proxy.port());
    let sidecar = trusting(&uri, broker.ca_pem()).start().await.with_link_up().await;

    proxy.refuse();
    proxy.reset_all();
    sidecar.link_is("down", PATIENCE).await;
    proxy.pass();

    sidecar.link_is("up", PATIENCE).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn an_authority_that_is_replaced_works_without_a_restart() {
    let broker = Broker::builder().tls().start().await;
    let vhost = broker.vhost("new_authority").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let uri = broker.tls_uri("new_authority");
    let sidecar = trusting(&uri, broker.ca_pem()).start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));

    broker.stop().await;
    broker.renew_certificates();
    broker.restart().await;

    sidecar.link_is("up", PATIENCE).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn without_the_authority_it_does_not_connect() {
    let broker = with_tls().await;
    let sidecar = Sidecar::builder(&broker.tls_uri("/")).set("broker.reconnect_max", "\"200ms\"");
    assert_down_because(sidecar.start().await, &["tls"]).await;
}

#[tokio::test]
async fn with_somebody_elses_authority_it_does_not_connect() {
    let broker = with_tls().await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".pem").unwrap();
    std::fs::write(file.path(), other.cert.pem()).unwrap();
    let sidecar = trusting(&broker.tls_uri("/"), file.path()).start().await;
    assert_down_because(sidecar, &["tls"]).await;
}

#[tokio::test]
async fn a_host_that_the_certificate_does_not_name_is_not_trusted() {
    let broker = with_tls().await;
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let uri = format!("amqps://guest:guest@{}", listener.local_addr().unwrap());
    let port = broker.tls_port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("the broker listens");
            tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut client, &mut server).await) });
        }
    });
    assert_down_because(trusting(&uri, broker.ca_pem()).start().await, &["tls"]).await;
}

#[tokio::test]
async fn plain_amqp_to_the_tls_port_fails_with_a_reason() {
    let broker = with_tls().await;
    let uri = broker.uri_for("/", "guest", "guest", broker.tls_port());
    let sidecar = Sidecar::builder(&uri)
        .set("broker.reconnect_max", "\"200ms\"")
        .set("broker.connect_timeout", "\"2s\"")
        .start()
        .await;
    sidecar.explains("the port expects TLS", PATIENCE).await;
    assert_down_because(sidecar, &["protocol", "io", "timeout"]).await;
}

#[tokio::test]
async fn tls_to_the_plain_port_fails_with_a_reason() {
    let broker = with_tls().await;
    let uri = format!("amqps://guest:guest@localhost:{}", broker.amqp_port());
    let sidecar = trusting(&uri, broker.ca_pem()).set("broker.connect_timeout", "\"2s\"").start().await;
    sidecar.explains("the port speaks AMQP without TLS", PATIENCE).await;
    assert_down_because(sidecar, &["tls", "timeout"]).await;
}
