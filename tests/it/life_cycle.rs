//! The whole life of a sidecar, from the command line to the last answer: start, requests, and a
//! normal shutdown.

use crate::harness::*;
use futures::future::join_all;
use std::time::{Duration, Instant};

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

/// Publishes 32 messages and calls `then` once all are in flight; returns the answers.
async fn while_in_flight(sidecar: &Sidecar, timeout: &str, then: impl AsyncFnOnce()) -> Vec<Answer> {
    while_in_flight_with(sidecar, [("amqpost-timeout", timeout), ("amqpost-retry", "safe")], then).await
}

async fn while_in_flight_with(
    sidecar: &Sidecar,
    headers: [(&str, &str); 2],
    then: impl AsyncFnOnce(),
) -> Vec<Answer> {
    let answers = join_all((0..32).map(|_| sidecar.post(QUEUE, &headers, "in flight")));
    let disturbance = async {
        sidecar.in_flight_is(32).await;
        then().await;
    };
    tokio::join!(answers, disturbance).0
}

async fn refuses_connections(sidecar: &Sidecar) {
    eventually("new connections are refused", PATIENCE, async || {
        tokio::net::TcpStream::connect(sidecar.http()).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn sigterm_refuses_new_connections_answers_everybody_and_exits_0() {
    let broker = Broker::start().await;
    let (client, sidecar) = orders(&broker, "graceful").await;
    let mut sidecar = sidecar.patient().start().await.with_link_up().await;
    broker.pause().await;

    let answers = while_in_flight(&sidecar, "60s", async || {
        sidecar.signal("TERM");
        refuses_connections(&sidecar).await;
        broker.resume().await;
    })
    .await;

    assert!(answers.iter().all(|answer| answer.verdict() == (200, "confirmed")), "{answers:?}");
    assert_eq!(sidecar.exited(PATIENCE).await.code(), Some(0));
    assert_eq!(client.depth("orders").await, 32);
}

#[tokio::test]
async fn sigterm_with_a_frozen_broker_answers_everybody_at_the_deadline_and_exits_0() {
    let broker = Broker::start().await;
    let (_client, sidecar) = orders(&broker, "frozen").await;
    let sidecar = sidecar.patient().set("shutdown.broker_budget", "\"500ms\"").set("broker.connections", "1");
    let mut sidecar = sidecar.start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;

    let answers = while_in_flight(&sidecar, "2s", async || sidecar.signal("TERM")).await;

    let unknown = |answer: &Answer| matches!(answer.verdict(), (504, "confirm_timeout") | (502, "link_lost"));
    assert!(answers.iter().all(unknown), "{answers:?}");
    assert_eq!(sidecar.exited(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_answers_those_whose_deadline_is_beyond_its_budget_as_well() {
    let broker = Broker::start().await;
    let (_client, sidecar) = orders(&broker, "budget").await;
    let budgets = sidecar
        .patient()
        .set("shutdown.request_budget", "\"500ms\"")
        .set("shutdown.broker_budget", "\"500ms\"");
    let mut sidecar = budgets.set("broker.connections", "1").start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;

    let begun = Instant::now();
    let answers = while_in_flight(&sidecar, "60s", async || sidecar.signal("TERM")).await;

    let unknown = |answer: &Answer| matches!(answer.verdict(), (504, "confirm_timeout") | (502, "link_lost"));
    assert!(answers.iter().all(unknown), "{answers:?}");
    assert_eq!(sidecar.exited(PATIENCE).await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(30), "within the budgets: {:?}", begun.elapsed());
}

#[tokio::test]
async fn sigterm_answers_those_who_want_it_tried_again_as_well() {
    let broker = Broker::start().await;
    let (_client, sidecar) = orders(&broker, "repeats").await;
    let budgets = sidecar
        .patient()
        .set("shutdown.request_budget", "\"500ms\"")
        .set("shutdown.broker_budget", "\"500ms\"");
    let mut sidecar = budgets.set("broker.connections", "1").start().await.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "proof").await.code(), "confirmed");
    broker.pause().await;

    let headers = [("amqpost-timeout", "60s"), ("amqpost-retry", "at_least_once")];
    let answers = while_in_flight_with(&sidecar, headers, async || sidecar.signal("TERM")).await;

    assert!(answers.iter().all(|answer| answer.outcome() == "unknown"), "{answers:?}");
    assert_eq!(sidecar.exited(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_waits_for_no_body_beyond_its_budget() {
    let (_client, sidecar) = orders(shared().await, "half_a_body").await;
    let budget = sidecar.set("shutdown.request_budget", "\"500ms\"");
    let mut sidecar = budget.start().await.with_link_up().await;
    let mut half = SlowClient::connect(sidecar.http()).await;
    let head =
        format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\namqpost-timeout: 60s\r\ncontent-length: 2\r\n\r\n");
    half.send(head + "x").await;
    sidecar.in_flight_is(1).await;

    sidecar.signal("TERM");

    let (head, _) = half.read_answer(PATIENCE).await;
    assert!(head.starts_with("http/1.1 503 ") && head.contains("amqpost-code: draining"), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(sidecar.exited(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn without_a_broker_both_signals_end_it_quickly() {
    for signal in ["TERM", "INT"] {
        let nobody = Sidecar::builder("amqp://127.0.0.1:1");
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = Sidecar::builder(&format!("amqp://{}", silent.local_addr().unwrap()));
        for sidecar in [nobody, silent] {
            let sidecar =
                sidecar.set("broker.connect_timeout", "\"1m\"").set("broker.reconnect_max", "\"1m\"");
            let mut sidecar = sidecar.start().await;
            assert_eq!(sidecar.post(QUEUE, &[], "x").await.code(), "link_down");
            let mut _idle = SlowClient::connect(sidecar.http()).await;
            sidecar.signal(signal);
            assert_eq!(sidecar.exited(Duration::from_secs(10)).await.code(), Some(0));
        }
    }
}

#[tokio::test]
async fn signals_that_it_does_not_know_are_logged_and_end_nothing() {
    let (client, mut sidecar) = orders_up("unknown_signals").await;
    for signal in ["HUP", "USR1", "USR2"] {
        sidecar.signal(signal);
        eventually("the signal is logged", Duration::from_secs(10), async || {
            sidecar.log().contains(&format!("SIG{signal}"))
        })
        .await;
        assert!(sidecar.is_running());
        assert_eq!(sidecar.post("/v1/queues/orders/messages", &[], signal).await.status(), 200);
    }
    assert_eq!(client.drain("orders").await.len(), 3);
    assert!(sidecar.terminate(Duration::from_secs(20)).await.success());
}

#[tokio::test]
async fn readiness_goes_off_while_requests_are_still_taken() {
    let (_client, sidecar) = orders(shared().await, "lame_duck").await;
    let mut sidecar = sidecar.set("shutdown.lame_duck", "\"5s\"").start().await.with_link_up().await;
    assert_eq!(sidecar.admin("/readyz").await.status(), 200);

    sidecar.signal("TERM");
    eventually("readiness is off", Duration::from_secs(4), async || {
        sidecar.admin("/readyz").await.status() == 503
    })
    .await;
    let answer = sidecar.post(QUEUE, &[], "x").await;

    assert_eq!(answer.verdict(), (200, "confirmed"));
    assert_eq!(sidecar.admin("/livez").await.status(), 200);
    assert_eq!(sidecar.exited(PATIENCE).await.code(), Some(0));
}
#[tokio::test]
async fn the_admin_listener_shows_everything_in_its_own_form() {
    let (_client, sidecar) = orders(shared().await, "admin").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    for (path, media_type) in [
        ("/livez", "text/plain"),
        ("/readyz", "application/json"),
        ("/link", "application/json"),
        ("/config", "application/json"),
        ("/metrics", "text/plain; version=0.0.4"),
    ] {
        let answer = sidecar.admin(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let given = answer.header("content-type");
        assert!(given.starts_with(media_type), "{path}: {given}");
    }
    assert_eq!(sidecar.admin("/nowhere").await.status(), 404);
    let config = sidecar.admin("/config").await.json();
    assert_eq!(config["publish"]["timeout"], "5s", "{config}");
    let link = sidecar.admin("/link").await.json();
    assert_eq!((&link["state"], link["connections"].as_array().map(Vec::len)), (&"up".into(), Some(2)));

    let metrics = sidecar.admin("/metrics").await.text();
    for family in [
        "publishes_total",
        "publish_duration_seconds",
        "confirm_duration_seconds",
        "requests_total",
        "in_flight",
        "in_flight_limit",
        "link_up",
        "link_state",
        "connections",
        "connects_total",
        "disconnects_total",
        "link_down_seconds_total",
        "retries_total",
        "late_confirms_total",
        "build_info",
    ] {
        assert!(metrics.contains(&format!("# TYPE amqpost_{family} ")), "{family} is not declared");
        assert!(metrics.lines().any(|line| line.starts_with(&format!("amqpost_{family}"))), "no {family}");
    }
    assert!(metrics.contains("\nprocess_resident_memory_bytes "), "the process collector is missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_answers_while_the_only_worker_is_busy() {
    let (_client, sidecar) = orders(shared().await, "busy").await;
    let sidecar = &sidecar.set("runtime.worker_threads", "1").start().await.with_link_up().await;
    // Many small values in one document keep a worker busy without a pause.
    let entries: Vec<_> = (0..1_000_000).map(|n| format!("\"{n}\":null")).collect();
    let document =
        format!(r#"{{"exchange":"","payload":"","properties":{{"headers":{{{}}}}}}}"#, entries.join(","));
    let document = bytes::Bytes::from(document);
    let headers = [("content-type", "application/json"), ("amqpost-timeout", "60s")];
    let (begun, is_over) = (Instant::now(), std::cell::Cell::new(false));

    let busy = async {
        let answers =
            join_all((0..2).map(|_| sidecar.post("/v1/messages", &headers, document.clone()))).await;
        is_over.set(true);
        answers
    };
    let asking = async {
        let mut longest = Duration::ZERO;
        while !is_over.get() {
            let answer = sidecar.admin("/livez").await;
            assert_eq!(answer.status(), 200);
            longest = longest.max(answer.elapsed);
        }
        longest
    };
    let (answers, longest) = tokio::join!(busy, asking);

    let took = begun.elapsed();
    assert!(answers.iter().all(|answer| answer.status() == 400), "{answers:?}");
    assert!(longest < took / 4, "the worker was busy for {took:?}, an answer took {longest:?}");
}
