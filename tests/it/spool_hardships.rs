//! A spool under hard conditions: a second sidecar, a disk that fails or hangs, a broker that
//! blocks, endless requests.

use crate::harness::*;
use futures_util::future::join_all;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);
const QUEUE: &str = "/v1/queues/q/messages";
const SPOOL: (&str, &str) = ("amqpost-mode", "spool");
const FALLBACK: (&str, &str) = ("amqpost-mode", "fallback");

async fn with_queue(client: &AmqpClient) {
    client.declare_queue("q", true, arguments([])).await;
}

#[tokio::test]
async fn a_second_sidecar_on_the_same_spool_is_refused_at_its_start() {
    let spool = SpoolDir::new();
    let first = Sidecar::builder("amqp://127.0.0.1:1").set("spool.path", &spool.setting()).start().await;
    let config = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
    let path = spool.setting();
    let toml =
        format!("http.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nspool.path = {path}\n");
    std::fs::write(config.path(), toml).expect("written");

    let second = amqpost(&["serve", "--config", config.path().to_str().expect("text")]).await;

    let log = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{log}");
    let expected = format!("is in use by another process (pid {})", first.pid());
    assert!(log.contains(&expected), "{log}");
    assert_eq!(first.post(QUEUE, &[SPOOL], "x").await.verdict(), (202, "spooled"), "the first one goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_spooled_message_for_a_busy_destination_sends_no_fallback_through_the_spool() {
    let vhost = shared().await.vhost("hard_detour").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    let spool = SpoolDir::new();
    let builder = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    // The message that waits takes a second to leave.
    let sidecar = builder.set("spool.drain_rate", "1").start().await.with_link_up().await;
    let spooled = join_all((0..5).map(|_| sidecar.post(QUEUE, &[("amqpost-mode", "spool")], "x"))).await;
    assert!(spooled.iter().all(|answer| answer.verdict() == (202, "spooled")));

    let waits = async || sidecar.metric("amqpost_spool_messages").await > 0.0;
    assert!(waits().await);
    for _ in 0..100 {
        assert_eq!(sidecar.post(QUEUE, &[FALLBACK], "x").await.verdict(), (200, "confirmed"));
    }
    assert!(waits().await, "they overtook what waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fallback_to_a_full_queue_goes_to_the_broker_again_once_there_is_room() {
    let vhost = shared().await.vhost("hard_full_detour").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    vhost.set_policy("full", "^q$", r#"{"max-length": 1, "overflow": "reject-publish"}"#).await;
    let spool = SpoolDir::new();
    let builder = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    // The messages in the spool leave so slowly that they still wait when there is room again.
    let sidecar = builder.set("spool.drain_rate", "1").start().await.with_link_up().await;
    eventually("the queue is full", PATIENCE, async || {
        sidecar.post(QUEUE, &[FALLBACK], "x").await.verdict() == (202, "spooled")
    })
    .await;
    for _ in 0..30 {
        assert_eq!(sidecar.post(QUEUE, &[FALLBACK], "x").await.verdict(), (202, "spooled"));
    }

    vhost.clear_policy("full").await;

    eventually("new messages go to the broker", Duration::from_secs(5), async || {
        sidecar.post(QUEUE, &[FALLBACK], "x").await.verdict() == (200, "confirmed")
    })
    .await;
    assert!(sidecar.metric("amqpost_spool_messages").await > 10.0, "they overtook what waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_fallback_goes_behind_its_backlog_once_the_link_is_up_and_past_it_when_it_is_gone() {
    let vhost = shared().await.vhost("hard_fallback").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("", &["q"], 30)).await;
    let arrivals = Arrivals::of(&client, "q").await;
    let builder = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    let builder = builder.set("route", r#"[{ exchange = "amq.default", order = "strict" }]"#);
    let sidecar = builder.set("spool.drain_rate", "200").start().await.with_link_up().await;

    let mut codes = Vec::new();
    for number in 30..80 {
        let id = format!("q-{number}");
        let answer = sidecar.post(QUEUE, &[FALLBACK, ("amqp-message-id", &id)], "x").await;
        codes.push(answer.verdict().1.to_owned());
    }
    assert_eq!(codes[0], "spooled", "thirty wait before it");
    arrivals.reach(80, PATIENCE).await;
    let next = std::sync::atomic::AtomicUsize::new(80);
    eventually("the spool is not used any more", PATIENCE, async || {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("q-{number}");
        sidecar.post(QUEUE, &[FALLBACK, ("amqp-message-id", &id)], "x").await.verdict() == (200, "confirmed")
    })
    .await;
    let sent = next.into_inner();
    arrivals.reach(sent, PATIENCE).await;
    arrivals.assert_in_order(1, sent);
    assert!(arrivals.repeated().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_removes_is_not_delivered_though_it_was_read_already() {
    let vhost = shared().await.vhost("hard_removed").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("", &["q"], 60)).await;
    let arrivals = Arrivals::of(&client, "q").await;
    let builder = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    let sidecar = builder.set("spool.drain_rate", "200").start().await.with_link_up().await;
    arrivals.reach(2, PATIENCE).await;

    let said = spool.command(&["drop", "--all", "--yes", "--json"]).await;
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let removed = said["changed"].as_u64().expect("a number");
    assert!(removed > 30, "{said}");

    let answer = sidecar.post(QUEUE, &[SPOOL, ("amqp-message-id", "q-60")], "x").await;
    assert_eq!(answer.verdict(), (202, "spooled"));
    eventually("what came later arrives", PATIENCE, async || arrivals.all().iter().any(|a| a.id == "q-60"))
        .await;
    let arrived = arrivals.distinct() as u64 - 1;
    assert!(arrived + removed <= 61, "{removed} removed, and {arrived} of 60 arrived: one was on its way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_leave_it_no_room_slow_the_drain_and_do_not_stop_it() {
    let vhost = shared().await.vhost("hard_starved").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("", &["q"], 10)).await;
    let arrivals = Arrivals::of(&client, "q").await;
    let sidecar = Sidecar::builder("amqp://127.0.0.1:1")
        .set_instead("broker.endpoints", &format!("[\"{}\"]", vhost.uri()))
        .set("spool.path", &spool.setting())
        .set("spool.drain_rate", "100")
        .set("publish.max_in_flight", "2")
        .start()
        .await;
    // Takes half of the bytes in flight while its body is incomplete.
    let mut slow = SlowClient::connect(sidecar.http()).await;
    slow.send(
        "POST /v1/queues/q/messages HTTP/1.1\r\nhost: a\r\namqpost-mode: spool\r\n\
         amqpost-timeout: 60s\r\ncontent-length: 10\r\n\r\n1",
    )
    .await;
    eventually("it is in flight", PATIENCE, async || sidecar.metric("amqpost_in_flight").await >= 1.0).await;

    let before = arrivals.distinct();
    arrivals.reach((before + 3).min(10), Duration::from_secs(20)).await;
    arrivals.reach(10, PATIENCE).await;
    arrivals.assert_in_order(1, 10);
}

/// The database is locked for longer than any request's deadline, as on a disk that hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_leaves_half_of_what_may_be_in_flight_to_the_broker() {
    let vhost = shared().await.vhost("hard_hanging").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    let spool = SpoolDir::new();
    let builder = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    let sidecar = builder.set("publish.max_in_flight", "4").start().await.with_link_up().await;
    let database = rusqlite::Connection::open(spool.path().join("spool.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();

    let headers = [SPOOL, ("amqpost-timeout", "200ms")];
    let asked = (0..4).map(|_| sidecar.post(QUEUE, &headers, "x"));
    let answers = futures::future::join_all(asked).await;
    let mut codes: Vec<_> = answers.iter().map(|answer| answer.verdict().1.to_owned()).collect();
    codes.sort();
    assert_eq!(codes, ["overloaded", "overloaded", "spool_unsure", "spool_unsure"]);
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
    database.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_while_it_drains_never_answers_202_and_direct_goes_on() {
    let vhost = shared().await.vhost("hard_failing").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    client.declare_queue("other", true, arguments([])).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("", &["q"], 300)).await;
    let arrivals = Arrivals::of(&client, "q").await;
    let configured = || Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    let mut sidecar = configured().set("spool.drain_rate", "50").start().await.with_link_up().await;
    arrivals.reach(3, PATIENCE).await;

    // Files can no longer grow: every write of the store fails, as on a dying disk.
    let limit = ["--pid", &sidecar.pid().to_string(), "--fsize=4096:4096"].map(str::to_owned);
    assert!(Command::new("prlimit").args(limit).status().expect("prlimit runs").success());
    let mut answered = Vec::new();
    for number in 300..330 {
        let id = format!("q-{number}");
        let answer = sidecar.post(QUEUE, &[SPOOL, ("amqp-message-id", &id)], "x").await;
        answered.push((answer.status(), answer.verdict().1.to_owned()));
    }
    assert!(answered.iter().all(|(status, _)| *status != 202), "{answered:?}");
    assert!(
        answered.iter().all(|(_, code)| code == "spool_failed" || code == "spool_unsure"),
        "{answered:?}"
    );
    let direct = sidecar.post("/v1/queues/other/messages", &[], "x").await;
    assert_eq!(direct.verdict(), (200, "confirmed"));
    let fallback = sidecar.post("/v1/queues/other/messages", &[FALLBACK], "x").await;
    assert_eq!(fallback.verdict(), (200, "confirmed"), "nothing waits for it in the spool");
    assert!(sidecar.log().contains("the spool has failed"), "said aloud");
    assert!(sidecar.terminate(Duration::from_secs(20)).await.success());

    let _again = configured().set("spool.drain_rate", "2000").start().await;
    arrivals.reach(300, PATIENCE).await;
    let first = arrivals.first_arrivals();
    let there: Vec<_> = first["q"].iter().copied().filter(|number| *number < 300).collect();
    assert_eq!(there, (0..300).collect::<Vec<_>>(), "in order, and none is lost");
    let unmarked: Vec<_> = arrivals.repeated().into_iter().filter(|arrival| !arrival.marked).collect();
    assert!(unmarked.is_empty(), "{unmarked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_blocks_or_stalls_while_it_drains_gets_the_rest_in_order_afterwards() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("hard_blocked").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    with_queue(&client).await;
    let spool = SpoolDir::new();
    spool.fill(spooled_for("", &["q"], 600)).await;
    let proxy = FaultProxy::to_port(broker.amqp_port());
    let builder = Sidecar::builder(&vhost.uri_via(proxy.port())).set("spool.path", &spool.setting());
    let arrivals = Arrivals::of(&client, "q").await;
    let sidecar = builder.set("spool.drain_rate", "200").start().await.with_link_up().await;
    arrivals.reach(20, PATIENCE).await;

    broker.set_memory_alarm(true).await;
    sidecar.link_is("blocked", PATIENCE).await;
    let before = arrivals.distinct();
    let later = sidecar.post(QUEUE, &[FALLBACK, ("amqp-message-id", "q-600")], "x").await;
    assert_eq!(later.verdict(), (202, "spooled"));
    broker.set_memory_alarm(false).await;
    arrivals.reach(before + 50, PATIENCE).await;

    proxy.black_hole(Direction::FromBroker);
    eventually("the link is not up", PATIENCE, async || sidecar.link_state().await != "up").await;
    proxy.reset_all();
    proxy.pass();
    arrivals.reach(601, PATIENCE).await;
    arrivals.assert_in_order(1, 601);
    let repeated = arrivals.repeated();
    assert!(repeated.iter().all(|arrival| arrival.marked), "{repeated:?}");
}
