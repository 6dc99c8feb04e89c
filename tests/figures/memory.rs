//! Whether memory grows while clients leave in the middle of their requests and connections to the
//! broker die.

use super::crowd::{Crowd, Manner, Tally};
use super::scene::{LAST, Route, Scene};
use super::table::Table;
use super::wire::post;
use crate::harness::{Sidecar, eventually};
use std::time::{Duration, Instant};

const CLIENTS: usize = 128;
const WARM_UP: u64 = 50_000;
const REQUESTS: u64 = 1_000_000;
const REQUESTS_SHORT: u64 = 100_000;
const RESET_EVERY: Duration = Duration::from_secs(5);
const GROWTH_KIB: u64 = 32 * 1024;
/// A crowd of this size that has not finished after this time makes no progress.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Measures it over a million requests.
pub(crate) async fn measure(short: bool) -> Table {
    let requests = if short { REQUESTS_SHORT } else { REQUESTS };
    let scene = Scene::set(Route::Proxy, &[]).await;
    play(&scene, WARM_UP).await;
    let warm = Memory::of(&scene.sidecar);
    let begun = Instant::now();
    let (tally, under_load) = play(&scene, requests).await;
    let took = begun.elapsed();
    let end = Memory::of(&scene.sidecar);
    let growth = end.resident.saturating_sub(warm.resident);

    let mut table = Table::default();
    table.bound(
        &format!("growth of resident memory over {requests} requests"),
        "≤ 32 MiB",
        &format!(
            "{} MiB: {} after {WARM_UP} requests, {} at the end",
            mib(growth),
            mib(warm.resident),
            mib(end.resident)
        ),
        growth <= GROWTH_KIB,
    );
    let in_flight = scene.sidecar.metric("amqpost_in_flight").await;
    table.bound("in flight afterwards", "0", &format!("{in_flight}"), in_flight == 0.0);
    let tenths: Vec<_> = under_load.iter().map(|kib| mib(*kib)).collect();
    table.note("under load, MiB at each tenth", &tenths.join(", "));
    table.note("highest ever, MiB", &mib(end.peak));
    let lost = scene.sidecar.metric("amqpost_disconnects_total{reason=\"io\"}").await;
    let per_second = requests / took.as_secs().max(1);
    table.note(
        "what happened",
        &format!(
            "{per_second} requests/s; {} clients left, {} broken {:?}, {lost} connections to the broker \
            lost; {:?}",
            tally.left, tally.broken.0, tally.broken.1, tally.codes
        ),
    );
    table
}

/// Sends this many requests while links die, until nothing is in flight. Returns the memory after
/// each tenth of them.
async fn play(scene: &Scene, requests: u64) -> (Tally, Vec<u64>) {
    let crowd = Crowd::gather(&scene.sidecar, CLIENTS, requests, request);
    let (mut next_reset, mut tenths) = (Instant::now() + RESET_EVERY, Vec::new());
    eventually("all requests have their end", PATIENCE, async || {
        if Instant::now() >= next_reset {
            scene.proxy.reset_all();
            next_reset += RESET_EVERY;
        }
        if crowd.begun() * 10 >= requests * (tenths.len() as u64 + 1) {
            tenths.push(Memory::of(&scene.sidecar).resident);
        }
        crowd.is_over()
    })
    .await;
    let tally = crowd.tally().await;
    scene.is_quiet().await;
    (tally, tenths)
}

/// Bodies of many sizes; one client in ten leaves, in the middle of its body or before its answer.
fn request(number: u64) -> (Vec<u8>, Manner) {
    const SIZES: [usize; 5] = [32, 200, 1000, 4000, 20_000];
    let length = SIZES[(number / 7) as usize % SIZES.len()];
    let manner = match number % 20 {
        // RST, unlike FIN, does not block a port for a minute, and a million requests need many
        // ports.
        3 => Manner::Leaves { unsent: length / 2, by_reset: number % 80 != 3 },
        13 => Manner::Leaves { unsent: 0, by_reset: number % 80 != 13 },
        _ => Manner::Patient,
    };
    (post(LAST, "", &vec![b'x'; length]), manner)
}

/// A memory figure of a process in KiB, as Linux reports it.
struct Memory {
    resident: u64,
    peak: u64,
}

impl Memory {
    fn of(sidecar: &Sidecar) -> Self {
        Self { resident: sidecar.memory_kib("VmRSS:"), peak: sidecar.memory_kib("VmHWM:") }
    }
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}
