//! A suspicion of one connection concerns all: connections to a broker that is gone notice it
//! together and lose no more than one in-flight limit together. Connections to a healthy broker
//! lose nothing.

use crate::harness::*;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";
const LIMIT: usize = 16;

/// The largest delay that a machine busy with other tests may explain.
const EXPLAINED_MAX: Duration = Duration::from_secs(2);

struct Scene {
    broker: Broker,
    vhost: Vhost,
    proxy: FaultProxy,
    client: AmqpClient,
}

impl Scene {
    async fn set(name: &str) -> Self {
        let broker = Broker::start().await;
        let vhost = broker.vhost(name).await;
        let client = AmqpClient::connect(&vhost.uri()).await;
        client.declare_queue("orders", true, arguments([])).await;
        let proxy = FaultProxy::to_port(broker.amqp_port());
        Self { broker, vhost, proxy, client }
    }

    async fn ids(&self) -> HashSet<String> {
        let messages = self.client.drain("orders").await;
        messages.iter().map(|message| message.message_id().expect("it has an id").to_owned()).collect()
    }
}

/// From `begun` to the first answer that names the link, and how much of it the machine explains.
fn first_refusal(sent: &[Sent], begun: Instant, machine: &Machine) -> (Duration, Duration) {
    let for_the_link = |sent: &&Sent| ["link_stalled", "link_down"].contains(&sent.code.as_str());
    let refused = sent.iter().filter(for_the_link).map(|sent| sent.at + sent.took);
    let first = refused.min().expect("some are refused because of the link");
    (first - begun, machine.explains(begun, first).min(EXPLAINED_MAX))
}

