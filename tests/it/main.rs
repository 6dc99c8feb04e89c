//! The scenarios: the built sidecar against real RabbitMQ nodes and a network that fails on order.

mod harness;

mod bad_input;
mod blocked;
mod bounds;
mod breaker;
mod cluster;
mod command_line;
mod confirmed;
mod credentials;
mod deadlines;
mod deleted_exchange;
mod hard_connections;
mod idempotency;
mod life_cycle;
mod link_down;
mod link_lost;
mod many_at_once;
mod modes;
mod promises;
mod properties;
mod refusals;
mod reply_addresses;
mod retries;
mod returns_are_not_swapped;
mod silent_destinations;
mod spool_commands;
mod spool_drain;
mod spool_drain_crash;
mod spool_drain_pace;
mod spool_drain_parked;
mod spool_hardships;
mod stalled;
mod stream;
mod stream_hardships;
mod tls;
