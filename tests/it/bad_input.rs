//! Bad input is answered 4xx with a detail that names the field, and affects no other request.

use crate::harness::*;
use futures::{StreamExt, stream};
use hyper::header::HeaderValue;
use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use serde_json::json;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";
const ENVELOPE: &str = "/v1/messages";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// The answer is a complete problem with this status and code whose detail contains `named`.
fn assert_problem(answer: &Answer, expected: (u16, &str), named: &str) {
    let text = answer.text();
    assert_eq!(answer.verdict(), expected, "for {named}: {text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{text}");
    assert_eq!(answer.outcome(), "not_published", "{text}");
    assert!(answer.detail().contains(named), "{named} is not in: {text}");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["code"]), (&expected.0.into(), &expected.1.into()), "{text}");
    // A refusal by the broker never has the advice `pointless`.
    let is_the_brokers = ["access_refused", "refused_by_broker"].contains(&expected.1);
    let retry = if is_the_brokers { "safe" } else { "pointless" };
    assert_eq!((&problem["outcome"], &problem["retry"]), (&"not_published".into(), &retry.into()));
    assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with(expected.1)), "{text}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{text}");
}

/// Nothing was published, nothing panicked, and a good request is confirmed.
async fn assert_unharmed(client: &AmqpClient, sidecar: &Sidecar) {
    assert_eq!(client.depth("orders").await, 0, "nothing bad is published");
    assert_eq!(sidecar.post(QUEUE, &[], "good").await.verdict(), (200, "confirmed"));
    assert!(!sidecar.log().contains("panicked"), "{}", sidecar.log());
    sidecar.in_flight_is(0).await;
}

