//! The kernel's counters of this process: bytes to the disk, memory, and the CPU of the writer's
//! thread.

use std::fs;
use std::path::Path;

fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Bytes that this process has sent to a disk.
pub(crate) fn written_bytes() -> u64 {
    number(&fs::read_to_string("/proc/self/io").expect("Linux counts them"), "write_bytes:")
}

/// Memory of this process, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    number(&fs::read_to_string("/proc/self/status").expect("Linux says it"), "VmRSS:") * 1024
}

/// CPU seconds of the thread that writes, for the one store that is open.
pub(crate) fn writer_seconds() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux lists them");
    let times = threads.filter_map(|thread| {
        let thread = thread.ok()?.path();
        let name = fs::read_to_string(thread.join("comm")).ok()?;
        let times = fs::read_to_string(thread.join("schedstat")).ok()?;
        let nanoseconds: u64 = times.split(' ').next()?.parse().ok()?;
        (name.trim() == "spool-writer").then_some(nanoseconds as f64 / 1e9)
    });
    times.sum()
}

/// Bytes of the files in a directory.
pub(crate) fn bytes_in(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).expect("it is there").filter_map(Result::ok);
    files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}
