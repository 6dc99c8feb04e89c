//! The bounds: concurrent publishes, bytes and connections, sizes, and the time for slow clients.

use crate::harness::*;
use futures::future::join_all;
use std::cell::Cell;
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

/// A request with a body of `sent` bytes out of `length`.
fn part_of_a_request(headers: &str, length: usize, sent: usize) -> String {
    let body = "x".repeat(sent);
    format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn beyond_max_in_flight_it_is_overloaded_at_once_until_the_others_are_resolved() {
    let broker = Broker::start().await;
    let (client, sidecar) = orders(&broker, "overloaded").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let sidecar = patient.set("publish.max_in_flight", "4").start().await.with_link_up().await;
    assert_eq!(sidecar.metric("amqpost_in_flight_limit").await, 4.0);
    broker.pause().await;

    let headers = [("amqpost-timeout", "60s")];
    let held = join_all((0..4).map(|_| sidecar.post(QUEUE, &headers, "held")));
    let refused = async {
        sidecar.in_flight_is(4).await;
        let answers = [
            sidecar.post(QUEUE, &headers, "refused").await,
            sidecar.post(QUEUE, &headers, vec![b'x'; 1024 * 1024]).await,
        ];
        broker.resume().await;
        answers
    };
    let (held, refused) = tokio::join!(held, refused);

    for answer in refused {
        assert_eq!((answer.verdict(), answer.outcome()), ((503, "overloaded"), "not_published"));
        assert_eq!((answer.header("retry-after"), &answer.json()["retry"]), ("1", &"safe".into()));
        assert!(answer.elapsed < Duration::from_secs(10), "at once, not at the deadline: {answer:?}");
    }
    assert!(held.iter().all(|answer| answer.code() == "confirmed"));
    sidecar.in_flight_is(0).await;
    assert_eq!(sidecar.post(QUEUE, &[], "again").await.verdict(), (200, "confirmed"));
    assert_eq!(client.depth("orders").await, 5);
}

#[tokio::test]
async fn beyond_the_bytes_in_flight_it_is_overloaded_and_smaller_messages_still_fit() {
    let broker = Broker::start().await;
    let (_client, sidecar) = orders(&broker, "bytes").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let limits = patient.set("publish.max_in_flight_bytes", "\"64KiB\"").set("publish.max_body", "\"64KiB\"");
    let sidecar = limits.start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;

    let held = sidecar.post(QUEUE, &[("amqpost-timeout", "60s")], vec![b'x'; 60_000]);
    let others = async {
        sidecar.in_flight_is(1).await;
        let short = [("amqpost-timeout", "500ms")];
        let large = sidecar.post(QUEUE, &short, vec![b'x'; 10_000]).await;
        let small = sidecar.post(QUEUE, &short, vec![b'x'; 1_000]).await;
        broker.resume().await;
        (large, small)
    };
    let (held, (large, small)) = tokio::join!(held, others);

    assert_eq!(large.verdict(), (503, "overloaded"));
    assert!(large.detail().contains("max_in_flight_bytes"), "{}", large.detail());
    assert_eq!(small.verdict(), (504, "confirm_timeout"));
    assert_eq!(held.verdict(), (200, "confirmed"));
    sidecar.in_flight_is(0).await;
    assert_eq!(sidecar.post(QUEUE, &[], vec![b'x'; 60_000]).await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn clients_that_hang_up_in_the_middle_of_a_body_give_their_places_back() {
    let (client, sidecar) = orders(shared().await, "half_bodies").await;
    let sidecar = sidecar.set("publish.max_in_flight", "16").start().await.with_link_up().await;

    let mut wires = Vec::new();
    for _ in 0..16 {
        let mut wire = SlowClient::connect(sidecar.http()).await;
        wire.send(part_of_a_request("amqpost-timeout: 60s\r\n", 1000, 500)).await;
        wires.push(wire);
    }
    sidecar.in_flight_is(16).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.code(), "overloaded");
    drop(wires);

    sidecar.in_flight_is(0).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
    assert_eq!(client.depth("orders").await, 1, "half a body is no message");
}

#[tokio::test]
async fn clients_that_hang_up_before_the_verdict_give_their_places_back_once_there_is_one() {
    let broker = Broker::start().await;
    let (client, sidecar) = orders(&broker, "hang_ups").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let sidecar = patient.set("publish.max_in_flight", "16").start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;

    let mut wires = Vec::new();
    for _ in 0..16 {
        let mut wire = SlowClient::connect(sidecar.http()).await;
        wire.send(part_of_a_request("amqpost-timeout: 60s\r\n", 4, 4)).await;
        wires.push(wire);
    }
    sidecar.in_flight_is(16).await;
    drop(wires);
    broker.resume().await;

    sidecar.in_flight_is(0).await;
    let full = join_all((0..16).map(|_| sidecar.post(QUEUE, &[], "x"))).await;
    assert!(full.iter().all(|answer| answer.code() == "confirmed"), "{full:?}");
    assert_eq!(client.purge("orders").await, 1 + 16 + 16);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_and_is_then_served() {
    let (_client, sidecar) = orders(shared().await, "connections").await;
    let sidecar = sidecar.set("http.max_connections", "2").start().await.with_link_up().await;
    let request = part_of_a_request("", 1, 1);
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = SlowClient::connect(sidecar.http()).await;
        wire.send(&request).await;
        let (head, _) = wire.read_answer(PATIENCE).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        wires.push(wire);
    }

    let mut third = SlowClient::connect(sidecar.http()).await;
    third.send(&request).await;
    assert_eq!(third.read_head(Duration::from_secs(1)).await, "", "there is no place for it");
    wires.pop();

    let (head, _) = third.read_answer(PATIENCE).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_listener_without_connections_takes_no_place() {
    let (_client, sidecar) = orders(shared().await, "two_listeners").await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("amqpost.sock");
    let listen = format!("[\"unix:{}\", \"127.0.0.1:0\"]", path.display());
    let sidecar = sidecar.set_instead("http.listen", &listen).set("http.max_connections", "1").start().await;
    let port = sidecar.http().split(',').next_back().unwrap().to_owned();

    for _ in 0..2 {
        // One at a time, because an open silent connection may occupy the only place.
        for is_unix in [true, false] {
            let mut wire = if is_unix {
                SlowClient::connect_unix(&path).await
            } else {
                SlowClient::connect(&port).await
            };
            wire.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            let head = wire.read_head(PATIENCE).await;
            assert!(head.starts_with("HTTP/1.1 404 "), "one of the listeners does not serve: {head:?}");
        }
    }
}

#[tokio::test]
async fn a_head_that_does_not_arrive_is_cut_off_however_it_trickles() {
    let (_client, sidecar) = orders(shared().await, "half_heads").await;
    let sidecar = sidecar.set("http.header_timeout", "\"500ms\"").start().await.with_link_up().await;
    let begun = Instant::now();
    let mut quiet = SlowClient::connect(sidecar.http()).await;
    quiet.send(format!("POST {QUEUE} HTTP/1.1\r\nhost: ")).await;
    let mut trickling = SlowClient::connect(sidecar.http()).await;
    trickling.send(format!("POST {QUEUE} HTTP/1.1\r\nhost: ")).await;

    while trickling.try_send("x").await.is_ok() {
        trickling.pause(Duration::from_millis(50)).await;
        assert!(begun.elapsed() < PATIENCE, "it may go on for ever");
    }
    assert!(quiet.is_closed(PATIENCE).await);
    assert!(begun.elapsed() >= Duration::from_millis(490), "not before its time: {:?}", begun.elapsed());
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let broker = Broker::start().await;
    let (_client, sidecar) = orders(&broker, "idle").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let sidecar = patient.set("http.idle_timeout", "\"1s\"").start().await.with_link_up().await;
    let mut unused = SlowClient::connect(sidecar.http()).await;
    let mut used = SlowClient::connect(sidecar.http()).await;
    used.send(part_of_a_request("", 1, 1)).await;
    let (head, _) = used.read_answer(PATIENCE).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    broker.pause().await;
    let mut busy = SlowClient::connect(sidecar.http()).await;
    busy.send(part_of_a_request("amqpost-timeout: 4s\r\n", 1, 1)).await;

    assert!(used.is_closed(PATIENCE).await, "used once");
    assert!(unused.is_closed(PATIENCE).await, "never used");
    let (head, _) = busy.read_answer(PATIENCE).await;
    broker.resume().await;
    assert!(head.starts_with("http/1.1 504 "), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_arriving_is_a_408_at_the_deadline_and_disturbs_nobody() {
    let (client, sidecar) = orders(shared().await, "stopped_bodies").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let begun = Instant::now();
    let mut wires = Vec::new();
    for _ in 0..50 {
        let mut wire = SlowClient::connect(sidecar.http()).await;
        wire.send(part_of_a_request("amqpost-timeout: 2s\r\n", 1000, 500)).await;
        wires.push(wire);
    }
    let good = load(&sidecar, QUEUE, "g", 16, |n| n >= 500).await;
    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 500)]);

    for wire in &mut wires {
        let (head, body) = wire.read_answer(PATIENCE).await;
        assert!(
            head.starts_with("http/1.1 408 ") && head.contains("amqpost-code: request_timeout"),
            "{head}"
        );
        assert!(body.contains("not_published"), "{body}");
    }
    let elapsed = begun.elapsed();
    assert!(elapsed > Duration::from_secs(2) && elapsed < PATIENCE, "at the deadline: {elapsed:?}");
    sidecar.in_flight_is(0).await;
    assert_eq!(client.depth("orders").await, 500);
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_disturbs_nobody() {
    let (_client, sidecar) = orders(shared().await, "no_reader").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let mut deaf = SlowClient::connect(sidecar.http()).await;
    let many = part_of_a_request("", 1, 1).repeat(50_000);
    // The sidecar stops reading once its answers are stuck, so it does not accept all of them.
    let taken = tokio::time::timeout(Duration::from_secs(3), deaf.try_send(many)).await;
    drop(taken);

    let good = load(&sidecar, QUEUE, "g", 16, |n| n >= 500).await;

    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 500)]);
    drop(deaf);
    sidecar.in_flight_is(0).await;
}

