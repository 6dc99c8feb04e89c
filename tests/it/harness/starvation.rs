//! How long a process's threads waited for a processor, as Linux counts it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// The last count of each thread.
#[derive(Debug, Default)]
pub struct Starvation {
    waited: HashMap<String, u64>,
}

impl Starvation {
    /// The longest wait of a thread of a process since the last call; zero if Linux does not report
    /// it.
    pub fn since_last(&mut self, pid: u32) -> Duration {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
        let mut now = HashMap::new();
        let mut longest = 0;
        for thread in threads.flatten() {
            let Some(waited) = waited(&thread.path().join("schedstat")) else { continue };
            let thread = thread.file_name().to_string_lossy().into_owned();
            let before = self.waited.get(&thread).copied().unwrap_or(waited);
            longest = longest.max(waited.saturating_sub(before));
            now.insert(thread, waited);
        }
        self.waited = now;
        Duration::from_nanos(longest)
    }
}

/// The second of three numbers: nanoseconds spent waiting on a run queue.
fn waited(schedstat: &std::path::Path) -> Option<u64> {
    fs::read_to_string(schedstat).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}
