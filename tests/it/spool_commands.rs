//! `amqpost spool …`: looks into a spool and changes it, with and without a sidecar that has it.

use crate::harness::stocked::{Stocked, append, documents, message, short};
use crate::harness::{AmqpClient, Sidecar, arguments, eventually, shared};
use amqpost::message::{DeliveryMode, HeaderValue, Message, Properties};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

// === looking, and changing, both ways ===

/// All commands that inspect or change the spool, with and without a running sidecar.
async fn everything_works(stocked: &Stocked, sidecar: bool) {
    let status = stocked.status().await;
    assert_eq!((&status["ready"], &status["parked"]), (&5.into(), &4.into()));
    assert_eq!(status["live"]["health"] == "working", sidecar, "{status}");
    assert_eq!(status["live"]["deliveries_per_second"] == 0.0, sidecar, "{status}");
    assert_eq!(stocked.said(&["status"]).await.contains("0.0 stored and 0.0 delivered a second"), sidecar);
    assert_eq!(status["largest"].as_array().expect("a list").len(), 3);

    assert_eq!(stocked.listed(&[]).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(stocked.listed(&["--state", "parked"]).await, [1, 2, 4, 7]);
    assert_eq!(stocked.listed(&["--state", "ready", "--routing-key", "b"]).await, [5, 8]);
    assert_eq!(stocked.listed(&["--reason", "expired"]).await, [2]);
    assert_eq!(stocked.listed(&["--exchange", "nowhere"]).await, [0; 0]);
    assert_eq!(stocked.listed(&["--after", "3", "--limit", "2"]).await, [4, 5]);
    let shown: Value = serde_json::from_str(&stocked.said(&["show", "1", "--json"]).await).expect("JSON");
    assert_eq!((&shown["reason"], &shown["message_id"]), (&"unroutable".into(), &"id-1".into()));
    assert_eq!(stocked.said(&["show", "1", "--payload"]).await, "content");
    assert_eq!(stocked.refused(&["show", "77"]).await.0, Some(1));

    assert_eq!(
        stocked.said(&["redrive", "--routing-key", "a"]).await,
        "3 of 3 messages to be delivered again\n"
    );
    assert_eq!(stocked.listed(&["--state", "parked"]).await, [2]);
    let parked = stocked.said(&["park", "1", "9", "--because", "look at it", "--json"]).await;
    assert_eq!(parked, "{\"matched\":2,\"changed\":2}\n");
    assert_eq!(stocked.listed(&["--reason", "look at it"]).await, [1, 9]);
    assert_eq!(stocked.said(&["redrive", "9", "3"]).await, "1 of 2 messages to be delivered again\n");

    let (code, why) = stocked.refused(&["drop", "--routing-key", "c"]).await;
    assert_eq!(code, Some(2), "more than one needs --yes: {why}");
    assert!(why.contains("3 messages") && why.contains("--yes"), "{why}");
    assert_eq!(stocked.said(&["drop", "8"]).await, "1 of 1 messages removed\n");
    assert_eq!(
        stocked.said(&["drop", "--all", "--state", "parked", "--yes"]).await,
        "2 of 2 messages removed\n"
    );
    assert_eq!(stocked.listed(&[]).await, [3, 4, 5, 6, 7, 9]);
    let (code, why) = stocked.refused(&["redrive", "4", "8"]).await;
    assert_eq!((code, why.as_str()), (Some(1), "1 of them is not in the spool\n"));

    assert_eq!(stocked.said(&["verify"]).await, "6 messages looked at: sound\n");
    assert_eq!(documents(&stocked.said(&["export"]).await).len(), 6);
}

#[tokio::test]
async fn a_spool_that_nobody_has_is_looked_into_and_changed() {
    let stocked = Stocked::new().await;
    everything_works(&stocked, false).await;
}

#[tokio::test]
async fn a_spool_that_a_sidecar_has_is_looked_into_and_changed_through_it() {
    let stocked = Stocked::new().await;
    let mut sidecar = stocked.sidecar().await;
    everything_works(&stocked, true).await;
    assert!(sidecar.log().contains("an operator changed the spool"), "{}", sidecar.log());
    assert_eq!(sidecar.terminate(PATIENCE).await.code(), Some(0));
    assert!(!stocked.path().join("control.sock").exists());
    assert_eq!(stocked.listed(&[]).await, [3, 4, 5, 6, 7, 9], "and it stays so");
}

// === the socket ===

#[tokio::test]
async fn the_control_socket_is_private_and_replaces_one_of_the_dead() {
    let stocked = Stocked::new().await;
    let socket = stocked.path().join("control.sock");
    let mut sidecar = stocked.sidecar().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(&stocked.path())), (0o600, 0o700));

    sidecar.signal("KILL");
    sidecar.exited(PATIENCE).await;
    assert!(socket.exists(), "a killed process leaves its socket behind");
    assert_eq!(stocked.said(&["redrive", "1"]).await, "1 of 1 messages to be delivered again\n");
    let sidecar = stocked.sidecar().await;
    assert!(stocked.said(&["status"]).await.starts_with("sidecar   working"));
    drop(sidecar);
}

