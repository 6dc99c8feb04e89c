//! A consumer reads every property, header, name and byte that a client gave.

use crate::harness::*;
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::Version;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lapin::ExchangeKind;
use lapin::types::{FieldArray, FieldTable, ShortString};
use std::fmt::Write;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The only message of a queue.
async fn only(client: &AmqpClient, queue: &str) -> Received {
    let mut messages = client.drain(queue).await;
    assert_eq!(messages.len(), 1, "messages in {queue}");
    messages.remove(0)
}

async fn confirmed(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) {
    let answer = sidecar.post(path, headers, body).await;
    assert_eq!(answer.verdict(), (200, "confirmed"), "{}", answer.text());
}

/// Publishes an envelope for the queue `orders`; `more` are its members besides the destination.
async fn envelope(sidecar: &Sidecar, more: &str) {
    let document = format!(r#"{{"exchange":"amq.default","routing_key":"orders",{more}}}"#);
    confirmed(sidecar, "/v1/messages", &[("content-type", "application/json")], document).await;
}

/// The text properties that every test message has.
fn assert_texts(message: &Received, content_type: &str) {
    let properties = &message.properties;
    let text = |property: &Option<ShortString>| property.as_ref().expect("it is set").as_str().to_owned();
    assert_eq!(text(properties.content_type()), content_type);
    assert_eq!(text(properties.content_encoding()), "gzip");
    assert_eq!(text(properties.message_id()), "id 1");
    assert_eq!(text(properties.correlation_id()), "größer ☃");
    assert_eq!(text(properties.reply_to()), "answers/here");
    assert_eq!(text(properties.kind()), "order.created");
    assert_eq!(text(properties.app_id()), "shop");
    assert_eq!(text(properties.user_id()), "guest");
    assert_eq!(text(properties.expiration()), "3600000");
    assert_eq!(*properties.priority(), Some(255));
    assert_eq!(*properties.timestamp(), Some(1_700_000_000));
    assert_eq!(*properties.delivery_mode(), Some(1));
}

#[tokio::test]
async fn every_property_of_a_raw_request_arrives() {
    let (client, sidecar) = orders_up("raw_properties").await;
    let headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Encoding", "gzip"),
        ("Amqp-Message-Id", "id 1"),
        ("Amqp-Reply-To", "answers/here"),
        ("Amqp-Type", "order.created"),
        ("Amqp-App-Id", "shop"),
        ("Amqp-User-Id", "guest"),
        ("Amqp-Expiration", "3600000"),
        ("Amqp-Priority", "255"),
        ("Amqp-Timestamp", "1700000000"),
        ("Amqp-Delivery-Mode", "1"),
    ];
    let mut request = sidecar.request("POST", QUEUE, &headers, "x");
    let unicode = HeaderValue::from_bytes("größer ☃".as_bytes()).unwrap();
    request.headers_mut().insert("amqp-correlation-id", unicode.clone());
    request.headers_mut().insert("amqp-header-size", unicode);
    let answer = sidecar.send(request).await;

    assert_eq!((answer.verdict(), answer.message_id()), ((200, "confirmed"), "id 1"));
    let message = only(&client, "orders").await;
    assert_texts(&message, "text/plain; charset=utf-8");
    assert_eq!(message.headers.inner().len(), 1);
    assert_eq!(message.header("size"), Some(&text("größer ☃")));
}

#[tokio::test]
async fn every_property_of_an_envelope_arrives() {
    let (client, sidecar) = orders_up("envelope_properties").await;
    let properties = r#""payload":"x","properties":{"content_type":"text/csv","content_encoding":"gzip",
        "message_id":"id 1","correlation_id":"größer \u2603","reply_to":"answers/here","type":"order.created",
        "app_id":"shop","user_id":"guest","expiration":"3600000","priority":255,"timestamp":1700000000,
        "delivery_mode":1}"#;

    envelope(&sidecar, properties).await;

    let message = only(&client, "orders").await;
    assert_texts(&message, "text/csv");
    assert!(message.headers.inner().is_empty());
}

