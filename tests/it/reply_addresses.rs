//! Direct reply-to addresses: the broker's verdict on them is not reliable, so messages to them are
//! refused.

use crate::harness::*;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};
use serde_json::json;
use std::time::Duration;
use tokio_stream::StreamExt;

const DIRECT: &str = "amq.rabbitmq.reply-to";
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that has asked a question and waits for the reply.
struct Caller {
    channel: Channel,
    replies: Consumer,
    address: String,
}

impl Caller {
    async fn waiting(client: &AmqpClient) -> Self {
        client.declare_queue("questions", true, arguments([])).await;
        let channel = client.channel().await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consuming = channel.basic_consume(DIRECT.into(), "".into(), options, FieldTable::default());
        let replies = consuming.await.expect("anybody may wait for replies");
        let properties = BasicProperties::default().with_reply_to(DIRECT.into());
        publish(&channel, "questions", "?", properties).await;
        eventually("the question is there", PATIENCE, async || client.depth("questions").await == 1).await;
        let questions = client.drain("questions").await;
        let address = questions[0].properties.reply_to().as_ref().expect("the broker put it in").to_string();
        assert!(address.starts_with(DIRECT) && address.len() > DIRECT.len(), "{address}");
        Self { channel, replies, address }
    }

    /// Replies to itself: the first arrival shows whether anything else was delivered before.
    async fn assert_no_reply_so_far(&mut self) {
        publish(&self.channel, &self.address, "the caller's own", BasicProperties::default()).await;
        let first = tokio::time::timeout(PATIENCE, self.replies.next()).await;
        let first = first.expect("in time").expect("the consumer lives").expect("a delivery");
        assert_eq!(String::from_utf8_lossy(&first.data), "the caller's own");
    }
}

async fn publish(channel: &Channel, queue: &str, body: &str, properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    let publishing = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
    publishing.await.expect("the channel is open");
}

fn percent_encoded(address: &str) -> String {
    address.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[track_caller]
fn assert_refused(answer: &Answer, address: &str) {
    assert_eq!(
        (answer.verdict(), answer.outcome()),
        ((400, "invalid_request"), "not_published"),
        "{address}"
    );
    assert!(answer.detail().starts_with("routing_key: "), "{address}: {}", answer.detail());
}

#[track_caller]
fn assert_no_connection_was_lost(sidecar: &Sidecar) {
    let log = sidecar.log();
    assert!(!log.contains("connection lost"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_to_a_waiting_caller_is_refused_and_not_delivered() {
    let (client, sidecar) = orders_up("reply").await;
    let mut caller = Caller::waiting(&client).await;

    let path = format!("/v1/queues/{}/messages", percent_encoded(&caller.address));
    let answer = sidecar.post(&path, &[], "the reply").await;

    assert_refused(&answer, &caller.address);
    caller.assert_no_reply_so_far().await;
    assert_no_connection_was_lost(&sidecar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carbon_copy_to_a_waiting_caller_is_refused_and_nobody_gets_the_message() {
    let (client, sidecar) = orders_up("reply_copy").await;
    let mut caller = Caller::waiting(&client).await;

    for header in ["CC", "BCC"] {
        let document = json!({
            "exchange": "amq.default", "routing_key": "orders", "payload": "x",
            "properties": {"headers": {header: ["elsewhere", caller.address]}},
        });
        let json = [("content-type", "application/json")];
        assert_refused(&sidecar.post("/v1/messages", &json, document.to_string()).await, header);
    }

    caller.assert_no_reply_so_far().await;
    assert_eq!(client.depth("orders").await, 0);
    assert_no_connection_was_lost(&sidecar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_reply_address_is_refused_and_costs_no_connection() {
    let (client, sidecar) = orders_up("reply_malformed").await;
    assert_eq!(sidecar.post("/v1/queues/orders/messages", &[], "x").await.code(), "confirmed");

    for rest in ["", ".", ".%21%21.x", ".abc", ".AAAA.key", ".g2dkAAR.key.more", ".g2EB.key"] {
        for path in ["/v1/queues/{}/messages", "/v1/exchanges/amq.direct/messages?routing_key={}"] {
            let path = path.replace("{}", &format!("{DIRECT}{rest}"));
            assert_refused(&sidecar.post(&path, &[], "x").await, &path);
        }
    }

    assert_eq!(sidecar.post("/v1/queues/orders/messages", &[], "x").await.code(), "confirmed");
    assert_eq!(client.depth("orders").await, 2);
    assert_no_connection_was_lost(&sidecar);
}
