//! The parts of each figure.
//!
//! * `scene` is a broker, a network and a sidecar; `fault` disturbs it and records when;
//! * `load` sends each request at its moment, `crowd` as fast as it can, both through `wire`, a
//!   client that adds little;
//! * `clock` measures how late timers of this machine are, `arrivals` records the messages that
//!   leave a queue;
//! * `sample` sorts durations, `table` prints and judges.
//!
//! Every other module is the figure of its name.

mod arrivals;
mod clock;
mod crowd;
mod fault;
mod load;
mod sample;
mod scene;
mod table;
mod wire;

pub(crate) mod beyond_deadline;
pub(crate) mod collateral;
pub(crate) mod confirmed_again;
pub(crate) mod false_stalls;
pub(crate) mod first_refusal;
pub(crate) mod memory;
pub(crate) mod refusals;
pub(crate) mod unknown_and_storm;

/// Whether `scripts/promises --short` asks for the short versions of measurements that take
/// minutes.
pub(crate) fn is_short() -> bool {
    std::env::var("FIGURES_SHORT").is_ok_and(|value| value == "1")
}
