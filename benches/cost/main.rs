//! The cost of a publish through amqpost, compared with the least that HTTP and AMQP cost by
//! themselves: `scripts/bench`.

#[path = "../../tests/it/harness/mod.rs"]
mod harness;

mod amqp_floor;
mod chart;
mod child;
mod drive;
mod floors;
mod growth;
mod hour;
mod http_floor;
mod latency;
mod lines;
mod page;
mod peers;
mod process;
mod resources;
mod sample;
mod section;
mod sink;
mod stage;
mod subject;
mod wire;

use child::Role;
use section::{Section, line};
use stage::{Plan, Stage};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What measures a section.
type Measure = fn(&Stage) -> Section;

/// The sections by name, in the order of the page.
const SECTIONS: [(&str, Measure); 11] = [
    ("cpu", floors::cpu),
    ("forms", floors::forms),
    ("stream", floors::stream),
    ("rabbitmq", floors::rabbitmq),
    ("latency", latency::latency),
    ("peers", peers::peers),
    ("down", resources::down),
    ("memory", resources::memory),
    ("start", resources::start),
    ("growth", growth::growth),
    (HOUR, hour::hour),
];

/// The section that is measured only if it is named, because it takes an hour.
const HOUR: &str = "hour";

/// Where the last results of each section are kept.
const RESULTS: &str = "BENCH_RESULTS";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(role) = words.first().and_then(|name| Role::named(name)) {
        play(role, &words[1..]);
        return ExitCode::SUCCESS;
    }
    let has = |option: &str| words.contains(&option);
    let minutes = words.iter().find_map(|word| word.strip_prefix("--minutes=")?.parse().ok()).unwrap_or(60);
    let names: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let results = PathBuf::from(std::env::var_os(RESULTS).unwrap_or(env!("CARGO_TARGET_TMPDIR").into()));
    if !has("--render") {
        measure(Plan::of(has("--short"), minutes), &names, &results);
    }
    if has("--write") || has("--render") {
        write(&results);
    }
    ExitCode::SUCCESS
}

/// Runs the role of a process that was started for one part.
fn play(role: Role, arguments: &[&str]) {
    // A runtime of one thread, like amqpost's by default.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match (role, arguments) {
        (Role::Sink, []) => {
            child::end_with_input();
            let sink = sink::Sink::listen().expect("a free port");
            println!("{}", sink.address().expect("it is bound"));
            sink.serve().expect("it accepts");
        }
        (Role::HttpFloor, [socket]) => {
            child::end_with_input();
            runtime.block_on(http_floor::run(Path::new(socket)));
        }
        (Role::AmqpFloor, [uri, queue]) => runtime.block_on(amqp_floor::run(uri, queue)),
        (role, arguments) => panic!("{role:?} with {arguments:?}"),
    }
}

/// Measures the named sections, or all except the hour, and keeps each.
fn measure(plan: Plan, names: &[&str], results: &Path) {
    let stage = Stage::set(plan);
    let mut verdicts = Vec::new();
    let is_wanted = |name| names.contains(&name) || names.is_empty() && name != HOUR;
    for (name, section) in SECTIONS.iter().filter(|(name, _)| is_wanted(*name)) {
        let section = section(&stage);
        section.end();
        let text = serde_json::to_string_pretty(&section).expect("plain data");
        fs::write(results.join(format!("{name}.json")), text).expect("the results can be kept");
        verdicts.extend(section.verdicts);
    }
    println!("\n| figure | target | measured | |\n|---|---|---|---|");
    verdicts.iter().for_each(|verdict| println!("{}", line(&verdict.cells())));
}

/// Writes the page and the chart from the kept results.
fn write(results: &Path) {
    let kept = |(name, _): &(&str, Measure)| {
        let text = fs::read_to_string(results.join(format!("{name}.json"))).ok()?;
        Some(serde_json::from_str::<Section>(&text).expect("this benchmark wrote it"))
    };
    let sections: Vec<Section> = SECTIONS.iter().filter_map(kept).collect();
    let bars: Vec<_> = sections.iter().flat_map(|section| section.bars.clone()).collect();
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::write(documents.join("performance.md"), page::page(&sections)).expect("docs can be written");
    fs::write(documents.join("performance.svg"), chart::chart(&bars)).expect("docs can be written");
}
