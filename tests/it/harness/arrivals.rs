//! A consumer that notes when each message arrives and whether it has the mark of a possible
//! repetition.

use super::eventually::eventually;
use super::queue::AmqpClient;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

/// One message that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// Its routing key.
    pub key: String,
    /// Its message id, `{key}-{n}`.
    pub id: String,
    /// Whether it has the mark of a possible repetition.
    pub marked: bool,
}

/// The messages that arrived in a queue.
pub struct Arrivals {
    seen: Arc<Mutex<Vec<Arrival>>>,
    task: JoinHandle<()>,
}

impl Arrivals {
    /// Consumes a queue from now on.
    pub async fn of(client: &AmqpClient, queue: &str) -> Self {
        let channel = client.channel().await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consuming = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let mut consumer = consuming.await.expect("the queue can be consumed");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noting = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            // The channel lives as long as its consumer.
            let _channel = channel;
            while let Some(Ok(delivery)) = consumer.next().await {
                let at = Instant::now();
                let headers = delivery.properties.headers().clone().unwrap_or_default();
                let mark = headers.inner().get("x-amqpost-redelivered").cloned();
                let marked = mark == Some(AMQPValue::LongString("true".into()));
                let id = delivery.properties.message_id().clone().expect("every message has an id");
                let key = delivery.routing_key.to_string();
                noting.lock().expect("no panic").push(Arrival { at, key, id: id.to_string(), marked });
            }
        });
        Self { seen, task }
    }

    /// All so far, in order.
    pub fn all(&self) -> Vec<Arrival> {
        self.seen.lock().expect("no panic").clone()
    }

    /// The number of different messages.
    pub fn distinct(&self) -> usize {
        self.all().iter().map(|arrival| &arrival.id).collect::<BTreeSet<_>>().len()
    }

    /// Waits until `count` different messages have arrived.
    pub async fn reach(&self, count: usize, within: Duration) {
        eventually(&format!("{count} messages arrive"), within, async || {
            let distinct = self.distinct();
            if distinct >= count { Ok(()) } else { Err(distinct) }
        })
        .await;
    }

    /// The numbers of each key's messages, in the order of their first arrivals.
    pub fn first_arrivals(&self) -> BTreeMap<String, Vec<usize>> {
        let (mut seen, mut numbers) = (BTreeSet::new(), BTreeMap::<String, Vec<usize>>::new());
        for arrival in self.all() {
            if seen.insert(arrival.id.clone()) {
                let number = arrival.id.rsplit('-').next().and_then(|number| number.parse().ok());
                numbers.entry(arrival.key).or_default().push(number.expect("ids end in their number"));
            }
        }
        numbers
    }

    /// The repeated arrivals.
    pub fn repeated(&self) -> Vec<Arrival> {
        let mut seen = BTreeSet::new();
        self.all().into_iter().filter(|arrival| !seen.insert(arrival.id.clone())).collect()
    }

    /// Fails unless the first arrivals of each key's `count` messages are complete and in order.
    ///
    /// # Panics
    /// When they did not.
    #[track_caller]
    pub fn assert_in_order(&self, keys: usize, count: usize) {
        let arrived = self.first_arrivals();
        assert_eq!(arrived.len(), keys, "keys that have arrived");
        for (key, numbers) in arrived {
            assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "the order of {key}");
        }
    }

    /// The largest number of arrivals in any second.
    pub fn busiest_second(&self) -> usize {
        let moments: Vec<_> = self.all().iter().map(|arrival| arrival.at).collect();
        let (mut first, mut most) = (0, 0);
        for (last, moment) in moments.iter().enumerate() {
            while moments[first] + Duration::from_secs(1) <= *moment {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    /// How many arrived in each second since the first one.
    pub fn by_second(&self) -> Vec<usize> {
        let all = self.all();
        let mut seconds = Vec::new();
        for arrival in &all {
            let second = arrival.at.duration_since(all[0].at).as_secs() as usize;
            seconds.resize(seconds.len().max(second + 1), 0);
            seconds[second] += 1;
        }
        seconds
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.task.abort();
    }
}
