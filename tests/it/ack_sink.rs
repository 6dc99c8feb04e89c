//! lapin and the sidecar can publish to the benchmarks' broker, which only acks, as to RabbitMQ.

#[path = "../../benches/cost/sink.rs"]
mod sink;

use crate::harness::Sidecar;
use futures::future::join_all;
use lapin::options::{
    BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use std::time::Duration;

/// A sink in this process, which ends with it.
fn sink_uri() -> String {
    let sink = sink::Sink::listen().expect("a free port");
    let address = sink.address().expect("it is bound");
    std::thread::spawn(move || sink.serve());
    format!("amqp://guest:guest@{address}/%2f")
}

async fn in_time<T>(what: impl Future<Output = lapin::Result<T>>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(20), what).await;
    done.expect("it answers").expect("it agrees")
}

async fn channel(connection: &Connection) -> Channel {
    let channel = in_time(connection.create_channel()).await;
    in_time(channel.confirm_select(ConfirmSelectOptions::default())).await;
    channel
}

async fn publish(channel: &Channel, bytes: usize) -> Confirmation {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let body = vec![b'x'; bytes];
    let sent = channel.basic_publish("".into(), "orders".into(), options, &body, properties);
    in_time(in_time(sent).await).await
}

#[tokio::test]
async fn the_ack_only_broker_confirms_every_publish_of_any_size_on_any_channel() {
    let connection = in_time(Connection::connect(&sink_uri(), ConnectionProperties::default())).await;
    let channels = [channel(&connection).await, channel(&connection).await];
    let sizes = [0, 1, 1024, 300_000];
    let publishes = (0..400).map(|number| publish(&channels[number % 2], sizes[number / 2 % sizes.len()]));
    let confirms = join_all(publishes).await;
    assert!(confirms.iter().all(|confirm| *confirm == Confirmation::Ack(None)), "{confirms:?}");
    in_time(channels[0].close(200, "done".into())).await;
    in_time(connection.close(200, "done".into())).await;
}

#[tokio::test]
async fn the_ack_only_broker_has_every_exchange_and_queue() {
    let connection = in_time(Connection::connect(&sink_uri(), ConnectionProperties::default())).await;
    let channel = channel(&connection).await;
    let (exchange, queue) = (ExchangeDeclareOptions::default(), QueueDeclareOptions::default());
    let passive = ExchangeDeclareOptions { passive: true, ..exchange };
    let table = FieldTable::default;
    in_time(channel.exchange_declare("orders".into(), ExchangeKind::Topic, exchange, table())).await;
    in_time(channel.exchange_declare("orders".into(), ExchangeKind::Topic, passive, table())).await;
    let declared = in_time(channel.queue_declare("orders".into(), queue, table())).await;
    assert_eq!((declared.name().as_str(), declared.message_count()), ("orders", 0));
    in_time(channel.basic_qos(0, BasicQosOptions::default())).await;
}

#[tokio::test]
async fn the_sidecar_publishes_to_the_ack_only_broker() {
    let sidecar = Sidecar::up(&sink_uri()).await;
    for _ in 0..3 {
        let answer = sidecar.post("/v1/exchanges/orders/messages?routing_key=created", &[], "one").await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}