#[tokio::test]
async fn a_message_without_properties_is_persistent_and_has_nothing_made_up() {
    let (client, sidecar) = orders_up("no_properties").await;

    let answer = sidecar.post(QUEUE, &[], "x").await;

    let message = only(&client, "orders").await;
    let expected = lapin::BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(ShortString::from(answer.message_id()));
    assert_eq!(message.properties, expected);
}

#[tokio::test]
async fn header_names_are_lower_case_in_the_table_whatever_the_client_writes() {
    let (client, sidecar) = orders_up("header_case").await;
    let mut wire = SlowClient::connect(sidecar.http()).await;
    wire.send(format!(
        "POST {QUEUE} HTTP/1.1\r\nHost: x\r\nAMQP-HEADER-Tenant-ID: Köln\r\nContent-Length: 1\r\n\r\nx"
    ))
    .await;
    let head = wire.read_head(Duration::from_secs(20)).await;

    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(only(&client, "orders").await.header("tenant-id"), Some(&text("Köln")));
}

#[tokio::test]
async fn headers_of_an_envelope_keep_their_types() {
    let (client, sidecar) = orders_up("header_types").await;
    let headers = r#"{"yes":true,"no":false,"int":3,"least":-9223372036854775808,"most":9223372036854775807,
        "float":1.5,"whole float":2.0,"string":"ü","empty":"","null":null,"array":[1,"two",[null],{"k":0.5}],
        "table":{"inner":{"deep":false}},"no table":{},"no array":[],"MixedCase":"kept"}"#;

    envelope(&sidecar, &format!(r#""payload":"x","properties":{{"headers":{headers}}}"#)).await;

    let table = |name: &str, value: AMQPValue| {
        let mut table = FieldTable::default();
        table.insert(name.into(), value);
        AMQPValue::FieldTable(table)
    };
    let array = |values: Vec<AMQPValue>| AMQPValue::FieldArray(FieldArray::from(values));
    let nested = array(vec![
        AMQPValue::LongLongInt(1),
        text("two"),
        array(vec![AMQPValue::Void]),
        table("k", AMQPValue::Double(0.5)),
    ]);
    let expected = arguments([
        ("yes", AMQPValue::Boolean(true)),
        ("no", AMQPValue::Boolean(false)),
        ("int", AMQPValue::LongLongInt(3)),
        ("least", AMQPValue::LongLongInt(i64::MIN)),
        ("most", AMQPValue::LongLongInt(i64::MAX)),
        ("float", AMQPValue::Double(1.5)),
        ("whole float", AMQPValue::Double(2.0)),
        ("string", text("ü")),
        ("empty", text("")),
        ("null", AMQPValue::Void),
        ("array", nested),
        ("table", table("inner", table("deep", AMQPValue::Boolean(false)))),
        ("no table", AMQPValue::FieldTable(FieldTable::default())),
        ("no array", array(Vec::new())),
        ("MixedCase", text("kept")),
    ]);
    assert_eq!(only(&client, "orders").await.headers, expected);
}

#[tokio::test]
async fn the_trace_context_arrives_from_both_forms() {
    let (client, sidecar) = orders_up("trace").await;
    let trace = [
        ("traceparent", TRACE),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("baggage", "user=7"),
        ("content-type", "application/json"),
    ];
    confirmed(&sidecar, QUEUE, &trace, "x").await;
    let document = r#"{"exchange":"amq.default","routing_key":"orders","payload":"x"}"#;
    confirmed(&sidecar, "/v1/messages", &trace, document).await;

    let messages = client.drain("orders").await;
    assert_eq!(messages.len(), 2);
    for message in messages {
        assert_eq!(message.header("traceparent"), Some(&text(TRACE)));
        assert_eq!(message.header("tracestate"), Some(&text("a=1,b=2")));
        assert_eq!(message.header("baggage"), Some(&text("user=7")));
    }
}

/// Names that are hard for paths, queries and decoders.
fn awkward_names() -> Vec<String> {
    let mut names: Vec<_> = ["a/b", "a b", "a+b", "100%", "%2F", "ünïcödé ☃", "?&=#;", "..", "'\"<>\\", "\t"]
        .map(str::to_owned)
        .into();
    names.push("n".repeat(255));
    names.push("ü".repeat(127));
    names
}

fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").expect("a String takes everything");
        text
    })
}

