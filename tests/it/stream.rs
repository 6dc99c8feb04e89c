//! Many messages in one request: a stream gets an answer line for each line while it is open, an
//! array gets an array.

use crate::harness::*;
use serde_json::{Value, json};
use std::time::Duration;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn ids(client: &AmqpClient) -> Vec<String> {
    let arrived = client.drain("orders").await;
    arrived.iter().map(|message| message.message_id().expect("an id").to_owned()).collect()
}

/// Sends lines in one open request, each after the answer to the previous one.
async fn in_turns(mut stream: LineStream) {
    assert_eq!(stream.head().status.as_u16(), 200);
    assert_eq!(stream.head().headers["content-type"], "application/x-ndjson");
    for n in 0..3 {
        stream.send(envelope("orders", &format!("m-{n}"))).await;
        let expected =
            json!({"index": n, "outcome": "confirmed", "code": "confirmed", "message_id": format!("m-{n}")});
        assert_eq!(stream.answer().await, Some(expected));
    }
    stream.finish();
    assert_eq!(stream.answer().await, None);
}

#[tokio::test]
async fn answers_come_while_the_request_is_still_open() {
    let (client, sidecar) = orders(shared().await, "stream_open").await;
    let sidecar = sidecar.start().await.with_link_up().await;

    in_turns(LineStream::open(&sidecar, &[]).await).await;

    assert_eq!(ids(&client).await, ["m-0", "m-1", "m-2"]);
    let series = "amqpost_requests_total{method=\"POST\",route=\"/v1/messages\",status=\"200\"}";
    assert_eq!(sidecar.metric(series).await, 1.0, "one request");
    assert_eq!(sidecar.published("confirmed", "confirmed").await, 3.0, "and three messages");
}

#[tokio::test]
async fn answers_come_while_the_request_is_still_open_over_http2() {
    let (client, sidecar) = orders(shared().await, "stream_http2").await;
    let sidecar = sidecar.start().await.with_link_up().await;

    in_turns(LineStream::open_http2(&sidecar, &[]).await).await;

    assert_eq!(ids(&client).await, ["m-0", "m-1", "m-2"]);
}

#[tokio::test]
async fn lines_with_their_length_announced_are_answered_all_the_same() {
    let (client, sidecar) = orders(shared().await, "stream_length").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let lines: Vec<_> = (0..1_000).map(|n| envelope("orders", &format!("m-{n}"))).collect();

    // The line break after the last line may be missing.
    let answer = sidecar.post("/v1/messages", &[NDJSON], lines.join("\r\n\n")).await;

    assert_eq!(answer.status(), 200);
    let mut indexes: Vec<_> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|answer| assert_eq!(answer["message_id"], format!("m-{}", answer["index"])))
        .map(|answer| answer["index"].as_u64().unwrap())
        .collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..1_000).collect::<Vec<_>>());
    assert_eq!(client.depth("orders").await, 1_000);
}

