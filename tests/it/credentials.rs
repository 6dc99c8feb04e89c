//! A broker that refuses the login, is unreachable or speaks no AMQP: the process lives, reports
//! why, and keeps secrets.

use crate::harness::*;
use serde_json::json;
use std::io::Write;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

/// The sidecar lives, answers `link_down` at once, and reports one of `reasons` everywhere.
async fn assert_down_because(mut sidecar: Sidecar, reasons: &[&str]) {
    let reason = eventually("a connect has failed", PATIENCE, async || {
        for reason in reasons {
            if sidecar.metric(&format!("amqpost_connects_total{{result=\"{reason}\"}}")).await >= 3.0 {
                return Ok(*reason);
            }
        }
        Err(sidecar.log())
    })
    .await;
    let answer = sidecar.post(QUEUE, &[("amqpost-timeout", "60s")], "x").await;
    assert_eq!((answer.verdict(), answer.outcome()), ((503, "link_down"), "not_published"));
    assert!(answer.elapsed < Duration::from_secs(10), "at once, not at the deadline: {:?}", answer.elapsed);

    // Between two attempts the last reason stays visible.
    eventually("the reason is on /link and /readyz", PATIENCE, async || {
        let (link, ready) = (sidecar.admin("/link").await.json(), sidecar.admin("/readyz").await);
        let connection = &link["connections"][0];
        let on_link = connection["reason"].as_str().is_some_and(|text| text.starts_with(reason));
        let on_ready = ready.json()["reasons"][0].as_str().is_some_and(|text| text.contains(reason));
        let down = link["state"] == "down" && connection["state"] == "down" && ready.status() == 200;
        if on_link && on_ready && down { Ok(()) } else { Err((link, ready.text())) }
    })
    .await;
    assert!(sidecar.log().contains(reason), "the reason {reason} is not in the log");
    assert_eq!(sidecar.metric("amqpost_link_up").await, 0.0);
    assert!(sidecar.is_running());
}

/// A sidecar for an endpoint that does not work, with one connection that tries often.
fn hopeless(uri: &str) -> SidecarBuilder {
    Sidecar::builder(uri)
        .set("broker.connections", "1")
        .set("broker.reconnect_max", "\"200ms\"")
        .set("broker.connect_timeout", "\"1s\"")
}

/// A peer that calls `serve` with each connection.
async fn peer<F: Future<Output = ()> + Send>(
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            serve(socket).await;
        }
    });
    format!("amqp://guest:guest@{address}")
}

/// A peer that accepts connections and stays silent.
async fn silent_peer() -> String {
    let sockets = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    peer(move |socket| {
        let sockets = std::sync::Arc::clone(&sockets);
        async move { sockets.lock().expect("no panic in here").push(socket) }
    })
    .await
}

#[tokio::test]
async fn a_wrong_password_is_said_and_survived() {
    let vhost = shared().await.vhost("wrong_password").await;
    assert_down_because(hopeless(&vhost.uri_as("guest", "wrong")).start().await, &["authentication"]).await;
}

#[tokio::test]
async fn an_unknown_user_is_said_and_survived() {
    let vhost = shared().await.vhost("unknown_user").await;
    assert_down_because(hopeless(&vhost.uri_as("nobody", "guest")).start().await, &["authentication"]).await;
}

#[tokio::test]
async fn an_unknown_vhost_is_said_and_survived() {
    let broker = shared().await;
    let uri = broker.uri_for("there is no such vhost", "guest", "guest", broker.amqp_port());
    assert_down_because(hopeless(&uri).start().await, &["virtual_host"]).await;
}

#[tokio::test]
async fn a_vhost_that_is_closed_to_the_user_is_said_and_survived() {
    let vhost = shared().await.vhost("closed_vhost").await;
    vhost.broker().add_user("outsider", "secret").await;
    assert_down_because(hopeless(&vhost.uri_as("outsider", "secret")).start().await, &["virtual_host"]).await;
}

