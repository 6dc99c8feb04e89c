//! Several nodes: the link stays up while one node works, and no request waits for a broken one.

use crate::harness::*;
use crate::story::{NO_ANSWER, Story};
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const VHOST: &str = "cluster";
const ORDERS: &str = "/v1/queues/orders/messages";
const PER_SECOND: u32 = 300;

/// The node that fails: the sidecar's first connection is to it.
const HARMED: usize = 0;
/// A node without a connection of the sidecar's.
const REMOTE: usize = 2;

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(2);

/// Three nodes, a quorum queue with a member on each, and a sidecar with one connection to each of
/// the first two.
struct Scene {
    sidecar: Sidecar,
    cluster: Cluster,
}

impl Scene {
    /// The leader of the queue's members is on the node `leader`.
    async fn set(leader: usize) -> Self {
        let cluster = Cluster::start(3).await;
        cluster.add_vhost(VHOST).await;
        cluster.declare_quorum_queue(VHOST, "orders", leader).await;
        let sidecar = start_sidecar(&cluster.uris(VHOST)).await;
        let scene = Self { sidecar, cluster };
        scene.both_connections_are_up().await;
        scene
    }

    async fn both_connections_are_up(&self) {
        eventually("both connections are up", PATIENCE, async || {
            self.sidecar.metric("amqpost_connections{state=\"up\"}").await == 2.0
        })
        .await;
    }

    /// Publishes at a fixed rate until `events` are over, and compares every answer with the queue.
    async fn during<T>(&self, deadline: Duration, events: impl Future<Output = T>) -> (Story, T) {
        let over = AtomicBool::new(false);
        let is_over = || over.load(Ordering::Relaxed);
        let begun = Instant::now();
        let ending = async {
            // If an event fails, the story up to then is still printed.
            let seen = AssertUnwindSafe(events).catch_unwind().await;
            over.store(true, Ordering::Relaxed);
            seen
        };
        let publishing = publish(&self.sidecar, deadline, is_over);
        let (sent, links, seen) = tokio::join!(publishing, watch_link(&self.sidecar, is_over), ending);
        let story = Story { sent, links };
        story.print(begun);
        let seen = seen.unwrap_or_else(|failure| resume_unwind(failure));
        assert_eq!(story.count(NO_ANSWER), 0, "every request is answered");
        assert_no_loss_and_no_ghost(&story.sent, &self.arrived().await);
        let slowest = quantile(&story.sent.iter().collect::<Vec<_>>(), 1.0);
        // The test's client is late itself while nodes boot; promises::no_hangs measures exactly.
        assert!(slowest < deadline + Duration::from_secs(6), "an answer took {slowest:?}");
        (story, seen)
    }

    async fn arrived(&self) -> HashSet<String> {
        self.cluster.wait_until_all_members_online(VHOST, "orders").await;
        let client = AmqpClient::connect(&self.cluster.uris(VHOST)[0]).await;
        let messages = client.drain("orders").await;
        let id = |message: &Received| message.message_id().expect("every message has an id").to_owned();
        messages.iter().map(id).collect()
    }

    /// Waits until this many more messages are confirmed.
    async fn confirmed(&self, more: u32, within: Duration) {
        let (begun, before) = (Instant::now(), self.sidecar.published("confirmed", "confirmed").await);
        eventually(&format!("{more} more are confirmed"), within, async || {
            let since = self.sidecar.published("confirmed", "confirmed").await - before;
            if since >= f64::from(more) { Ok(()) } else { Err(since) }
        })
        .await;
        println!("  {more} more were confirmed after {:?}", begun.elapsed());
    }

    /// Starts a node again; returns when it is a full member.
    async fn restart(&self, node: usize) {
        self.cluster.nodes()[node].restart().await;
        self.cluster.wait_until_all_joined().await;
        self.cluster.wait_until_all_members_online(VHOST, "orders").await;
    }

    async fn kill_9(&self, nodes: std::ops::Range<usize>) {
        join_all(self.cluster.nodes()[nodes].iter().map(Broker::kill_9)).await;
    }
}

async fn start_sidecar(uris: &[String]) -> Sidecar {
    Sidecar::builder("amqp://unused").set_instead("broker.endpoints", &format!("{uris:?}")).start().await
}