#[tokio::test]
async fn each_line_has_its_own_verdict() {
    let (client, sidecar) = orders(shared().await, "stream_verdicts").await;
    let full = arguments([("x-max-length", 1.into()), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"x").await;
    let sidecar = sidecar.set("publish.max_body", "\"64KiB\"").start().await.with_link_up().await;
    let mut stream = LineStream::open(&sidecar, &[]).await;

    stream.send(envelope("orders", "good")).await;
    stream.send(envelope("nowhere", "returned")).await;
    stream.send(r#"{"exchange":"missing","payload":"x"}"#).await;
    stream.send("{\"exchange\":").await;
    stream.send(r#"{"exchange":"","payload":"","colour":"red"}"#).await;
    stream.send(r#"{"exchange":"","payload":"","properties":{"priority":300}}"#).await;
    stream.send(envelope("orders", "large").replace("large", &"x".repeat(70_000))).await;
    stream.send(envelope("full", "nacked")).await;
    stream.send(envelope("orders", "good-2")).await;
    stream.finish();
    let answers = stream.rest().await;

    assert_eq!(
        codes_of(&answers),
        [
            "confirmed",
            "unroutable",
            "exchange_not_found",
            "invalid_request",
            "invalid_request",
            "invalid_request",
            "payload_too_large",
            "nacked",
            "confirmed"
        ]
    );
    let detail = |n: usize| answers[n]["detail"].as_str().unwrap();
    assert!(detail(3).starts_with("exchange: "), "{}", detail(3));
    assert!(detail(4).starts_with("colour: "), "{}", detail(4));
    assert!(detail(5).starts_with("properties.priority: "), "{}", detail(5));
    assert!(detail(6).contains("65536"), "{}", detail(6));
    assert_eq!((&answers[1]["outcome"], &answers[1]["retry"]), (&json!("not_published"), &json!("safe")));
    assert_eq!((&answers[7]["outcome"], &answers[7]["retry"]), (&json!("unknown"), &json!("may_duplicate")));
    assert_eq!(answers[1]["message_id"], "returned");
    assert_eq!(ids(&client).await, ["good", "good-2"]);
}

#[tokio::test]
async fn what_the_head_says_holds_for_lines_that_say_nothing_else() {
    let (client, sidecar) = orders(shared().await, "stream_defaults").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("amqpost-mandatory", "false"), ("traceparent", trace)];
    let mut stream = LineStream::open(&sidecar, &headers).await;

    stream.send(envelope("nowhere", "taken")).await;
    stream.send(envelope("nowhere", "returned").replacen('{', r#"{"mandatory":true,"#, 1)).await;
    stream.send(envelope("orders", "late").replacen('{', r#"{"timeout":"61s","#, 1)).await;
    stream.send(envelope("orders", "kept").replacen('{', r#"{"mode":"spool","#, 1)).await;
    stream.send(envelope("orders", "good")).await;
    stream.finish();

    let answers = stream.rest().await;
    let expected = ["confirmed", "unroutable", "invalid_request", "invalid_request", "confirmed"];
    assert_eq!(codes_of(&answers), expected);
    let arrived = client.drain("orders").await;
    assert_eq!(arrived[0].header("traceparent"), Some(&AMQPValue::LongString(trace.into())));
}

#[tokio::test]
async fn a_head_that_is_wrong_is_refused_before_the_stream_begins() {
    let (_client, sidecar) = orders(shared().await, "stream_heads").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    for (name, value) in [
        ("amqpost-timeout", "61s"),
        ("amqp-type", "order"),
        ("amqpost-colour", "red"),
        ("idempotency-key", "k"),
    ] {
        let answer = sidecar.post("/v1/messages", &[NDJSON, (name, value)], envelope("orders", "x")).await;
        assert_eq!(answer.verdict(), (400, "invalid_request"), "{name}");
        assert!(answer.detail().starts_with(name), "{}", answer.detail());
    }
}

#[tokio::test]
async fn a_line_with_a_key_is_published_once_however_often_it_is_sent() {
    let (client, sidecar) = orders(shared().await, "stream_keys").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let line = envelope("orders", "m").replacen('{', r#"{"idempotency_key":"k-1","#, 1);

    for (n, replayed) in [(0, Value::Null), (1, json!(true))] {
        let mut stream = LineStream::open(&sidecar, &[]).await;
        stream.send(line.clone()).await;
        stream.finish();
        let answers = stream.rest().await;
        assert_eq!((codes_of(&answers), &answers[0]["replayed"]), (vec!["confirmed"], &replayed), "time {n}");
    }
    assert_eq!(ids(&client).await, ["m"]);
}

#[tokio::test]
async fn lines_in_mode_spool_are_kept_and_delivered() {
    let (client, sidecar) = orders(shared().await, "stream_spool").await;
    let directory = SpoolDir::new();
    let sidecar = sidecar.set("spool.path", &directory.setting()).start().await.with_link_up().await;
    let mut stream = LineStream::open(&sidecar, &[("amqpost-mode", "spool")]).await;

    for n in 0..50 {
        stream.send(envelope("orders", &format!("m-{n}"))).await;
    }
    let answers = stream.answers(50).await;
    assert!(answers.iter().all(|answer| answer["outcome"] == "spooled"), "{answers:?}");
    eventually("they are delivered", Duration::from_secs(20), async || client.depth("orders").await == 50)
        .await;
}

#[tokio::test]
async fn an_array_is_answered_by_an_array_in_its_order() {
    let (client, sidecar) = orders(shared().await, "stream_array").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let name = |n: usize| if n.is_multiple_of(7) { "nowhere" } else { "orders" };
    let elements: Vec<_> = (0..600).map(|n| envelope(name(n), &format!("m-{n}"))).collect();

    let answer = sidecar.post("/v1/messages", &[JSON], format!(" [{}, 17]", elements.join(" ,\n"))).await;

    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/json"));
    let answers = answer.json();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 601);
    for (n, answer) in answers.iter().enumerate().take(600) {
        let code = if n.is_multiple_of(7) { "unroutable" } else { "confirmed" };
        assert_eq!((&answer["index"], &answer["code"]), (&json!(n), &json!(code)));
        assert_eq!(answer["message_id"], format!("m-{n}"));
    }
    assert_eq!(answers[600]["code"], "invalid_request");
    assert_eq!(client.depth("orders").await, 600 - 600_u32.div_ceil(7));
}

#[tokio::test]
async fn an_empty_array_is_answered_by_an_empty_one_and_a_broken_one_publishes_nothing() {
    let (client, sidecar) = orders(shared().await, "stream_arrays").await;
    let sidecar = sidecar.set("publish.max_body", "\"1KiB\"").start().await.with_link_up().await;

    let empty = sidecar.post("/v1/messages", &[JSON], "[]").await;
    assert_eq!((empty.status(), empty.text()), (200, "[]".to_owned()));

    let good = envelope("orders", "x");
    let broken = sidecar.post("/v1/messages", &[JSON], format!("[{good}, {{]")).await;
    assert_eq!(broken.verdict(), (400, "invalid_request"));
    assert!(broken.detail().starts_with("array: "), "{}", broken.detail());
    let large = sidecar.post("/v1/messages", &[JSON], format!("[{}]", vec![good; 20].join(","))).await;
    assert_eq!(large.verdict(), (413, "payload_too_large"));
    assert_eq!(client.depth("orders").await, 0);
}

#[tokio::test]
async fn an_array_finds_room_for_its_elements_where_one_publish_fills_the_limit() {
    let (client, sidecar) = orders(shared().await, "stream_narrow").await;
    let limits = sidecar.set("publish.max_in_flight", "1").set("publish.max_in_flight_bytes", "\"64KiB\"");
    let sidecar = limits.set("publish.max_body", "\"64KiB\"").start().await.with_link_up().await;
    let elements: Vec<_> = (0..400).map(|n| envelope("orders", &format!("m-{n}"))).collect();

    let answer = sidecar
        .post("/v1/messages", &[JSON, ("amqpost-timeout", "30s")], format!("[{}]", elements.join(",")))
        .await;

    assert_eq!(answer.text().matches("\"code\":\"confirmed\"").count(), 400, "{}", answer.text());
    assert_eq!(client.depth("orders").await, 400);
}
