//! The built `amqpost` as a child process on its own ports, with access to its log and metrics.

use super::answer::Answer;
use super::eventually::eventually;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// The deadline for a sidecar to listen, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(60);

/// The deadline for work in a sidecar to begin or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The settings of a sidecar.
pub struct SidecarBuilder {
    settings: Vec<(String, String)>,
    hosts: Option<NamedTempFile>,
}

/// A running sidecar. Killed when dropped.
pub struct Sidecar {
    child: Child,
    http: String,
    admin: String,
    client: Client<HttpConnector, Full<Bytes>>,
    log: Arc<Mutex<String>>,
    _config: NamedTempFile,
    hosts: Option<NamedTempFile>,
}

/// Runs a command with mounts of its own, with or without the rights of root.
const IN_ITS_OWN_MOUNTS: &str = r#"
    rights=--map-root-user
    unshare $rights --mount true 2>/dev/null || rights=
    exec unshare $rights --mount "$@"
"#;

impl SidecarBuilder {
    /// One setting, such as `("publish.timeout", "\"2s\"")`: the value as TOML.
    pub fn set(mut self, key: &str, toml: &str) -> Self {
        self.settings.push((key.to_owned(), toml.to_owned()));
        self
    }

    /// The same; replaces an earlier value.
    pub fn set_instead(mut self, key: &str, toml: &str) -> Self {
        self.settings.retain(|(earlier, _)| earlier != key);
        self.set(key, toml)
    }

