//! Streams under hard conditions: outages, clients that stall or leave, limits, the sidecar's
//! shutdown.

use crate::harness::*;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

fn lines(prefix: &str, numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| envelope("orders", &format!("{prefix}-{n}")) + "\n").collect()
}

fn ids_with<'a>(answers: &'a [Value], outcome: &str) -> HashSet<&'a str> {
    let with = answers.iter().filter(|answer| answer["outcome"] == outcome);
    with.filter_map(|answer| answer["message_id"].as_str()).collect()
}

async fn arrived(client: &AmqpClient) -> HashSet<String> {
    client
        .drain("orders")
        .await
        .iter()
        .map(|message| message.message_id().expect("an id").to_owned())
        .collect()
}

#[tokio::test]
async fn without_a_link_every_line_is_refused_at_once_and_the_stream_stays_open() {
    let sidecar = Sidecar::builder("amqp://127.0.0.1:1").start().await;
    let mut stream = LineStream::open(&sidecar, &[("amqpost-timeout", "60s")]).await;
    let begun = Instant::now();

    stream.send_bytes(lines("m", 0..2_000)).await;
    let answers = stream.answers(2_000).await;

    assert!(begun.elapsed() < Duration::from_secs(30), "at once, not at the deadline");
    for answer in &answers {
        assert_eq!((&answer["code"], &answer["retry"]), (&json!("link_down"), &json!("safe")));
        assert_eq!(answer["message_id"], format!("m-{}", answer["index"]));
    }
    stream.send("{}").await;
    assert_eq!(stream.answer().await.unwrap()["code"], "invalid_request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_in_the_middle_costs_no_line_its_true_verdict() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("stream_killed").await;
    vhost.with_orders().await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let mut stream = LineStream::open(&sidecar, &[]).await;
    let mut sent = 0;
    let mut answers = Vec::new();

    for round in 0..60 {
        stream.send_bytes(lines("m", sent..sent + 50)).await;
        sent += 50;
        if round == 20 {
            broker.kill_9().await;
        }
        if round == 40 {
            broker.restart().await;
            sidecar.link_is("up", PATIENCE).await;
        }
        // Half of the lines under way stay under way.
        answers.extend(stream.answers(if round == 0 { 25 } else { 50 }).await);
    }
    stream.finish();
    answers.extend(stream.rest().await);

    let indexes: HashSet<_> = answers.iter().map(|answer| answer["index"].as_u64().unwrap()).collect();
    assert_eq!((answers.len(), indexes.len()), (sent, sent), "every line has one verdict");
    let client = AmqpClient::connect(&vhost.uri()).await;
    let arrived = arrived(&client).await;
    let (confirmed, not_published) = (ids_with(&answers, "confirmed"), ids_with(&answers, "not_published"));
    assert!(!not_published.is_empty() && confirmed.len() > 1_000, "the outage was felt: {}", confirmed.len());
    assert!(confirmed.iter().all(|id| arrived.contains(*id)), "a confirmed message is missing");
    assert!(not_published.iter().all(|id| !arrived.contains(*id)), "a ghost");
}

#[tokio::test]
async fn a_full_stream_waits_for_room_and_leaves_the_other_half_to_requests() {
    let broker = Broker::start().await;
    let (client, sidecar) = orders(&broker, "stream_room").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let sidecar = patient.set("publish.max_in_flight", "8").start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;
    let mut stream = LineStream::open(&sidecar, &[("amqpost-timeout", "60s")]).await;
    stream.send_bytes(lines("m", 0..200)).await;
    sidecar.in_flight_is(4).await;

    let alone = sidecar.post(QUEUE, &[("amqpost-timeout", "60s")], "alone");
    let going_on = async {
        sidecar.in_flight_is(5).await;
        broker.resume().await;
    };
    let (alone, ()) = tokio::join!(alone, going_on);

    assert_eq!(alone.code(), "confirmed");
    let answers = stream.answers(200).await;
    assert!(codes_of(&answers).iter().all(|code| *code == "confirmed"), "{answers:?}");
    assert_eq!(client.depth("orders").await, 202);
}

#[tokio::test]
async fn a_line_that_finds_no_room_before_its_deadline_is_not_sent() {
    let broker = Broker::start().await;
    let (client, sidecar) = orders(&broker, "stream_no_room").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let sidecar = patient.set("publish.max_in_flight", "2").start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;
    let mut stream = LineStream::open(&sidecar, &[("amqpost-timeout", "60s")]).await;
    stream.send(envelope("orders", "held")).await;
    sidecar.in_flight_is(1).await;

    stream.send(envelope("orders", "late").replacen('{', r#"{"timeout":"300ms","#, 1)).await;
    let late = stream.answer().await.unwrap();
    broker.resume().await;

    assert_eq!((&late["code"], &late["message_id"]), (&json!("deadline_not_sent"), &json!("late")));
    assert_eq!(stream.answer().await.unwrap()["code"], "confirmed");
    assert_eq!(arrived(&client).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lines_wait_for_room_in_the_bytes_and_all_are_published() {
    let (client, sidecar) = orders(shared().await, "stream_long").await;
    let limits = sidecar.set("publish.max_in_flight_bytes", "\"1MiB\"").set("publish.max_body", "\"1MiB\"");
    let sidecar = limits.start().await.with_link_up().await;
    let long = |n: usize| {
        envelope("orders", &format!("m-{n}")).replacen('{', &format!("{{{}", " ".repeat(300_000)), 1)
    };
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(LineStream::open(&sidecar, &[("amqpost-timeout", "30s")]).await);
    }

    let each = streams.iter_mut().map(async |stream| {
        for n in 0..10 {
            for part in long(n).into_bytes().chunks(10_000) {
                stream.send_bytes(part.to_vec()).await;
            }
            stream.send_bytes("\n").await;
        }
        stream.finish();
        stream.rest().await
    });
    for answers in futures::future::join_all(each).await {
        assert_eq!(codes_of(&answers), ["confirmed"; 10]);
    }
    assert_eq!(client.depth("orders").await, 30);
    sidecar.in_flight_is(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_no_answers_is_held_up_alone_and_ended_in_the_end() {
    let (_client, sidecar) = orders(shared().await, "stream_deaf").await;
    let sidecar = sidecar.set("http.idle_timeout", "\"2s\"").start().await.with_link_up().await;
    let mut deaf = LineStream::open(&sidecar, &[]).await;
    // Answers are much longer than these lines.
    let chunk = "x\n".repeat(1_000);
    while deaf.try_send_bytes(chunk.clone()).await {}

    let good = load(&sidecar, QUEUE, "g", 16, |n| n >= 500).await;

    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 500)]);
    eventually("it is ended", PATIENCE, async || sidecar.log().contains("reads no answers")).await;
    sidecar.in_flight_is(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_stream_and_what_was_taken_is_finished_and_counted() {
    let broker = Broker::start().await;
    let (client, sidecar) = orders(&broker, "stream_left").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let sidecar = patient.set("publish.stream_in_flight", "4").start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;
    let mut stream = LineStream::open(&sidecar, &[("amqpost-timeout", "60s")]).await;
    stream.send_bytes(lines("m", 0..1_000)).await;
    sidecar.in_flight_is(4).await;

    drop(stream);
    broker.resume().await;
    sidecar.in_flight_is(0).await;

    let confirmed = sidecar.published("confirmed", "confirmed").await;
    assert_eq!(f64::from(client.depth("orders").await), confirmed);
    // One read returns some sixty lines; the sidecar notices that the client left after the second
    // write of an answer.
    assert!((5.0..50.0).contains(&confirmed), "what was taken, and nothing more: {confirmed}");
}

#[tokio::test]
async fn a_body_that_stops_arriving_ends_the_stream_with_a_last_line() {
    let (client, sidecar) = orders(shared().await, "stream_idle").await;
    let sidecar = sidecar.set("http.idle_timeout", "\"1s\"").start().await.with_link_up().await;
    let mut stream = LineStream::open(&sidecar, &[]).await;
    stream.send(envelope("orders", "m-0")).await;
    stream.send_bytes(&b"{\"exchange\":"[..]).await;

    let answers = stream.rest().await;

    assert_eq!(codes_of(&answers), ["confirmed", "request_timeout"]);
    assert_eq!((&answers[1]["index"], &answers[1]["last"]), (&json!(1), &json!(true)));
    assert_eq!(client.depth("orders").await, 1);
}

#[tokio::test]
async fn a_stream_with_something_arriving_now_and_then_outlives_every_idle_time() {
    let (_client, sidecar) = orders(shared().await, "stream_alive").await;
    let idle = sidecar.set("http.idle_timeout", "\"1s\"").set("http.header_timeout", "\"500ms\"");
    let sidecar = idle.start().await.with_link_up().await;
    let mut wire = SlowClient::connect(sidecar.http()).await;
    let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n";
    wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
    for _ in 0..12 {
        // An empty line does not count as a line, but as a sign of life.
        wire.send("1\r\n\n\r\n").await;
        wire.pause(Duration::from_millis(300)).await;
    }
    let line = envelope("orders", "m");

    wire.send(format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len())).await;

    let answered = wire.read_to_end(Duration::from_secs(2)).await;
    assert!(answered.contains("\"code\":\"confirmed\"") && !answered.contains("last"), "{answered}");
}

#[tokio::test]
async fn sigterm_answers_what_was_taken_and_says_where_it_stopped() {
    let broker = Broker::start().await;
    let (client, sidecar) = orders(&broker, "stream_term").await;
    let patient = sidecar.patient().set("broker.connections", "1");
    let mut sidecar = patient.start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;
    let mut stream = LineStream::open(&sidecar, &[("amqpost-timeout", "60s")]).await;
    stream.send_bytes(lines("m", 0..1_000)).await;
    sidecar.in_flight_is(256).await;

    sidecar.signal("TERM");
    eventually("it accepts no more", PATIENCE, async || sidecar.log().contains("no more requests")).await;
    broker.resume().await;
    let mut answers = stream.rest().await;

    let last = answers.pop().unwrap();
    assert_eq!((&last["code"], &last["last"]), (&json!("draining"), &json!(true)));
    assert_eq!(last["index"], json!(answers.len()), "the first that was not taken");
    assert!(answers.iter().all(|answer| answer["code"] == "confirmed"), "{answers:?}");
    assert_eq!(sidecar.exited(PATIENCE).await.code(), Some(0));
    assert_eq!(client.depth("orders").await as usize, 1 + answers.len());
}
