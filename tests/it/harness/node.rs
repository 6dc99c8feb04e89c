//! Prepares and starts one private RabbitMQ node. It needs no epmd, and it uses Erlang's
//! distribution only inside a cluster.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certificates::Certificates;
use super::control::{Control, SERVER, SOCKET_VARIABLE};
use super::ports::ReservedPort;
use super::watchdog::Watchdog;

const START_DEADLINE: Duration = Duration::from_secs(180);

/// The longest path of a Unix socket, in bytes.
const LONGEST_SOCKET_PATH: usize = 108;

/// The environment variable for another root than `/usr` of Erlang and RabbitMQ, such as the one
/// that `scripts/lib/install-rabbitmq-4` prints.
const INSTALLATION_VARIABLE: &str = "AMQPOST_TEST_RABBITMQ";

/// The applications that a node without plugins needs. Erlang searches every directory of its code
/// path for every module, so each omitted one makes the start faster.
const APPLICATIONS: [&str; 26] = [
    "amqp10_common",
    "aten",
    "credentials_obfuscation",
    "cuttlefish",
    "enough",
    "gen_batch_server",
    "getopt",
    "horus",
    "jsx",
    "khepri",
    "khepri_mnesia_migration",
    "observer_cli",
    "osiris",
    "ra",
    "rabbit",
    "rabbit_common",
    "rabbitmq_prelaunch",
    "ranch",
    "recon",
    "redbug",
    "seshat",
    "stdout_formatter",
    "sysmon_handler",
    "syslog",
    "systemd",
    "thoas",
];

/// When a node's start reached its two milestones.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// When the start was requested.
    pub ordered: Instant,
    /// When the AMQP port first accepted a TCP connection.
    pub port_open: Instant,
    /// When the node had answered an AMQP protocol header and said that it is running.
    pub ready: Instant,
}

/// The settings of a node, apart from its defaults.
#[derive(Debug, Clone)]
pub struct Plan {
    /// More lines of rabbitmq.conf.
    pub lines: Vec<String>,
    /// The enabled plugins, with all plugins that these need.
    pub plugins: Vec<String>,
    /// Whether there is a TLS listener.
    pub tls: bool,
    /// How many Erlang schedulers the node runs.
    pub schedulers: u16,
    /// How it joins other nodes, if it belongs to a cluster.
    pub membership: Option<Membership>,
}

/// How the nodes of a cluster connect without epmd: all listen on one port, each on its own
/// loopback address.
#[derive(Debug, Clone)]
pub struct Membership {
    /// This node's address.
    pub address: Ipv4Addr,
    /// The port of all of them.
    pub port: u16,
    /// Their shared secret.
    pub cookie: String,
}

impl Membership {
    /// The name by which the others know the node.
    pub fn node_name(&self) -> String {
        format!("broker@{}", self.address)
    }
}

/// A node's TLS listener.
#[derive(Debug)]
pub struct TlsListener {
    /// Its port.
    pub port: ReservedPort,
    /// Its certificates.
    pub certificates: Certificates,
}

/// A node: its directory, its ports, its process.
#[derive(Debug)]
pub struct Node {
    /// The AMQP port without TLS.
    pub port: ReservedPort,
    /// The listener with TLS, when the plan has one.
    pub tls: Option<TlsListener>,
    /// Runs Erlang inside the node.
    pub control: Control,
    /// Owns the process.
    pub watchdog: Watchdog,
    directory: PathBuf,
}

