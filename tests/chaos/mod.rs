//! One run: a plan from the seed, load and faults at the same time, then the verdicts.
//!
//! * `plan` draws the schedule, `messages` the requests;
//! * `scene` holds the processes under test; `faults` and `load` (through `client`) act on it;
//! * `arrivals` records the messages that arrive, `noise` measures delays that the sidecar did not
//!   cause, `books` holds all records;
//! * `oracle` judges by the `contract`, `spooled` judges the messages from the spool, `report`
//!   prints the verdicts.

mod arrivals;
mod books;
mod client;
mod contract;
mod faults;
mod load;
mod messages;
mod noise;
mod oracle;
mod plan;
mod report;
mod scene;
mod spooled;

pub(crate) use plan::Settings;

use books::{Arrival, Books};
use noise::Noise;
use oracle::Oracle;
use plan::Plan;
use scene::Scene;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Plays one seed.
///
/// # Errors
/// The stories of all broken promises.
pub(crate) async fn a_run(settings: Settings) -> Result<(), String> {
    let Settings { seed, length } = settings;
    let mut plan = Plan::of(seed);
    println!("chaos seed {seed}: {} requests/s, {} in flight at most, {length:?}", plan.rate, plan.limit);
    let scene = Scene::set(plan.limit).await;
    let books = Arc::new(Books::default());
    let (noise, _measuring) = Noise::measure(&scene.door, &scene.vhost.uri());
    let _consumers = arrivals::consume(seed, &scene.vhost.uri(), &books);

    let start = Instant::now();
    let until = start + length;
    let rate = plan.rate;
    tokio::join!(
        load::send(seed, rate, &scene, &books, until),
        faults::play(&scene, &mut plan, &books, until),
    );
    scene.link_is_up().await;
    scene.is_quiet().await;

    let (records, arrivals, windows) = books.close();
    let (records, windows) = (records.as_slice(), windows.as_slice());
    let limit = plan.limit;
    let oracle =
        Oracle { seed, limit, rate, records, arrivals: by_number(&arrivals), windows, noise: &noise };
    let violations = oracle.judge();
    let summary = report::summary(&oracle, &violations);
    println!("{summary}");
    if violations.is_empty() {
        return Ok(());
    }
    let stories = report::stories(&oracle, &violations, start);
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-seed-{seed}.log"));
    let everything = format!("{summary}\n\n{stories}\n{}", scene.log().await);
    std::fs::write(&log, everything).expect("the log of a failed run can be written");
    println!("{stories}");
    Err(format!("{summary}\n{stories}the sidecars' log: {}", log.display()))
}

fn by_number(arrivals: &[Arrival]) -> HashMap<u32, Vec<&Arrival>> {
    let mut by_number: HashMap<u32, Vec<&Arrival>> = HashMap::new();
    for arrival in arrivals {
        by_number.entry(arrival.number).or_default().push(arrival);
    }
    by_number
}
