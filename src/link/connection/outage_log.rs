//! Keeps an outage from filling the log: a failure is logged when its reason changes, and once a
//! minute.

use std::time::Duration;
use tokio::time::Instant;

/// An unchanged reason is repeated after this.
const REPEAT: Duration = Duration::from_secs(60);

/// Decides which failed attempts are worth a line.
#[derive(Debug, Default)]
pub(crate) struct OutageLog {
    last: Option<(String, Instant)>,
    unlogged: u64,
}

impl OutageLog {
    /// The number of failures since the last line that were not logged; `None` if this failure is
    /// not worth a line.
    pub(crate) fn worth_a_line(&mut self, reason: &str) -> Option<u64> {
        let now = Instant::now();
        if let Some((last, logged_at)) = &self.last
            && last == reason
            && now.duration_since(*logged_at) < REPEAT
        {
            self.unlogged += 1;
            return None;
        }
        self.last = Some((reason.to_owned(), now));
        Some(std::mem::take(&mut self.unlogged))
    }

    /// Connected: the next failure is news.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_logged_when_it_changes_and_once_a_minute() {
        let mut log = OutageLog::default();
        assert_eq!(log.worth_a_line("refused"), Some(0));
        assert_eq!(log.worth_a_line("refused"), None);
        assert_eq!(log.worth_a_line("timeout"), Some(1));
        tokio::time::advance(REPEAT).await;
        assert_eq!(log.worth_a_line("timeout"), Some(0));
        log.over();
        assert_eq!(log.worth_a_line("timeout"), Some(0));
    }
}
