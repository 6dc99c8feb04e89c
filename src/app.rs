//! Starts every part in the order of its dependencies, and returns the bound addresses.

use crate::admin::{Admin, AdminError, Readiness, Shown};
use crate::admission::Admission;
use crate::config::{Config, Live};
use crate::control::{ControlError, ControlSocket, Desk};
use crate::http::{self, Door};
use crate::link::{Link, Waits};
use crate::listener::{BindError, Listeners};
use crate::metrics::Metrics;
use crate::publishing::PublishService;
use crate::spool::store::{Address, StoreReader};
use crate::spool::{Drain, Spool};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running sidecar.
#[derive(Debug)]
pub struct App {
    pub(crate) live: Live,
    pub(crate) link: Link,
    pub(crate) spool: Option<Spool>,
    pub(crate) drain: Option<Drain>,
    pub(crate) control: Option<ControlSocket>,
    pub(crate) admission: Admission,
    pub(crate) admin: Admin,
    pub(crate) readiness: watch::Sender<Readiness>,
    pub(crate) stop_accepting: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
    addresses: Vec<String>,
}

/// The sidecar could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener for requests.
    #[error(transparent)]
    Http(#[from] BindError),
    /// The listener for operators.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The spool. If amqpost started without it, its messages would stay there, and nobody would
    /// know.
    #[error(transparent)]
    Spool(#[from] crate::spool::store::OpenError),
    /// The socket for changes to the spool.
    #[error(transparent)]
    ControlSocket(#[from] ControlError),
}

impl App {
    /// Binds the listeners, starts connecting to the broker, and serves. Returns without waiting
    /// for the broker. The service follows changes of `live`.
    ///
    /// # Errors
    /// When a listener cannot be bound or the spool cannot be opened.
    pub async fn start(live: Live) -> Result<Self, StartError> {
        let config = live.now().clone();
        let listeners = Listeners::bind((&config.http).into()).await?;
        let addresses = listeners.addresses();
        let spool = Spool::open(&config)?;
        let control = control(&config, spool.as_ref()).await?;
        let metrics = Metrics::new(http::ROUTES);
        let publish = &config.publish;
        let admission = Admission::new(publish.max_in_flight, publish.max_in_flight_bytes);
        let spool_handle = spool.as_ref().map(Spool::handle);
        let waits = spool_handle.clone().map_or_else(Waits::never, |spool| {
            Waits::new(move |message| spool.backlog.has(&Address::of(message)))
        });
        let (link, link_handle) = Link::start(&live, waits, admission.clone(), metrics.clone());
        let drain = spool_handle.clone().zip(config.spool.path.as_ref()).map(|(spool, path)| {
            let (link, admission) = (link_handle.clone(), admission.clone());
            Drain::start(spool, link, admission, path, live.clone(), metrics.clone())
        });
        let (readiness, readiness_reader) = watch::channel(Readiness::Serving);
        let shown = Shown {
            link: link_handle.clone(),
            spool: spool_handle.clone(),
            admission: admission.clone(),
            metrics: metrics.clone(),
            config: live.clone(),
            readiness: readiness_reader,
        };
        let admin = Admin::start(config.admin.listen, shown).await?;
        let (stop_accepting, stopped) = watch::channel(false);
        let service =
            PublishService::new(&live, link_handle, spool_handle, admission.clone(), metrics.clone());
        let door = Door::new(&live, service, admission.clone(), metrics, stopped.clone());
        let serving = tokio::spawn(listeners.serve(http::routes(door), stopped));
        tracing::info!(http = addresses.join(","), admin = admin.address(), "listening");
        Ok(Self {
            live,
            link,
            spool,
            drain,
            control,
            admission,
            admin,
            readiness,
            stop_accepting,
            serving,
            addresses,
        })
    }

    /// Where requests are taken, as bound.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

/// The operator's socket in the directory of the spool, when there is one.
async fn control(config: &Config, spool: Option<&Spool>) -> Result<Option<ControlSocket>, StartError> {
    let (Some(path), Some(spool)) = (&config.spool.path, spool) else { return Ok(None) };
    let desk = Desk::new(spool.handle(), StoreReader::open(path)?);
    Ok(Some(ControlSocket::start(path, desk).await?))
}