/// [`paced_load`] with this deadline.
async fn publish(sidecar: &Sidecar, deadline: Duration, is_over: impl Fn() -> bool) -> Vec<Sent> {
    let (begun, timeout) = (Instant::now(), format!("{}ms", deadline.as_millis()));
    let due = |n: u32| begun + Duration::from_secs(1) / PER_SECOND * n;
    let publish = async |n: u32| {
        let (id, at) = (format!("c-{n}"), due(n));
        let headers = [("amqp-message-id", id.as_str()), ("amqpost-timeout", timeout.as_str())];
        let answer = sidecar.try_send(sidecar.request("POST", ORDERS, &headers, "x")).await;
        let (status, outcome, code) = match answer {
            Ok(answer) => (answer.status(), answer.outcome().to_owned(), answer.code().to_owned()),
            Err(error) => {
                println!("  {id}: {error}");
                (0, NO_ANSWER.to_owned(), NO_ANSWER.to_owned())
            }
        };
        Sent { id, status, outcome, code, at, took: at.elapsed() }
    };
    futures::stream::iter((0u32..).take_while(|_| !is_over()))
        .then(|n| async move {
            eventually("it is time", PATIENCE, async || Instant::now() >= due(n)).await;
            n
        })
        .map(publish)
        .buffer_unordered(4096)
        .collect()
        .await
}

async fn watch_link(sidecar: &Sidecar, is_over: impl Fn() -> bool) -> Vec<(Instant, serde_json::Value)> {
    let mut links: Vec<(Instant, serde_json::Value)> = Vec::new();
    eventually("the events are over", Duration::from_secs(300), async || {
        let mut link = sidecar.admin("/link").await.json();
        for name in ["in_flight", "since_unix_seconds"] {
            link[name].take();
        }
        if links.last().is_none_or(|(_, last)| *last != link) {
            links.push((Instant::now(), link));
        }
        is_over()
    })
    .await;
    links
}

async fn passed(duration: Duration) {
    let end = Instant::now() + duration;
    eventually("time passes", PATIENCE, async || Instant::now() >= end).await;
}

