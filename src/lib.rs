//! amqpost: a sidecar that publishes to RabbitMQ for applications that speak HTTP, and tells the truth about each message.
//!
//! A message moves one way and one outcome comes back:
//!
//! ```text
//! http → message → publishing → link, spool → outcome → http
//! ```
//!
//! * [`listener`] serves HTTP connections; [`http`] turns requests into messages and outcomes into responses;
//! * [`message`] is the vocabulary: a message, checked once, the order to publish it, its settlement;
//! * [`envelope`] is a whole message as a JSON document;
//! * [`admission`] bounds the publishes in flight;
//! * [`link`] owns the broker connections and turns a message into exactly one outcome;
//! * [`publishing`] decides between the broker and the spool, and knows idempotency keys;
//! * [`spool`] keeps messages on disk that the broker could not take yet;
//! * [`control`] lets an operator look into the spool and change it, over a Unix socket;
//! * [`outcome`] is the one table of outcomes;
//! * [`labels`] are the closed lists of words for states, reasons and results;
//! * [`admin`] answers operators on a thread of its own; [`metrics`] counts;
//! * [`config`] turns text into valid values; [`app`] builds all of it; [`shutdown`] takes it down in order;
//! * [`text`] reads and writes values that requests and the configuration write in the same form;
//! * [`tasks`] owns work that must finish even if its client has left; [`open_files`] raises the limit on open files;
//! * [`commands`] is the command line.
//!
//! ARCHITECTURE.md has the walk of one publish and the invariants.

#![forbid(unsafe_code)]

pub mod admin;
pub mod admission;
pub mod app;
pub mod commands;
pub mod config;
pub mod control;
pub mod envelope;
mod hashing;
pub mod http;
pub mod labels;
pub mod link;
pub mod listener;
mod locking;
pub mod message;
pub mod metrics;
pub mod open_files;
pub mod outcome;
pub mod publishing;
pub mod shutdown;
pub mod spool;
pub mod tasks;
pub mod telemetry;
pub mod text;
mod when_woken;

/// Instructions are counted in the unit tests, with the allocator of the executable (ADR-0007).
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
