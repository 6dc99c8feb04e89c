//! Asks the broker whether a queue exists, when it has returned a message to the default exchange.
//!
//! A queue whose node is away takes no messages, and the broker returns them as it does for a queue
//! that never existed. A passive `queue.declare` tells the two apart. It travels over a channel of
//! its own, because the broker closes the channel if there is no such queue. So the sidecar asks
//! about a queue at most once a second, and about few queues a second. Without an answer, the
//! return counts as it is.

use crate::hashing::Map;
use crate::link::channel_limit::ChannelLimit;
use crate::locking::lock;
use crate::message::ShortText;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use lapin::options::QueueDeclareOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is used for further messages to the same queue.
const ANSWER_HOLDS: Duration = Duration::from_secs(1);

/// The most queues that are asked about within [`ANSWER_HOLDS`]. Each one that does not exist costs
/// one of the 400 channels after which a connection is replaced.
const QUEUES_MAX: usize = 16;

/// How long the broker may take. On a fast link the answer takes a millisecond, also for a queue
/// whose node is away.
const ASK_MAX: Duration = Duration::from_millis(500);

/// Whether a queue exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    /// The queue exists, although it may be unavailable at the moment.
    Exists,
    /// The broker knows no such queue.
    Missing,
    /// The broker was not asked, or gave no answer in time: nobody is connected, too many queues
    /// were asked about, or channels are scarce.
    NotAsked,
}

type Answer = Shared<BoxFuture<'static, Existence>>;

/// The questions to the broker, over whichever connection is open.
#[derive(Debug)]
pub(crate) struct Inquiries {
    channel_limit: Arc<ChannelLimit>,
    connections: Mutex<Vec<Asked>>,
    answers: Mutex<Map<ShortText, (Instant, Answer)>>,
}

/// A connection over which the broker can be asked.
#[derive(Debug)]
struct Asked {
    connection: Weak<Connection>,
    /// Channels of the connection that the broker has closed, shared with its lanes.
    closed: Arc<AtomicUsize>,
}

impl Inquiries {
    pub(crate) fn new(channel_limit: Arc<ChannelLimit>) -> Self {
        Self { channel_limit, connections: Mutex::default(), answers: Mutex::default() }
    }

    /// From now on the broker may be asked over this connection. `closed` counts the channels that
    /// it costs.
    pub(crate) fn connected(&self, connection: &Arc<Connection>, closed: &Arc<AtomicUsize>) {
        let mut connections = lock(&self.connections);
        connections.retain(|asked| asked.connection.strong_count() > 0);
        connections.push(Asked { connection: Arc::downgrade(connection), closed: Arc::clone(closed) });
    }

    /// Whether the queue exists, by an answer of the last second or by a new one. Ends within half
    /// a second.
    pub(crate) async fn exists(&self, queue: &ShortText) -> Existence {
        match self.answer(queue) {
            Some(answer) => answer.await,
            None => Existence::NotAsked,
        }
    }

    fn answer(&self, queue: &ShortText) -> Option<Answer> {
        // The broker removes line breaks from a declared name: the answer would be about another
        // queue.
        if queue.as_str().contains(['\r', '\n']) {
            return None;
        }
        let now = Instant::now();
        let mut answers = lock(&self.answers);
        answers.retain(|_, (asked, _)| now < *asked + ANSWER_HOLDS);
        if let Some((_, answer)) = answers.get(queue) {
            return Some(answer.clone());
        }
        if answers.len() >= QUEUES_MAX || self.channel_limit.is_reached() {
            return None;
        }
        let (connection, closed) = self.connection()?;
        let answer = ask(connection, closed, queue.clone()).boxed().shared();
        answers.insert(queue.clone(), (now, answer.clone()));
        Some(answer)
    }

    /// The newest connection that is open.
    fn connection(&self) -> Option<(Arc<Connection>, Arc<AtomicUsize>)> {
        lock(&self.connections).iter().rev().find_map(|asked| {
            let connection = asked.connection.upgrade().filter(|it| it.status().connected())?;
            Some((connection, Arc::clone(&asked.closed)))
        })
    }
}

async fn ask(connection: Arc<Connection>, closed: Arc<AtomicUsize>, queue: ShortText) -> Existence {
    let asking = async {
        let Ok(channel) = connection.create_channel().await else { return Existence::NotAsked };
        let Ok(name) = ShortString::try_new(queue.as_str()) else { return Existence::NotAsked };
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(name, options, FieldTable::default()).await {
            // A channel that is dropped open may have its id given to the next one, which then gets
            // the answer to its close and takes the connection with it.
            Ok(_) => {
                drop(channel.close(200, "answered".into()).await);
                Existence::Exists
            }
            Err(error) => {
                closed.fetch_add(1, Ordering::Relaxed);
                existence(&error, queue.as_str())
            }
        }
    };
    // A slow link proves nothing: without an answer the return counts as it is.
    tokio::time::timeout(ASK_MAX, asking).await.unwrap_or(Existence::NotAsked)
}

/// The meaning of the broker's refusal to describe a queue.
fn existence(error: &lapin::Error, queue: &str) -> Existence {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return Existence::NotAsked };
    let AMQPErrorKind::Soft(soft) = amqp.kind() else { return Existence::NotAsked };
    let is_missing = *soft == AMQPSoftError::NOTFOUND && says_missing(amqp.get_message().as_str(), queue);
    if is_missing { Existence::Missing } else { Existence::Exists }
}

/// Whether the broker's text says that there is no such queue. RabbitMQ 3.10 and 4.0 say
/// `NOT_FOUND - no queue 'q' in vhost '/'`. Of a durable queue whose node is away they say
/// `NOT_FOUND - home node 'n' of durable queue 'q' in vhost '/' is down or inaccessible`.
fn says_missing(text: &str, queue: &str) -> bool {
    text.strip_prefix("NOT_FOUND - no queue '").is_some_and(|rest| {
        // A long name may be cut off.
        rest.starts_with(queue) || rest.strip_suffix("...").is_some_and(|cut| queue.starts_with(cut))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_that_there_is_no_queue_says_so() {
        let long = "q".repeat(255);
        let cut = format!("NOT_FOUND - no queue '{}...", &long[..200]);
        for (text, queue, missing) in [
            ("NOT_FOUND - no queue 'q' in vhost '/'", "q", true),
            (cut.as_str(), long.as_str(), true),
            (
                "NOT_FOUND - home node 'b@127.0.0.2' of durable queue 'q' in vhost '/' is down or \
                 inaccessible",
                "q",
                false,
            ),
            ("NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout", "q", false),
        ] {
            assert_eq!(says_missing(text, queue), missing, "{text}");
        }
    }

    #[tokio::test]
    async fn without_a_connection_nobody_is_asked() {
        let queue = ShortText::new("q").unwrap();
        assert_eq!(Inquiries::new(Arc::default()).exists(&queue).await, Existence::NotAsked);
    }
}
