//! The control group: how late this machine, the sidecar's admin thread and the broker are without
//! the sidecar's publishing.

use super::arrivals::connect;
use super::scene::Door;
use crate::harness::Starvation;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SLOT: Duration = Duration::from_millis(100);

/// The queue to which the test publishes directly; nobody reads it.
pub(crate) const QUEUE: &str = "noise";

/// Who measures.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A timer task of this process.
    Timer,
    /// `GET /livez`.
    Livez,
    /// A persistent publish straight to the broker.
    Broker,
}

/// The worst delay in each tenth of a second.
#[derive(Debug)]
pub(crate) struct Noise {
    start: Instant,
    slots: Mutex<Vec<[Duration; 3]>>,
    starvation: Mutex<Vec<(Instant, Duration)>>,
}

impl Noise {
    /// Starts to measure. The tasks end when the set is dropped.
    pub(crate) fn measure(door: &Arc<RwLock<Door>>, broker: &str) -> (Arc<Self>, JoinSet<()>) {
        let noise =
            Arc::new(Self { start: Instant::now(), slots: Mutex::default(), starvation: Mutex::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(timer(Arc::clone(&noise)));
        tasks.spawn(starvation(Arc::clone(&noise), Arc::clone(door)));
        tasks.spawn(livez(Arc::clone(&noise), Arc::clone(door)));
        tasks.spawn(publishing(Arc::clone(&noise), broker.to_owned()));
        (noise, tasks)
    }

    /// How late an answer that was due between these moments may be because of the machine.
    pub(crate) fn slack(&self, from: Instant, to: Instant) -> Duration {
        let [timer, livez, _] = self.worst(from, to);
        timer + livez + self.starved(from, to)
    }

    /// How long threads of both processes were ready to run around this time but had no processor.
    fn starved(&self, from: Instant, to: Instant) -> Duration {
        const MARGIN: Duration = Duration::from_millis(300);
        let samples = self.starvation.lock().unwrap_or_else(PoisonError::into_inner);
        let first = samples.partition_point(|(at, _)| *at + MARGIN < from);
        samples[first..].iter().take_while(|(at, _)| *at <= to + MARGIN).map(|(_, waited)| *waited).sum()
    }

    /// Whether machine or broker were slow enough to explain an outcome in this time. `broker_may`:
    /// how long a publish may take without explaining anything.
    pub(crate) fn was_loud(&self, from: Instant, to: Instant, broker_may: Duration) -> bool {
        const MACHINE_MAY: Duration = Duration::from_millis(100);
        let [timer, livez, broker] = self.worst(from, to);
        timer > MACHINE_MAY
            || livez > MACHINE_MAY
            || self.starved(from, to) > MACHINE_MAY
            || broker > broker_may
    }

    fn worst(&self, from: Instant, to: Instant) -> [Duration; 3] {
        const MARGIN: Duration = Duration::from_millis(500);
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (self.slot(from - MARGIN), self.slot(to.max(from) + MARGIN));
        let within = slots.iter().skip(first).take(last + 1 - first);
        within.fold([Duration::ZERO; 3], |worst, slot| std::array::from_fn(|n| worst[n].max(slot[n])))
    }

    fn slot(&self, moment: Instant) -> usize {
        (moment.saturating_duration_since(self.start).as_millis() / SLOT.as_millis()) as usize
    }

    fn note(&self, source: Source, from: Instant, late: Duration) {
        let (first, last) = (self.slot(from), self.slot(Instant::now()));
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() <= last {
            slots.resize(last + 1, [Duration::ZERO; 3]);
        }
        for slot in &mut slots[first..=last] {
            let worst = &mut slot[source as usize];
            *worst = late.max(*worst);
        }
    }
}

async fn timer(noise: Arc<Noise>) {
    loop {
        let due = Instant::now() + Duration::from_millis(5);
        crate::pace::until(due).await;
        noise.note(Source::Timer, due, due.elapsed());
    }
}

async fn starvation(noise: Arc<Noise>, door: Arc<RwLock<Door>>) {
    let (mut own, mut sidecar) = (Starvation::default(), Starvation::default());
    loop {
        crate::pace::rest(Duration::from_millis(50)).await;
        let pid = door.read().unwrap_or_else(PoisonError::into_inner).pid;
        let waited = own.since_last(std::process::id()) + sidecar.since_last(pid);
        noise.starvation.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), waited));
    }
}

async fn livez(noise: Arc<Noise>, door: Arc<RwLock<Door>>) {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    loop {
        crate::pace::rest(Duration::from_millis(25)).await;
        let address = door.read().unwrap_or_else(PoisonError::into_inner).admin.clone();
        let uri = format!("http://{address}/livez").parse().expect("a valid URI");
        let asked = Instant::now();
        // While the sidecar is away there is nothing to measure.
        if let Ok(response) = client.get(uri).await
            && response.into_body().collect().await.is_ok()
        {
            noise.note(Source::Livez, asked, asked.elapsed());
        }
    }
}

async fn publishing(noise: Arc<Noise>, uri: String) {
    loop {
        let begun = Instant::now();
        // A session ends with its connection; until the next one the broker counts as slow.
        drop(publishing_session(&noise, &uri).await);
        noise.note(Source::Broker, begun, Duration::ZERO);
        let away = Instant::now();
        crate::pace::rest(Duration::from_millis(50)).await;
        noise.note(Source::Broker, away, Duration::from_secs(1));
    }
}

async fn publishing_session(noise: &Noise, uri: &str) -> Result<(), lapin::Error> {
    let begun = Instant::now();
    let connection = connect(uri).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    noise.note(Source::Broker, begun, begun.elapsed());
    loop {
        crate::pace::rest(Duration::from_millis(50)).await;
        let asked = Instant::now();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), QUEUE.into(), options, b"x", properties);
        confirm.await?.await?;
        noise.note(Source::Broker, asked, asked.elapsed());
    }
}
