//! Consumers that take and record arriving messages at once; they survive every fault by starting
//! again.

use super::books::{Arrival, Books};
use super::messages::{DOOMED, FLAPPING_QUEUE, QUEUE, SPOOL_QUEUE, TIGHT, TOPIC_QUEUE, number};
use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Where messages arrive.
pub(crate) const QUEUES: [&str; 6] = [QUEUE, TOPIC_QUEUE, SPOOL_QUEUE, TIGHT, FLAPPING_QUEUE, DOOMED];

/// The time that the consumer of the tight queue takes for each message.
const SLOWNESS: Duration = Duration::from_millis(25);

/// Starts a consumer for each queue. The consumers end when the returned value is dropped.
pub(crate) fn consume(seed: u64, uri: &str, books: &Arc<Books>) -> JoinSet<()> {
    let mut consumers = JoinSet::new();
    for queue in QUEUES {
        let (uri, books) = (uri.to_owned(), Arc::clone(books));
        consumers.spawn(async move {
            loop {
                // An error is the effect of a fault: the next session begins where this one ended.
                drop(session(seed, &uri, queue, &books).await);
                crate::pace::rest(Duration::from_millis(50)).await;
            }
        });
    }
    consumers
}

/// A connection of the test itself, which bypasses the proxy. None of its waits may last longer
/// than a fault.
pub(crate) async fn connect(uri: &str) -> Result<Connection, lapin::Error> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let properties = ConnectionProperties::default().with_connection_name("chaos observer".into());
    let runtime = lapin::runtime::default_runtime()?;
    let connecting = Connection::connect_with_config(uri, properties, OwnedTLSConfig::default(), runtime);
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Consumes with acks, so that the broker redelivers messages that were on their way when it died.
async fn session(seed: u64, uri: &str, queue: &'static str, books: &Books) -> Result<(), lapin::Error> {
    let connection = connect(uri).await?;
    let channel = connection.create_channel().await?;
    let is_slow = queue == TIGHT;
    if is_slow {
        channel.basic_qos(1, BasicQosOptions::default()).await?;
    }
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let id =
            delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
        if let Some(number) = number(seed, &id) {
            let intact = delivery.data.starts_with(format!("{id}|").as_bytes());
            let headers = delivery.properties.headers().as_ref();
            let mark = headers.and_then(|headers| headers.inner().get("x-amqpost-redelivered"));
            books.arrived(Arrival {
                number,
                at: Instant::now(),
                queue,
                redelivered: delivery.redelivered,
                intact,
                marked: mark == Some(&AMQPValue::LongString("true".into())),
            });
        }
        if is_slow {
            crate::pace::rest(SLOWNESS).await;
        }
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    // The queue was deleted.
    connection.close(200, "done".into()).await
}
