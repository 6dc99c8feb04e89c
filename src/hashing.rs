//! The maps and sets of the hot path, with a fast hash.

use foldhash::fast::RandomState;

/// A map whose hash takes a few nanoseconds. Each process has its own seed.
pub(crate) type Map<K, V> = std::collections::HashMap<K, V, RandomState>;

/// The same for a set.
pub(crate) type Set<K> = std::collections::HashSet<K, RandomState>;
