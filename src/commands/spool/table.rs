//! What people read: tables, ages and sizes, with nothing in them that a terminal would obey.

use crate::control::{HoldingView, Line, Live, Sidecar, Status};

/// How a column's cells stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Rows below their titles, each column as wide as its widest cell.
fn table(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let mut widths: Vec<usize> = titles.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, (_, side)), width)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text as a cell: clients choose names, and a terminal obeys some characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// How long ago a moment was, in one unit.
fn age(then_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(then_ms).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number of bytes in the unit in which it is short.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut number = bytes as f64 / 1024.0;
    let mut name = unit.next().unwrap_or_default();
    while number >= 1024.0 {
        let Some(larger) = unit.next() else { break };
        (number, name) = (number / 1024.0, larger);
    }
    format!("{number:.1} {name}")
}

/// The messages of a list.
pub(super) fn lines(lines: &[Line], now_ms: i64) -> String {
    use Side::{Left, Right};
    let columns = [
        ("SEQ", Right),
        ("STATE", Left),
        ("AGE", Right),
        ("UNSURE", Right),
        ("SIZE", Right),
        ("EXCHANGE", Left),
        ("ROUTING KEY", Left),
        ("REASON", Left),
        ("MESSAGE ID", Left),
    ];
    let rows: Vec<_> = lines
        .iter()
        .map(|line| {
            vec![
                line.seq.to_string(),
                line.state.clone(),
                age(line.created_unix_ms, now_ms),
                line.attempts.to_string(),
                size(line.payload_bytes),
                plain(&line.exchange),
                plain(&line.routing_key),
                plain(line.reason.as_deref().unwrap_or_default()),
                plain(line.message_id.as_deref().unwrap_or("(damaged)")),
            ]
        })
        .collect();
    table(&columns, &rows)
}

/// What the spool holds.
pub(super) fn status(status: &Status, now_ms: i64) -> String {
    let mut text = String::new();
    let mut say = |name: &str, what: String| text.push_str(&format!("{name:<10}{what}\n"));
    say("sidecar", sidecar(status));
    let oldest =
        status.oldest_unix_ms.map_or(String::new(), |then| format!(", oldest {}", age(then, now_ms)));
    if let Some(live) = &status.live {
        let Live { appends_per_second: stored, deliveries_per_second: delivered, .. } = live;
        say("rates", format!("{stored:.1} stored and {delivered:.1} delivered a second"));
    }
    say("ready", format!("{}{oldest}", status.ready));
    say("parked", status.parked.to_string());
    let of = status.live.as_ref().map_or(String::new(), |live| format!(" of {}", size(live.max_bytes)));
    let full = if status.live.as_ref().is_some_and(|live| live.full) { ", FULL" } else { "" };
    say("size", format!("{}{of}{full}", size(status.bytes)));
    if let Some(lost) = status.live.as_ref().and_then(|live| live.lost) {
        say("LOST", format!("messages {} to {} are gone; see docs/spool.md", lost.known + 1, lost.committed));
    }
    if !status.largest.is_empty() {
        text.push('\n');
        text.push_str(&holdings(&status.largest));
    }
    let more = status.destinations.saturating_sub(status.largest.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {more} more destinations\n"));
    }
    text
}

fn sidecar(status: &Status) -> String {
    match (&status.sidecar, &status.live) {
        (Sidecar::Silent { pid, why }, _) => {
            let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            format!("{who} has the spool and does not answer: {}", plain(why))
        }
        (Sidecar::Answers, Some(live)) => health(live),
        (Sidecar::None, _) | (Sidecar::Answers, None) => "none has the spool".to_owned(),
    }
}

fn health(live: &Live) -> String {
    match &live.failure {
        Some(failure) => format!("{}: {}", live.health, plain(failure)),
        None => {
            format!("{}, {} stored and {} commits since its start", live.health, live.appended, live.commits)
        }
    }
}

fn holdings(holdings: &[HoldingView]) -> String {
    use Side::{Left, Right};
    let columns =
        [("EXCHANGE", Left), ("ROUTING KEY", Left), ("READY", Right), ("PARKED", Right), ("SIZE", Right)];
    let rows: Vec<_> = holdings
        .iter()
        .map(|holding| {
            vec![
                plain(&holding.exchange),
                plain(&holding.routing_key),
                holding.ready.to_string(),
                holding.parked.to_string(),
                size(holding.bytes),
            ]
        })
        .collect();
    table(&columns, &rows)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
