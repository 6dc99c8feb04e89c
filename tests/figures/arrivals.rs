//! A consumer that bypasses every fault and records which messages arrive in a queue, and when.

use crate::harness::AmqpClient;
use futures::StreamExt;
use lapin::Consumer;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::JoinHandle;

/// When each number arrived.
pub(crate) type Arrived = HashMap<u64, Vec<Instant>>;

/// A consumer under way.
pub(crate) struct Arrivals {
    client: AmqpClient,
    arrived: Arc<Mutex<Arrived>>,
    task: JoinHandle<()>,
}

impl Arrivals {
    /// Starts to consume a queue of messages whose ids are numbers.
    pub(crate) async fn of(queue: &'static str, uri: &str) -> Self {
        let client = AmqpClient::connect(uri).await;
        let channel = client.channel().await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await;
        let arrived = Arc::default();
        let task = tokio::spawn(take(consumer.expect("the queue is there"), Arc::clone(&arrived)));
        Self { client, arrived, task }
    }

    /// All arrivals, once the queue is empty.
    pub(crate) async fn close(self, queue: &str) -> Arrived {
        let queue_is_empty = async || self.client.depth(queue).await == 0;
        crate::harness::eventually("the queue is empty", std::time::Duration::from_secs(30), queue_is_empty)
            .await;
        // Delivered messages may still be on their way to this process.
        crate::pace::rest(std::time::Duration::from_secs(1)).await;
        assert!(!self.task.is_finished(), "the consumer ended before its time");
        self.task.abort();
        std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn take(mut consumer: Consumer, arrived: Arc<Mutex<Arrived>>) {
    while let Some(Ok(delivery)) = consumer.next().await {
        let id = delivery.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
        let number: u64 = id.expect("every message has a number as its id");
        arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(number)
            .or_default()
            .push(Instant::now());
    }
}
