//! The scene of a run: a broker, a network, a sidecar that may be replaced, and the queues.

use super::arrivals::QUEUES;
use super::messages::{
    BODY_MAX, DOOMED, FLAPPING, FLAPPING_QUEUE, FULL, FULL_QUEUES, QUEUE, SPOOL_KEYS, SPOOL_QUEUE, TIGHT,
    TIGHT_PLACES, TOPIC, TOPIC_QUEUE,
};
use super::noise;
use crate::harness::{AmqpClient, Broker, FaultProxy, Sidecar, Vhost, arguments, eventually, text};
use lapin::ExchangeKind;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// `spool.drain_rate` of the sidecar: messages a second.
pub(crate) const DRAIN_RATE: u32 = 300;

/// The deadline for a link to come back.
const BACK: Duration = Duration::from_secs(20);

/// The deadline for the spool to empty: a full queue is tried again once a second for each message
/// that waits.
const DRAINED: Duration = Duration::from_secs(90);

/// The addresses of the current sidecar.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// For requests.
    pub(crate) http: String,
    /// For operators.
    pub(crate) admin: String,
    /// Its process id.
    pub(crate) pid: u32,
}

/// All of it.
pub(crate) struct Scene {
    /// The node.
    pub(crate) broker: Broker,
    /// Its part for this run.
    pub(crate) vhost: Vhost,
    /// Between the sidecar and the node.
    pub(crate) proxy: FaultProxy,
    /// Where requests go.
    pub(crate) door: Arc<RwLock<Door>>,
    limit: usize,
    /// The spool, which outlives every sidecar.
    spool: tempfile::TempDir,
    sidecar: tokio::sync::Mutex<Option<Sidecar>>,
    /// The logs of earlier sidecars.
    logs: std::sync::Mutex<String>,
}

impl Scene {
    /// Starts everything and waits until the link is up.
    pub(crate) async fn set(limit: usize) -> Self {
        let broker = Broker::start().await;
        let vhost = broker.vhost("chaos").await;
        declare(&AmqpClient::connect(&vhost.uri()).await).await;
        let proxy = FaultProxy::to_port(broker.amqp_port());
        let spool = tempfile::tempdir().expect("a directory");
        let sidecar = start_sidecar(&vhost.uri_via(proxy.port()), limit, spool.path()).await;
        let sidecar = sidecar.with_link_up().await;
        let door = Arc::new(RwLock::new(door_of(&sidecar)));
        let (sidecar, logs) = (tokio::sync::Mutex::new(Some(sidecar)), std::sync::Mutex::default());
        Self { broker, vhost, proxy, door, limit, spool, sidecar, logs }
    }

    /// Where to send the next request.
    pub(crate) fn host(&self) -> String {
        self.door.read().unwrap_or_else(PoisonError::into_inner).http.clone()
    }

    /// Ends the sidecar with a signal, and starts another one after `pause`.
    pub(crate) async fn replace_sidecar(&self, signal: &str, pause: Duration) {
        let mut slot = self.sidecar.lock().await;
        if let Some(mut sidecar) = slot.take() {
            sidecar.signal(signal);
            let status = sidecar.exited(BACK).await;
            assert!(signal != "TERM" || status.success(), "SIGTERM ends in {status:?}");
            self.keep_log(&sidecar);
        }
        crate::pace::rest(pause).await;
        let uri = self.vhost.uri_via(self.proxy.port());
        let sidecar = start_sidecar(&uri, self.limit, self.spool.path()).await;
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = door_of(&sidecar);
        *slot = Some(sidecar);
    }

    /// Waits until the sidecar's link is up.
    pub(crate) async fn link_is_up(&self) -> Instant {
        if let Some(sidecar) = &*self.sidecar.lock().await {
            sidecar.link_is("up", BACK).await;
        }
        Instant::now()
    }

