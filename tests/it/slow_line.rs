//! A slow line is not a stalled broker: large messages take the time that their bytes take, and a
//! broker that does stop is noticed as soon as on any other line.

use crate::harness::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";
const MB: usize = 1_000_000;

/// 2 Mbit/s.
const RATE: u64 = 250_000;

/// The largest delay that a machine busy with other tests may explain.
const EXPLAINED_MAX: Duration = Duration::from_secs(2);

struct Scene {
    broker: Broker,
    line: FaultProxy,
    sidecar: Sidecar,
}

impl Scene {
    /// A line of 2 Mbit/s to the broker, for each of two connections.
    async fn set(name: &str, tls: bool) -> Self {
        let broker = Broker::builder();
        let broker = if tls { broker.tls() } else { broker }.start().await;
        let vhost = broker.vhost(name).await;
        let client = AmqpClient::connect(&vhost.uri()).await;
        client.declare_queue("orders", true, arguments([])).await;
        let line = FaultProxy::to_port(if tls { broker.tls_port() } else { broker.amqp_port() });
        let sidecar = if tls {
            let uri = format!("amqps://guest:guest@127.0.0.1:{}/{name}", line.port());
            Sidecar::builder(&uri).set("broker.ca_file", &format!("{:?}", broker.ca_pem()))
        } else {
            Sidecar::builder(&vhost.uri_via(line.port()))
        };
        let sidecar = sidecar.set("publish.timeout", "\"60s\"");
        line.throttle(Direction::ToBroker, RATE);
        let sidecar = sidecar.start().await.with_link_up().await;
        load(&sidecar, QUEUE, "proof", 8, |n| n >= 300).await;
        Self { broker, line, sidecar }
    }

    async fn large(&self, megabytes: usize) -> Answer {
        self.sidecar.post(QUEUE, &[], vec![b'x'; megabytes * MB]).await
    }

    fn no_false_alarm(&self) {
        let log = self.sidecar.log();
        assert!(!log.contains("stopped answering") && !log.contains("connection lost"), "a false alarm");
    }
}

/// Publishes a small message now and then until told to stop.
async fn neighbours(scene: &Scene, over: &AtomicBool) -> Vec<Sent> {
    paced_load(&scene.sidecar, QUEUE, "small", 4, |_| over.load(Ordering::Relaxed)).await
}

/// Large messages one after the other, and small ones beside them.
async fn takes_the_time_that_its_bytes_take(name: &str, tls: bool) {
    let scene = Scene::set(name, tls).await;
    let over = AtomicBool::new(false);
    let large = async {
        for megabytes in [1, 3, 1] {
            let answer = scene.large(megabytes).await;
            println!("{name}: {megabytes} MB took {:?}", answer.elapsed);
            assert_eq!(answer.code(), "confirmed", "{megabytes} MB: {}", answer.text());
        }
        over.store(true, Ordering::Relaxed);
    };
    let ((), small) = tokio::join!(large, neighbours(&scene, &over));
    assert_eq!(codes(&small).into_keys().collect::<Vec<_>>(), ["confirmed"], "{:?}", codes(&small));
    scene.no_false_alarm();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_over_a_slow_line_takes_its_time_and_its_neighbours_are_confirmed() {
    takes_the_time_that_its_bytes_take("slow_line", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_over_a_slow_line_with_tls_takes_its_time_as_well() {
    takes_the_time_that_its_bytes_take("slow_line_tls", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_side_by_side_over_a_slow_line_are_confirmed() {
    let scene = Scene::set("slow_line_together", false).await;
    let over = AtomicBool::new(false);
    let large = async {
        let answers = futures::future::join_all([1, 1, 3].map(|megabytes| scene.large(megabytes))).await;
        over.store(true, Ordering::Relaxed);
        answers
    };
    let (answers, small) = tokio::join!(large, neighbours(&scene, &over));
    let answers: Vec<_> = answers.iter().map(|answer| (answer.code(), answer.elapsed)).collect();
    println!("side by side: {answers:?}");
    assert!(answers.iter().all(|(code, _)| *code == "confirmed"), "{answers:?}");
    // The line is busy for longer than their deadline of ten seconds.
    let codes = codes(&small);
    assert!(codes.keys().all(|code| ["confirmed", "confirm_timeout"].contains(&code.as_str())), "{codes:?}");
    scene.no_false_alarm();
}

/// Stops the broker or the line in the middle of a large message.
async fn is_noticed_in_the_middle(name: &str, fault: impl AsyncFn(&Scene)) {
    let scene = Scene::set(name, false).await;
    let machine = Machine::measure(scene.sidecar.pid());
    let outage = async {
        eventually("the large message is under way", Duration::from_secs(10), async || {
            scene.sidecar.metric("amqpost_in_flight").await >= 1.0
        })
        .await;
        fault(&scene).await;
        let begun = Instant::now();
        let refused = eventually("a message is refused", Duration::from_secs(20), async || {
            let answer = scene.sidecar.post(QUEUE, &[("amqpost-timeout", "300ms")], "x").await;
            if ["link_stalled", "link_down"].contains(&answer.code()) { Ok(Instant::now()) } else { Err(()) }
        })
        .await;
        scene.broker.resume().await;
        scene.line.pass();
        (refused - begun, machine.explains(begun, refused).min(EXPLAINED_MAX))
    };
    let (_large, (noticed, explained)) = tokio::join!(scene.large(3), outage);
    println!("{name}: noticed after {noticed:?}, of which the machine explains {explained:?}");
    assert!(noticed < Duration::from_secs(2) + explained, "noticed after {noticed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_breaks_in_the_middle_of_a_large_message_is_noticed_at_once() {
    is_noticed_in_the_middle("broken_line", async |scene| scene.line.hold(Direction::Both)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stops_in_the_middle_of_a_large_message_is_noticed_at_once() {
    is_noticed_in_the_middle("stopped", async |scene| scene.broker.pause().await).await;
}