#[tokio::test]
async fn a_spool_of_a_process_without_a_socket_is_not_changed() {
    let stocked = Stocked::new().await;
    stocked
        .filled(async |_| {
            let (code, why) = stocked.refused(&["redrive", "1"]).await;
            assert_eq!(code, Some(1));
            let holder = format!("(pid {})", std::process::id());
            assert!(why.contains(&holder) && why.contains("no control socket"), "{why}");
            assert_eq!(stocked.listed(&["--state", "parked"]).await, [1, 2, 4, 7], "looking goes on");
            assert_eq!(stocked.status().await["sidecar"]["why"], "it has no control socket");
        })
        .await;
}

#[tokio::test]
async fn a_sidecar_that_has_the_spool_and_does_not_answer_is_told_from_none() {
    let stocked = Stocked::new().await;
    assert_eq!(stocked.status().await["sidecar"], json!({"state": "none"}));
    assert!(stocked.said(&["status"]).await.starts_with("sidecar   none has the spool\n"));

    let sidecar = stocked.sidecar().await;
    assert_eq!(stocked.status().await["sidecar"], json!({"state": "answers"}));
    sidecar.signal("STOP");
    let silent = stocked.status().await;
    assert_eq!((&silent["sidecar"]["state"], &silent["live"]), (&json!("silent"), &Value::Null));
    assert_eq!(silent["sidecar"]["pid"], sidecar.pid());
    assert_eq!((&silent["ready"], &silent["parked"]), (&json!(5), &json!(4)), "the disk knows them");
    let said = stocked.said(&["status"]).await;
    let expected = format!("sidecar   process {} has the spool and does not answer: ", sidecar.pid());
    assert!(said.starts_with(&expected), "{said}");

    sidecar.signal("CONT");
    eventually("it answers again", PATIENCE, async || {
        let status = stocked.status().await;
        if status["sidecar"]["state"] == "answers" { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_change_through_a_sidecar_that_does_not_answer_is_given_up_and_nothing_is_changed() {
    let stocked = Stocked::new().await;
    let sidecar = stocked.sidecar().await;
    sidecar.signal("STOP");
    let (code, why) = stocked.refused(&["redrive", "1"]).await;
    assert_eq!(code, Some(1), "{why}");
    let holder = format!("(pid {})", sidecar.pid());
    assert!(why.contains(&holder) && why.contains("nothing was changed"), "{why}");
    assert_eq!(stocked.listed(&["--state", "parked"]).await, [1, 2, 4, 7]);
}

/// The socket of a sidecar that gives each connection one of the answers, and closes the connection
/// after the last.
fn scripted(socket: &Path, answers: [Value; 2]) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("the path is free");
    std::thread::spawn(move || {
        for answer in answers {
            let mut asking = BufReader::new(listener.accept().expect("it is asked").0);
            let (mut line, mut body) = (String::new(), 0);
            while asking.read_line(&mut line).expect("a request") > 2 {
                body = line
                    .strip_prefix("content-length: ")
                    .map_or(body, |n| n.trim().parse().expect("a number"));
                line.clear();
            }
            asking.read_exact(&mut vec![0; body]).expect("its body");
            let body = answer.to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            asking.get_mut().write_all((head + &body).as_bytes()).expect("it is read");
        }
        drop(listener.accept().expect("it is asked once more"));
    })
}

#[tokio::test]
async fn a_change_without_an_answer_is_told_as_unknown_with_what_was_done_before() {
    let stocked = Stocked::new().await;
    let part = json!({"matched": 4, "changed": 4, "next": 4});
    let sidecar = scripted(&stocked.path().join("control.sock"), [json!({}), part]);
    let output = stocked.run(&["drop", "--all", "--yes"]).await;
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{why}");
    assert!(why.contains("the change may be made or not"), "{why}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "4 of 9 messages removed\n");
    sidecar.join().expect("it was asked three times");
}

#[tokio::test]
async fn a_socket_that_nobody_answers_on_is_silent_while_a_process_has_the_spool() {
    let stocked = Stocked::new().await;
    // The socket of a hanging process, which accepts nothing.
    let _hanging = UnixListener::bind(stocked.path().join("control.sock")).expect("the path is free");
    stocked
        .filled(async |_| {
            let sidecar = &stocked.status().await["sidecar"];
            assert_eq!(
                (&sidecar["state"], &sidecar["pid"]),
                (&json!("silent"), &json!(std::process::id())),
                "{sidecar}"
            );
        })
        .await;
    assert_eq!(stocked.status().await["sidecar"]["state"], "none", "a socket alone has no spool");
}

// === faults are found, and exported messages can be published again ===

#[tokio::test]
async fn verify_names_what_is_damaged_and_exits_with_1() {
    let stocked = Stocked::new().await;
    let path = stocked.path().join("spool.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"content").expect("it is in the file");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let output = stocked.run(&["verify", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["sound"], &report["damaged_count"]), (&false.into(), &1.into()));
    let damaged = report["damaged"][0].to_string();
    let shown = stocked.run(&["show", &damaged]).await;
    assert_eq!(shown.status.code(), Some(1));
    let (shown, why) = (String::from_utf8(shown.stdout).unwrap(), String::from_utf8(shown.stderr).unwrap());
    assert_eq!(shown.lines().count(), 2, "nothing below the line of the list: {shown}");
    assert_eq!(why, format!("message {damaged} is damaged\n"));
    let output = stocked.run(&["export"]).await;
    assert_eq!(
        (output.status.code(), output.stdout.iter().filter(|byte| **byte == b'\n').count()),
        (Some(1), 8)
    );
}

#[tokio::test]
async fn what_is_exported_is_published_again_as_it_was() {
    let vhost = shared().await.vhost("spool_export").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    client.bind("orders", "amq.topic", "order.#").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let binary = Message {
        properties: Properties {
            content_type: Some(short("application/octet-stream")),
            delivery_mode: DeliveryMode::Transient,
            priority: Some(3),
            kind: Some(short("order")),
            timestamp: Some(1_700_000_000),
            headers: [(short("attempt"), HeaderValue::Int(3)), (short("ratio"), HeaderValue::Double(0.1))]
                .into(),
            ..message("", "id-binary", b"").properties
        },
        ..message("order.binary", "", b"\xff\x00\xfe")
    };
    let stocked = Stocked::empty();
    stocked
        .filled(async |handle| {
            append(handle, binary).await;
            append(handle, message("order.text", "id-text", "Grüße\n\"zwei\"".as_bytes())).await;
        })
        .await;

    for line in stocked.said(&["export"]).await.lines() {
        let headers = [("content-type", "application/json")];
        let answer = sidecar.post("/v1/messages", &headers, line.to_owned()).await;
        assert_eq!(answer.verdict(), (200, "confirmed"), "{line}");
    }
    eventually("both are there", PATIENCE, async || client.depth("orders").await == 2).await;
    let messages = client.drain("orders").await;
    assert_eq!(messages[0].body, b"\xff\x00\xfe");
    assert_eq!(messages[1].text(), "Grüße\n\"zwei\"");
    let properties = &messages[0].properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "id-binary");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "order");
    assert_eq!((*properties.delivery_mode(), *properties.priority()), (Some(1), Some(3)));
    let headers = properties.headers().as_ref().unwrap().inner();
    let header = |name: &str| headers.get(name).cloned();
    assert_eq!(header("attempt"), Some(crate::harness::AMQPValue::LongLongInt(3)));
    assert_eq!(header("ratio"), Some(crate::harness::AMQPValue::Double(0.1)));
}
