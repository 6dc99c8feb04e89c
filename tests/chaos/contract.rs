//! The promised table of outcomes, written a second time so that the test does not rely on the
//! program's own.

/// A row: the form of an answer with this code.
#[derive(Debug)]
pub(crate) struct Row {
    /// The code.
    pub(crate) code: &'static str,
    /// confirmed, spooled, not_published or unknown.
    pub(crate) outcome: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// Whether there is a `Retry-After`.
    pub(crate) retry_after: bool,
}

const fn row(code: &'static str, outcome: &'static str, status: u16, retry_after: bool) -> Row {
    Row { code, outcome, status, retry_after }
}

const NOT: &str = "not_published";

/// Codes that a run may meet. Any other is a lie.
pub(crate) const TABLE: &[Row] = &[
    row("confirmed", "confirmed", 200, false),
    row("spooled", "spooled", 202, false),
    row("spool_full", NOT, 503, true),
    row("spool_failed", NOT, 503, true),
    row("link_down", NOT, 503, true),
    row("link_stalled", NOT, 503, true),
    row("broker_blocked", NOT, 503, true),
    row("breaker_open", NOT, 503, true),
    row("overloaded", NOT, 503, true),
    row("deadline_not_sent", NOT, 503, false),
    row("draining", NOT, 503, true),
    row("destination_unavailable", NOT, 503, true),
    row("unroutable", NOT, 422, false),
    row("exchange_not_found", NOT, 404, false),
    row("invalid_request", NOT, 400, false),
    row("payload_too_large", NOT, 413, false),
    row("request_timeout", NOT, 408, false),
    row("confirm_timeout", "unknown", 504, false),
    row("link_lost", "unknown", 502, false),
    row("nacked", "unknown", 502, false),
    row("spool_unsure", "unknown", 502, false),
];

/// The row of a code.
pub(crate) fn row_of(code: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.code == code)
}
