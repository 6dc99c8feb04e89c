//! The mix of requests: good ones, bad ones, impatient ones, and clients that leave.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use std::time::Duration;

/// The durable queue behind the default exchange.
pub(crate) const QUEUE: &str = "good";
/// The topic exchange; `good.*` goes to [`TOPIC_QUEUE`], anything else nowhere.
pub(crate) const TOPIC: &str = "chaos";
/// The durable queue behind the topic exchange.
pub(crate) const TOPIC_QUEUE: &str = "topic";
/// The exchange that is deleted and declared again.
pub(crate) const FLAPPING: &str = "flapping";
/// The durable queue behind it, which stays.
pub(crate) const FLAPPING_QUEUE: &str = "behind_flapping";
/// The durable queue for requests through the spool, with the keys `spool.0` and so on of the topic
/// exchange.
pub(crate) const SPOOL_QUEUE: &str = "by_spool";
/// The number of such keys; each has its own order.
pub(crate) const SPOOL_KEYS: u32 = 4;
/// The queue of the last key: it has few places and a slow consumer, and nacks messages that arrive
/// too fast.
pub(crate) const TIGHT: &str = "tight";
/// Its places.
pub(crate) const TIGHT_PLACES: u32 = 3;
/// Keys of requests in mode `fallback`. They differ from the keys above, because such a request
/// would wait behind those.
const FALLBACK_KEYS: u32 = 8;
/// The queue that is deleted and declared again.
pub(crate) const DOOMED: &str = "doomed";
/// Queues with one place, which is taken; `full.0` and so on.
pub(crate) const FULL: &str = "full";
/// How many of them.
pub(crate) const FULL_QUEUES: u32 = 3;
/// `publish.max_body` of the sidecar.
pub(crate) const BODY_MAX: usize = 64 * 1024;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// To the durable queue.
    Queue,
    /// To the topic exchange, routable.
    Topic,
    /// To either, in an envelope.
    Envelope,
    /// To disk first, and from there to the broker in order.
    Spooled,
    /// To the broker, and else to disk.
    Fallback,
    /// To the exchange that is deleted at times.
    Flapping,
    /// To the queue that is deleted at times.
    Doomed,
    /// Mandatory, and no queue takes it.
    Unroutable,
    /// Not mandatory, and no queue takes it.
    Nowhere,
    /// To an exchange that does not exist.
    Missing,
    /// To a queue that refuses it.
    Full,
    /// Larger than the sidecar accepts.
    Oversized,
    /// Not valid.
    Bad,
    /// Valid, by a client that leaves before the answer or in the middle of its request.
    Leaver,
}

/// How many in a hundred.
const MIX: &[(u32, Kind)] = &[
    (18, Kind::Queue),
    (14, Kind::Topic),
    (5, Kind::Spooled),
    (5, Kind::Fallback),
    (8, Kind::Envelope),
    (8, Kind::Flapping),
    (6, Kind::Doomed),
    (10, Kind::Unroutable),
    (4, Kind::Nowhere),
    (5, Kind::Missing),
    (5, Kind::Full),
    (2, Kind::Oversized),
    (3, Kind::Bad),
    (7, Kind::Leaver),
];

/// Deadlines in milliseconds, how many in a hundred.
const DEADLINES: &[(u32, u64)] = &[(8, 50), (10, 150), (12, 400), (25, 1000), (25, 2000), (20, 5000)];

/// Retry policies; the empty one is the default, which is safe.
const POLICIES: &[(u32, &str)] = &[(20, "off"), (20, "safe"), (30, ""), (30, "at_least_once")];

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Its number, with which its message id ends.
    pub(crate) number: u32,
    /// What is asked.
    pub(crate) kind: Kind,
    /// Its deadline.
    pub(crate) timeout: Duration,
    /// Its retry policy as written; empty: none given.
    pub(crate) policy: &'static str,
    /// Bytes of payload.
    pub(crate) size: usize,
    /// Chooses among keys, exchanges and faults of its kind.
    pub(crate) variant: u32,
    /// Over HTTP/2.
    pub http2: bool,
    /// How long after its request a leaving client disconnects.
    pub(crate) patience: Duration,
}

impl Message {
    /// The next request of a run.
    pub(crate) fn draw(number: u32, random: &mut fastrand::Rng) -> Self {
        let kind = weighted(MIX, random);
        let size = match random.u8(..100) {
            _ if kind == Kind::Oversized => BODY_MAX + 1000,
            0..70 => random.usize(32..200),
            70..95 => random.usize(1024..8 * 1024),
            95.. => random.usize(16 * 1024..60 * 1024),
        };
        Self {
            number,
            kind,
            timeout: Duration::from_millis(weighted(DEADLINES, random)),
            policy: weighted(POLICIES, random),
            size,
            variant: random.u32(..),
            http2: random.u8(..100) < 10,
            patience: Duration::from_millis(random.u64(0..60)),
        }
    }

    /// Whether it may be published twice: by its policy, or through the spool.
    pub(crate) fn may_repeat(&self) -> bool {
        self.policy == "at_least_once" || self.mode().is_some()
    }

