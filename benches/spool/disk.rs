//! What the disk does by itself: one write and one fdatasync after the other, over a file that is there already.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Written round and round, so that neither its size nor its blocks change: the disk at its best.
const FILE_BYTES: usize = 16 << 20;

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
        let file = made(&path);
        let content = vec![0x5a; block];
        let mut syncs = Vec::new();
        let (begun, mut at) = (Instant::now(), 0);
        while begun.elapsed() < span {
            let start = Instant::now();
            file.write_all_at(&content, at as u64).expect("written");
            file.sync_data().expect("synced");
            syncs.push(start.elapsed().as_secs_f64());
            at = (at + block) % FILE_BYTES;
        }
        let elapsed = begun.elapsed();
        std::fs::remove_file(path).expect("it is ours");
        syncs.sort_by(f64::total_cmp);
        Self { block, elapsed, syncs }
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

fn made(path: &Path) -> File {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).expect("a file");
    file.write_all_at(&vec![0; FILE_BYTES], 0).expect("written");
    file.sync_all().expect("synced");
    file
}
