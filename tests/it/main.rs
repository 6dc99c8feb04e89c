//! The scenarios: the built sidecar against real RabbitMQ nodes and a network that fails on order.

mod harness;

mod bad_input;
mod blocked;
mod bounds;
mod breaker;
mod cluster;
mod confirmed;
mod credentials;
mod deadlines;
mod life_cycle;
mod link_down;
mod link_lost;
mod promises;
mod properties;
mod refusals;
mod retries;
mod returns_are_not_swapped;
mod stalled;
mod tls;
