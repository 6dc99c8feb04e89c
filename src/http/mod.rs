//! The door in: HTTP requests become messages, outcomes become responses.
//!
//! `publish` walks a request through `raw` or an envelope (with `draft`, `percent`, `upload`) to the
//! link, `stream` walks many in one request, `respond` makes every response, `routes` knows the paths and counts.

#[cfg(test)]
mod counted;
mod draft;
mod percent;
mod publish;
mod raw;
mod rejection;
mod respond;
mod routes;
mod stream;
mod upload;

pub use respond::PROBLEM_TYPE_BASE;
pub use routes::{ROUTES, routes};

use crate::admission::Admission;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::publishing::PublishService;
use crate::tasks::Tasks;
use std::sync::Arc;
use std::time::Duration;
use stream::Places;
use tokio::sync::watch;

/// What every request needs: the bounds, the defaults, the way to publish.
#[derive(Debug)]
pub struct Door {
    service: PublishService,
    admission: Admission,
    metrics: Metrics,
    timeout: Duration,
    max_timeout: Duration,
    max_body: usize,
    headers_text_max: usize,
    /// Room for the lines of streams, and how many one of them may have under way.
    places: Places,
    stream_in_flight: usize,
    /// After it a stream ends that does not send or does not read.
    idle_timeout: Duration,
    streams: Tasks,
    /// True once no more is accepted.
    stopping: watch::Receiver<bool>,
}

impl Door {
    /// A door with the limits of the configuration. Streams take no more lines once `stopping` is true.
    #[must_use]
    pub fn new(
        config: &Config,
        service: PublishService,
        admission: Admission,
        metrics: Metrics,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        // The longest way to write a byte in JSON is `\u0000`.
        const JSON_BYTES_PER_BYTE_MAX: usize = 6;
        let publish = &config.publish;
        let frame_max = usize::try_from(config.broker.frame_max).unwrap_or(usize::MAX);
        Arc::new(Self {
            service,
            places: Places::new(admission.clone()),
            admission,
            metrics,
            timeout: publish.timeout,
            max_timeout: publish.max_timeout,
            max_body: publish.max_body,
            headers_text_max: frame_max.saturating_mul(JSON_BYTES_PER_BYTE_MAX),
            stream_in_flight: publish.stream_in_flight,
            idle_timeout: config.http.idle_timeout,
            streams: Tasks::default(),
            stopping,
        })
    }
}