#[tokio::test]
async fn a_bad_path_or_query_is_a_400_that_names_the_part() {
    let (client, sidecar) = orders_up("bad_paths").await;
    let long = "x".repeat(256);
    let cases = [
        (format!("/v1/exchanges/{long}/messages"), "exchange"),
        (format!("/v1/exchanges/{}/messages", "%C3%BC".repeat(128)), "exchange"),
        (format!("/v1/queues/{long}/messages"), "queue"),
        (format!("/v1/exchanges/amq.topic/messages?routing_key={long}"), "routing_key"),
        ("/v1/exchanges/%/messages".to_owned(), "exchange"),
        ("/v1/exchanges/a%2/messages".to_owned(), "exchange"),
        ("/v1/queues/%zz/messages".to_owned(), "queue"),
        ("/v1/queues/%ff%fe/messages".to_owned(), "queue"),
        ("/v1/queues//messages".to_owned(), "queue"),
        ("/v1/exchanges/amq.topic/messages?routing_key=%f".to_owned(), "routing_key"),
        ("/v1/exchanges/amq.topic/messages?routing_key=%ED%A0%80".to_owned(), "routing_key"),
        ("/v1/exchanges/amq.topic/messages?routing_key=a&routing_key=b".to_owned(), "routing_key"),
        ("/v1/exchanges/amq.topic/messages?routingkey=a".to_owned(), "routingkey"),
        ("/v1/exchanges/amq.topic/messages?mandatory=false".to_owned(), "mandatory"),
        ("/v1/queues/orders/messages?routing_key=a".to_owned(), "routing_key"),
    ];
    for (path, named) in cases {
        let answer = sidecar.post(&path, &[], "x").await;
        assert_problem(&answer, (400, "invalid_request"), named);
    }
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn a_bad_header_is_a_400_that_names_it() {
    let (client, sidecar) = orders_up("bad_headers").await;
    let long = "x".repeat(256);
    let long_name = format!("amqp-header-{long}");
    let texts = ["content-type", "content-encoding", "amqp-message-id", "amqp-correlation-id"];
    let more_texts = ["amqp-reply-to", "amqp-type", "amqp-app-id", "amqp-user-id"];
    let too_long = texts.into_iter().chain(more_texts).map(|name| (name, long.as_str()));
    let values = [
        ("amqp-message-id", ""),
        ("amqp-priority", "300"),
        ("amqp-priority", "-1"),
        ("amqp-priority", "+1"),
        ("amqp-priority", "1.0"),
        ("amqp-priority", ""),
        ("amqp-expiration", "4294967296"),
        ("amqp-expiration", "10s"),
        ("amqp-timestamp", "now"),
        ("amqp-timestamp", "18446744073709551616"),
        ("amqp-timestamp", "1700000000000"),
        ("amqp-timestamp", "1700000000000000"),
        ("amqp-delivery-mode", "0"),
        ("amqp-delivery-mode", "3"),
        ("amqp-delivery-mode", "persistent"),
        ("amqp-prority", "1"),
        ("amqp-cluster-id", "x"),
        ("amqp-header-", "x"),
        (&long_name, "x"),
        ("amqpost-timeout", "0ms"),
        ("amqpost-timeout", "5"),
        ("amqpost-timeout", "-5s"),
        ("amqpost-timeout", "1e3ms"),
        ("amqpost-timeout", "61s"),
        ("amqpost-timeout", "99999999999999999999s"),
        ("amqpost-mandatory", "yes"),
        ("amqpost-mandatory", ""),
        ("amqpost-mode", "fast"),
        ("amqpost-retry", "always"),
        ("amqpost-tiemout", "1s"),
    ];
    for (name, value) in too_long.chain(values) {
        let answer = sidecar.post(QUEUE, &[(name, value)], "x").await;
        assert_problem(&answer, (400, "invalid_request"), name);
    }
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn a_header_that_is_given_twice_or_is_not_utf_8_is_a_400_that_names_it() {
    let (client, sidecar) = orders_up("bad_bytes").await;
    let names = [
        "content-type",
        "content-encoding",
        "amqp-message-id",
        "amqp-priority",
        "amqp-header-tenant",
        "amqpost-timeout",
        "amqpost-mandatory",
    ];
    for name in names {
        let twice = sidecar.post(QUEUE, &[(name, "1"), (name, "1")], "x").await;
        assert_problem(&twice, (400, "invalid_request"), name);
    }
    for name in names.into_iter().chain(["amqp-type"]) {
        let mut request = sidecar.request("POST", QUEUE, &[], "x");
        request.headers_mut().insert(name, HeaderValue::from_bytes(b"a\xff\xfeb").unwrap());
        assert_problem(&sidecar.send(request).await, (400, "invalid_request"), name);
    }
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn a_trace_header_that_no_message_can_carry_is_left_out_and_fails_no_publish() {
    let (client, sidecar) = orders_up("bad_trace").await;
    let long = vec![b'x'; 8193];
    for (name, value) in [
        ("traceparent", &b"a\xff\xfeb"[..]),
        ("tracestate", b"\xff"),
        ("baggage", b"k=\xe9"),
        ("baggage", &long),
    ] {
        for (path, content_type, body) in [
            (QUEUE, "text/plain", "x"),
            (
                "/v1/messages",
                "application/json",
                r#"{"exchange":"amq.default","routing_key":"orders","payload":"x"}"#,
            ),
        ] {
            let mut request = sidecar.request("POST", path, &[("content-type", content_type)], body);
            request.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
            let answer = sidecar.send(request).await;
            assert_eq!(answer.status(), 200, "{name}: {answer:?}");
        }
    }
    let received = client.drain("orders").await;
    assert_eq!(received.len(), 8);
}

#[tokio::test]
async fn a_compressed_envelope_is_a_415_that_names_its_encoding() {
    let (client, sidecar) = orders_up("bad_encoding").await;
    for content_type in ["application/json", "application/x-ndjson"] {
        for coding in ["gzip", "br", "deflate", "identity, gzip"] {
            let headers = [("content-type", content_type), ("content-encoding", coding)];
            let answer = sidecar.post("/v1/messages", &headers, "\x1f\u{8b}").await;
            assert_problem(&answer, (415, "unsupported_media_type"), "content-encoding");
        }
    }
    let headers = [("content-type", "application/json"), ("content-encoding", "identity")];
    let envelope = r#"{"exchange":"amq.default","routing_key":"orders","payload":"x"}"#;
    assert_eq!(sidecar.post("/v1/messages", &headers, envelope).await.status(), 200);
    assert_eq!(client.drain("orders").await.len(), 1);
    assert_unharmed(&client, &sidecar).await;
}

fn bad_envelopes() -> Vec<(String, &'static str)> {
    let start = r#"{"exchange":"amq.default","routing_key":"orders""#;
    let with = |more: &str| format!(r#"{start},"payload":"x",{more}}}"#);
    let property = |property: &str| with(&format!(r#""properties":{{{property}}}"#));
    let long = "x".repeat(256);
    let deep = format!("{}1{}", "[".repeat(17), "]".repeat(17));
    let deeper = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
    vec![
        (String::new(), "envelope"),
        ("17".to_owned(), "envelope"),
        ("[{]".to_owned(), "array"),
        (with(r#""idempotency_key":"""#), "idempotency_key"),
        ("{".to_owned(), "envelope"),
        (format!("{} {{}}", with(r#""mandatory":true"#)), "envelope"),
        (r#"{"routing_key":"orders","payload":"x"}"#.to_owned(), "exchange"),
        (r#"{"exchange":7,"payload":"x"}"#.to_owned(), "exchange"),
        (format!(r#"{{"exchange":"{long}","payload":"x"}}"#), "exchange"),
        (format!(r#"{{"exchange":"amq.topic","routing_key":"{long}","payload":"x"}}"#), "routing_key"),
        (format!("{start}}}"), "payload"),
        (format!(r#"{start},"payload":7}}"#), "payload"),
        (format!(r#"{start},"payload":"!!","payload_encoding":"base64"}}"#), "payload"),
        (format!(r#"{start},"payload":"eA","payload_encoding":"base64"}}"#), "payload"),
        (format!(r#"{start},"payload":{{}},"payload_encoding":"base64"}}"#), "payload"),
        (format!(r#"{start},"payload":"\ud800"}}"#), "payload"),
        (with(r#""payload_encoding":"hex""#), "payload_encoding"),
        (with(r#""exchange":"amq.default""#), "exchange"),
        (with(r#""surprise":1"#), "surprise"),
        (with(r#""mandatory":"true""#), "mandatory"),
        (with(r#""mode":"fast""#), "mode"),
        (with(r#""retry":"always""#), "retry"),
        (with(r#""timeout":5"#), "timeout"),
        (with(r#""timeout":"5""#), "timeout"),
        (with(r#""timeout":"61s""#), "timeout"),
        (with(r#""properties":[]"#), "properties"),
        (property(r#""priority":300"#), "properties.priority"),
        (property(r#""priority":"5""#), "properties.priority"),
        (property(r#""delivery_mode":3"#), "properties.delivery_mode"),
        (property(r#""expiration":-1"#), "properties.expiration"),
        (property(r#""expiration":"soon""#), "properties.expiration"),
        (property(r#""timestamp":1.5"#), "properties.timestamp"),
        (property(r#""timestamp":1700000000000"#), "properties.timestamp"),
        (property(r#""headers":{"a":1,"a":2}"#), "properties.headers.a: given twice"),
        (property(r#""headers":{"t":{"a":1,"\u0061":2}}"#), "properties.headers.t.a: given twice"),
        (property(r#""headers":{"n":18446744073709551616}"#), "properties.headers.n"),
        (property(r#""headers":{"n":-9223372036854775809}"#), "properties.headers.n"),
        (property(r#""message_id":"""#), "properties.message_id"),
        (property(r#""message_id":"a\r\nSet-Cookie: b""#), "properties.message_id"),
        (property(&format!(r#""message_id":"{long}""#)), "properties.message_id"),
        (property(&format!(r#""type":"{long}""#)), "properties.type"),
        (property(r#""content_type":7"#), "properties.content_type"),
        (property(r#""cluster_id":"x""#), "cluster_id"),
        (property(r#""headers":[]"#), "properties.headers"),
        (property(&format!(r#""headers":{{"{long}":1}}"#)), "properties.headers"),
        (property(r#""headers":{"big":18446744073709551615}"#), "properties.headers.big"),
        (property(&format!(r#""headers":{{"deep":{deep}}}"#)), "properties.headers.deep"),
        (property(&format!(r#""headers":{deeper}"#)), "properties.headers"),
        (property(&format!(r#""headers":{{"large":"{}"}}"#, "x".repeat(200_000))), "headers"),
        (property(r#""headers":{"x-death":"text"}"#), "headers.x-death"),
        (property(r#""headers":{"x-death":["not a table"]}"#), "headers.x-death"),
        (property(r#""headers":{"x-death":[{"count":"many"}]}"#), "headers.x-death"),
        (property(r#""headers":{"x-first-death-queue":7}"#), "headers.x-first-death-queue"),
        (property(r#""headers":{"x-received-from":[7]}"#), "headers.x-received-from"),
        (property(r#""headers":{"x-delivery-count":"7"}"#), "headers.x-delivery-count"),
        (property(r#""headers":{"x-stream-filter-value":7}"#), "headers.x-stream-filter-value"),
        (property(r#""headers":{"x-amqp-1.0-footer":"7"}"#), "headers"),
        (property(r#""type":"amqp-1.0""#), "type"),
    ]
}

#[tokio::test]
async fn a_bad_envelope_is_a_400_that_names_the_field() {
    let (client, sidecar) = orders_up("bad_envelopes").await;
    for (document, named) in bad_envelopes() {
        let answer = sidecar.post(ENVELOPE, &JSON, document).await;
        assert_problem(&answer, (400, "invalid_request"), named);
    }
    let not_utf_8 =
        [br#"{"exchange":"amq.default","routing_key":"orders","payload":""#.as_slice(), b"\xff\"}"];
    assert_problem(&sidecar.post(ENVELOPE, &JSON, not_utf_8.concat()).await, (400, "invalid_request"), "");
    for name in ["amqp-type", "amqp-header-tenant", "amqpost-surprise"] {
        let document = json!({"exchange": "amq.default", "routing_key": "orders", "payload": "x"});
        let headers = [JSON[0], (name, "x")];
        let answer = sidecar.post(ENVELOPE, &headers, document.to_string()).await;
        assert_problem(&answer, (400, "invalid_request"), name);
    }
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn headers_too_large_for_a_frame_of_the_broker_are_a_400_and_harm_nobody() {
    let (client, sidecar) = orders_up("large_headers").await;
    let large = "x".repeat(40 * 1024);

    let answer = sidecar.post(QUEUE, &[("amqp-header-large", &large)], "x").await;

    assert_problem(&answer, (400, "invalid_request"), "headers");
    assert_unharmed(&client, &sidecar).await;
    assert_eq!(sidecar.metric("amqpost_connections{state=\"up\"}").await, 2.0);
}

/// Publishes bad envelopes with these properties beside good requests, which must not be affected.
async fn beside_good_requests(vhost: &str, properties: &[serde_json::Value]) {
    let (client, sidecar) = orders_up(vhost).await;
    let refused = async {
        for properties in properties.iter().cycle().take(40) {
            let document = json!(
                {"exchange": "amq.default", "routing_key": "orders", "payload": "x", "properties": properties}
            );
            let answer = sidecar.post(ENVELOPE, &JSON, document.to_string()).await;
            assert_problem(&answer, (400, "refused_by_broker"), "");
        }
    };
    let good = load(&sidecar, QUEUE, "g", 32, |n| n >= 3_000);
    let ((), good) = tokio::join!(refused, good);

    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 3_000)]);
    assert_eq!(client.purge("orders").await, 3_000);
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn carbon_copies_that_are_no_list_harm_no_good_request() {
    let cases = [json!({"headers": {"CC": "not a list"}}), json!({"headers": {"BCC": {"a": 1}}})];
    beside_good_requests("carbon_copies", &cases).await;
}

#[tokio::test]
async fn a_direct_reply_to_nobody_harms_no_good_request() {
    beside_good_requests("direct_reply_to", &[json!({"reply_to": "amq.rabbitmq.reply-to"})]).await;
}

#[tokio::test]
async fn an_internal_exchange_is_refused() {
    let (client, sidecar) = orders_up("internal_exchange").await;
    let options = ExchangeDeclareOptions { internal: true, ..ExchangeDeclareOptions::default() };
    let channel = client.channel().await;
    let table = FieldTable::default();
    channel.exchange_declare("inner".into(), ExchangeKind::Fanout, options, table).await.unwrap();

    let answer = sidecar.post("/v1/exchanges/inner/messages", &[], "x").await;

    assert_problem(&answer, (403, "access_refused"), "inner");
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn wrong_media_types_paths_and_methods_are_said_to_be_so() {
    let (client, sidecar) = orders_up("wrong_doors").await;
    let document = r#"{"exchange":"amq.default","routing_key":"orders","payload":"x"}"#;
    for media_type in ["text/plain", "application/xml", "application/jsonp", "json", ""] {
        let answer = sidecar.post(ENVELOPE, &[("content-type", media_type)], document).await;
        assert_problem(&answer, (415, "unsupported_media_type"), "application/json");
    }
    assert_problem(&sidecar.post(ENVELOPE, &[], document).await, (415, "unsupported_media_type"), "");
    let missing = ["/", "/v1", "/v1/messages/", "/v1/queues/orders", "/v2/messages", "/metrics"];
    for path in missing {
        assert_problem(&sidecar.post(path, &[], "x").await, (404, "not_found"), "");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        for path in [QUEUE, ENVELOPE, "/v1/exchanges/amq.topic/messages"] {
            let answer = sidecar.send(sidecar.request(method, path, &[], "x")).await;
            assert_problem(&answer, (405, "method_not_allowed"), "");
            assert_eq!(answer.header("allow"), "POST");
        }
    }
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn a_connection_goes_on_working_after_each_bad_request() {
    let (_client, sidecar) = orders_up("keep_alive").await;
    let bad = [
        ("/v1/queues/%/messages", "", 400),
        (QUEUE, "amqp-priority: 300\r\n", 400),
        (QUEUE, "amqpost-timeout: soon\r\n", 400),
        ("/v1/queues/nobody/messages", "", 422),
        ("/v1/exchanges/nothing/messages", "", 404),
        ("/nowhere", "", 404),
        (ENVELOPE, "content-type: text/plain\r\n", 415),
        (ENVELOPE, "content-type: application/json\r\n", 400),
    ];
    let patience = Duration::from_secs(20);
    let mut wire = SlowClient::connect(sidecar.http()).await;
    for (path, header, status) in bad {
        wire.send(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{header}content-length: 3\r\n\r\nbad")).await;
        let (head, _) = wire.read_answer(patience).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path} {header}: {head}");

        wire.send(format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\ngood")).await;
        let (head, body) = wire.read_answer(patience).await;
        assert!(head.starts_with("http/1.1 200 "), "after {path} {header}: {head} {body}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_get_a_4xx_or_nothing_and_harm_nobody() {
    let (client, sidecar) = orders_up("no_http").await;
    let large_head = format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(100_000));
    let long_path = format!("POST /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let many = (0..2_000).fold(String::new(), |text, n| text + &format!("h{n}: x\r\n"));
    let many_headers = format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let length = |value: &str| format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\n{value}\r\n\r\nx");
    let cases: Vec<Vec<u8>> = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GARBAGE\r\n\r\n".to_vec(),
        b"AMQP\x00\x00\x09\x01".repeat(20),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is no frame at all".to_vec(),
        (0..=255).collect(),
        large_head.into(),
        long_path.into(),
        many_headers.into(),
        length("content-length: -1").into(),
        length("content-length: 1\r\ncontent-length: 2").into(),
        length("content-length: 99999999999999999999").into(),
        length("transfer-encoding: chunked\r\n\r\nzz").into(),
        length("transfer-encoding: chunked, identity").into(),
        length("bad header: \0").into(),
    ];
    for bytes in cases {
        let mut wire = SlowClient::connect(sidecar.http()).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        drop(wire.try_send(&bytes).await);
        wire.finish().await;
        let answer = wire.read_to_end(Duration::from_secs(20)).await;
        let is_refusal = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || !answer.starts_with("HTTP");
        assert!(is_refusal, "{shown}: {answer}");
    }
    assert_unharmed(&client, &sidecar).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_even_while_the_link_is_down() {
    let sidecar = Sidecar::builder("amqp://127.0.0.1:1").start().await;

    let answer = sidecar.post(QUEUE, &[("amqp-priority", "300")], "x").await;

    assert_problem(&answer, (400, "invalid_request"), "amqp-priority");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_bad_requests_beside_two_thousand_good_ones_change_nothing() {
    let (client, sidecar) = orders_up("bad_and_good").await;
    let documents = bad_envelopes();
    let good = load(&sidecar, QUEUE, "g", 32, |n| n >= 2_000);
    let bad = stream::iter(0..2_000usize)
        .map(|n| {
            let (sidecar, documents) = (&sidecar, &documents);
            async move {
                let (document, _) = &documents[n % documents.len()];
                match n % 4 {
                    0 => sidecar.post(ENVELOPE, &JSON, document.clone()).await,
                    1 => sidecar.post(QUEUE, &[("amqp-priority", "300")], "x").await,
                    2 => sidecar.post("/v1/queues/%/messages", &[], "x").await,
                    _ => sidecar.post(QUEUE, &[("amqp-header-large", &"x".repeat(40_000))], "x").await,
                }
            }
        })
        .buffer_unordered(16)
        .map(|answer| answer.status())
        .collect::<Vec<_>>();
    let (good, bad) = tokio::join!(good, bad);

    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 2_000)]);
    assert_eq!(bad.iter().filter(|status| **status == 400).count(), 2_000);
    assert_eq!(client.purge("orders").await, 2_000);
    assert_unharmed(&client, &sidecar).await;
}