#[tokio::test]
async fn awkward_queue_names_are_taken_literally() {
    let (client, sidecar) = orders_up("queue_names").await;
    for name in awkward_names() {
        client.declare_queue(&name, true, arguments([])).await;
        confirmed(&sidecar, &format!("/v1/queues/{}/messages", encoded(&name)), &[], name.clone()).await;
        assert_eq!(only(&client, &name).await.text(), name);
    }
    // In a path a plus is a plus.
    confirmed(&sidecar, "/v1/queues/a+b/messages", &[], "x").await;
    assert_eq!(client.depth("a+b").await, 1);
}

#[tokio::test]
async fn awkward_exchange_names_and_routing_keys_are_taken_literally() {
    let (client, sidecar) = orders_up("exchange_names").await;
    for name in awkward_names() {
        client.declare_exchange(&name, ExchangeKind::Direct).await;
        client.bind("orders", &name, &name).await;
        let name_in_uri = encoded(&name);
        let path = format!("/v1/exchanges/{name_in_uri}/messages?routing_key={name_in_uri}");
        confirmed(&sidecar, &path, &[], "raw").await;
        let envelope = serde_json::json!({"exchange": name, "routing_key": name, "payload": "envelope"});
        let json = [("content-type", "application/json")];
        confirmed(&sidecar, "/v1/messages", &json, envelope.to_string()).await;

        let messages = client.drain("orders").await;
        assert_eq!(messages.len(), 2, "{name}");
        for message in messages {
            assert_eq!((message.exchange, message.routing_key), (name.clone(), name.clone()));
        }
    }
    // In a query a plus is a space.
    confirmed(&sidecar, "/v1/exchanges/a%20b/messages?routing_key=a+b", &[], "x").await;
}

#[tokio::test]
async fn amq_default_is_the_default_exchange_in_both_forms() {
    let (client, sidecar) = orders_up("amq_default").await;

    confirmed(&sidecar, "/v1/exchanges/amq.default/messages?routing_key=orders", &[], "x").await;
    envelope(&sidecar, r#""payload":"x""#).await;

    let messages = client.drain("orders").await;
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.exchange.is_empty() && message.routing_key == "orders"));
}