/// Kills the node of a connection, and starts it again after the number of confirms that five
/// seconds bring.
async fn story_of_a_kill(leader: usize) -> (Story, Instant) {
    let scene = Scene::set(leader).await;
    let (story, killed) = scene
        .during(LONG, async {
            scene.confirmed(300, PATIENCE).await;
            let killed = Instant::now();
            scene.cluster.nodes()[HARMED].kill_9().await;
            // Before the node is back.
            scene.confirmed(5 * PER_SECOND, PATIENCE).await;
            scene.restart(HARMED).await;
            scene.confirmed(300, PATIENCE).await;
            killed
        })
        .await;
    story.assert_link_stayed_up();
    assert_eq!(story.count("confirm_timeout"), 0, "nobody waits for a dead node");
    story.assert_known_since(story.noticed(killed), Some("link_lost"));
    (story, killed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_costs_only_what_was_in_flight_on_it() {
    let (story, killed) = story_of_a_kill(REMOTE).await;
    story.assert_known_since(story.noticed(killed), None);
}

// While the killed node is away, RabbitMQ 3.10 nacks everything on a channel that first published
// to the queue before a new leader was known; other channels of the connection work. The sidecar
// detects such a channel before it has nacked for twice as long as others
// (`link/destinations/nacking.rs`). Then a breaker may have to close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_node_that_is_killed_costs_no_more_than_the_election() {
    let (story, killed) = story_of_a_kill(HARMED).await;
    // Earlier messages may still belong to the old leader.
    let election = story.confirmed_again(story.noticed(killed)) - killed;
    story.assert_known_since(killed + 2 * election + Duration::from_secs(3), None);
    let unknown = with_outcome(&story.sent, "unknown").len();
    let cost = (election + Duration::from_secs(1)).as_secs_f64() * f64::from(PER_SECOND);
    assert!((unknown as f64) < cost, "{unknown} unknown answers with an election of {election:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_node_is_replaced_by_another_one_while_confirms_go_on() {
    let scene = Scene::set(REMOTE).await;
    let harmed = &scene.cluster.nodes()[HARMED];
    let (story, paused) = scene
        .during(LONG, async {
            scene.confirmed(300, PATIENCE).await;
            let paused = Instant::now();
            harmed.pause().await;
            eventually("the stalled connection is given up", PATIENCE, async || {
                scene.sidecar.metric("amqpost_disconnects_total{reason=\"stalled\"}").await >= 1.0
            })
            .await;
            scene.both_connections_are_up().await;
            // Before the node is back.
            scene.confirmed(5 * PER_SECOND, PATIENCE).await;
            harmed.resume().await;
            scene.confirmed(300, PATIENCE).await;
            paused
        })
        .await;

    story.assert_link_stayed_up();
    story.assert_known_since(story.noticed(paused), None);
    assert!(with_outcome(&story.sent, "not_published").is_empty(), "{:?}", codes(&story.sent));
    assert_eq!(story.count("confirm_timeout"), 0, "nobody waits for a paused node");
}

// RabbitMQ elects another leader only after `net_ticktime`, a minute; until then nothing is
// confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_makes_no_lies_and_its_return_brings_the_confirms_back() {
    let scene = Scene::set(HARMED).await;
    let harmed = &scene.cluster.nodes()[HARMED];
    scene
        .during(LONG, async {
            scene.confirmed(300, PATIENCE).await;
            harmed.pause().await;
            passed(Duration::from_secs(8)).await;
            harmed.resume().await;
            scene.confirmed(600, PATIENCE).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_nothing_and_everything_is_confirmed_again() {
    let scene = Scene::set(HARMED).await;
    let (story, over) = scene
        .during(LONG, async {
            scene.confirmed(300, PATIENCE).await;
            for node in 0..3 {
                scene.restart(node).await;
                scene.confirmed(200, PATIENCE).await;
            }
            let over = Instant::now();
            scene.confirmed(600, PATIENCE).await;
            over
        })
        .await;

    let after: Vec<_> = story.sent.into_iter().filter(|message| message.at > over).collect();
    assert_eq!(codes(&after).into_keys().collect::<Vec<_>>(), ["confirmed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_of_three_endpoints_dead_at_the_start_the_link_is_up_within_seconds() {
    let cluster = Cluster::start(3).await;
    cluster.add_vhost(VHOST).await;
    cluster.declare_quorum_queue(VHOST, "orders", HARMED).await;
    let [refusing, silent] = [0, 1].map(|node| FaultProxy::to_port(cluster.nodes()[node].amqp_port()));
    refusing.refuse();
    silent.black_hole(Direction::Both);
    let via = |proxy: &FaultProxy| cluster.nodes()[0].uri_for(VHOST, "guest", "guest", proxy.port());
    let sidecar = start_sidecar(&[via(&refusing), via(&silent), cluster.uris(VHOST)[REMOTE].clone()]).await;

    let begun = Instant::now();
    sidecar.link_is("up", Duration::from_secs(5)).await;
    println!("up after {:?}", begun.elapsed());
    let scene = Scene { sidecar, cluster };
    let (story, ()) = scene.during(LONG, scene.confirmed(900, PATIENCE)).await;
    scene.both_connections_are_up().await;

    story.assert_link_stayed_up();
    assert_eq!(codes(&story.sent).into_keys().collect::<Vec<_>>(), ["confirmed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_quorum_a_queue_confirms_nothing_and_with_it_everything_again() {
    let scene = Scene::set(HARMED).await;
    let (story, (killed, ordered)) = scene
        .during(SHORT, async {
            scene.confirmed(300, PATIENCE).await;
            scene.kill_9(1..3).await;
            let killed = Instant::now();
            passed(Duration::from_secs(8)).await;
            let ordered = Instant::now();
            join_all(scene.cluster.nodes()[1..].iter().map(Broker::restart)).await;
            // Long before RabbitMQ itself gives up waiting.
            scene.confirmed(1, PATIENCE).await;
            scene.confirmed(600, PATIENCE).await;
            (killed, ordered)
        })
        .await;

    story.assert_link_stayed_up();
    // Messages that the other members accepted just before the kill may still be confirmed.
    let without = killed + Duration::from_secs(1)..ordered;
    let answered = |message: &&Sent| without.contains(&(message.at + message.took));
    let meanwhile: Vec<_> = story.sent.iter().filter(answered).cloned().collect();
    // link_lost: RabbitMQ stops reading a connection that sent too much to such a queue; the link
    // stalls.
    let honest = ["breaker_open", "confirm_timeout", "deadline_not_sent", "link_lost", "nacked"];
    let codes = codes(&meanwhile);
    assert!(codes.keys().all(|code| honest.contains(&code.as_str())), "{codes:?}");
    assert!(codes["breaker_open"] > meanwhile.len() / 2, "most need not wait: {codes:?}");
}

// RabbitMQ's channel blocks for 65 s in its first publish to a queue without quorum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_without_its_quorum_harms_no_other_queue() {
    let scene = Scene::set(HARMED).await;
    let client = AmqpClient::connect(&scene.cluster.uris(VHOST)[0]).await;
    client.declare_queue("good", true, arguments([])).await;
    let (story, (killed, good)) = scene
        .during(SHORT, async {
            scene.confirmed(300, PATIENCE).await;
            let killed = Instant::now();
            scene.kill_9(1..3).await;
            let is_over = |_| killed.elapsed() > LONG;
            let good = paced_load(&scene.sidecar, "/v1/queues/good/messages", "g", 100, is_over).await;
            join_all(scene.cluster.nodes()[1..].iter().map(Broker::restart)).await;
            (killed, good)
        })
        .await;

    // Messages in flight on the connection to the killed nodes are left out.
    let noticed = story.noticed(killed);
    let good: Vec<_> = good.into_iter().filter(|message| message.at > noticed).collect();
    let slowest = quantile(&good.iter().collect::<Vec<_>>(), 1.0);
    println!("the good queue: {:?}, the slowest took {slowest:?}", codes(&good));
    assert_eq!(codes(&good).into_keys().collect::<Vec<_>>(), ["confirmed"]);
    assert!(slowest < Duration::from_secs(5), "the slowest took {slowest:?}");
}
