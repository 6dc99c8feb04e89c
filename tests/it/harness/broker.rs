//! A private, real RabbitMQ node for tests, and the faults that a test injects.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::certificates::Certificates;
use super::control::binary;
use super::eventually::eventually;
use super::node::{Membership, Node, Plan, Started};
use super::vhost::Vhost;

const PATIENCE: Duration = Duration::from_secs(60);

static SHARED: OnceCell<Broker> = OnceCell::const_new();

/// The node that most tests of this test process share, started at the first call.
///
/// Take a [`Vhost`] of it, and leave the node itself alone. A test that kills or pauses a node,
/// raises its memory alarm or closes all its connections starts its own with [`Broker::start`].
pub async fn shared() -> &'static Broker {
    SHARED.get_or_init(Broker::start).await
}

/// A private RabbitMQ node on loopback, with its own ports and directory.
///
/// Clones are the same node. The node ends, and its directory goes, when the last clone is
/// dropped or the test process ends in any way. A freshly started node has the user
/// `guest` (password `guest`) and the vhost `/`.
///
/// All methods panic when the node does not obey, with the end of its logs if that helps; all waits
/// have deadlines.
#[derive(Debug, Clone)]
pub struct Broker {
    node: Arc<Node>,
}

/// The settings of a node beyond the defaults.
#[derive(Debug, Clone)]
pub struct BrokerBuilder {
    plan: Plan,
}

impl BrokerBuilder {
    /// Adds a TLS listener with a fresh authority; see [`Broker::tls_port`] and
    /// [`Broker::ca_pem`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.plan.tls = true;
        self
    }

    /// Adds a line to rabbitmq.conf, such as `heartbeat = 2`.
    #[must_use]
    pub fn config_line(mut self, line: &str) -> Self {
        self.plan.lines.push(line.to_owned());
        self
    }

    /// Enables plugins. List the applications that they need as well; those that the installed
    /// generation of RabbitMQ does not have are left out.
    #[must_use]
    pub fn plugins(mut self, plugins: &[&str]) -> Self {
        self.plan.plugins.extend(plugins.iter().map(ToString::to_string));
        self
    }

    /// The largest frame that the node negotiates: 8192 bytes or more, because lapin never agrees
    /// to less.
    #[must_use]
    pub fn low_frame_max(self, bytes: u32) -> Self {
        self.config_line(&format!("frame_max = {bytes}"))
    }

    /// Lets the node use several CPUs, for throughput; the default of 1 starts fastest.
    #[must_use]
    pub fn schedulers(mut self, count: u16) -> Self {
        self.plan.schedulers = count;
        self
    }

    /// Lets the node join others; see [`Cluster`](super::Cluster).
    #[must_use]
    pub(super) fn membership(mut self, membership: Membership) -> Self {
        self.plan.membership = Some(membership);
        self
    }

    /// Starts the node.
    pub async fn start(self) -> Broker {
        let plan = self.plan;
        let node = blocking(move || Node::lay_out(&plan)).await;
        let broker = Broker { node: Arc::new(node) };
        broker.node.start().await;
        broker
    }
}

