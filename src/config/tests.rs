//! Tests of the room as a whole: the helpers of the other test files, and the defaults.

mod changes;
mod contradictions;
mod documents;
mod layers;
mod problems;
mod routes;
mod secrets;

use super::*;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A directory for one test, removed when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("amqpost-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Writes a file and says where it is.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Loads a file of this text. In it and in the problems, `DIR` stands for this directory.
    fn load(&self, toml: &str) -> Result<Config, String> {
        let directory = self.0.display().to_string();
        let file = self.write("amqpost.toml", toml.replace("DIR", &directory));
        Config::load(&Sources { file: Some(file.into()), ..Sources::default() })
            .map_err(|error| error.to_string().replace(&directory, "DIR"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flags(flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources { flags: pairs(flags), ..Sources::default() })
}

fn environment(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources { environment: pairs(environment), ..Sources::default() })
}

fn file(toml: &str) -> Result<Config, String> {
    Directory::new().load(toml)
}

/// The text that an operator reads, folded. Loading must fail.
fn problems_of<E: ToString>(result: Result<Config, E>) -> String {
    let problems = result.expect_err("this configuration must be refused").to_string();
    folded(&problems)
}

/// Columns of a folded problem.
const PROBLEM_COLUMNS_MAX: usize = 96;

/// The problems as the tests show them. If a problem is too wide for one line, its expected form is
/// on the next line, indented. Nothing else differs from the text that an operator reads.
fn folded(problems: &str) -> String {
    let fold = |problem: &str| {
        if problem.chars().count() <= PROBLEM_COLUMNS_MAX {
            return problem.to_owned();
        }
        let (place, verdict) = problem.split_once("): ").expect("a problem names its source");
        format!("{place}):\n    {}", reference::wrapped(verdict, PROBLEM_COLUMNS_MAX - 4, "\n    "))
    };
    let folded = problems.lines().map(fold).collect::<Vec<_>>().join("\n");
    assert_eq!(folded.replace("\n    ", " "), problems, "folding has changed the text");
    folded
}

#[test]
fn without_any_source_the_defaults_hold() {
    insta::assert_snapshot!(Config::load(&Sources::default()).unwrap().effective(), @r#"
    [http]
    listen = ["127.0.0.1:8672"]
    max_connections = 10000
    header_timeout = "10s"
    idle_timeout = "75s"
    max_header_bytes = "64KiB"

    [admin]
    listen = "0.0.0.0:9672"
    ready_requires_link = false

    [broker]
    endpoints = ["amqp://***@127.0.0.1:5672/%2f"]
    connections = 2
    heartbeat = "5s"
    stall_timeout = "1s"
    transfer_max = "1m"
    connect_timeout = "3s"
    reconnect_min = "50ms"
    reconnect_max = "1s"
    rebalance_after = "30s"
    frame_max = "32KiB"
    write_window = "4MiB"
    connection_name = "amqpost"

    [publish]
    timeout = "5s"
    max_timeout = "1m"
    max_in_flight = 1024
    max_in_flight_bytes = "64MiB"
    max_body = "16MiB"
    stream_in_flight = 256
    proven_for = "10m"
    max_attempts = 3
    retry_percent = 20

    [breaker]
    failures = 20
    percent = 50
    window = "10s"
    open_for = "1s"

    [spool]
    max_bytes = "1GiB"
    max_age = "24h"
    drain_rate = 500
    destination_percent = 50
    disk_reserve = "64MiB"
    park_after = "1h"
    nacks_max = 10

    [idempotency]
    window = "10m"
    max_keys = 100000

    [shutdown]
    lame_duck = "0s"
    request_budget = "20s"
    broker_budget = "3s"

    [log]
    level = "info"
    format = "text"

    [runtime]
    worker_threads = 1
    "#);
}

#[test]
fn what_is_in_force_is_shown_key_by_key_in_the_form_of_the_file() {
    let shown = serde_json::to_value(Config::default()).unwrap();
    let sections = shown.as_object().unwrap();
    let mut paths: Vec<_> = sections
        .iter()
        .flat_map(|(section, keys)| {
            keys.as_object().unwrap().keys().map(move |name| format!("{section}.{name}"))
        })
        .collect();
    // They are part of each endpoint, and the page does not show them.
    paths.extend(["broker.user".to_owned(), "broker.password".to_owned()]);
    let mut keys: Vec<_> = keys::all_keys().map(|key| key.path.to_owned()).collect();
    paths.sort();
    keys.sort();
    assert_eq!(paths, keys);
    assert_eq!(shown["publish"]["max_body"], "16MiB");
    assert_eq!(shown["publish"]["timeout"], "5s");
    assert_eq!(shown["runtime"]["worker_threads"], 1);
    assert_eq!(shown["broker"]["ca_file"], serde_json::Value::Null);
}
