//! An exchange is deleted and declared under load, and a shared channel closes because of it: no
//! answer is false.

use crate::harness::*;
use bytes::Bytes;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LASTS: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(20);

/// Exchanges with rare publishes, so that many of these go alone until their exchange is proven.
const RARE: usize = 150;

/// The exchange exists for this many answers to other messages, and is then gone for as many.
const STAYS: usize = 30;
const GONE: usize = 10;

/// The messages to the exchange that stays.
struct Traffic {
    size: usize,
    concurrency: usize,
    /// The delay in each direction between sidecar and broker.
    delay: Duration,
}

struct Scene {
    vhost: Vhost,
    client: AmqpClient,
    sidecar: Sidecar,
    /// Ends when it is dropped.
    _proxy: FaultProxy,
}

impl Scene {
    async fn set(name: &str, delay: Duration) -> Self {
        let vhost = shared().await.vhost(name).await;
        let client = AmqpClient::connect(&vhost.uri()).await;
        for queue in ["steady", "vanishing", "rare"] {
            client.declare_queue(queue, true, arguments([])).await;
        }
        client.declare_exchange("steady", ExchangeKind::Fanout).await;
        client.bind("steady", "steady", "").await;
        for n in 0..RARE {
            let exchange = format!("rare-{n}");
            client.declare_exchange(&exchange, ExchangeKind::Fanout).await;
            client.bind("rare", &exchange, "").await;
        }
        let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
        let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port())).set("broker.connections", "1");
        let sidecar = sidecar.set("publish.max_in_flight", "4096").start().await.with_link_up().await;
        if !delay.is_zero() {
            proxy.delay(Direction::Both, delay);
        }
        Self { vhost, client, sidecar, _proxy: proxy }
    }

    /// Declares and deletes the exchange in turn while the scenario lasts; returns how often.
    async fn delete_again_and_again(&self, answered: &AtomicUsize) -> usize {
        let answers = async |more: usize| {
            let enough = answered.load(Ordering::SeqCst) + more;
            eventually("others are answered", PATIENCE, async || answered.load(Ordering::SeqCst) >= enough)
                .await;
        };
        // One channel is faster than the client's own methods, which open one each.
        let channel = self.client.channel().await;
        let begun = Instant::now();
        let mut deletions = 0;
        while begun.elapsed() < LASTS {
            appear(&channel).await.expect("it can be declared and bound");
            answers(STAYS).await;
            let deleting = channel.exchange_delete("vanishing".into(), ExchangeDeleteOptions::default());
            deleting.await.expect("it can be deleted");
            answers(GONE).await;
            deletions += 1;
        }
        deletions
    }

    /// How often each message arrived, when no more can arrive.
    async fn copies(&mut self) -> HashMap<String, usize> {
        self.sidecar.terminate(PATIENCE).await;
        let (client, vhost) = (&self.client, &self.vhost);
        eventually("the sidecar's connection ends", PATIENCE, async || vhost.connections().await == 1).await;
        let mut copies = HashMap::new();
        for queue in ["steady", "vanishing", "rare"] {
            for message in client.drain(queue).await {
                let id = message.message_id().expect("every message has an id");
                *copies.entry(id.to_owned()).or_default() += 1;
            }
        }
        copies
    }
}

async fn appear(channel: &Channel) -> lapin::Result<()> {
    let (declare, bind) = (ExchangeDeclareOptions::default(), QueueBindOptions::default());
    let table = FieldTable::default();
    channel.exchange_declare("vanishing".into(), ExchangeKind::Fanout, declare, table.clone()).await?;
    channel.queue_bind("vanishing".into(), "vanishing".into(), "".into(), bind, table).await
}

/// Load on all three kinds of exchanges while one vanishes; then every answer is compared with the
/// queues.
async fn every_answer_is_true(name: &str, traffic: Traffic) {
    let mut scene = Scene::set(name, traffic.delay).await;
    let sidecar = &scene.sidecar;
    let (answered, over) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    let is_over = |_| over.load(Ordering::SeqCst);
    let body = Bytes::from(vec![b'x'; traffic.size]);
    let to = |exchange: &str| (format!("/v1/exchanges/{exchange}/messages"), body.clone());
    let to_rare = |n: usize| {
        let path = format!("/v1/exchanges/rare-{}/messages?routing_key=k{n}", n % RARE);
        (path, body.clone())
    };

    // Called once for each place that an answer frees.
    let counted = |n| {
        answered.fetch_add(1, Ordering::SeqCst);
        is_over(n)
    };
    let steady = load_of(sidecar, |_| to("steady"), "steady", traffic.concurrency, counted);
    let vanishing = load_of(sidecar, |_| to("vanishing"), "vanishing", 8, is_over);
    let rare = load_of(sidecar, to_rare, "rare", 4, is_over);
    let deleting = async {
        let deletions = scene.delete_again_and_again(answered).await;
        over.store(true, Ordering::SeqCst);
        deletions
    };
    let (steady, vanishing, rare, deletions) = tokio::join!(steady, vanishing, rare, deleting);
    println!(
        "{name}: {deletions} deletions; steady {:?}, vanishing {:?}, rare {:?}",
        codes(&steady),
        codes(&vanishing),
        codes(&rare)
    );

    for code in ["confirmed", "destination_unavailable"] {
        assert!(codes(&vanishing).contains_key(code), "the exchange never came or never went");
    }
    let sent = [steady, vanishing, rare].concat();
    let copies = scene.copies().await;
    assert_no_loss_and_no_ghost(&sent, &copies.keys().cloned().collect());
    let confirmed = with_outcome(&sent, "confirmed");
    let twice: Vec<_> = confirmed.iter().filter(|message| copies[&message.id] > 1).collect();
    assert!(twice.is_empty(), "{} confirmed messages arrived twice: {:?}", twice.len(), twice.first());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_beside_a_vanishing_exchange_are_answered_truly() {
    let traffic = Traffic { size: 10, concurrency: 64, delay: Duration::ZERO };
    every_answer_is_true("vanishing_small", traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_at_once_beside_a_vanishing_exchange_are_answered_truly() {
    let traffic = Traffic { size: 1_000, concurrency: 256, delay: Duration::ZERO };
    every_answer_is_true("vanishing_many", traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_on_a_long_way_beside_a_vanishing_exchange_are_answered_truly() {
    let traffic = Traffic { size: 1_000, concurrency: 128, delay: Duration::from_millis(5) };
    every_answer_is_true("vanishing_delayed", traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_on_a_long_way_beside_a_vanishing_exchange_are_answered_truly() {
    let traffic = Traffic { size: 60_000, concurrency: 128, delay: Duration::from_millis(5) };
    every_answer_is_true("vanishing_large", traffic).await;
}
