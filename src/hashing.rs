//! The hash of the maps that each publish passes through.

use foldhash::fast::RandomState;

/// A map with a hash that costs a few nanoseconds; seeded anew in each process.
pub(crate) type Map<K, V> = std::collections::HashMap<K, V, RandomState>;

/// The same for a set.
pub(crate) type Set<K> = std::collections::HashSet<K, RandomState>;