    /// The requested mode, if any.
    pub(crate) fn mode(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Spooled => Some("spool"),
            Kind::Fallback => Some("fallback"),
            _ => None,
        }
    }

    /// The routing key of its destination, where the order of messages is judged.
    pub(crate) fn ordered_key(&self) -> Option<String> {
        match self.kind {
            Kind::Spooled => Some(format!("spool.{}", self.variant % SPOOL_KEYS)),
            Kind::Fallback => Some(format!("fallback.{}", self.variant % FALLBACK_KEYS)),
            Kind::Topic => Some(format!("good.{}", self.variant % 8)),
            Kind::Envelope if !self.variant.is_multiple_of(2) => Some(format!("good.{}", self.variant % 8)),
            Kind::Queue | Kind::Envelope | Kind::Leaver => Some(QUEUE.to_owned()),
            _ => None,
        }
    }

    /// A leaver that stops in the middle of its body.
    pub(crate) fn stops_half_way(&self) -> bool {
        self.kind == Kind::Leaver && self.variant.is_multiple_of(4)
    }

    /// Whether it is confirmed whenever broker, network and sidecar work.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self.kind, Kind::Queue | Kind::Topic | Kind::Envelope)
    }

    /// Its request.
    pub(crate) fn request(&self, seed: u64, host: &str) -> Request<Full<Bytes>> {
        let id = id(seed, self.number);
        let timeout = format!("{}ms", self.timeout.as_millis());
        if self.kind == Kind::Envelope {
            return self.envelope(&id, &timeout, host);
        }
        let mut request =
            Request::post(format!("http://{host}{}", self.path())).header("amqp-message-id", &id);
        request = match self.kind {
            Kind::Bad if self.variant.is_multiple_of(2) => request.header("amqpost-timeout", "soon"),
            Kind::Bad => request.header("amqp-priority", "300").header("amqpost-timeout", timeout),
            _ => request.header("amqpost-timeout", timeout),
        };
        if !self.policy.is_empty() {
            request = request.header("amqpost-retry", self.policy);
        }
        if let Some(mode) = self.mode() {
            request = request.header("amqpost-mode", mode);
        }
        if self.kind == Kind::Nowhere {
            request = request.header("amqpost-mandatory", "false");
        }
        request.body(Full::new(self.payload(&id).into())).expect("a valid request")
    }

    fn path(&self) -> String {
        let v = self.variant;
        let to_exchange =
            |exchange: &str, key: String| format!("/v1/exchanges/{exchange}/messages?routing_key={key}");
        match self.kind {
            Kind::Topic => to_exchange(TOPIC, format!("good.{}", v % 8)),
            Kind::Spooled | Kind::Fallback => to_exchange(TOPIC, self.ordered_key().unwrap_or_default()),
            Kind::Flapping => to_exchange(FLAPPING, format!("key.{}", v % 3)),
            Kind::Missing => to_exchange(&format!("missing.{}", v % 6), "any".into()),
            Kind::Doomed => format!("/v1/queues/{DOOMED}/messages"),
            Kind::Full => format!("/v1/queues/{FULL}.{}/messages", v % FULL_QUEUES),
            Kind::Unroutable | Kind::Nowhere if v.is_multiple_of(2) => {
                to_exchange(TOPIC, format!("bad.{}", v % 5))
            }
            Kind::Unroutable | Kind::Nowhere => format!("/v1/queues/nowhere.{}/messages", v % 5),
            Kind::Queue | Kind::Envelope | Kind::Oversized | Kind::Bad | Kind::Leaver => {
                format!("/v1/queues/{QUEUE}/messages")
            }
        }
    }

    fn envelope(&self, id: &str, timeout: &str, host: &str) -> Request<Full<Bytes>> {
        let (exchange, key) = if self.variant.is_multiple_of(2) {
            ("", QUEUE.to_owned())
        } else {
            (TOPIC, format!("good.{}", self.variant % 8))
        };
        let mut envelope = serde_json::json!({
            "exchange": exchange, "routing_key": key, "payload": self.payload(id),
            "properties": { "message_id": id, "headers": { "number": self.number } }, "timeout": timeout,
        });
        if !self.policy.is_empty() {
            envelope["retry"] = self.policy.into();
        }
        let request =
            Request::post(format!("http://{host}/v1/messages")).header("content-type", "application/json");
        request.body(Full::new(envelope.to_string().into())).expect("a valid request")
    }

    /// The id, padded to the payload's size.
    pub(crate) fn payload(&self, id: &str) -> String {
        format!("{id}|{}", "x".repeat(self.size.saturating_sub(id.len() + 1)))
    }
}

/// The message id of a number.
pub(crate) fn id(seed: u64, number: u32) -> String {
    format!("chaos-{seed}-{number}")
}

/// The number in a message id of this run.
pub(crate) fn number(seed: u64, id: &str) -> Option<u32> {
    id.strip_prefix(&format!("chaos-{seed}-"))?.parse().ok()
}

fn weighted<T: Copy>(table: &[(u32, T)], random: &mut fastrand::Rng) -> T {
    let total: u32 = table.iter().map(|(weight, _)| weight).sum();
    let mut left = random.u32(..total);
    for (weight, value) in table {
        if left < *weight {
            return *value;
        }
        left -= weight;
    }
    table[0].1
}
