//! The scenarios: the built sidecar against real RabbitMQ nodes and a network that fails on order.

mod harness;

mod blocked;
mod confirmed;
mod deadlines;
mod link_down;
mod link_lost;
mod refusals;
mod returns_are_not_swapped;
