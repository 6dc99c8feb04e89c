//! Concurrent publishing with unique ids, and a record of every answer.

use super::answer::Answer;
use super::sidecar::Sidecar;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A sent message and its answer.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its message id.
    pub id: String,
    /// The HTTP status.
    pub status: u16,
    /// confirmed, not_published or unknown.
    pub outcome: String,
    /// The code.
    pub code: String,
    /// When the request was sent.
    pub at: Instant,
    /// How long the answer took.
    pub took: Duration,
}

/// Publishes to `path` with `concurrency` requests at a time until `enough` returns true; ids are
/// `{prefix}-{n}`.
pub async fn load(
    sidecar: &Sidecar,
    path: &str,
    prefix: &str,
    concurrency: usize,
    enough: impl FnMut(usize) -> bool,
) -> Vec<Sent> {
    let message = |n| (path.to_owned(), Bytes::from(format!("{prefix}-{n}")));
    load_of(sidecar, message, prefix, concurrency, enough).await
}

/// The same with a path and a body for each message.
pub async fn load_of(
    sidecar: &Sidecar,
    message: impl Fn(usize) -> (String, Bytes),
    prefix: &str,
    concurrency: usize,
    mut enough: impl FnMut(usize) -> bool,
) -> Vec<Sent> {
    let messages = (0usize..).take_while(|n| !enough(*n));
    stream::iter(messages)
        .map(|n| {
            let (path, body) = message(n);
            publish(sidecar, path, format!("{prefix}-{n}"), body, Instant::now)
        })
        .buffer_unordered(concurrency)
        .collect()
        .await
}

/// Publishes `per_second` messages, each at its scheduled time without waiting for earlier ones
/// (open loop), until `enough` returns true. Latencies count from the scheduled time, so that
/// stalls are included.
pub async fn paced_load(
    sidecar: &Sidecar,
    path: &str,
    prefix: &str,
    per_second: u32,
    mut enough: impl FnMut(usize) -> bool,
) -> Vec<Sent> {
    const UNDER_WAY_MAX: usize = 4096;
    let (begun, step) = (Instant::now(), Duration::from_secs(1) / per_second);
    let messages = (0u32..).take_while(|n| !enough(*n as usize));
    stream::iter(messages)
        .then(|n| async move {
            let moment = begun + step * n;
            tokio::time::sleep_until(moment.into()).await;
            (n, moment)
        })
        .map(|(n, moment)| {
            let id = format!("{prefix}-{n}");
            publish(sidecar, path.to_owned(), id.clone(), id.into(), move || moment)
        })
        .buffer_unordered(UNDER_WAY_MAX)
        .collect()
        .await
}

async fn publish(
    sidecar: &Sidecar,
    path: String,
    id: String,
    body: Bytes,
    at: impl FnOnce() -> Instant,
) -> Sent {
    let at = at();
    let headers = [("amqp-message-id", id.as_str()), ("amqpost-timeout", "10s")];
    let answer = sidecar.post(&path, &headers, body).await;
    record(id, at, &answer)
}

fn record(id: String, at: Instant, answer: &Answer) -> Sent {
    assert_eq!(answer.message_id(), id, "an answer is about its own message");
    Sent {
        id,
        status: answer.status(),
        outcome: answer.outcome().to_owned(),
        code: answer.code().to_owned(),
        at,
        took: at.elapsed(),
    }
}

/// The messages with an outcome.
pub fn with_outcome<'a>(sent: &'a [Sent], outcome: &str) -> Vec<&'a Sent> {
    sent.iter().filter(|message| message.outcome == outcome).collect()
}

/// The number of answers with each code.
pub fn codes(sent: &[Sent]) -> std::collections::BTreeMap<String, usize> {
    let mut codes = std::collections::BTreeMap::new();
    for message in sent {
        *codes.entry(message.code.clone()).or_default() += 1;
    }
    codes
}

/// Compares the answers with the messages in the queue.
///
/// # Panics
/// When a confirmed message is missing (a loss) or a `not_published` one is there (a ghost).
pub fn assert_no_loss_and_no_ghost(sent: &[Sent], arrived: &HashSet<String>) {
    let lost: Vec<_> = with_outcome(sent, "confirmed")
        .into_iter()
        .filter(|message| !arrived.contains(&message.id))
        .collect();
    let ghosts: Vec<_> = with_outcome(sent, "not_published")
        .into_iter()
        .filter(|message| arrived.contains(&message.id))
        .collect();
    assert!(lost.is_empty(), "{} confirmed messages are missing: {:?}", lost.len(), lost.first());
    assert!(ghosts.is_empty(), "{} ghosts: {:?}", ghosts.len(), ghosts.first());
}

/// The `share` quantile of the answers' latencies.
pub fn quantile(sent: &[&Sent], share: f64) -> Duration {
    let mut took: Vec<_> = sent.iter().map(|message| message.took).collect();
    took.sort_unstable();
    let position = (took.len().saturating_sub(1) as f64 * share).round();
    took.get(position as usize).copied().unwrap_or_default()
}
