//! Load: workers that make one exchange at a time, as fast as possible or at a fixed rate.
//!
//! At a fixed rate each exchange is due at a scheduled time, even if no worker is free, and its
//! latency counts from that time: a subject that stops for a while pays for all exchanges due in
//! the meantime (no coordinated omission). The lateness of the load itself, with an idle worker, is
//! measured separately.

use crate::sample::{Quantiles, Sample};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A maker of exchanges: a connection, or one of several users of a connection.
pub(crate) trait Worker: Send + 'static {
    /// One exchange, from the first byte to the last.
    fn exchange(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// When the next exchange begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// When the worker's last one has ended.
    Closed,
    /// This many a second, over all workers.
    Open(f64),
}

/// Load under way, seen from outside.
#[derive(Debug)]
pub(crate) struct Gauge {
    done: AtomicU64,
    failed: AtomicU64,
    failure: Mutex<Option<String>>,
    records: AtomicBool,
    stops: AtomicBool,
    schedule: Option<Schedule>,
}

/// The schedule of the exchanges.
#[derive(Debug)]
struct Schedule {
    begun: Instant,
    between: Duration,
    due: Semaphore,
    taken: AtomicU64,
}

/// The measurements of the workers since the mark.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latencies {
    /// The time from the moment when an exchange was due, or began, to its end.
    pub(crate) exchanges: Quantiles,
    /// How late the load was by itself; at a fixed rate only.
    pub(crate) lateness: Quantiles,
    pub(crate) failed: u64,
}

#[derive(Default)]
struct Noted {
    latencies: Vec<u64>,
    lateness: Vec<u64>,
}

impl Gauge {
    pub(crate) fn new(pace: Pace) -> Arc<Self> {
        let schedule = match pace {
            Pace::Closed => None,
            Pace::Open(rate) => Some(Schedule {
                begun: Instant::now(),
                between: Duration::from_secs_f64(1.0 / rate),
                due: Semaphore::new(0),
                taken: AtomicU64::new(0),
            }),
        };
        Arc::new(Self {
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failure: Mutex::new(None),
            records: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            schedule,
        })
    }

    /// Exchanges that have ended.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Records latencies from now on; returns how many exchanges ended before.
    pub(crate) fn mark(&self) -> u64 {
        self.records.store(true, Ordering::Relaxed);
        self.done()
    }

    /// No exchange begins any more.
    pub(crate) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
        if let Some(schedule) = &self.schedule {
            schedule.due.close();
        }
    }

    /// This many exchanges have ended.
    pub(crate) fn add(&self, exchanges: usize) {
        self.done.fetch_add(exchanges as u64, Ordering::Relaxed);
    }

    /// Whether no further exchange may begin.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// Exchanges that have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The error of the first failed exchange.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An exchange has failed.
    pub(crate) fn fail(&self, failure: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    /// Lets exchanges become due until the load stops. On a thread of its own: a runtime's timers
    /// tick in ms.
    fn release(&self, schedule: &Schedule) {
        let mut released = 0;
        while !self.is_stopped() {
            let due = (schedule.begun.elapsed().as_secs_f64() / schedule.between.as_secs_f64()) as usize;
            if due > released {
                schedule.due.add_permits(due - released);
                released = due;
            }
            let next = schedule.begun + schedule.between.mul_f64(released as f64 + 1.0);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Runs the workers until the gauge says stop, and waits for their last exchanges.
pub(crate) async fn drive<W: Worker>(workers: Vec<W>, gauge: Arc<Gauge>) -> Latencies {
    let pacer = gauge.schedule.is_some().then(|| {
        let gauge = Arc::clone(&gauge);
        thread::spawn(move || gauge.schedule.iter().for_each(|schedule| gauge.release(schedule)))
    });
    let mut working = JoinSet::new();
    for worker in workers {
        working.spawn(work(worker, Arc::clone(&gauge)));
    }
    let noted = working.join_all().await;
    if let Some(pacer) = pacer {
        pacer.join().expect("it only sleeps");
    }
    let (latencies, lateness) = noted.into_iter().map(|noted| (noted.latencies, noted.lateness)).unzip();
    Latencies {
        exchanges: Sample::of(latencies).quantiles(),
        lateness: Sample::of(lateness).quantiles(),
        failed: gauge.failed(),
    }
}

async fn work<W: Worker>(mut worker: W, gauge: Arc<Gauge>) -> Noted {
    let mut noted = Noted::default();
    while !gauge.is_stopped() {
        let idle_since = Instant::now();
        let records = gauge.records.load(Ordering::Relaxed);
        let begin = match &gauge.schedule {
            None => idle_since,
            Some(schedule) => {
                let Ok(permit) = schedule.due.acquire().await else { break };
                permit.forget();
                let number = schedule.taken.fetch_add(1, Ordering::Relaxed);
                let due = schedule.begun + schedule.between.mul_f64(number as f64 + 1.0);
                if records && due >= idle_since {
                    noted.lateness.push(due.elapsed().as_nanos() as u64);
                }
                due
            }
        };
        match worker.exchange().await {
            Ok(()) => {
                gauge.add(1);
                if records {
                    noted.latencies.push(begin.elapsed().as_nanos() as u64);
                }
            }
            Err(failure) => {
                gauge.fail(failure);
                // A worker without a connection ends.
                break;
            }
        }
    }
    noted
}
