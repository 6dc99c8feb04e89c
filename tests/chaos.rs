//! The chaos test: faults and mixed load from one seed; compares every answer with the arrivals.

#[path = "it/harness/mod.rs"]
mod harness;
#[path = "it/harness/pace.rs"]
mod pace;
#[path = "chaos/mod.rs"]
mod run;

use run::{Settings, a_run};
use std::time::Duration;

/// Seeds that differ enough; scripts/chaos runs any number of other seeds.
const SEEDS: [u64; 3] = [1, 2, 3];
const SHORT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_fixed_seeds_break_no_promise() {
    let mut broken = Vec::new();
    for seed in SEEDS {
        broken.extend(a_run(Settings { seed, length: SHORT }).await.err());
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The test that scripts/chaos runs: CHAOS_RUNS consecutive seeds from CHAOS_SEED on, CHAOS_SECONDS
/// each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "as long as it is asked to be: scripts/chaos"]
async fn seeds_on_order_break_no_promise() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}")),
        Err(_) => default,
    };
    let first = number("CHAOS_SEED", 1);
    let length = Duration::from_secs(number("CHAOS_SECONDS", SHORT.as_secs()));
    let stop_at_first = number("CHAOS_STOP_AT_FIRST", 0) == 1;
    let mut broken = Vec::new();
    for seed in first..first + number("CHAOS_RUNS", 1) {
        broken.extend(a_run(Settings { seed, length }).await.err());
        if stop_at_first && !broken.is_empty() {
            break;
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