#[tokio::test]
async fn nobody_listening_is_said_and_survived() {
    let proxy = FaultProxy::to_port(1);
    proxy.refuse();
    let uri = format!("amqp://guest:guest@127.0.0.1:{}", proxy.port());
    assert_down_because(hopeless(&uri).start().await, &["refused"]).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_said_and_survived() {
    // If no name server answers, the lookup takes longer than an attempt may.
    let uri = "amqp://guest:guest@there-is-no-such-host.invalid";
    assert_down_because(hopeless(uri).start().await, &["dns", "timeout"]).await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_stays_silent_is_said_and_survived() {
    assert_down_because(hopeless(&silent_peer().await).start().await, &["timeout"]).await;
}

#[tokio::test]
async fn a_peer_that_closes_at_once_is_said_and_survived() {
    let uri = peer(|socket| async move { drop(socket) }).await;
    assert_down_because(hopeless(&uri).start().await, &["io", "protocol"]).await;
}

#[tokio::test]
async fn a_peer_that_speaks_another_protocol_is_said_and_survived() {
    let uri = peer(|mut socket| async move {
        drop(socket.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await);
        drop(socket.shutdown().await);
    })
    .await;
    let sidecar = hopeless(&uri).start().await;
    sidecar.explains("a web server answers", PATIENCE).await;
    assert_down_because(sidecar, &["protocol", "io"]).await;
}

/// A web server answers after the first line, which AMQP does not send.
#[tokio::test]
async fn a_web_server_that_waits_for_a_line_is_recognized() {
    let uri = peer(|mut socket| async move {
        let mut seen = Vec::new();
        let mut bytes = [0; 64];
        while let Ok(read @ 1..) = socket.read(&mut bytes).await {
            seen.extend(&bytes[..read]);
            if seen.contains(&b'\n') {
                drop(socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
                return;
            }
        }
    })
    .await;
    hopeless(&uri).start().await.explains("a web server answers", PATIENCE).await;
}

#[tokio::test]
async fn a_password_that_is_too_long_for_a_login_is_said() {
    let vhost = shared().await.vhost("long_password").await;
    let uri = vhost.uri_as("guest", &"p".repeat(60_000));
    hopeless(&uri).start().await.explains("user and password have 60005 bytes together", PATIENCE).await;
}

#[tokio::test]
async fn a_corrected_password_works_within_five_seconds() {
    let broker = shared().await;
    let vhost = broker.vhost("corrected_password").await;
    broker.add_user("corrected", "old").await;
    vhost.set_permissions("corrected", "", ".*", "").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::builder(&vhost.uri_as("corrected", "new")).start().await;
    // Enough attempts to make the pauses between them long.
    eventually("many attempts have failed", Duration::from_secs(60), async || {
        sidecar.metric("amqpost_connects_total{result=\"authentication\"}").await >= 12.0
    })
    .await;

    broker.change_password("corrected", "new").await;

    sidecar.link_is("up", Duration::from_secs(5)).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn a_rotated_password_file_works_without_a_restart() {
    let broker = shared().await;
    let vhost = broker.vhost("rotated_password").await;
    broker.add_user("rotated", "first").await;
    vhost.set_permissions("rotated", "", ".*", "").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let sidecar = Sidecar::builder(&vhost.uri())
        .set("broker.user", "\"rotated\"")
        .set("broker.password_file", &format!("\"{}\"", file.display()))
        .start()
        .await
        .with_link_up()
        .await;

    broker.change_password("rotated", "second").await;
    std::fs::write(&file, "second\n").unwrap();
    vhost.close_connections("rotation").await;
    sidecar.link_is("up", PATIENCE).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));

    // Without the file, the last good password still works.
    std::fs::remove_file(&file).unwrap();
    vhost.close_connections("no file").await;
    sidecar.link_is("up", PATIENCE).await;
    eventually("the missing file is in the log", PATIENCE, async || {
        let log = sidecar.log();
        if log.contains("the last good content stays in use") { Ok(()) } else { Err(log) }
    })
    .await;
}

/// A sidecar that takes the password of guest from `file`, with one connection.
fn with_password_file(vhost: &Vhost, file: &std::path::Path) -> SidecarBuilder {
    hopeless(&vhost.uri()).set("broker.password_file", &format!("\"{}\"", file.display()))
}

fn fifo(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo runs").success());
}

#[tokio::test]
async fn a_password_file_that_blocks_delays_no_request_and_works_once_it_is_a_file() {
    let vhost = shared().await.vhost("password_fifo").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fifo(&file);
    let sidecar = with_password_file(&vhost, &file).start().await;

    eventually("the file is the reason", PATIENCE, async || {
        let link = sidecar.admin("/link").await.json();
        let reason = link["connections"][0]["reason"].as_str().unwrap_or_default().to_owned();
        let is_said = reason.starts_with("credentials: broker.password_file: ");
        if is_said && link["state"] == "down" { Ok(()) } else { Err(link) }
    })
    .await;
    for _ in 0..20 {
        let answer = sidecar.post(QUEUE, &[("amqpost-timeout", "60s")], "x").await;
        assert_eq!(answer.verdict(), (503, "link_down"));
        assert!(answer.elapsed < Duration::from_secs(10), "{:?}", answer.elapsed);
        assert_eq!(sidecar.admin("/livez").await.status(), 200);
    }

    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "guest\n").unwrap();
    sidecar.link_is("up", PATIENCE).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn a_password_file_that_begins_to_block_leaves_the_last_password_in_use() {
    let vhost = shared().await.vhost("password_blocks").await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "guest").unwrap();
    let sidecar = with_password_file(&vhost, &file).start().await.with_link_up().await;

    std::fs::remove_file(&file).unwrap();
    fifo(&file);
    let (threads, _) = threads_and_files(&sidecar);
    for _ in 0..3 {
        vhost.close_connections("another dial").await;
        eventually("it connects with the last password", PATIENCE, async || {
            let answer = sidecar.post(QUEUE, &[], "x").await;
            if answer.verdict() == (200, "confirmed") { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }
    let (threads_then, _) = threads_and_files(&sidecar);
    assert!(threads_then <= threads + 2, "{threads} threads became {threads_then}");
}

/// The numbers of threads and open files of a process.
fn threads_and_files(sidecar: &Sidecar) -> (usize, usize) {
    let count = |what| {
        std::fs::read_dir(format!("/proc/{}/{what}", sidecar.pid())).expect("the process runs").count()
    };
    (count("task"), count("fd"))
}

#[tokio::test]
async fn a_hundred_attempts_on_a_silent_peer_leave_no_threads_and_no_files_behind() {
    let sidecar = hopeless(&silent_peer().await)
        .set_instead("broker.connect_timeout", "\"100ms\"")
        .set("broker.reconnect_min", "\"1ms\"")
        .set_instead("broker.reconnect_max", "\"10ms\"")
        .start()
        .await;
    let failed = async |count: f64| {
        eventually(&format!("{count} attempts have failed"), Duration::from_secs(120), async || {
            sidecar.metric("amqpost_connects_total{result=\"timeout\"}").await >= count
        })
        .await;
        threads_and_files(&sidecar)
    };

    let (threads, files) = failed(5.0).await;
    let (threads_then, files_then) = failed(105.0).await;

    // The threads and files of one attempt may come or go in between; a leak would be a hundred.
    assert!(threads_then <= threads + 10, "{threads} threads became {threads_then}");
    assert!(files_then <= files + 10, "{files} files became {files_then}");
}

const PASSWORD: &str = "sentinel-password-7f3a";
const PAYLOAD: &str = "sentinel-payload-91bc";
const HEADER: &str = "sentinel-header-c04d";

/// Publishes the secrets with every different outcome; returns the bodies of the answers.
async fn publish_secrets(sidecar: &Sidecar) -> Vec<String> {
    let raw = [
        "/v1/queues/orders/messages",
        "/v1/queues/nobody/messages",
        "/v1/queues/full/messages",
        "/v1/exchanges/missing/messages",
    ];
    let mut bodies = Vec::new();
    for path in raw {
        bodies.push(sidecar.post(path, &[("amqp-header-secret", HEADER)], PAYLOAD).await.text());
    }
    bodies.push(
        sidecar.post(QUEUE, &[("amqp-header-secret", HEADER), ("amqp-priority", "x")], PAYLOAD).await.text(),
    );
    let good = json!({"secret": HEADER});
    let wrong = [
        ("orders", json!(PAYLOAD), json!({"headers": good})),
        ("nobody", json!(PAYLOAD), json!({"headers": good})),
        ("orders", json!([PAYLOAD]), json!({"headers": good})),
        ("orders", json!(PAYLOAD), json!({"headers": HEADER})),
        ("orders", json!(PAYLOAD), json!({"headers": [HEADER]})),
        ("orders", json!(PAYLOAD), json!({"headers": good, "CC": HEADER})),
        ("orders", json!(PAYLOAD), json!({"headers": {"CC": HEADER}})),
    ];
    for (queue, payload, properties) in wrong {
        for encoding in ["string", "base64"] {
            let envelope = json!({"exchange": "amq.default", "routing_key": queue, "payload": payload,
                "payload_encoding": encoding, "properties": properties});
            let json = [("content-type", "application/json")];
            bodies.push(sidecar.post("/v1/messages", &json, envelope.to_string()).await.text());
        }
    }
    bodies
}

/// Neither the log nor the admin listener nor `bodies` may contain a secret.
async fn assert_keeps_secrets(sidecar: &Sidecar, bodies: Vec<String>) {
    let mut shown = bodies;
    for path in ["/config", "/link", "/readyz", "/metrics", "/livez"] {
        shown.push(sidecar.admin(path).await.text());
    }
    shown.push(sidecar.log());
    for text in shown {
        for secret in [PASSWORD, PAYLOAD, HEADER] {
            // Bytes are often shown as a list of numbers.
            let numbers = format!("{:?}", secret.as_bytes());
            let numbers = numbers.trim_matches(['[', ']']);
            assert!(!text.contains(secret) && !text.contains(numbers), "{secret} is in: {text}");
        }
    }
}

#[tokio::test]
async fn passwords_payloads_and_header_values_appear_nowhere() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("secrets").await;
    broker.add_user("keeper", PASSWORD).await;
    vhost.set_permissions("keeper", ".*", ".*", ".*").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"the only place").await;

    let uri = vhost.uri_as("keeper", PASSWORD);
    let sidecar = Sidecar::builder(&uri).set("log.level", "\"trace\"").start().await.with_link_up().await;
    let mut bodies = publish_secrets(&sidecar).await;
    broker.kill_9().await;
    sidecar.link_is("down", PATIENCE).await;
    bodies.extend(publish_secrets(&sidecar).await);
    broker.restart().await;
    broker.change_password("keeper", "another").await;
    // It may have ended earlier.
    broker.close_all_connections("another password").await;
    eventually("the password is refused", PATIENCE, async || {
        sidecar.metric("amqpost_connects_total{result=\"authentication\"}").await >= 1.0
    })
    .await;
    bodies.extend(publish_secrets(&sidecar).await);

    let codes = bodies.join("\n");
    for code in ["confirmed", "unroutable", "nacked", "exchange_not_found", "invalid_request", "link_down"] {
        assert!(codes.contains(code), "the scenario never saw {code}: {codes}");
    }
    assert_keeps_secrets(&sidecar, bodies).await;
}

#[tokio::test]
async fn a_password_from_a_file_appears_nowhere() {
    let vhost = shared().await.vhost("secret_file").await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{PASSWORD}").unwrap();
    let sidecar = hopeless(&vhost.uri())
        .set("broker.password_file", &format!("\"{}\"", file.path().display()))
        .set("log.level", "\"trace\"")
        .start()
        .await;
    eventually("the password is refused", PATIENCE, async || {
        sidecar.metric("amqpost_connects_total{result=\"authentication\"}").await >= 1.0
    })
    .await;

    assert_keeps_secrets(&sidecar, Vec::new()).await;
}

#[tokio::test]
async fn a_refused_routing_key_harms_no_good_request() {
    let broker = shared().await;
    let vhost = broker.vhost("topic_permission").await;
    broker.add_user("topic-user", "secret").await;
    vhost.set_permissions("topic-user", "", ".*", "").await;
    let set = r#"rabbit_auth_backend_internal:set_topic_permissions(<<"topic-user">>, <<"topic_permission">>,
        <<"amq.topic">>, <<"^good">>, <<"^good">>, <<"harness">>)."#;
    broker.run_ok(set).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    client.bind("orders", "amq.topic", "#").await;
    let sidecar = Sidecar::up(&vhost.uri_as("topic-user", "secret")).await;
    let key = |key: &str| format!("/v1/exchanges/amq.topic/messages?routing_key={key}");
    let (good, bad) = (key("good"), key("bad"));

    let good = load(&sidecar, &good, "g", 32, |n| n >= 3_000);
    let bad = load(&sidecar, &bad, "b", 2, |n| n >= 50);
    let (good, bad) = tokio::join!(good, bad);

    assert_eq!(codes(&good).into_iter().collect::<Vec<_>>(), [("confirmed".to_owned(), 3_000)]);
    assert_eq!(codes(&bad).into_iter().collect::<Vec<_>>(), [("access_refused".to_owned(), 50)]);
}
