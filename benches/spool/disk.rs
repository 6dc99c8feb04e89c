//! The speed of the disk alone: alternating writes and fdatasyncs to a growing file, like dd.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A measurement of the disk.
pub(crate) struct Disk {
    block: usize,
    elapsed: Duration,
    /// Seconds of each write with its sync, sorted.
    syncs: Vec<f64>,
}

impl Disk {
    pub(crate) fn measure(place: &Path, block: usize, span: Duration) -> Self {
        let path = place.join("disk");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).expect("a file");
        let content = vec![0x5a; block];
        let mut syncs = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < span {
            let start = Instant::now();
            file.write_all_at(&content, (syncs.len() * block) as u64).expect("written");
            file.sync_data().expect("synced");
            syncs.push(start.elapsed().as_secs_f64());
        }
        let elapsed = begun.elapsed();
        std::fs::remove_file(path).expect("it is ours");
        syncs.sort_by(f64::total_cmp);
        Self { block, elapsed, syncs }
    }

    /// The two measurements, before and after the measured run, as one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.elapsed += other.elapsed;
        self.syncs.extend(other.syncs);
        self.syncs.sort_by(f64::total_cmp);
        self
    }

    /// Syncs a second.
    pub(crate) fn rate(&self) -> f64 {
        self.syncs.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn bytes_rate(&self) -> f64 {
        self.rate() * self.block as f64
    }

    /// The 99th percentile of a sync, in seconds.
    pub(crate) fn p99(&self) -> f64 {
        self.syncs[self.syncs.len() * 99 / 100]
    }
}
