//! Messages to a commit through HTTP: the real sidecar with a spool and no broker, under keep-alive
//! connections.

use crate::drive::{Gauge, Latencies, Pace, drive};
use crate::harness::{Answer, Sidecar};
use crate::rows::{Rows, at_least};
use crate::wire::{Address, Http1, Post};
use crate::{Plan, all, fresh, median};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing listens there, so that nothing leaves the spool.
const NO_BROKER: &str = "amqp://127.0.0.1:1";
/// Bytes of a body.
const BODY: usize = 1024;

/// The results of a load.
struct Measured {
    elapsed: Duration,
    requests: u64,
    stored: u64,
    commits: u64,
    latencies: Latencies,
}

/// The work of the sidecar's spool so far.
struct Done {
    stored: u64,
    commits: u64,
}

impl Measured {
    fn per_commit(&self) -> f64 {
        self.stored as f64 / self.commits as f64
    }

    /// The rate of answers and the 99th percentile, in one word.
    fn shown(&self) -> String {
        format!(
            "{:.0}/{:.1}",
            self.requests as f64 / self.elapsed.as_secs_f64(),
            self.latencies.exchanges.p99 / 1000.0
        )
    }
}

/// 16 clients and 256, by turns.
pub(crate) async fn many_clients(plan: &Plan, place: &Path, rows: &mut Rows) {
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        few.push(measure(16, place, plan.phase).await);
        many.push(measure(256, place, plan.phase).await);
    }
    for (row, what, measured, bound) in [
        ("2c", "16 clients over HTTP: messages to a commit", few, 8.0),
        ("2d", "256 clients over HTTP: messages to a commit", many, 100.0),
    ] {
        let per_commit: Vec<f64> = measured.iter().map(Measured::per_commit).collect();
        let shown: Vec<String> = measured.iter().map(Measured::shown).collect();
        let note = format!("rounds {}; messages/s and p99 in ms {}", all(&per_commit), shown.join(" "));
        rows.add(row, what, median(per_commit), at_least(bound), note);
    }
}

/// A sidecar of its own under this many connections, each of which sends the next request after the
/// answer to the last.
async fn measure(connections: usize, place: &Path, span: Duration) -> Measured {
    let directory = fresh(place);
    let path = format!("\"{}\"", directory.path().join("spool").display());
    let sidecar = Sidecar::builder(NO_BROKER)
        .set("spool.path", &path)
        .set("spool.max_bytes", "\"8GiB\"")
        .set("spool.destination_percent", "100")
        .start()
        .await;
    let address = Address::Tcp(sidecar.http().parse().expect("an address"));
    let gauge = Gauge::new(Pace::Closed);
    let client = tokio::task::spawn_blocking({
        let gauge = Arc::clone(&gauge);
        move || send(connections, &address, gauge)
    });
    // The first second makes files and grows the log to the size that it keeps.
    tokio::time::sleep(span / 4).await;
    let (before, first, begun) = (Done::of(&sidecar).await, gauge.mark(), Instant::now());
    tokio::time::sleep(span).await;
    let (after, last, elapsed) = (Done::of(&sidecar).await, gauge.done(), begun.elapsed());
    gauge.stop();
    let latencies = client.await.expect("the client does not panic");
    assert_eq!(gauge.failure(), None, "every answer is 202");
    Measured {
        elapsed,
        requests: last - first,
        stored: after.stored - before.stored,
        commits: after.commits - before.commits,
        latencies,
    }
}

/// The client's side, on one thread, so that the sidecar has the rest of the machine.
fn send(connections: usize, address: &Address, gauge: Arc<Gauge>) -> Latencies {
    let post = Post {
        paths: vec!["/v1/queues/bench/messages".to_owned()],
        headers: "amqpost-mode: spool\r\n".to_owned(),
        body: vec![b'x'; BODY].into(),
        status: 202,
        reconnects: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let clients = Http1::connect(address, &post, connections).await.expect("it accepts");
        drive(clients, gauge).await
    })
}

impl Done {
    async fn of(sidecar: &Sidecar) -> Self {
        let link: Answer = sidecar.admin("/link").await;
        let spool = &link.json()["spool"];
        let number = |name: &str| spool[name].as_u64().expect("a number");
        Self { stored: number("appended"), commits: number("commits") }
    }
}
