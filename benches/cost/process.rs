//! The counters of Linux for another process: CPU, context switches, memory, threads, files.

use std::fs;
use std::path::PathBuf;

/// The cost of a process since its start. Ended threads are missing, but no measured process ends
/// one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Nanoseconds on a CPU.
    pub(crate) cpu: u64,
    /// Context switches, voluntary and not.
    pub(crate) switches: u64,
    /// Threads at the moment.
    pub(crate) threads: u64,
}

impl Cost {
    /// All threads of a process, each as the scheduler counts it: exact, where `stat` rounds to
    /// 10 ms.
    pub(crate) fn of(pid: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
        let paths = threads.filter_map(|thread| Some(thread.ok()?.path()));
        paths.filter_map(Self::of_thread).fold(Self::default(), |sum, one| Self {
            cpu: sum.cpu + one.cpu,
            switches: sum.switches + one.switches,
            threads: sum.threads + 1,
        })
    }

    /// None for one that has ended meanwhile.
    fn of_thread(path: PathBuf) -> Option<Self> {
        let scheduled = fs::read_to_string(path.join("schedstat")).ok()?;
        let status = fs::read_to_string(path.join("status")).ok()?;
        let cpu = scheduled.split(' ').next()?.parse().ok()?;
        let switches =
            number(&status, "voluntary_ctxt_switches:")? + number(&status, "nonvoluntary_ctxt_switches:")?;
        Some(Self { cpu, switches, threads: 1 })
    }

    /// The difference to an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            switches: self.switches.saturating_sub(earlier.switches),
            threads: self.threads,
        }
    }
}

/// The memory of a process, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: u64,
    /// Its highest value so far.
    pub(crate) peak: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let kib = |name| number(&status, name).expect("Linux says it");
        Self { resident: kib("VmRSS:"), peak: kib("VmHWM:") }
    }
}

/// The files and sockets that a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// The number behind the first line that begins with a name.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