impl Node {
    /// Writes the node's files; does not start it.
    ///
    /// # Panics
    /// When RabbitMQ is not installed or the files cannot be written.
    pub fn lay_out(plan: &Plan) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("amqpost-broker-")
            .tempdir()
            .unwrap_or_else(|e| panic!("making the broker's directory: {e}"));
        let path = directory.path().to_path_buf();
        let port = ReservedPort::take();
        let tls = plan
            .tls
            .then(|| TlsListener { port: ReservedPort::take(), certificates: Certificates::make_in(&path) });
        let installed = write_files(&path, &configuration(plan, &port, tls.as_ref()), &plan.plugins)
            .unwrap_or_else(|e| panic!("laying out a RabbitMQ node: {e}"));
        let control = Control::new(path.join("control"));
        assert!(
            control.socket().as_os_str().len() < LONGEST_SOCKET_PATH,
            "TMPDIR is too long for a Unix socket in it"
        );
        let mut environment = environment(&path, &installed, control.socket());
        if let Some(membership) = &plan.membership {
            environment.push(("RABBITMQ_NODENAME", PathBuf::from(membership.node_name())));
            environment.push(("RABBITMQ_USE_LONGNAME", PathBuf::from("true")));
        }
        let watchdog = Watchdog::over(&path, &command(&path, plan), &environment);
        Self { port, tls, control, watchdog, directory: directory.keep() }
    }

    /// Starts the process and waits until it serves AMQP.
    ///
    /// # Panics
    /// When it ends or three minutes pass before that, with the end of its logs.
    pub async fn start(&self) -> Started {
        let ordered = Instant::now();
        self.watchdog.start();
        let end = ordered + START_DEADLINE;
        let port_open = self.poll(end, async || self.connect().await.is_some()).await;
        self.poll(end, async || self.is_running().await).await;
        let ready = self.poll(end, async || self.greets().await).await;
        Started { ordered, port_open, ready }
    }

    /// The directory of the node's files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The end of the node's output and logs, for the message of a failure.
    pub fn last_words(&self) -> String {
        let [output, log] = ["output", "log/broker.log"].map(|name| {
            let text = fs::read(self.directory.join(name)).unwrap_or_default();
            let tail = text.len().saturating_sub(3000);
            String::from_utf8_lossy(text.get(tail..).unwrap_or_default()).into_owned()
        });
        format!("--- output\n{output}\n--- log\n{log}")
    }

    async fn poll(&self, end: Instant, look: impl AsyncFn() -> bool) -> Instant {
        loop {
            if look().await {
                return Instant::now();
            }
            assert!(
                self.watchdog.is_alive() && Instant::now() < end,
                "the broker did not start:\n{}",
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn connect(&self) -> Option<TcpStream> {
        let address = (Ipv4Addr::LOCALHOST, self.port.number());
        TcpStream::connect(address).await.ok()
    }

    /// Whether RabbitMQ runs and its start is over. RabbitMQ 3 that is stopped before that ignores
    /// the next start; RabbitMQ 4 ends.
    async fn is_running(&self) -> bool {
        let look = "element(1, init:get_status()) =:= started andalso rabbit:is_running().";
        let asked = self.control.try_run(look, Duration::from_secs(5));
        asked.await.is_ok_and(|value| value == "true")
    }

    /// Whether an AMQP protocol header is answered with the method frame `connection.start`.
    async fn greets(&self) -> bool {
        let Some(mut stream) = self.connect().await else {
            return false;
        };
        let mut frame = [0; 11];
        let greeting = async {
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            stream.read_exact(&mut frame).await
        };
        let greeted = tokio::time::timeout(Duration::from_secs(5), greeting).await;
        matches!(greeted, Ok(Ok(_))) && frame[0] == 1 && frame[7..] == [0, 10, 0, 10]
    }
}

fn write_files(directory: &Path, configuration: &str, plugins: &[String]) -> std::io::Result<PathBuf> {
    for name in ["home", "mnesia", "log", "applications", "conf.d"] {
        fs::create_dir(directory.join(name))?;
    }
    fs::write(directory.join("rabbitmq.conf"), configuration)?;
    fs::write(directory.join("advanced.config"), "[].\n")?;
    // Without this, Erlang asks the system's resolver for the name of 127.0.0.1, which may wait for
    // a name server.
    fs::write(directory.join("inetrc"), "{lookup, [file]}.\n{host, {127,0,0,1}, [\"localhost\"]}.\n")?;
    let installed = newest_server()?;
    let mut enabled = Vec::new();
    for entry in fs::read_dir(installed.join("plugins"))? {
        let entry = entry?;
        let name = entry.file_name();
        let application = name.to_str().and_then(|name| name.rsplit_once('-'));
        let Some((application, _)) = application else { continue };
        let is_plugin = plugins.iter().any(|plugin| plugin == application);
        if is_plugin {
            enabled.push(application.to_owned());
        }
        if is_plugin || APPLICATIONS.contains(&application) {
            symlink(entry.path(), directory.join("applications").join(&name))?;
        }
    }
    // A plugin that this generation does not have is left out.
    fs::write(directory.join("enabled_plugins"), format!("[{}].\n", enabled.join(",")))?;
    Ok(installed)
}

/// Where Erlang and RabbitMQ are installed.
fn installation() -> PathBuf {
    std::env::var_os(INSTALLATION_VARIABLE).map_or_else(|| PathBuf::from("/usr"), PathBuf::from)
}

/// The newest version of the server, where Debian puts it.
fn newest_server() -> std::io::Result<PathBuf> {
    let mut servers = Vec::new();
    for entry in fs::read_dir(installation().join("lib/rabbitmq/lib"))? {
        servers.push(entry?.path());
    }
    servers.sort();
    servers.pop().ok_or_else(|| std::io::Error::other("no rabbitmq-server is installed"))
}

fn configuration(plan: &Plan, port: &ReservedPort, tls: Option<&TlsListener>) -> String {
    let mut lines = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", port.number()),
        "log.file = broker.log".into(),
        "log.file.level = info".into(),
        "log.console = false".into(),
        // A machine with little free disk must not raise the alarm that tests raise on purpose.
        "disk_free_limit.absolute = 1MB".into(),
        "vm_memory_high_watermark.absolute = 2GB".into(),
    ];
    if let Some(tls) = tls {
        let Certificates { ca, server, server_key } = &tls.certificates;
        lines.push(format!("listeners.ssl.1 = 127.0.0.1:{}", tls.port.number()));
        lines.push(format!("ssl_options.cacertfile = {}", ca.display()));
        lines.push(format!("ssl_options.certfile = {}", server.display()));
        lines.push(format!("ssl_options.keyfile = {}", server_key.display()));
        lines.push("ssl_options.verify = verify_none".into());
    }
    lines.extend(plan.lines.iter().cloned());
    lines.push(String::new());
    lines.join("\n")
}

fn environment(directory: &Path, installed: &Path, control: &Path) -> Vec<(&'static str, PathBuf)> {
    let own = |name: &str| directory.join(name);
    vec![
        ("HOME", own("home")),
        ("ERL_LIBS", own("applications")),
        ("ERL_CRASH_DUMP", PathBuf::from("/dev/null")),
        ("ERL_CRASH_DUMP_SECONDS", PathBuf::from("0")),
        ("RABBITMQ_HOME", installed.to_path_buf()),
        ("RABBITMQ_PLUGINS_DIR", own("applications")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", own("enabled_plugins")),
        ("RABBITMQ_CONFIG_FILE", own("rabbitmq.conf")),
        // Each of these would otherwise be read from the system's /etc/rabbitmq.
        ("RABBITMQ_CONFIG_FILES", own("conf.d/*.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", own("advanced.config")),
        ("RABBITMQ_CONF_ENV_FILE", own("no-such-file")),
        ("RABBITMQ_MNESIA_BASE", own("mnesia")),
        ("RABBITMQ_LOG_BASE", own("log")),
        ("RABBITMQ_NODENAME", PathBuf::from(NODE_NAME)),
        (SOCKET_VARIABLE, control.to_path_buf()),
    ]
}

/// Every node outside a cluster has the same name: none listens for others, so they cannot meet.
const NODE_NAME: &str = "broker@localhost";

fn command(directory: &Path, plan: &Plan) -> Vec<OsString> {
    let inetrc = format!("\"{}\"", directory.join("inetrc").display());
    let schedulers = format!("{0}:{0}", plan.schedulers);
    let erl = installation().join("lib/erlang/bin/erl");
    let erl = erl.to_str().expect("the installation has a path of UTF-8");
    let arguments = [
        // Needless schedulers wait for each other at the start for a second or more, and so do
        // schedulers that sleep at once instead of spinning for a moment.
        &[erl, "+S", &schedulers, "+SDio", "1", "+A", "1"][..],
        &["+W", "w", "+B", "i", "+sbwt", "short"],
        &["+sbwtdcpu", "none", "+sbwtdio", "short"],
        &["-noinput", "-boot", "start_sasl"],
        &["-kernel", "inetrc", &inetrc],
        &["-kernel", "prevent_overlapping_partitions", "false"],
        &["-syslog", "logger", "[]"],
        &["-syslog", "syslog_error_logger", "false"],
    ];
    let mut arguments: Vec<_> = arguments.concat().iter().map(OsString::from).collect();
    arguments.extend(distribution(plan.membership.as_ref()).iter().map(OsString::from));
    arguments.extend(["-eval", SERVER, "-s", "rabbit", "boot"].map(OsString::from));
    arguments
}

/// Whether and how others find the node. RabbitMQ asks epmd for its own port for five seconds
/// unless the port is given here. A node with a given port expects all other nodes at that port.
fn distribution(membership: Option<&Membership>) -> Vec<String> {
    let arguments = match membership {
        None => format!(
            "-sname {NODE_NAME} -setcookie private -dist_listen false -start_epmd false -erl_epmd_port 1"
        ),
        Some(membership) => format!(
            "-name {} -setcookie {} -start_epmd false -erl_epmd_port {} -kernel inet_dist_use_interface \
            {{{}}}",
            membership.node_name(),
            membership.cookie,
            membership.port,
            membership.address.octets().map(|octet| octet.to_string()).join(","),
        ),
    };
    arguments.split(' ').map(str::to_owned).collect()
}
