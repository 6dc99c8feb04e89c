//! Declares, fills and reads queues directly at the broker, with lapin.

use std::path::Path;
use std::time::{Duration, Instant};

use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind,
};
use tokio_stream::StreamExt;

const PATIENCE: Duration = Duration::from_secs(60);

/// The test's own connection, beside those under test.
///
/// Connect it to the broker, never to a fault proxy. All methods panic with the broker's answer
/// when something fails or takes longer than a minute.
pub struct AmqpClient {
    connection: Connection,
}

/// A message from the queue.
#[derive(Debug, Clone)]
pub struct Received {
    /// The exchange it was published to.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// Whether the queue delivered it before.
    pub redelivered: bool,
    /// All its properties.
    pub properties: BasicProperties,
    /// Its headers table, empty when it had none.
    pub headers: FieldTable,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header of the message.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.headers.inner().get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `message_id` property.
    pub fn message_id(&self) -> Option<&str> {
        let id = self.properties.message_id().as_ref()?;
        Some(id.as_str())
    }
}

impl AmqpClient {
    /// Connects without TLS.
    pub async fn connect(uri: &str) -> Self {
        Self::connect_with(uri, OwnedTLSConfig::default()).await
    }

    /// Connects to an `amqps://` URI whose certificate was signed by the authority in `ca_pem`.
    pub async fn connect_tls(uri: &str, ca_pem: &Path) -> Self {
        let pem =
            std::fs::read_to_string(ca_pem).unwrap_or_else(|e| panic!("reading {}: {e}", ca_pem.display()));
        let config = OwnedTLSConfig { identity: None, cert_chain: Some(pem) };
        Self::connect_with(uri, config).await
    }

    async fn connect_with(uri: &str, config: OwnedTLSConfig) -> Self {
        let runtime = lapin::runtime::default_runtime();
        let runtime = runtime.unwrap_or_else(|e| panic!("no runtime: {e}"));
        let properties = ConnectionProperties::default().with_connection_name("test harness".into());
        let connecting = Connection::connect_with_config(uri, properties, config, runtime);
        Self { connection: within("connecting", connecting).await }
    }

    /// The connection, for tasks without a method of their own.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A new channel. Each method here uses its own, because a refused request closes its channel.
    pub async fn channel(&self) -> Channel {
        within("opening a channel", self.connection.create_channel()).await
    }

    /// Declares a queue with arguments such as `x-max-length`; see [`arguments`].
    pub async fn declare_queue(&self, name: &str, durable: bool, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
        let channel = self.channel().await;
        let declaring = channel.queue_declare(name.into(), options, arguments);
        within("declaring a queue", declaring).await;
        end(channel).await;
    }

    /// Deletes a queue with its messages.
    pub async fn delete_queue(&self, name: &str) {
        let channel = self.channel().await;
        let deleting = channel.queue_delete(name.into(), QueueDeleteOptions::default());
        within("deleting a queue", deleting).await;
        end(channel).await;
    }

    /// Declares a durable exchange.
    pub async fn declare_exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let channel = self.channel().await;
        let declaring = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        within("declaring an exchange", declaring).await;
        end(channel).await;
    }

    /// Deletes an exchange, bound or not.
    pub async fn delete_exchange(&self, name: &str) {
        let channel = self.channel().await;
        let deleting = channel.exchange_delete(name.into(), ExchangeDeleteOptions::default());
        within("deleting an exchange", deleting).await;
        end(channel).await;
    }

    /// Binds a queue to an exchange.
    pub async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        let channel = self.channel().await;
        let binding = channel.queue_bind(
            queue.into(),
            exchange.into(),
            routing_key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        within("binding a queue", binding).await;
        end(channel).await;
    }

    /// Publishes a persistent message straight into a queue and waits for the broker's ack.
    pub async fn put(&self, queue: &str, body: &[u8]) {
        let channel = self.channel().await;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        within("asking for confirms", confirms).await;
        let publishing = async {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            let sent = channel.basic_publish("".into(), queue.into(), options, body, properties);
            sent.await?.await
        };
        let confirmation = within("publishing", publishing).await;
        assert!(matches!(confirmation, Confirmation::Ack(None)), "publishing to {queue}: {confirmation:?}");
        end(channel).await;
    }

    /// The number of ready messages in a queue, without unacknowledged ones.
    pub async fn depth(&self, queue: &str) -> u32 {
        self.try_depth(queue).await.unwrap_or_else(|e| panic!("the depth of {queue}: {e}"))
    }

    /// The same for a queue that may be missing or a broker that may be down.
    ///
    /// # Errors
    /// The error of the broker or the connection.
    pub async fn try_depth(&self, queue: &str) -> Result<u32, lapin::Error> {
        let options = QueueDeclareOptions::default().passive();
        let asking = async {
            let channel = self.connection.create_channel().await?;
            let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
            let depth = declared.await?.message_count();
            channel.close(200, "done".into()).await?;
            Ok(depth)
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(depth) => depth,
            Err(_elapsed) => panic!("no depth of {queue} within {PATIENCE:?}"),
        }
    }

    /// Deletes the ready messages; returns how many there were.
    pub async fn purge(&self, queue: &str) -> u32 {
        let channel = self.channel().await;
        let purging = channel.queue_purge(queue.into(), QueuePurgeOptions::default());
        let count = within("purging", purging).await;
        end(channel).await;
        count
    }

    /// Removes and returns all messages of a queue, in order.
    pub async fn drain(&self, queue: &str) -> Vec<Received> {
        let mut messages = Vec::new();
        let mut expected = self.depth(queue).await as usize;
        if expected == 0 {
            return messages;
        }
        let channel = self.channel().await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let arguments = FieldTable::default();
        let consuming = channel.basic_consume(queue.into(), "".into(), options, arguments);
        let mut consumer = within("consuming", consuming).await;
        loop {
            let before = messages.len();
            take(&mut consumer, &mut messages, expected).await;
            let more = self.depth(queue).await;
            if more == 0 {
                break;
            }
            assert!(messages.len() > before, "{queue} does not hand out its {more} messages");
            expected = messages.len() + more as usize;
        }
        // The broker sends all messages for a consumer before it confirms the cancellation, so the
        // stream ends after the last message.
        let cancelling = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        within("cancelling", cancelling).await;
        take(&mut consumer, &mut messages, usize::MAX).await;
        end(channel).await;
        messages
    }
}

/// A queue's arguments, such as `[("x-max-length", 1.into()), ("x-overflow",
/// text("reject-publish"))]`.
pub fn arguments<const N: usize>(pairs: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert(name.into(), value);
    }
    table
}

/// A text as a value in a queue's arguments.
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Reads the stream until it ends, has given `expected` messages, or gives none for five seconds
/// (messages may have expired since they were counted).
async fn take(consumer: &mut Consumer, messages: &mut Vec<Received>, expected: usize) {
    let mut last = Instant::now();
    while messages.len() < expected && last.elapsed() < PATIENCE {
        let next = tokio::time::timeout(Duration::from_secs(5), consumer.next()).await;
        let Ok(Some(delivery)) = next else { return };
        let delivery = delivery.unwrap_or_else(|e| panic!("a delivery: {e}"));
        last = Instant::now();
        messages.push(Received {
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            redelivered: delivery.redelivered,
            headers: delivery.properties.headers().clone().unwrap_or_default(),
            properties: delivery.properties,
            body: delivery.data,
        });
    }
}

async fn within<T>(what: &str, work: impl Future<Output = lapin::Result<T>>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(_elapsed) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

async fn end(channel: Channel) {
    within("closing a channel", channel.close(200, "done".into())).await;
}
