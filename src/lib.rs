//! amqpost: a sidecar that publishes to RabbitMQ for applications that speak HTTP, and tells the
//! truth about each message.
//!
//! A message moves one way and one outcome comes back:
//!
//! ```text
//! http → message → publishing → link, spool → outcome → http
//! ```
//!
//! The first line of each room says what the room does. ARCHITECTURE.md describes the way of one
//! message and the invariants.

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
pub mod watched_files;
mod when_woken;

/// Instructions are counted in the unit tests, with the allocator of the executable (ADR-0007).
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
