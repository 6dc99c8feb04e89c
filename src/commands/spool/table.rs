//! Output for people: tables, ages and sizes, without characters that control a terminal.

use crate::control::{Sidecar, Status};
use crate::message::exchange_over_http;
use crate::spool::SpoolSnapshot;
use crate::spool::store::{Address, Holding, LostTail, RecordEntry};

/// The alignment of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A column: its title, the alignment of its cells, and the function that makes an item's cell.
type Column<'a, T> = (&'a str, Side, &'a dyn Fn(&T) -> String);

/// A row for each item below the titles, each column as wide as its widest cell.
fn table<T>(columns: &[Column<'_, T>], items: &[T]) -> String {
    let mut rows = vec![columns.iter().map(|(title, ..)| (*title).to_owned()).collect::<Vec<_>>()];
    rows.extend(items.iter().map(|item| columns.iter().map(|(.., cell)| cell(item)).collect()));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, (_, side, _)), width)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text as a cell. Control characters are escaped, because clients choose names.
pub(super) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The time since a moment, in one unit.
fn age(then_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(then_ms).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number of bytes in a suitable unit.
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
pub(super) fn lines(entries: &[RecordEntry], now_ms: i64) -> String {
    use Side::{Left, Right};
    let columns: [Column<'_, RecordEntry>; 9] = [
        ("SEQ", Right, &|entry| entry.seq.to_string()),
        ("STATE", Left, &|entry| entry.state.as_str().to_owned()),
        ("AGE", Right, &|entry| age(entry.created_ms, now_ms)),
        ("UNSURE", Right, &|entry| entry.attempts.to_string()),
        ("SIZE", Right, &|entry| size(entry.payload_bytes)),
        ("EXCHANGE", Left, &|entry| exchange(&entry.destination)),
        ("ROUTING KEY", Left, &|entry| plain(entry.destination.routing_key.as_str())),
        ("REASON", Left, &|entry| plain(entry.reason.as_deref().unwrap_or_default())),
        ("MESSAGE ID", Left, &|entry| plain(entry.message_id.as_ref().map_or("(damaged)", |id| id.as_str()))),
    ];
    table(&columns, entries)
}

/// An exchange as requests name it.
pub(super) fn exchange(of: &Address) -> String {
    plain(exchange_over_http(&of.exchange))
}

/// What the spool holds.
pub(super) fn status(status: &Status, now_ms: i64) -> String {
    let Status { held, live, .. } = status;
    let mut text = String::new();
    let mut say = |name: &str, what: String| text.push_str(&format!("{name:<10}{what}\n"));
    say("sidecar", sidecar(status));
    if let Some(SpoolSnapshot { rates, .. }) = live {
        say("rates", format!("{:.1} stored and {:.1} delivered a second", rates.appends, rates.deliveries));
    }
    let oldest = held.oldest_ms.map_or(String::new(), |then| format!(", oldest {}", age(then, now_ms)));
    say("ready", format!("{}{oldest}", held.ready));
    say("parked", held.parked.to_string());
    let stats = live.as_ref().map(|live| &live.stats);
    let of = stats.map_or(String::new(), |stats| format!(" of {}", size(stats.max_bytes)));
    let full = if stats.is_some_and(|stats| stats.full) { ", FULL" } else { "" };
    say("size", format!("{}{of}{full}", size(held.live_bytes)));
    if let Some(lost) = stats.and_then(|stats| stats.lost) {
        say("LOST", format!("messages {} are gone; see docs/spool.md", lost_range(lost)));
    }
    if !held.largest.is_empty() {
        text.push('\n');
        text.push_str(&holdings(&held.largest));
    }
    let more = held.destinations.saturating_sub(held.largest.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {more} more destinations\n"));
    }
    text
}

/// The numbers of records that were lost.
pub(super) fn lost_range(lost: LostTail) -> String {
    format!("{} to {}", lost.known.number() + 1, lost.committed)
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

fn health(SpoolSnapshot { stats, .. }: &SpoolSnapshot) -> String {
    let health = stats.health.as_str();
    match stats.health.failure() {
        Some(failure) => format!("{health}: {}", plain(failure)),
        None => format!("{health}, {} stored and {} commits since its start", stats.appended, stats.commits),
    }
}

fn holdings(holdings: &[Holding]) -> String {
    use Side::{Left, Right};
    let columns: [Column<'_, Holding>; 5] = [
        ("EXCHANGE", Left, &|holding| exchange(&holding.destination)),
        ("ROUTING KEY", Left, &|holding| plain(holding.destination.routing_key.as_str())),
        ("READY", Right, &|holding| holding.ready.to_string()),
        ("PARKED", Right, &|holding| holding.parked.to_string()),
        ("SIZE", Right, &|holding| size(holding.bytes)),
    ];
    table(&columns, holdings)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
