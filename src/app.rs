//! Builds every part in the order of its dependencies, and hands back the addresses that were bound.

use crate::admin::{Admin, AdminError, Readiness, Shown};
use crate::admission::Admission;
use crate::config::Config;
use crate::control::{ControlError, ControlSocket, Desk};
use crate::http::{self, BindError, Door, Listeners};
use crate::link::{BreakerState, ConnectFailure, ConnectionState, Link, LossReason};
use crate::metrics::{Metrics, Vocabulary};
use crate::publishing::PublishService;
use crate::spool::store::StoreReader;
use crate::spool::{AppendResult, DeliveryResult, Drain, DrainSettings, Spool};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running sidecar.
#[derive(Debug)]
pub struct App {
    pub(crate) config: Arc<Config>,
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
    /// The spool. Without it messages that it holds would stay there, and nobody would know.
    #[error(transparent)]
    Spool(#[from] crate::spool::store::OpenError),
    /// The socket for changes to the spool.
    #[error(transparent)]
    ControlSocket(#[from] ControlError),
}

impl App {
    /// Binds the listeners, starts dialling the broker, and serves. Returns without waiting for the broker.
    ///
    /// # Errors
    /// When a listener cannot be bound or the spool cannot be opened.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let listeners = Listeners::bind(&config.http).await?;
        let addresses = listeners.addresses();
        let spool = Spool::open(&config)?;
        let control = control(&config, spool.as_ref()).await?;
        let metrics = Metrics::new(vocabulary());
        let publish = &config.publish;
        let bytes_max = usize::try_from(publish.max_in_flight_bytes).unwrap_or(usize::MAX);
        let admission = Admission::new(publish.max_in_flight, bytes_max);
        let (link, link_handle) = Link::start(&config, admission.clone(), metrics.clone());
        let spool_handle = spool.as_ref().map(Spool::handle);
        let drain = spool_handle.clone().zip(DrainSettings::of(&config)).map(|(spool, settings)| {
            Drain::start(spool, link_handle.clone(), admission.clone(), settings, metrics.clone())
        });
        let (readiness, readiness_reader) = watch::channel(Readiness::Serving);
        let shown = Shown {
            link: link_handle.clone(),
            spool: spool_handle.clone(),
            admission: admission.clone(),
            metrics: metrics.clone(),
            config: Arc::clone(&config),
            readiness: readiness_reader,
        };
        let admin = Admin::start(config.admin.listen, shown).await?;
        let (stop_accepting, stopped) = watch::channel(false);
        let service =
            PublishService::new(&config, link_handle, spool_handle, admission.clone(), metrics.clone());
        let door = Door::new(&config, service, admission.clone(), metrics, stopped.clone());
        let serving = tokio::spawn(listeners.serve(http::routes(door), stopped));
        tracing::info!(http = addresses.join(","), admin = admin.address(), "listening");
        Ok(Self {
            config,
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

    /// Where operators are answered, as bound.
    #[must_use]
    pub fn admin_address(&self) -> &str {
        self.admin.address()
    }
}

/// The operator's socket in the directory of the spool, when there is one.
async fn control(config: &Config, spool: Option<&Spool>) -> Result<Option<ControlSocket>, StartError> {
    let (Some(path), Some(spool)) = (&config.spool.path, spool) else { return Ok(None) };
    let desk = Desk::new(spool.handle(), StoreReader::open(path)?);
    Ok(Some(ControlSocket::start(path, desk).await?))
}

/// The label values that metrics show from the start, collected from the rooms that own them.
fn vocabulary() -> Vocabulary {
    const LINK_STATES: &[&str] = &{
        let mut names = [""; ConnectionState::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = ConnectionState::ALL[at].as_str();
            at += 1;
        }
        names
    };
    const CONNECT_FAILURES: &[&str] = &{
        let mut names = [""; ConnectFailure::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = ConnectFailure::ALL[at].code();
            at += 1;
        }
        names
    };
    const LOSS_REASONS: &[&str] = &{
        let mut names = [""; LossReason::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = LossReason::ALL[at].code();
            at += 1;
        }
        names
    };
    const BREAKER_STATES: &[&str] = &{
        let mut names = [""; BreakerState::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = BreakerState::ALL[at].as_str();
            at += 1;
        }
        names
    };
    const APPENDS: &[&str] = &{
        let mut names = [""; AppendResult::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = AppendResult::ALL[at].as_str();
            at += 1;
        }
        names
    };
    const DELIVERIES: &[&str] = &{
        let mut names = [""; DeliveryResult::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = DeliveryResult::ALL[at].as_str();
            at += 1;
        }
        names
    };
    Vocabulary {
        spool_appends: APPENDS,
        spool_deliveries: DELIVERIES,
        breaker_states: BREAKER_STATES,
        link_states: LINK_STATES,
        connect_failures: CONNECT_FAILURES,
        loss_reasons: LOSS_REASONS,
        routes: http::ROUTES,
    }
}
