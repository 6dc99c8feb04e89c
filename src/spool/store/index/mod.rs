//! Which records exist: the counters of each destination, the stretches of its ready records, the
//! numbers given out.

pub(super) mod destinations;
pub(super) mod numbers;
pub(super) mod ready;
pub(super) mod stretches;