    /// Gives it a hosts file of its own, with these lines.
    pub fn hosts(mut self, lines: &str) -> Self {
        let file = NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), lines).expect("written");
        self.hosts = Some(file);
        self
    }

    /// Tolerates a frozen broker for a while, without a stall or a lost connection.
    pub fn patient(self) -> Self {
        self.set("broker.stall_timeout", "\"1m\"").set("broker.heartbeat", "\"1m\"")
    }

    /// Starts the sidecar and waits until it listens. Does not wait for the broker.
    pub async fn start(self) -> Sidecar {
        let mut config = NamedTempFile::with_suffix(".toml").expect("a temporary file");
        for (key, value) in &self.settings {
            writeln!(config, "{key} = {value}").expect("written");
        }
        // A write beyond the limit on a file's size is an error and no signal, for tests of a
        // failing disk.
        let mut command = Command::new("sh");
        if let Some(hosts) = &self.hosts {
            command.args(["-c", IN_ITS_OWN_MOUNTS, "sh", "sh", "-c"]);
            command.arg("mount --bind \"$0\" /etc/hosts && exec sh \"$@\"").arg(hosts.path());
        }
        let mut child = command
            .args([
                "-c",
                "trap '' XFSZ; exec \"$@\"",
                "sh",
                env!("CARGO_BIN_EXE_amqpost"),
                "serve",
                "--config",
            ])
            .arg(config.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in lines.lines().map_while(Result::ok) {
                    let mut log = log.lock().expect("no panic while logging");
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(2048).build_http();
        let (http, admin, hosts) = (String::new(), String::new(), self.hosts);
        let mut sidecar = Sidecar { child, http, admin, client, log, _config: config, hosts };
        let (http, admin) = eventually("the sidecar listens", START_MAX, async || {
            let log = sidecar.log();
            let line = log.lines().find(|line| line.contains("listening http="));
            let addresses = line.and_then(|line| Some((field(line, "http=\"")?, field(line, "admin=\"")?)));
            addresses.ok_or(log)
        })
        .await;
        sidecar.http = http;
        sidecar.admin = admin;
        sidecar
    }
}

fn field(line: &str, name: &str) -> Option<String> {
    let rest = &line[line.find(name)? + name.len()..];
    Some(rest[..rest.find('"')?].to_owned())
}

impl Sidecar {
    /// A sidecar for the broker at `uri`, with free ports and the other defaults.
    pub fn builder(uri: &str) -> SidecarBuilder {
        SidecarBuilder { settings: Vec::new(), hosts: None }
            .set("broker.endpoints", &format!("[\"{uri}\"]"))
            .set("http.listen", "\"127.0.0.1:0\"")
            .set("admin.listen", "\"127.0.0.1:0\"")
    }

    /// Replaces the lines of its hosts file.
    pub fn set_hosts(&self, lines: &str) {
        let file = self.hosts.as_ref().expect("it was built with hosts");
        std::fs::write(file.path(), lines).expect("written");
    }

    /// Starts a sidecar with defaults and waits until its link is up.
    pub async fn up(uri: &str) -> Sidecar {
        Self::builder(uri).start().await.with_link_up().await
    }

    /// Waits until the link is up.
    pub async fn with_link_up(self) -> Sidecar {
        self.link_is("up", START_MAX).await;
        self
    }

    /// Waits until the link is in `state`.
    pub async fn link_is(&self, state: &str, within: Duration) {
        eventually(&format!("the link is {state}"), within, async || {
            let seen = self.link_state().await;
            if seen == state { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// The link's state as `/link` shows it.
    pub async fn link_state(&self) -> String {
        let answer = self.admin("/link").await;
        answer.json()["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The listener for requests, `host:port`.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Sends a request to the listener and reads the whole answer.
    ///
    /// # Panics
    /// When there is no answer: a sidecar answers every request.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.try_send(request).await.expect("every request is answered")
    }

    /// The same, for tests that kill the sidecar.
    pub async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let start = Instant::now();
        let response = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer::new(head, body, start.elapsed()))
    }

    /// A POST to `path` with `headers` and `body`.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.send(self.request("POST", path, headers, body)).await
    }

    /// A request to the listener.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.http));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body.into())).expect("a valid request")
    }

    /// Waits until the reason of the first connection on `/link` tells an operator what to try.
    pub async fn explains(&self, words: &str, patience: Duration) {
        eventually("the reason says what answers there", patience, async || {
            let link = self.admin("/link").await.json();
            let reason = link["connections"][0]["reason"].as_str().unwrap_or_default().to_owned();
            if reason.contains(words) { Ok(()) } else { Err(link) }
        })
        .await;
    }

    /// A GET from the admin listener.
    pub async fn admin(&self, path: &str) -> Answer {
        let request = Request::get(format!("http://{}{path}", self.admin));
        self.send(request.body(Full::default()).expect("a valid request")).await
    }

    /// The admin listener, `host:port`.
    pub fn admin_address(&self) -> &str {
        &self.admin
    }

    /// A sample of `/metrics` by its whole series name, such as `amqpost_in_flight`.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        let line = line.unwrap_or_else(|| panic!("no series {series} in:\n{text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    /// Waits until this many publishes are in flight.
    pub async fn in_flight_is(&self, count: usize) {
        eventually(&format!("{count} are in flight"), PATIENCE, async || {
            let seen = self.metric("amqpost_in_flight").await;
            if seen == count as f64 { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// The number of answers or observations of `code`.
    pub async fn published(&self, outcome: &str, code: &str) -> f64 {
        self.metric(&format!("amqpost_publishes_total{{code=\"{code}\",outcome=\"{outcome}\"}}")).await
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").clone()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory in KiB as Linux reports it: `VmRSS:` is the resident memory now, `VmHWM:` its
    /// highest value so far.
    pub fn memory_kib(&self, row: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(row)).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "the signal was not sent");
    }

    /// Sends SIGTERM and returns the exit status.
    pub async fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal("TERM");
        self.exited(within).await
    }

    /// Waits for the exit status.
    pub async fn exited(&mut self, within: Duration) -> ExitStatus {
        let log = Arc::clone(&self.log);
        let child = Mutex::new(&mut self.child);
        eventually("the sidecar exits", within, async || {
            let status = child.lock().expect("one user").try_wait().expect("a child can be waited for");
            status.ok_or_else(|| log.lock().expect("no panic while logging").clone())
        })
        .await
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- the sidecar's log ---\n{}", self.log());
        }
    }
}
