//! The command line: the output and exit code of each command, and what prevents a start.

use crate::harness::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `amqpost` with these arguments and this input until it ends.
async fn amqpost(arguments: &[&str], environment: &[(&str, &str)], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_amqpost"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that does not read its input may have ended already.
    drop(child.stdin.take().map(|mut input| input.write_all(stdin.as_bytes())));
    let mut child = KilledOnDrop(Some(child));
    eventually("the command ends", PATIENCE, async || child.0.as_mut()?.try_wait().ok()?).await;
    child.0.take().expect("it is there").wait_with_output().expect("its output")
}

struct KilledOnDrop(Option<Child>);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn check_prints_the_configuration_without_its_secrets() {
    let uri = "broker.endpoints=amqp://shop:sentinel-password@rabbit.example/orders";
    let output = amqpost(&["check", "--set", uri], &[], "").await;

    let printed = text_of(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed} {}", text_of(&output.stderr));
    assert!(printed.contains("rabbit.example") && printed.contains("stall_timeout"), "{printed}");
    assert!(!printed.contains("sentinel-password"), "{printed}");
}

/// The result of `check` with this standard output.
fn check_into(out: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amqpost"));
    command.arg("check").stdout(out).stderr(Stdio::piped());
    command.spawn().expect("it starts").wait_with_output().expect("its output")
}

