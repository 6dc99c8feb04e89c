//! Publishes orders: to the broker, to the spool, or to the one and then the other, as their mode
//! says.
//!
//! * [`PublishService`] takes orders; `routes` says which mode a request has, `course` takes one
//!   order to its end;
//! * `split` divides the deadline between broker and spool, `keeping` is the spool's part;
//! * `fingerprint` hashes idempotency keys and requests, `keys` is the table of them in memory,
//!   `claims` shares it.
//!
//! Work that must finish even if its client has left runs in a task of its own, owned by
//! [`PublishService`].

mod claims;
mod course;
mod fingerprint;
mod keeping;
mod keys;
mod routes;
mod split;

pub use routes::ModeRefused;

use crate::admission::{Admission, Permit, Share};
use crate::config::{Live, RouteConfig};
use crate::link::LinkHandle;
use crate::message::{Deadline, Message, Mode, Order, RetryPolicy, Settlement, ShortText};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::spool::SpoolHandle;
use crate::tasks::Tasks;
use claims::Claims;
use course::Course;
use futures_util::future::{Either, FutureExt};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Publishes in any mode. Clones share one service.
#[derive(Clone, Debug)]
pub struct PublishService(Arc<Ways>);

/// Everything that an order may need.
#[derive(Debug)]
struct Ways {
    live: Live,
    link: LinkHandle,
    spool: Option<SpoolHandle>,
    admission: Admission,
    metrics: Metrics,
    claims: Claims,
    /// Bounds the messages that wait to be written to disk.
    share: Share,
    /// The most bytes that the properties of a spooled message may take, so that the broker takes
    /// them later.
    properties_max: usize,
    tasks: Tasks,
}

impl Ways {
    /// Publishes a message to the broker, and tells the drain if the broker accepts it where
    /// messages of the spool wait.
    fn to_broker(
        &self,
        message: Arc<Message>,
        permit: Permit,
        deadline: Deadline,
        retry: RetryPolicy,
    ) -> impl Future<Output = Settlement> + Send + '_ {
        let watched = self.spool.as_ref().and_then(|spool| spool.acceptances.look(&message));
        self.link.publish(message, permit, deadline, retry).map(move |settlement| {
            if let Some(watched) = watched.filter(|_| settlement.outcome == Outcome::Confirmed) {
                watched.accepted();
            }
            settlement
        })
    }
}

impl PublishService {
    /// A service with the routes and limits of the configuration.
    #[must_use]
    pub fn new(
        live: &Live,
        link: LinkHandle,
        spool: Option<SpoolHandle>,
        admission: Admission,
        metrics: Metrics,
    ) -> Self {
        let config = live.now();
        let keys = &config.idempotency;
        Self(Arc::new(Ways {
            live: live.clone(),
            link,
            share: admission.share(),
            admission,
            metrics,
            claims: Claims::new(keys.window, keys.max_keys),
            properties_max: keeping::properties_max(config.broker.frame_max),
            tasks: Tasks::default(),
            spool,
        }))
    }

    /// The mode of a message to `exchange` (as it is named on the wire) whose request asks for
    /// `asked`, by the routes in force.
    ///
    /// # Errors
    /// When the mode needs a spool and there is none, or the exchange's route lets no request
    /// choose.
    pub fn mode(
        &self,
        routes: &[RouteConfig],
        exchange: &ShortText,
        asked: Option<Mode>,
    ) -> Result<Mode, ModeRefused> {
        routes::mode(routes, self.0.spool.is_some(), exchange, asked)
    }

    /// Why a message would be refused right now, before its body is read; `None` if it would not.
    /// `mode` is `None` if only the body says the mode. A request with an idempotency key may be
    /// answered without a broker.
    #[must_use]
    pub fn refusal(&self, mode: Option<Mode>, has_key: bool) -> Option<Outcome> {
        let needs_link = match mode {
            Some(Mode::Direct) => true,
            Some(Mode::Fallback | Mode::Spool) => false,
            None => self.0.spool.is_none(),
        };
        if needs_link && !has_key { self.0.link.refusal() } else { None }
    }

    /// Ends when the link begins to drain.
    pub async fn draining(&self) {
        self.0.link.draining().await;
    }

    /// Takes an order to its outcome, by its deadline. If the future is dropped, a direct order
    /// without a key is withdrawn where that is possible; any other order is taken to its end
    /// without its client.
    ///
    /// Not an `async fn`, which would store the order and the future that it was moved into.
    pub fn publish(&self, order: Order, permit: Permit) -> impl Future<Output = Settlement> + Send + '_ {
        let message_id = order.message_id().clone();
        if order.mode == Mode::Direct && order.key.is_none() {
            let Order { message, deadline, retry, .. } = order;
            let publishing = self.0.to_broker(message, permit, deadline, retry);
            return Either::Left(publishing.map(move |settlement| settlement.about(message_id)));
        }
        let (reply, settled) = oneshot::channel();
        let course = Course::new(Arc::clone(&self.0), order, reply);
        self.0.tasks.spawn(course.run(permit));
        // Without an answer the task has panicked, and it is not known how far it came.
        let failed = || Settlement::of(Outcome::Internal).about(message_id);
        Either::Right(settled.map(|settled| settled.unwrap_or_else(|_| failed())))
    }
}
