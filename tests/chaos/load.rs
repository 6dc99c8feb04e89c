//! Open-loop load: each request is sent at its scheduled time, without waiting for earlier ones.

use super::books::{Books, Record};
use super::client::Clients;
use super::messages::Message;
use super::scene::Scene;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Sends requests until the end, and returns when each of them has ended.
pub(crate) async fn send(seed: u64, rate: u32, scene: &Scene, books: &Arc<Books>, until: Instant) {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let clients = Clients::new();
    let mut under_way = JoinSet::new();
    let mut moment = Instant::now();
    for number in 0.. {
        // Arrivals of independent clients: exponential gaps.
        moment += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / f64::from(rate));
        if moment >= until {
            break;
        }
        crate::pace::until(moment).await;
        let message = Message::draw(number, &mut random);
        let (clients, books, host) = (clients.clone(), Arc::clone(books), scene.host());
        under_way.spawn(async move {
            let sent = Instant::now();
            let end = clients.publish(seed, &message, &host).await;
            books.record(Record { message, sent, ended: Instant::now(), end });
        });
        while under_way.try_join_next().is_some() {}
    }
    while let Some(ended) = under_way.join_next().await {
        ended.expect("a client does not panic");
    }
}
