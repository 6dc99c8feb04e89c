//! A section of the results: a table, its targets, and its values for the chart.

use crate::sample::Spread;
use crate::subject::Reading;
use serde::{Deserialize, Serialize};

/// The target of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure against its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    pub(crate) unit: String,
    pub(crate) measured: Spread,
}

/// The chart's values for one load: µs of CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) http: f64,
    pub(crate) amqp: f64,
    pub(crate) amqpost: f64,
}

/// One section. Its rows are printed as they are measured, and the whole section is kept for the
/// page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) about: Vec<String>,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) bars: Vec<Bar>,
    /// When and how it was measured.
    pub(crate) circumstances: String,
}

/// The columns that [`Section::readings`] fills.
pub(crate) const COLUMNS: [&str; 8] =
    ["load", "process", "requests/s", "CPU µs/request", "p50 µs", "p99 µs", "p99.9 µs", "switches/request"];

impl Section {
    pub(crate) fn begin(name: &str, title: &str, header: &[&str]) -> Self {
        println!("\n## {title}\n");
        let header: Vec<String> = header.iter().map(ToString::to_string).collect();
        println!("{}\n|{}", line(&header), "---|".repeat(header.len()));
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            about: Vec::new(),
            header,
            rows: Vec::new(),
            verdicts: Vec::new(),
            bars: Vec::new(),
            circumstances: std::env::var("BENCH_CIRCUMSTANCES").unwrap_or_default(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        println!("{}", line(&cells));
        self.rows.push(cells);
    }

    /// A row of a process under a load.
    pub(crate) fn readings(&mut self, load: &str, process: &str, readings: &[Reading]) {
        let of = |figure: fn(&Reading) -> f64| Spread::of(readings.iter().map(figure));
        let failed: u64 = readings.iter().map(|reading| reading.latencies.failed).sum();
        if failed > 0 {
            self.say(format!("{load}, {process}: {failed} requests failed."));
        }
        self.row(vec![
            load.to_owned(),
            process.to_owned(),
            number(of(Reading::rate).median),
            shown(of(Reading::cpu)),
            number(of(|reading| reading.latencies.exchanges.p50).median),
            number(of(|reading| reading.latencies.exchanges.p99).median),
            number(of(|reading| reading.latencies.exchanges.p999).median),
            number(of(Reading::switches).median),
        ]);
    }

    /// A figure with a target. A ratio has no unit.
    pub(crate) fn judge(&mut self, what: &str, bound: Bound, unit: &str, measured: Spread) {
        let verdict = Verdict { what: what.to_owned(), bound, unit: unit.to_owned(), measured };
        self.verdicts.push(verdict);
    }

    /// Prints the notes below the table.
    pub(crate) fn end(&self) {
        println!();
        self.about.iter().for_each(|text| println!("{text}"));
    }

    /// A note that the reader of the table needs.
    pub(crate) fn say(&mut self, text: String) {
        self.about.push(text);
    }
}

impl Verdict {
    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.measured.median >= bound,
            Bound::AtMost(bound) => self.measured.median <= bound,
        }
    }

    /// What, target, measured, verdict.
    pub(crate) fn cells(&self) -> [String; 4] {
        let (sign, bound) = match self.bound {
            Bound::AtLeast(bound) => ("≥", bound),
            Bound::AtMost(bound) => ("≤", bound),
        };
        let verdict = if self.is_met() { "met" } else { "**missed**" };
        let unit = if self.unit.is_empty() { " ×".to_owned() } else { format!(" {}", self.unit) };
        [
            self.what.clone(),
            format!("{sign} {bound}{unit}"),
            format!("{}{unit}", shown(self.measured)),
            verdict.to_owned(),
        ]
    }
}

/// A row of a Markdown table.
pub(crate) fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// A number with the digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value {
        _ if !value.is_finite() => "–".to_owned(),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The median, with the smallest and the largest value.
pub(crate) fn shown(spread: Spread) -> String {
    format!("{} ({}–{})", number(spread.median), number(spread.least), number(spread.most))
}