#[test]
fn check_ends_well_when_its_reader_has_read_enough() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = check_into(writer);
    assert_eq!((output.status.code(), text_of(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn check_does_not_end_well_when_nothing_could_be_printed() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = check_into(full);
    let why = text_of(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("No space left") && !why.contains("panicked"), "{why}");
}

#[tokio::test]
async fn all_mistakes_in_the_configuration_are_listed_and_nothing_starts() {
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    let mistakes = "[broker]\nhartbeat = \"5s\"\nconnections = 99\npassword = \"sentinel\\npassword\"\n\
                    endpoints = [\"amqp://shop:sentinel-password@rabbit:port/\"]\n\
                    [publish]\ntimeout = \"soon\"\n";
    file.write_all(mistakes.as_bytes()).unwrap();
    for command in ["check", "serve"] {
        let path = file.path().to_str().unwrap();
        let arguments = [command, "--config", path, "--set", "log.level=loud"];
        let output = amqpost(&arguments, &[("AMQPOST__HTTP__LISTEN", "nowhere")], "").await;

        let listed = text_of(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{listed}");
        let keys = ["broker.hartbeat", "broker.connections", "broker.password", "broker.endpoints"];
        for key in keys.into_iter().chain(["publish.timeout", "log.level", "http.listen"]) {
            assert!(listed.lines().any(|line| line.starts_with(key)), "{key} is not in:\n{listed}");
        }
        assert!(!listed.contains("sentinel"), "{listed}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn flags_override_the_environment_which_overrides_the_file() {
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    file.write_all(b"broker.connections = 3\npublish.max_in_flight = 3\npublish.timeout = \"3s\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    let environment = [("AMQPOST__PUBLISH__MAX_IN_FLIGHT", "4"), ("AMQPOST__PUBLISH__TIMEOUT", "4s")];
    let output = amqpost(&["check", "--config", path, "--set", "publish.timeout=5s"], &environment, "").await;

    let printed = text_of(&output.stdout);
    for line in ["connections = 3", "max_in_flight = 4", "timeout = \"5s\""] {
        assert!(printed.lines().any(|printed| printed.trim() == line), "{line} is not in:\n{printed}");
    }
}

#[tokio::test]
async fn a_taken_address_is_named_and_ends_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("no-socket");
    std::fs::write(&file, "kept").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let path = format!("unix:{}", file.display());
    for (key, address) in [("http.listen", &taken), ("admin.listen", &taken), ("http.listen", &path)] {
        let other = if key == "http.listen" { "admin.listen" } else { "http.listen" };
        let (key, other) = (format!("{key}={address}"), format!("{other}=127.0.0.1:0"));
        let output = amqpost(&["serve", "--set", &key, "--set", &other], &[], "").await;

        let said = text_of(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(address.as_str()), "{address} is not in: {said}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_goes_with_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("amqpost.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a killed process leaves its socket behind");
    let listen = format!("\"unix:{}\"", path.display());
    let builder = Sidecar::builder("amqp://127.0.0.1:1").set_instead("http.listen", &listen);
    let mut sidecar = builder.start().await;

    let mut wire = SlowClient::connect_unix(&path).await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(wire.read_head(PATIENCE).await.starts_with("HTTP/1.1 404 "));

    assert_eq!(sidecar.terminate(PATIENCE).await.code(), Some(0));
    assert!(!path.exists());
}

#[tokio::test]
async fn health_is_0_while_the_process_lives_and_ready_follows_the_setting() {
    let builder = Sidecar::builder("amqp://127.0.0.1:1").set("admin.ready_requires_link", "true");
    let mut sidecar = builder.start().await;
    let admin = sidecar.admin_address().to_owned();
    let health = async |more: &[&str]| {
        let arguments = [&["health", "--admin", &admin], more].concat();
        amqpost(&arguments, &[], "").await.status.code()
    };

    assert_eq!((health(&[]).await, health(&["--ready"]).await), (Some(0), Some(1)));
    assert_eq!(sidecar.admin("/readyz").await.status(), 503);
    sidecar.terminate(PATIENCE).await;
    assert_eq!(health(&[]).await, Some(1));
}

#[tokio::test]
async fn publish_sends_a_file_of_lines_and_says_what_became_of_each() {
    let (client, sidecar) = orders(shared().await, "publish_lines").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let publish = async |lines: &str| {
        let output = amqpost(&["publish", "--to", sidecar.http(), "--lines", "-"], &[], lines).await;
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let good: String = (0..300).map(|n| envelope("orders", &format!("m-{n}")) + "\n").collect();

    let (exit, answers) = publish(&good).await;
    assert_eq!((exit, answers.matches("\"code\":\"confirmed\"").count()), (Some(0), 300));
    let (exit, answers) = publish(&(good + &envelope("nowhere", "returned"))).await;
    assert_eq!((exit, answers.matches("\"code\":\"unroutable\"").count()), (Some(1), 1));
    assert_eq!(client.depth("orders").await, 600);
}

#[tokio::test]
async fn publish_says_by_its_exit_code_what_became_of_the_message() {
    let (client, sidecar) = orders(shared().await, "publish_command").await;
    let full = arguments([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))]);
    client.declare_queue("full", true, full).await;
    client.put("full", b"the only place").await;
    client.bind("orders", "amq.topic", "a/b c").await;
    let sidecar = sidecar.start().await.with_link_up().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"from a file").unwrap();
    let publish = async |more: &[&str], stdin: &str| {
        let output = amqpost(&[&["publish", "--to", sidecar.http()], more].concat(), &[], stdin).await;
        output.status.code()
    };

    assert_eq!(publish(&["--queue", "orders", "from an argument"], "").await, Some(0));
    assert_eq!(publish(&["--queue", "orders", "--header", "Amqp-Type: order"], "from stdin").await, Some(0));
    let path = file.path().to_str().unwrap();
    let exchange = ["--exchange", "amq.topic", "--routing-key", "a/b c", "--file", path];
    assert_eq!(publish(&exchange, "").await, Some(0));
    assert_eq!(publish(&["--queue", "nobody", "x"], "").await, Some(1));
    assert_eq!(publish(&["--queue", "orders", "--file", "/there/is/no/such/file"], "").await, Some(1));
    assert_eq!(publish(&["--queue", "full", "x"], "").await, Some(3));
    let nobody = amqpost(&["publish", "--to", "127.0.0.1:1", "--queue", "orders", "x"], &[], "").await;
    assert_eq!(nobody.status.code(), Some(1));

    let messages = client.drain("orders").await;
    let texts: Vec<_> = messages.iter().map(Received::text).collect();
    assert_eq!(texts, ["from an argument", "from stdin", "from a file"]);
    assert_eq!(messages[1].properties.kind().as_ref().unwrap().as_str(), "order");
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_request() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_amqpost"))
        .args(["serve", "--set", "http.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0"])
        .args(["--set", "broker.endpoints=amqp://127.0.0.1:1", "--set", "log.level=debug"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
    let _child = KilledOnDrop(Some(child));
    let line = log.by_ref().map_while(Result::ok).find(|line| line.contains("listening http="));
    let line = line.expect("it listens");
    let address = line.split('"').nth(1).expect("an address").to_owned();

    // From here on nobody reads the log, which is much longer than a pipe.
    let mut wire = SlowClient::connect(&address).await;
    for n in 0..5_000 {
        wire.send(format!("POST {QUEUE} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")).await;
        let (head, _) = wire.read_answer(PATIENCE).await;
        assert!(head.starts_with("http/1.1 503 "), "request {n}: {head:?}");
    }
}
