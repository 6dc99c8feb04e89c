//! The table of figures and their targets.

use crate::load::Measured;

/// The target of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) fn at_least(bound: f64) -> Bound {
    Bound::AtLeast(bound)
}

pub(crate) fn at_most(bound: f64) -> Bound {
    Bound::AtMost(bound)
}

/// The figures measured so far; each row is printed once it is known.
#[derive(Default)]
pub(crate) struct Rows {
    missed: Vec<String>,
}

impl Rows {
    pub(crate) fn add(&mut self, row: &str, what: &str, measured: f64, bound: Bound, note: String) {
        let (is_met, wanted) = match bound {
            Bound::AtLeast(bound) => (measured >= bound, format!(">= {bound}")),
            Bound::AtMost(bound) => (measured <= bound, format!("<= {bound}")),
        };
        let verdict = if is_met { "ok" } else { "MISSED" };
        print(row, what, measured, &wanted, verdict, &note);
        if !is_met {
            self.missed.push(format!("{row} {what}"));
        }
    }

    /// A figure without a target.
    pub(crate) fn say(&mut self, row: &str, what: &str, measured: f64, note: String) {
        print(row, what, measured, "", "", &note);
    }

    /// Prints the missed targets and returns their number.
    pub(crate) fn finish(self) -> usize {
        for missed in &self.missed {
            println!("missed: {missed}");
        }
        self.missed.len()
    }
}

fn print(row: &str, what: &str, measured: f64, wanted: &str, verdict: &str, note: &str) {
    let measured = if measured >= 1000.0 { format!("{measured:.0}") } else { format!("{measured:.2}") };
    println!("{row:<3} {what:<48} {measured:>8} {wanted:<9} {verdict:<7} {note}");
}

/// A load in one line.
pub(crate) fn shown(measured: &Measured) -> String {
    format!(
        "{:.0} messages/s, p99 {:.1} ms, {:.1} MB/s",
        measured.rate(),
        measured.p99() * 1000.0,
        measured.bytes_rate() / 1e6
    )
}