impl Broker {
    /// Starts a node with the defaults; this takes a second or two.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Describes a node with more than the defaults.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder {
            plan: Plan {
                lines: Vec::new(),
                plugins: Vec::new(),
                tls: false,
                schedulers: 1,
                membership: None,
            },
        }
    }

    /// The AMQP port on 127.0.0.1. The node keeps it while it is down.
    pub fn amqp_port(&self) -> u16 {
        self.node.port.number()
    }

    /// The AMQPS port on 127.0.0.1.
    ///
    /// # Panics
    /// When the node was built without [`BrokerBuilder::tls`].
    pub fn tls_port(&self) -> u16 {
        self.tls_listener().port.number()
    }

    /// The PEM file of the authority that signed the AMQPS port's certificate.
    ///
    /// # Panics
    /// When the node was built without [`BrokerBuilder::tls`].
    pub fn ca_pem(&self) -> &Path {
        &self.tls_listener().certificates.ca
    }

    /// Replaces the authority, its PEM file and the AMQPS port's certificate. A node that runs may
    /// use the old certificate until its next start.
    ///
    /// # Panics
    /// When the node was built without [`BrokerBuilder::tls`].
    pub fn renew_certificates(&self) {
        let files = self.ca_pem().parent().expect("a file has a directory");
        Certificates::make_in(files);
    }

    /// The process id of the node's Erlang VM, unless it is down.
    pub fn pid(&self) -> Option<u32> {
        self.node.watchdog.pid()
    }

    /// The first number of RabbitMQ's version.
    pub async fn generation(&self) -> u32 {
        let version = self.run("rabbit_misc:version().").await;
        let number = version.trim_matches('"').split('.').next().unwrap_or_default();
        number.parse().unwrap_or_else(|e| panic!("{version:?}: {e}"))
    }

    /// The directory of the node's files, which is removed with the node.
    pub fn directory(&self) -> PathBuf {
        self.node.directory().to_path_buf()
    }

    /// An `amqp://` URI on 127.0.0.1 with any port, such as a fault proxy's.
    pub fn uri_for(&self, vhost: &str, user: &str, password: &str, port: u16) -> String {
        let [vhost, user, password] = [vhost, user, password].map(percent_encode);
        format!("amqp://{user}:{password}@127.0.0.1:{port}/{vhost}")
    }

    /// An `amqps://` URI of the TLS listener for guest, with the host name `localhost`.
    ///
    /// # Panics
    /// When the node was built without [`BrokerBuilder::tls`].
    pub fn tls_uri(&self, vhost: &str) -> String {
        let vhost = percent_encode(vhost);
        format!("amqps://guest:guest@localhost:{}/{vhost}", self.tls_port())
    }

    /// Creates a fresh vhost in which guest may do everything. Removes an older vhost of that name
    /// with its queues and connections; on a shared node each test uses its own name.
    pub async fn vhost(&self, name: &str) -> Vhost {
        let vhost = binary(name);
        self.run_ok(&format!(
            "V = {vhost}, Who = <<\"harness\">>,
             case rabbit_vhost:exists(V) of
               true -> rabbit_vhost:delete(V, Who);
               false -> ok
             end,
             ok = rabbit_vhost:add(V, Who),
             All = <<\".*\">>,
             rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, V, All, All, All, Who)."
        ))
        .await;
        Vhost::new(self.clone(), name)
    }

    /// Adds a user without permissions; see [`Vhost::set_permissions`].
    pub async fn add_user(&self, name: &str, password: &str) {
        self.user_call("add_user", name, password).await;
    }

    /// Gives a user another password. Connections that are open stay open.
    pub async fn change_password(&self, name: &str, password: &str) {
        self.user_call("change_password", name, password).await;
    }

    /// Removes a user, which closes the user's connections.
    pub async fn delete_user(&self, name: &str) {
        let name = binary(name);
        self.run_ok(&format!("rabbit_auth_backend_internal:delete_user({name}, <<\"harness\">>).")).await;
    }

    async fn user_call(&self, function: &str, name: &str, password: &str) {
        let [name, password] = [name, password].map(binary);
        self.run_ok(&format!(
            "rabbit_auth_backend_internal:{function}({name}, {password}, <<\"harness\">>)."
        ))
        .await;
    }

    /// Raises or clears the memory alarm; returns when it is in force. While it is raised, the node
    /// sends `connection.blocked` to every connection that publishes and stops reading from it.
    pub async fn set_memory_alarm(&self, raised: bool) {
        let watermark = if raised { "0" } else { "{absolute, \"2GB\"}" };
        self.run(&format!("vm_memory_monitor:set_vm_memory_high_watermark({watermark}).")).await;
        eventually("the memory alarm is as it was set", PATIENCE, async || {
            let alarms = self.run("rabbit_alarm:get_local_alarms().").await;
            alarms.contains("memory") == raised
        })
        .await;
    }

    /// Closes every client connection with `connection.close` 320 and this reason, and waits until
    /// all are gone; returns how many there were.
    pub async fn close_all_connections(&self, reason: &str) -> usize {
        self.close_connections("rabbit_networking:connections()", reason).await
    }

    /// Closes the connections that an Erlang expression lists.
    pub(super) async fn close_connections(&self, listed: &str, reason: &str) -> usize {
        let reason = binary(reason);
        let count = self
            .run(&format!(
                "Pids = {listed},
                 Watched = [erlang:monitor(process, Pid) || Pid <- Pids],
                 [rabbit_networking:close_connection(Pid, {reason}) || Pid <- Pids],
                 [receive {{'DOWN', Ref, _, _, _}} -> ok after 15000 -> exit(still_open) end
                  || Ref <- Watched],
                 length(Pids)."
            ))
            .await;
        count.parse().unwrap_or_else(|e| panic!("{count:?}: {e}"))
    }

    /// How many client connections the node has.
    pub async fn connections(&self) -> usize {
        let count = self.run("length(rabbit_networking:connections()).").await;
        count.parse().unwrap_or_else(|e| panic!("{count:?}: {e}"))
    }

    /// Kills the node with SIGKILL, as a power cut would; returns when the process is gone. Its
    /// clients see their sockets closed by the kernel.
    pub async fn kill_9(&self) {
        let node = Arc::clone(&self.node);
        blocking(move || node.watchdog.kill()).await;
    }

    /// Starts the node again with the same ports and data, after stopping it if it runs; returns
    /// when it serves AMQP. After [`kill_9`](Self::kill_9) this is a crash recovery.
    pub async fn restart(&self) -> Started {
        self.stop().await;
        self.node.start().await
    }

    /// Freezes the node with SIGSTOP: its sockets stay open, nothing is answered, and the kernel
    /// still accepts TCP connections for it.
    pub async fn pause(&self) {
        self.signal("STOP").await;
        eventually("the node is frozen", PATIENCE, async || self.node.watchdog.is_stopped()).await;
    }

    /// Thaws a node frozen by [`pause`](Self::pause).
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &'static str) {
        let node = Arc::clone(&self.node);
        blocking(move || node.watchdog.signal(name)).await;
    }

    /// Shuts the node down normally (clients get `connection.close` 320); returns when the process
    /// is gone. [`restart`](Self::restart) brings it back. Kills a node that is frozen or does not
    /// shut down in time.
    pub async fn stop(&self) {
        let watchdog = &self.node.watchdog;
        if watchdog.is_alive() && !watchdog.is_stopped() {
            let order = "spawn(fun() -> rabbit:stop_and_halt() end).";
            let told = self.node.control.try_run(order, Duration::from_secs(5));
            let told = told.await;
            let end = Instant::now() + PATIENCE;
            while told.is_ok() && watchdog.is_alive() && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.kill_9().await;
    }

    /// Evaluates an Erlang expression (with its final dot) inside the node and returns its value as
    /// text, for tasks without a method of their own.
    pub async fn run(&self, expression: &str) -> String {
        self.node.control.run(expression).await
    }

    /// Evaluates an Erlang expression that must return `ok`.
    pub async fn run_ok(&self, expression: &str) {
        self.node.control.run_ok(expression).await;
    }

    fn tls_listener(&self) -> &super::node::TlsListener {
        let Some(tls) = &self.node.tls else {
            panic!("this broker was built without tls()");
        };
        tls
    }
}

/// Runs a short blocking function outside the runtime's own threads, so that the test's tasks
/// continue.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| panic!("{e}"))
}

/// Encodes a part of a URI; everything but letters, digits and `-._~` is encoded.
fn percent_encode(part: &str) -> String {
    let mut encoded = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16);
                encoded.push(digit.unwrap_or_default().to_ascii_uppercase());
            }
        }
    }
    encoded
}
