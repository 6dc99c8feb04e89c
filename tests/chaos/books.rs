//! The records of a run: every answer, every arrival, every fault.

use super::messages::Message;
use super::plan::Fault;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The parts of an answer that are promised.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The header `Amqpost-Code`.
    pub(crate) code: String,
    /// The header `Amqpost-Outcome`.
    pub(crate) outcome: String,
    /// The header `Amqpost-Message-Id`, empty when there is none.
    pub(crate) message_id: String,
    /// Attempts; 1 if the answer does not say.
    pub(crate) attempts: u32,
    /// Whether there is a `Retry-After`.
    pub(crate) retry_after: bool,
    /// outcome, code and message_id of the body, if they differ from the headers.
    pub(crate) body_differs: Option<String>,
}

/// How a request ended for its client.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// An answer came.
    Answered(Box<Reply>),
    /// Nobody listened: nothing was sent.
    NotConnected,
    /// The connection ended without an answer.
    Broken(String),
    /// The client left, as planned.
    Left,
    /// The client gave up waiting long after the deadline.
    Silence,
}

/// A request and what its client saw.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What was asked.
    pub(crate) message: Message,
    /// When the request was sent.
    pub(crate) sent: Instant,
    /// When it ended.
    pub(crate) ended: Instant,
    /// How.
    pub(crate) end: End,
}

impl Record {
    /// The answer, when there was one.
    pub(crate) fn reply(&self) -> Option<&Reply> {
        if let End::Answered(reply) = &self.end { Some(reply) } else { None }
    }

    /// The answered code, or a word for the missing answer.
    pub(crate) fn code(&self) -> &str {
        match &self.end {
            End::Answered(reply) => &reply.code,
            End::NotConnected => "(not connected)",
            End::Broken(_) => "(connection broken)",
            End::Left => "(left)",
            End::Silence => "(silence)",
        }
    }

    /// The outcome answered, or nothing.
    pub(crate) fn outcome(&self) -> &str {
        self.reply().map_or("", |reply| &reply.outcome)
    }
}

/// A delivery from a queue.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The number in its message id.
    pub(crate) number: u32,
    /// When.
    pub(crate) at: Instant,
    /// From which queue.
    pub(crate) queue: &'static str,
    /// The broker had delivered it before.
    pub(crate) redelivered: bool,
    /// The payload begins with the id, as it was sent.
    pub(crate) intact: bool,
    /// It is marked as a possible repetition.
    pub(crate) marked: bool,
}

/// A fault that was played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// What happened.
    pub(crate) fault: Fault,
    /// Before it began.
    pub(crate) begin: Instant,
    /// When it was lifted.
    pub(crate) lifted: Instant,
    /// When its lasting effects have ended as well.
    pub(crate) end: Instant,
}

impl Window {
    /// Whether it overlaps the time from `from` to `to`, extended by `margin`.
    pub(crate) fn touches(&self, from: Instant, to: Instant, margin: Duration) -> bool {
        self.begin <= to + margin && from <= self.end + margin
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Books {
    records: Mutex<Vec<Record>>,
    arrivals: Mutex<Vec<Arrival>>,
    windows: Mutex<Vec<Window>>,
}

impl Books {
    /// Writes down a request that has ended.
    pub(crate) fn record(&self, record: Record) {
        push(&self.records, record);
    }

    /// Writes down a delivery.
    pub(crate) fn arrived(&self, arrival: Arrival) {
        push(&self.arrivals, arrival);
    }

    /// Writes down a fault that is over.
    pub(crate) fn fault(&self, window: Window) {
        push(&self.windows, window);
    }

    /// Everything, when the run is over: requests and faults in the order of their beginnings.
    pub(crate) fn close(&self) -> (Vec<Record>, Vec<Arrival>, Vec<Window>) {
        let (mut records, arrivals, mut windows) =
            (taken(&self.records), taken(&self.arrivals), taken(&self.windows));
        records.sort_by_key(|record| record.message.number);
        windows.sort_by_key(|window| window.begin);
        (records, arrivals, windows)
    }
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(item);
}

fn taken<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner))
}