#[tokio::test]
async fn a_client_that_asks_first_sends_no_body_that_is_too_large() {
    let (_client, sidecar) = orders(shared().await, "expect").await;
    let sidecar = sidecar.set("publish.max_body", "\"1KiB\"").start().await.with_link_up().await;
    let mut wire = SlowClient::connect(sidecar.http()).await;
    wire.send(part_of_a_request("expect: 100-continue\r\n", 1025, 0)).await;
    let (head, _) = wire.read_answer(PATIENCE).await;
    assert!(head.starts_with("http/1.1 413 "), "{head}");

    let mut wire = SlowClient::connect(sidecar.http()).await;
    wire.send(part_of_a_request("expect: 100-continue\r\n", 1024, 0)).await;
    let asked = wire.read_head(PATIENCE).await;
    assert!(asked.starts_with("HTTP/1.1 100 "), "{asked}");
    wire.send("x".repeat(1024)).await;
    let (head, _) = wire.read_answer(PATIENCE).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_a_413_whether_its_length_is_announced_or_not() {
    let (client, sidecar) = orders(shared().await, "large_bodies").await;
    let sidecar = sidecar.set("publish.max_body", "\"1KiB\"").start().await.with_link_up().await;

    let announced = sidecar.post(QUEUE, &[], vec![b'x'; 1025]).await;
    assert_eq!((announced.verdict(), announced.outcome()), ((413, "payload_too_large"), "not_published"));
    assert!(announced.detail().contains("1024"), "{}", announced.detail());

    let mut wire = SlowClient::connect(sidecar.http()).await;
    wire.send(format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")).await;
    wire.send(format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025))).await;
    let (head, body) = wire.read_answer(PATIENCE).await;
    assert!(head.starts_with("http/1.1 413 ") && head.contains("amqpost-code: payload_too_large"), "{head}");
    assert!(body.contains("1024"), "{body}");

    assert_eq!(sidecar.post(QUEUE, &[], vec![b'x'; 1024]).await.verdict(), (200, "confirmed"));
    assert_eq!(client.depth("orders").await, 1);
    sidecar.in_flight_is(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_beyond_the_limit_is_answered_before_the_connection_ends() {
    let (_client, sidecar) = orders(shared().await, "much_too_large").await;
    let sidecar = sidecar.set("publish.max_body", "\"1MiB\"").start().await.with_link_up().await;

    for _ in 0..5 {
        let answer = sidecar.post(QUEUE, &[], vec![b'x'; 20 * 1024 * 1024]).await;
        assert_eq!(answer.verdict(), (413, "payload_too_large"));
    }
}

#[tokio::test]
async fn an_envelope_that_takes_long_to_decode_holds_up_no_other_request() {
    let (_client, sidecar) = orders(shared().await, "long_to_decode").await;
    let sidecar = sidecar.patient().set("runtime.worker_threads", "1").start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    let payload = r"\u00e9".repeat(2_700_000);
    let envelope = format!(r#"{{"exchange":"amq.default","routing_key":"orders","payload":"{payload}"}}"#);
    let headers = [("content-type", "application/json"), ("amqpost-timeout", "60s")];

    let is_answered = Cell::new(false);
    let long = async {
        let answer = sidecar.post("/v1/messages", &headers, envelope).await;
        is_answered.set(true);
        answer
    };
    let others = async {
        let mut longest = Duration::ZERO;
        while !is_answered.get() {
            longest = longest.max(sidecar.post(QUEUE, &[("amqpost-timeout", "60s")], "short").await.elapsed);
        }
        longest
    };
    let (long, longest_other) = tokio::join!(long, others);

    assert_eq!(long.code(), "confirmed");
    assert!(longest_other < long.elapsed / 2, "{longest_other:?} beside one of {:?}", long.elapsed);
}
