//! Requests refused before their body is read: their connection serves the next one, or the answer
//! says that it closes.

use crate::harness::*;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";
const ENVELOPE: &str = "/v1/messages";
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection on which a request was sent, whole or in part.
struct Refused<'a> {
    wire: SlowClient,
    /// The unsent rest of its body.
    left: usize,
    case: &'a str,
}

impl Refused<'_> {
    /// Expects an answer with `status`. Either the connection serves another request, or the answer
    /// said that it closes. Returns whether it continues.
    async fn goes_on(mut self, status: u16) -> bool {
        let case = self.case;
        let (head, body) = self.wire.read_answer(PATIENCE).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{case:?}: {head}{body}");
        if head.contains("\r\nconnection: close\r\n") {
            assert!(self.wire.is_closed(PATIENCE).await, "{case:?}: the connection stays open");
            return false;
        }
        let unsaid = "the connection closes and the answer did not say so";
        let next =
            format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\namqp-priority: 300\r\ncontent-length: 0\r\n\r\n");
        let sent = self.wire.try_send("x".repeat(self.left) + &next).await;
        assert!(sent.is_ok(), "{case:?}: {unsaid}: {head}");
        let next = self.wire.read_head(PATIENCE).await;
        assert!(next.starts_with("HTTP/1.1 400 "), "{case:?}: {unsaid}: {head}");
        true
    }
}

async fn connected<'a>(sidecar: &Sidecar, case: &'a str) -> Refused<'a> {
    Refused { wire: SlowClient::connect(sidecar.http()).await, left: 0, case }
}

/// A request whose client sends `sent` of the `length` bytes of its body.
async fn begun<'a>(sidecar: &Sidecar, case: &'a str, path: &str, length: usize, sent: usize) -> Refused<'a> {
    let mut refused = connected(sidecar, case).await;
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{case}content-length: {length}\r\n\r\n");
    refused.wire.send(head + &"x".repeat(sent)).await;
    refused.left = length - sent;
    refused
}

/// A head, its path, and the status with which a sidecar without a link refuses it, independently
/// of the body.
const REFUSED_BY_THEIR_HEAD: [(&str, &str, u16); 8] = [
    ("", QUEUE, 503),
    ("amqp-priority: 300\r\n", QUEUE, 400),
    ("expect: 100-continue\r\n", QUEUE, 503),
    ("", ENVELOPE, 415),
    ("content-type: application/json\r\namqpost-timeout: soon\r\n", ENVELOPE, 400),
    ("content-type: application/x-ndjson\r\namqpost-timeout: soon\r\n", ENVELOPE, 400),
    ("content-type: application/json\r\n", ENVELOPE, 503),
    ("", "/nowhere", 404),
];

async fn without_a_link() -> Sidecar {
    let sidecar = Sidecar::builder("amqp://127.0.0.1:1").start().await;
    sidecar.link_is("down", PATIENCE).await;
    sidecar
}

#[tokio::test]
async fn a_client_in_the_middle_of_its_body_is_told_that_its_connection_closes() {
    let sidecar = without_a_link().await;
    for (head, path, status) in REFUSED_BY_THEIR_HEAD {
        let refused = begun(&sidecar, head, path, 100_000, 10).await;
        assert!(!refused.goes_on(status).await, "{path} {head:?}: the rest of the body is in the way");
    }
}

#[tokio::test]
async fn a_client_that_has_sent_its_whole_body_goes_on_with_its_connection() {
    let sidecar = without_a_link().await;
    for (head, path, status) in
        REFUSED_BY_THEIR_HEAD.into_iter().filter(|(head, ..)| !head.contains("expect"))
    {
        // This much fits into the socket's buffers, so the client needs no pause.
        let refused = begun(&sidecar, head, path, 60_000, 60_000).await;
        assert!(refused.goes_on(status).await, "{path} {head:?}: nothing is in the way");
    }
}

#[tokio::test]
async fn a_client_that_takes_too_long_for_its_body_is_told_that_its_connection_closes() {
    let sidecar = without_a_link().await;
    let mut refused = begun(&sidecar, "", QUEUE, 100_000, 10).await;
    // Each pause is shorter than a refused client may make, but all of them together last longer
    // than it may take.
    let sending = Duration::from_secs(10);
    let begun = std::time::Instant::now();
    while begun.elapsed() < sending && refused.wire.try_send("x").await.is_ok() {
        refused.wire.pause(Duration::from_millis(20)).await;
        refused.left -= 1;
    }
    assert!(begun.elapsed() < sending, "it is cut off");
    assert!(!refused.goes_on(503).await, "the rest of the body is in the way");
}

#[tokio::test]
async fn a_body_that_is_refused_itself_is_no_trap_for_the_next_request() {
    let vhost = shared().await.vhost("refused_bodies").await;
    let limits = Sidecar::builder(&vhost.uri()).set("publish.max_body", "\"64KiB\"");
    let sidecar = limits.start().await.with_link_up().await;
    let json = "content-type: application/json\r\n";

    let cases =
        [("", QUEUE, 10, 413), (json, ENVELOPE, 10, 413), ("amqpost-timeout: 200ms\r\n", QUEUE, 10, 413)];
    for (head, path, sent, status) in cases {
        let refused = begun(&sidecar, head, path, 100_000, sent).await;
        assert!(!refused.goes_on(status).await, "{path} {head:?}: the rest of the body is in the way");
    }
    let late = begun(&sidecar, "amqpost-timeout: 200ms\r\n", QUEUE, 1_000, 10).await;
    assert!(!late.goes_on(408).await, "the rest of the body is in the way");
    let whole = begun(&sidecar, "", QUEUE, 100_000, 100_000).await;
    assert!(whole.goes_on(413).await, "nothing is in the way");

    let mut broken = connected(&sidecar, "a chunk that is none").await;
    let head = format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    broken.wire.send(head + "2\r\nab\r\nno chunk\r\n").await;
    assert!(!broken.goes_on(400).await, "nobody knows where the next request begins");
}

#[tokio::test]
async fn a_client_of_http_1_0_is_not_promised_a_connection_that_closes() {
    let sidecar = without_a_link().await;
    let mut refused = connected(&sidecar, "1.0").await;
    let head = format!("POST {QUEUE} HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 100000\r\n\r\n");
    refused.wire.send(head + "x").await;
    let answer = refused.wire.read_to_end(PATIENCE).await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
