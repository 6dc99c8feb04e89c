//! The machine's own delays, which a test must not blame on the sidecar.

use super::starvation::Starvation;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const TICK: Duration = Duration::from_millis(20);

/// The measurement of one tick.
#[derive(Clone, Copy, Debug)]
struct Tick {
    /// When the timer was due.
    due: Instant,
    /// How late it fired.
    late: Duration,
    /// How long a thread of the test and a thread of the sidecar waited for a processor since the
    /// last tick.
    starved: Duration,
}

/// A record of the machine's delays, from the start of the measurement until it is dropped.
#[derive(Debug)]
pub struct Machine {
    ticks: Arc<Mutex<Vec<Tick>>>,
    _measuring: JoinSet<()>,
}

impl Machine {
    /// Starts to measure beside a sidecar with this process id.
    pub fn measure(sidecar: u32) -> Self {
        let ticks = Arc::<Mutex<Vec<_>>>::default();
        let mut measuring = JoinSet::new();
        measuring.spawn(tick(Arc::clone(&ticks), sidecar));
        Self { ticks, _measuring: measuring }
    }

    /// The part of a delay between two moments that the machine caused.
    pub fn explains(&self, from: Instant, to: Instant) -> Duration {
        // A thread that waited shortly before was late with its work, and a wait that ends shortly
        // after is counted only then.
        const MARGIN: Duration = Duration::from_millis(100);
        let ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let within =
            ticks.iter().filter(|tick| tick.due + tick.late + MARGIN >= from && tick.due <= to + MARGIN);
        let (late, starved) = within.fold((Duration::ZERO, Duration::ZERO), |(late, starved), tick| {
            (late.max(tick.late), starved + tick.starved)
        });
        late + starved
    }
}

async fn tick(ticks: Arc<Mutex<Vec<Tick>>>, sidecar: u32) {
    let (mut test_starved, mut sidecar_starved) = (Starvation::default(), Starvation::default());
    loop {
        let due = Instant::now() + TICK;
        tokio::time::sleep_until(due.into()).await;
        let late = due.elapsed();
        let starved = test_starved.since_last(std::process::id()) + sidecar_starved.since_last(sidecar);
        ticks.lock().unwrap_or_else(PoisonError::into_inner).push(Tick { due, late, starved });
    }
}