    /// Waits until nothing is in flight and the consumers have taken all messages.
    pub(crate) async fn is_quiet(&self) {
        if let Some(sidecar) = &*self.sidecar.lock().await {
            eventually("the spool is empty and nothing is in flight any more", DRAINED, async || {
                let left = [
                    sidecar.metric("amqpost_in_flight").await,
                    sidecar.metric("amqpost_spool_messages").await,
                ];
                if left == [0.0, 0.0] { Ok(()) } else { Err(left) }
            })
            .await;
        }
        let names = QUEUES.map(|name| format!("<<\"{name}\">>")).join(",");
        let left = format!(
            "lists:sum([M || [{{name, {{resource, _, queue, N}}}}, {{messages, M}}] <-
               rabbit_amqqueue:info_all(<<\"chaos\">>, [name, messages]), lists:member(N, [{names}])])."
        );
        eventually("the queues are empty", BACK, async || {
            let left = self.broker.run(&left).await;
            if left == "0" { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// The logs of all sidecars of the run.
    pub(crate) async fn log(&self) -> String {
        if let Some(sidecar) = &*self.sidecar.lock().await {
            self.keep_log(sidecar);
        }
        std::mem::take(&mut *self.logs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep_log(&self, sidecar: &Sidecar) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.push_str("--- a sidecar ---\n");
        logs.push_str(&sidecar.log());
    }
}

fn door_of(sidecar: &Sidecar) -> Door {
    Door { http: sidecar.http().to_owned(), admin: sidecar.admin_address().to_owned(), pid: sidecar.pid() }
}

async fn start_sidecar(uri: &str, limit: usize, spool: &Path) -> Sidecar {
    let sidecar = Sidecar::builder(uri)
        .set("spool.path", &format!("{:?}", spool.display().to_string()))
        .set("spool.drain_rate", &DRAIN_RATE.to_string())
        // A full queue is tried again within a second, and given up only after more nacks than it
        // has time for.
        .set("spool.park_after", "\"4s\"")
        .set("spool.nacks_max", "1000")
        // The judge knows one order for each key, that of the requests.
        .set("route", &format!("[{{ exchange = {TOPIC:?}, order = \"strict\" }}]"))
        .set("publish.max_in_flight", &limit.to_string())
        .set("publish.max_body", &format!("\"{}KiB\"", BODY_MAX / 1024))
        // The window is so small that messages have to wait for the socket. While they wait, they
        // can still be withdrawn.
        .set("broker.write_window", "\"64KiB\"")
        .set("shutdown.request_budget", "\"2s\"")
        .set("shutdown.broker_budget", "\"1s\"");
    sidecar.start().await
}

async fn declare(client: &AmqpClient) {
    for queue in [QUEUE, TOPIC_QUEUE, SPOOL_QUEUE, FLAPPING_QUEUE, DOOMED, noise::QUEUE] {
        client.declare_queue(queue, true, arguments([])).await;
    }
    client.declare_exchange(TOPIC, ExchangeKind::Topic).await;
    client.bind(TOPIC_QUEUE, TOPIC, "good.*").await;
    let limited = arguments([("x-max-length", TIGHT_PLACES.into()), ("x-overflow", text("reject-publish"))]);
    client.declare_queue(TIGHT, true, limited).await;
    for key in 0..SPOOL_KEYS {
        let queue = if key + 1 == SPOOL_KEYS { TIGHT } else { SPOOL_QUEUE };
        client.bind(queue, TOPIC, &format!("spool.{key}")).await;
    }
    client.bind(SPOOL_QUEUE, TOPIC, "fallback.*").await;
    declare_flapping(client).await;
    for number in 0..FULL_QUEUES {
        let full = arguments([("x-max-length", 1.into()), ("x-overflow", text("reject-publish"))]);
        let queue = format!("{FULL}.{number}");
        client.declare_queue(&queue, true, full).await;
        client.put(&queue, b"the only place").await;
    }
}

/// The exchange that comes and goes, with its binding.
pub(crate) async fn declare_flapping(client: &AmqpClient) {
    client.declare_exchange(FLAPPING, ExchangeKind::Topic).await;
    client.bind(FLAPPING_QUEUE, FLAPPING, "#").await;
}
