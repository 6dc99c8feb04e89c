//! The chart docs/performance.svg: CPU of a confirmed publish beside the two floors, stacked.

use crate::section::{Bar, number};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 310.0;
const BAR: f64 = 44.0;
const HTTP: &str = "#8fb8de";
const AMQP: &str = "#5b84b1";
const AMQPOST: &str = "#fc766a";

/// The chart of some loads.
pub(crate) fn chart(bars: &[Bar]) -> String {
    let highest = bars.iter().map(|bar| bar.amqpost.max(bar.http + bar.amqp)).fold(1.0, f64::max);
    let scale = (BOTTOM - TOP) / highest;
    let group = (WIDTH - LEFT - 20.0) / bars.len().max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        20.0,
        24.0,
        "start",
        "CPU of a confirmed publish, µs (1 KiB, a broker that only acks): lower is better",
    );
    for (at, (colour, name)) in
        [(HTTP, "HTTP alone"), (AMQP, "lapin alone"), (AMQPOST, "amqpost: both, and what it promises")]
            .into_iter()
            .enumerate()
    {
        let x = 20.0 + 150.0 * at as f64;
        rect(&mut svg, x, 34.0, 12.0, 12.0, colour);
        text(&mut svg, x + 18.0, 44.0, "start", name);
    }
    for (at, bar) in bars.iter().enumerate() {
        let middle = LEFT + group * (at as f64 + 0.5);
        let (floors, ours) = (middle - BAR - 4.0, middle + 4.0);
        let mut top = BOTTOM;
        for (value, colour) in [(bar.http, HTTP), (bar.amqp, AMQP)] {
            top -= value * scale;
            rect(&mut svg, floors, top, BAR, value * scale, colour);
        }
        text(&mut svg, floors + BAR / 2.0, top - 5.0, "middle", &number(bar.http + bar.amqp));
        let height = bar.amqpost * scale;
        rect(&mut svg, ours, BOTTOM - height, BAR, height, AMQPOST);
        text(&mut svg, ours + BAR / 2.0, BOTTOM - height - 5.0, "middle", &number(bar.amqpost));
        text(&mut svg, middle, BOTTOM + 18.0, "middle", &bar.label);
    }
    svg + "</svg>\n"
}

fn rect(svg: &mut String, x: f64, y: f64, width: f64, height: f64, colour: &str) {
    writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    )
    .expect("a String takes everything");
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
        .expect("a String takes everything");
}
