//! The rows of the table, printed as they are measured; the end fails when one is beyond its bound.

use std::time::Duration;

/// The rows of one figure.
#[derive(Debug, Default)]
pub(crate) struct Table {
    missed: Vec<String>,
}

impl Table {
    /// A row with a bound.
    pub(crate) fn bound(&mut self, figure: &str, bound: &str, measured: &str, holds: bool) {
        if holds {
            print_row(figure, bound, measured);
        } else {
            print_row(figure, bound, &format!("**beyond:** {measured}"));
            self.missed.push(format!("{figure}: {measured}; the bound is {bound}"));
        }
    }

    /// A row that says how something was measured, and on which kind of machine.
    pub(crate) fn note(&mut self, figure: &str, measured: &str) {
        print_row(figure, "–", measured);
    }

    /// Fails when a row was beyond its bound.
    #[track_caller]
    pub(crate) fn end(self) {
        assert!(self.missed.is_empty(), "beyond the bound:\n{}", self.missed.join("\n"));
    }
}

/// On a line of its own: libtest leaves the cursor behind the name of a test.
fn print_row(figure: &str, bound: &str, measured: &str) {
    println!("\n| {figure} | {bound} | {measured} |");
}

/// A duration with the digits that matter.
pub(crate) fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    match ms {
        _ if ms < 10.0 => format!("{ms:.2} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}
