//! One line on standard error that shows the progress of a long command on a terminal.

use crate::locking::lock;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The shortest time between two changes of the line.
const PACE: Duration = Duration::from_millis(100);
const WIDTH: u64 = 30;

/// The line, erased when this is dropped.
pub(super) struct ProgressLine {
    shown: bool,
    last: Mutex<Option<(&'static str, Instant)>>,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), last: Mutex::new(None) }
    }

    /// For a command that writes lines: shows nothing if those go to the same terminal.
    pub(super) fn beside_lines() -> Self {
        let mut progress = Self::new();
        progress.shown &= !std::io::stdout().is_terminal();
        progress
    }

    /// Shows `done` of `total`: both are 0 if there is no measure; `total` is 0 if it is unknown.
    pub(super) fn show(&self, what: &'static str, done: u64, total: u64) {
        let mut last = lock(&self.last);
        // A new step is shown at once, because it may take long.
        let just_said = |(said, moment): (&str, Instant)| said == what && moment.elapsed() < PACE;
        if !self.shown || last.is_some_and(just_said) {
            return;
        }
        *last = Some((what, Instant::now()));
        write(&format!("\r\x1b[K{}", line(what, done, total)));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown {
            write("\r\x1b[K");
        }
    }
}

/// A line that cannot be written stops nothing.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}

fn line(what: &str, done: u64, total: u64) -> String {
    match (done, total) {
        (0, 0) => return what.to_owned(),
        (_, 0) => return format!("{what} {done}"),
        (_, _) => {}
    }
    let filled = (done.min(total) * WIDTH / total) as usize;
    let bar: String = "#".repeat(filled) + &".".repeat(WIDTH as usize - filled);
    format!("{what} [{bar}] {done}/{total}")
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_bar_fills_with_what_is_done() {
        assert_eq!(line("redrive", 0, 0), "redrive");
        assert_eq!(line("redrive", 5, 0), "redrive 5");
        assert_eq!(line("redrive", 0, 10), "redrive [..............................] 0/10");
        assert_eq!(line("redrive", 5, 10), "redrive [###############...............] 5/10");
        assert_eq!(line("redrive", 12, 10), "redrive [##############################] 12/10");
    }
}