#[tokio::test]
async fn payloads_arrive_byte_for_byte_in_every_encoding() {
    let (client, sidecar) = orders_up("payloads").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    confirmed(&sidecar, QUEUE, &[], every_byte.clone()).await;
    confirmed(&sidecar, QUEUE, &[], "").await;
    let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BB\
                  QkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKD\
                  hIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TF\
                  xsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/w==";
    envelope(&sidecar, &format!(r#""payload":"{base64}","payload_encoding":"base64""#)).await;
    envelope(&sidecar, r#""payload":"","payload_encoding":"base64""#).await;
    envelope(&sidecar, r#""payload":"line\n\u0000\ud83d\ude00 ü","payload_encoding":"string""#).await;
    envelope(&sidecar, r#""payload":"""#).await;
    envelope(&sidecar, r#""payload":{"b":1, "a":[1.50,1e3]},"payload_encoding":"json""#).await;
    envelope(&sidecar, r#""payload":null,"payload_encoding":"json""#).await;

    let received = client.drain("orders").await;
    let bodies: Vec<_> = received.iter().map(|message| message.body.clone()).collect();
    let texts =
        ["line\n\0😀 ü", "", r#"{"b":1, "a":[1.50,1e3]}"#, "null"].map(|text| text.as_bytes().to_vec());
    let mut expected = vec![every_byte.clone(), Vec::new(), every_byte, Vec::new()];
    expected.extend(texts);
    assert_eq!(bodies, expected);
    let json = received[6].properties.content_type().as_ref().unwrap().as_str();
    assert_eq!(json, "application/json");
}

const LARGEST: usize = 16 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_mebibytes_arrive_with_and_without_an_announced_length() {
    let (client, sidecar) = orders_up("large").await;
    let payload: Vec<u8> = (0..LARGEST).map(|position| (position * 31 + position / 256) as u8).collect();
    let payload = Bytes::from(payload);

    let slow_machine = [("amqpost-timeout", "60s")];
    confirmed(&sidecar, QUEUE, &slow_machine, payload.clone()).await;
    assert!(only(&client, "orders").await.body == payload, "announced: the same bytes");

    let mut wire = SlowClient::connect(sidecar.http()).await;
    let head = "host: x\r\namqpost-timeout: 60s\r\ntransfer-encoding: chunked\r\n\r\n";
    wire.send(format!("POST {QUEUE} HTTP/1.1\r\n{head}")).await;
    for chunk in payload.chunks(100_000) {
        wire.send(format!("{:x}\r\n", chunk.len())).await;
        wire.send(chunk).await;
        wire.send("\r\n").await;
    }
    wire.send("0\r\n\r\n").await;
    let head = wire.read_head(Duration::from_secs(60)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(only(&client, "orders").await.body == payload, "chunked: the same bytes");
}

#[tokio::test]
async fn an_envelope_that_need_not_be_taken_is_confirmed_without_a_queue() {
    let (_client, sidecar) = orders_up("optional_envelope").await;
    let document = |mandatory| {
        let document = serde_json::json!(
            {"exchange": "amq.topic", "routing_key": "nobody", "payload": "x", "mandatory": mandatory}
        );
        document.to_string()
    };
    let json = [("content-type", "application/json")];

    confirmed(&sidecar, "/v1/messages", &json, document(false)).await;
    assert_eq!(sidecar.post("/v1/messages", &json, document(true)).await.verdict(), (422, "unroutable"));
}

#[tokio::test]
async fn http_2_with_prior_knowledge_publishes_concurrently_on_one_connection() {
    let (client, sidecar) = orders_up("http2").await;
    let http2: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();

    let answers = join_all((0..200).map(|n| {
        let headers = [("amqp-header-number", n.to_string())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        http2.request(sidecar.request("POST", QUEUE, &headers, format!("{n}")))
    }))
    .await;

    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
        assert_eq!(answer.headers()["amqpost-code"], "confirmed");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"{\"outcome\":\"confirmed\""));
    }
    let messages = client.drain("orders").await;
    assert_eq!(messages.len(), 200);
    assert!(messages.iter().all(|message| message.header("number") == Some(&text(&message.text()))));
}

#[tokio::test]
async fn unix_sockets_and_ports_in_one_list_all_take_requests() {
    let vhost = shared().await.vhost("unix").await;
    let client = vhost.with_orders().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("amqpost.sock");
    let listen = format!("[\"unix:{}\", \"127.0.0.1:0\"]", path.display());
    let sidecar = Sidecar::builder(&vhost.uri()).set_instead("http.listen", &listen).start().await;
    let sidecar = sidecar.with_link_up().await;

    let port = sidecar.http().split(',').find(|address| !address.starts_with("unix:")).unwrap();
    let clients = [SlowClient::connect_unix(&path).await, SlowClient::connect(port).await];
    for mut wire in clients {
        wire.send(format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")).await;
        let head = wire.read_head(Duration::from_secs(20)).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    assert_eq!(client.depth("orders").await, 2);
}