/// A fault under 150 messages a second, with two connections and a limit of 16.
async fn loses_no_more_than_the_limit(name: &str, fault: impl Fn(&FaultProxy)) {
    let scene = Scene::set(name).await;
    let uri = scene.vhost.uri_via(scene.proxy.port());
    let limit = LIMIT.to_string();
    let sidecar = Sidecar::builder(&uri).set("publish.max_in_flight", &limit).set("broker.connections", "2");
    let sidecar = &sidecar.start().await.with_link_up().await;
    load(sidecar, QUEUE, "proof", 8, |n| n >= 300).await;

    let machine = Machine::measure(sidecar.pid());
    fault(&scene.proxy);
    let begun = Instant::now();
    let sent = paced_load(sidecar, QUEUE, "o", 150, |_| begun.elapsed() > Duration::from_secs(6)).await;
    scene.proxy.pass();
    sidecar.link_is("up", Duration::from_secs(15)).await;
    let after = load(sidecar, QUEUE, "after", 8, |n| n >= 50).await;

    let arrived = scene.ids().await;
    let of_it = arrived.iter().filter(|id| id.starts_with("o-")).count();
    let unknown = with_outcome(&sent, "unknown").len();
    let (first, explained) = first_refusal(&sent, begun, &machine);
    println!(
        "{name}: {unknown} unknown, {of_it} arrived, first refusal after {first:?} ({explained:?} explained)"
    );
    assert!(unknown <= LIMIT, "{unknown} unknown answers: {:?}", codes(&sent));
    assert!(of_it <= LIMIT, "{of_it} messages of the outage arrived");
    assert!(first < Duration::from_millis(2500) + explained, "the first refusal came after {first:?}");
    assert_no_loss_and_no_ghost(&[sent, after].concat(), &arrived);
    eventually("every permit is back", Duration::from_secs(10), async || {
        sidecar.metric("amqpost_in_flight").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_loses_no_more_than_the_limit_over_all_connections() {
    loses_no_more_than_the_limit("black_hole", |proxy| proxy.black_hole(Direction::Both)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_held_back_lose_no_more_than_the_limit_over_all_connections() {
    loses_no_more_than_the_limit("held_back", |proxy| proxy.hold(Direction::Both)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirms_that_vanish_lose_no_more_than_the_limit_over_all_connections() {
    loses_no_more_than_the_limit("no_confirms", |proxy| proxy.black_hole(Direction::FromBroker)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_broker_is_noticed_by_all_connections_at_a_few_messages_a_second() {
    let scene = Scene::set("few").await;
    let sidecar = Sidecar::builder(&scene.vhost.uri()).set("broker.connections", "4");
    let sidecar = &sidecar.start().await.with_link_up().await;
    load(sidecar, QUEUE, "proof", 8, |n| n >= 300).await;

    let machine = Machine::measure(sidecar.pid());
    let over = AtomicBool::new(false);
    let publishing = paced_load(sidecar, QUEUE, "o", 20, |_| over.load(Ordering::Relaxed));
    let outage = async {
        scene.broker.pause().await;
        let begun = Instant::now();
        eventually("the link is not up", Duration::from_secs(10), async || {
            sidecar.link_state().await != "up"
        })
        .await;
        let noticed = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        (begun, noticed)
    };
    let (sent, (begun, noticed)) = tokio::join!(publishing, outage);
    scene.broker.resume().await;

    let explained = machine.explains(begun, begun + noticed).min(EXPLAINED_MAX);
    println!("few messages: noticed after {noticed:?} ({explained:?} explained), {:?}", codes(&sent));
    assert!(noticed < Duration::from_secs(2) + explained, "noticed after {noticed:?}");
}

/// Three ways to a broker that confirms after half a second, and one of them comes and goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_node_costs_the_healthy_ones_nothing() {
    let scene = Scene::set("flapping").await;
    let nodes = [0; 3].map(|_| FaultProxy::to_port(scene.broker.amqp_port()));
    let slow = |node: &FaultProxy| node.delay(Direction::FromBroker, Duration::from_millis(500));
    let uris = nodes.each_ref().map(|node| scene.vhost.uri_via(node.port()));
    let sidecar = Sidecar::builder(&uris[0]).set_instead("broker.endpoints", &format!("{uris:?}"));
    let sidecar = sidecar.set("broker.connections", "16");
    let sidecar = &sidecar.start().await.with_link_up().await;
    eventually("all connections are up", Duration::from_secs(30), async || {
        sidecar.metric("amqpost_connections{state=\"up\"}").await == 16.0
    })
    .await;
    load(sidecar, QUEUE, "proof", 128, |n| n >= 2048).await;

    nodes.iter().for_each(slow);
    let before = rate(sidecar, "b", |_| {}).await;
    // Away for one second of three. The load itself is the clock.
    let mut is_away = false;
    let during = rate(sidecar, "f", |elapsed| {
        let goes_away = elapsed.as_millis() % 3000 < 1000;
        if goes_away && !is_away {
            nodes[0].refuse();
            nodes[0].reset_all();
        } else if !goes_away && is_away {
            // This one has no delay, so that its connections are up again before it goes away
            // again.
            nodes[0].pass();
        }
        is_away = goes_away;
    })
    .await;

    let lost = sidecar.metric("amqpost_disconnects_total{reason=\"io\"}").await;
    println!(
        "a flapping node: {before:?} confirmed a second before, {during:?} during, {lost} connections lost"
    );
    assert!(lost >= 10.0, "{lost} connections lost: the node did not go away");
    for refusal in ["link_stalled", "link_down", "overloaded", "deadline_not_sent"] {
        assert!(!during.1.contains_key(refusal), "{during:?}");
    }
    assert!(!sidecar.log().contains("stopped answering"), "a false alarm");
}

/// Nine seconds of load: the confirms a second, and all answers.
async fn rate(
    sidecar: &Sidecar,
    prefix: &str,
    mut meanwhile: impl FnMut(Duration),
) -> (f64, BTreeMap<String, usize>) {
    let begun = Instant::now();
    let sent = load(sidecar, QUEUE, prefix, 128, |_| {
        meanwhile(begun.elapsed());
        begun.elapsed() > Duration::from_secs(9)
    })
    .await;
    let codes = codes(&sent);
    (codes["confirmed"] as f64 / begun.elapsed().as_secs_f64(), codes)
}
