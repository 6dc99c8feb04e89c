//! A broker that keeps its socket open and stops answering: the sidecar notices, refuses at once,
//! and recovers without a ghost.

use crate::harness::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";
const NOTICED: Duration = Duration::from_secs(10);

/// A disturbance of the network or the broker, and its end.
#[derive(Clone, Copy, Debug)]
enum Fault {
    StoppedBroker,
    NothingReachesTheBroker,
    NothingComesBack,
    NothingEitherWay,
    /// Messages sent during the fault arrive after it, as with TCP when packets flow again.
    HeldBack,
}

struct Scene {
    broker: Broker,
    proxy: FaultProxy,
    client: AmqpClient,
    sidecar: Sidecar,
}

impl Scene {
    async fn set(name: &str) -> Self {
        let broker = Broker::start().await;
        let vhost = broker.vhost(name).await;
        let client = AmqpClient::connect(&vhost.uri()).await;
        client.declare_queue("orders", true, arguments([])).await;
        let proxy = FaultProxy::to_port(broker.amqp_port());
        let sidecar = Sidecar::up(&vhost.uri_via(proxy.port())).await;
        Self { broker, proxy, client, sidecar }
    }

    async fn begin(&self, fault: Fault) {
        match fault {
            Fault::StoppedBroker => self.broker.pause().await,
            Fault::NothingReachesTheBroker => self.proxy.black_hole(Direction::ToBroker),
            Fault::NothingComesBack => self.proxy.black_hole(Direction::FromBroker),
            Fault::NothingEitherWay => self.proxy.black_hole(Direction::Both),
            Fault::HeldBack => self.proxy.hold(Direction::Both),
        }
    }

    async fn end(&self, fault: Fault) {
        match fault {
            Fault::StoppedBroker => self.broker.resume().await,
            Fault::NothingReachesTheBroker
            | Fault::NothingComesBack
            | Fault::NothingEitherWay
            | Fault::HeldBack => self.proxy.pass(),
        }
    }

    async fn arrived(&self) -> HashSet<String> {
        let messages = self.client.drain("orders").await;
        messages
            .iter()
            .map(|message| message.message_id().expect("every message has an id").to_owned())
            .collect()
    }
}

/// Load before, during and after the fault; then every answer is compared with the queue.
async fn is_noticed_and_survived(name: &str, fault: Fault) {
    let scene = Scene::set(name).await;
    let sidecar = &scene.sidecar;
    let mut sent = load(sidecar, QUEUE, "before", 16, |n| n >= 300).await;

    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
    let publishing = paced_load(sidecar, QUEUE, "during", 500, |_| is_over());
    let outage = async {
        scene.begin(fault).await;
        let begun = Instant::now();
        eventually("the link is not up", NOTICED, async || sidecar.link_state().await != "up").await;
        let noticed = begun.elapsed();
        let refused =
            sidecar.post(QUEUE, &[("amqp-message-id", "refused"), ("amqpost-timeout", "30s")], "x").await;
        assert!(["link_stalled", "link_down"].contains(&refused.code()), "{}", refused.text());
        assert!(refused.elapsed < Duration::from_secs(5), "at once, not at the deadline");
        eventually("the connection is given up", NOTICED, async || {
            sidecar.metric("amqpost_disconnects_total{reason=\"stalled\"}").await >= 1.0
        })
        .await;
        scene.end(fault).await;
        let ended = Instant::now();
        sidecar.link_is("up", Duration::from_secs(15)).await;
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        (noticed, ended.elapsed())
    };
    let (during, (noticed, recovered)) = tokio::join!(publishing, outage);
    println!("{fault:?}: noticed after {noticed:?}, up {recovered:?} after its end, {:?}", codes(&during));
    sent.extend(during);
    sent.extend(load(sidecar, QUEUE, "after", 16, |n| n >= 300).await);

    let arrived = scene.arrived().await;
    assert_no_loss_and_no_ghost(&sent, &arrived);
    assert!(!arrived.contains("refused"), "a ghost");
    let unknown = with_outcome(&sent, "unknown").len();
    assert!(unknown <= 1024, "{unknown} unknown answers are more than the in-flight limit");
    assert_eq!(sidecar.metric("amqpost_in_flight").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_broker_is_noticed_and_survived() {
    is_noticed_and_survived("stopped", Fault::StoppedBroker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_lets_nothing_through_to_the_broker_is_noticed_and_survived() {
    is_noticed_and_survived("to_broker", Fault::NothingReachesTheBroker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirms_that_vanish_are_noticed_and_survived() {
    is_noticed_and_survived("from_broker", Fault::NothingComesBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_noticed_and_survived() {
    is_noticed_and_survived("partition", Fault::NothingEitherWay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_flow_again_later_bring_no_ghost() {
    is_noticed_and_survived("held_back", Fault::HeldBack).await;
}

#[tokio::test]
async fn an_idle_link_notices_as_well_so_that_the_first_request_gets_its_503() {
    let scene = Scene::set("idle").await;

    scene.begin(Fault::NothingEitherWay).await;
    eventually("the link is not up", NOTICED, async || scene.sidecar.link_state().await != "up").await;

    let answer = scene.sidecar.post(QUEUE, &[("amqpost-timeout", "30s")], "x").await;
    assert_eq!((answer.status(), answer.outcome()), (503, "not_published"));
}

#[tokio::test]
async fn a_broker_that_resumes_soon_keeps_its_connections_and_its_messages() {
    let scene = Scene::set("resumed").await;
    let sidecar = &scene.sidecar;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.code(), "confirmed");

    scene.begin(Fault::StoppedBroker).await;
    sidecar.link_is("stalled", NOTICED).await;
    scene.end(Fault::StoppedBroker).await;

    sidecar.link_is("up", NOTICED).await;
    assert_eq!(sidecar.metric("amqpost_disconnects_total{reason=\"stalled\"}").await, 0.0);
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.code(), "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_broker_is_not_a_stalled_one() {
    let scene = Scene::set("slow").await;
    let sidecar = &scene.sidecar;
    scene.proxy.delay(Direction::FromBroker, Duration::from_millis(500));

    let begun = Instant::now();
    let sent = load(sidecar, QUEUE, "slow", 64, |_| begun.elapsed() > Duration::from_secs(8)).await;

    assert_eq!(codes(&sent).into_keys().collect::<Vec<_>>(), ["confirmed"]);
    assert!(!sidecar.log().contains("stopped answering"), "a false alarm");
}
