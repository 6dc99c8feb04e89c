//! Builds every part in the order of its dependencies, and hands back the addresses that were bound.

use crate::admin::{Admin, AdminError, Readiness, Shown};
use crate::admission::Admission;
use crate::config::{Config, Live};
use crate::control::{ControlError, ControlSocket, Desk};
use crate::http::{self, Door};
use crate::link::Link;
use crate::listener::{BindError, Listeners};
use crate::metrics::Metrics;
use crate::publishing::PublishService;
use crate::spool::store::StoreReader;
use crate::spool::{Drain, DrainSettings, Spool};
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
    /// The spool. Without it messages that it holds would stay there, and nobody would know.
    #[error(transparent)]
    Spool(#[from] crate::spool::store::OpenError),
    /// The socket for changes to the spool.
    #[error(transparent)]
    ControlSocket(#[from] ControlError),
}

impl App {
    /// Binds the listeners, starts connecting to the broker, and serves. Returns without waiting for the broker. The
    /// service follows changes of `live`.
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
        let (link, link_handle) = Link::start(&live, admission.clone(), metrics.clone());
        let spool_handle = spool.as_ref().map(Spool::handle);
        let drain = spool_handle.clone().zip(DrainSettings::of(&live)).map(|(spool, settings)| {
            Drain::start(spool, link_handle.clone(), admission.clone(), settings, metrics.clone())
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
            PublishService::new(&config, link_handle, spool_handle, admission.clone(), metrics.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Changes, Sources};
    use crate::shutdown;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// A configuration without a broker, with a spool in `directory` and this much of a file.
    fn config(directory: &tempfile::TempDir, toml: &str) -> Config {
        let file = directory.path().join("amqpost.toml");
        std::fs::write(&file, toml).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let flags = vec![
            pair("broker.endpoints", "amqp://127.0.0.1:1"),
            pair("http.listen", "127.0.0.1:0"),
            pair("admin.listen", "127.0.0.1:0"),
            pair("shutdown.broker_budget", "100ms"),
            pair("spool.path", directory.path().join("spool").to_str().unwrap()),
        ];
        Config::load(&Sources { file: Some(file), flags, ..Sources::default() }).unwrap()
    }

    /// The status of a publish to `exchange` that asks for this deadline.
    async fn publish(app: &App, exchange: &str, timeout: &str) -> u16 {
        let mut socket = TcpStream::connect(&app.addresses()[0]).await.unwrap();
        let head = format!(
            "POST /v1/exchanges/{exchange}/messages?routing_key=k HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             amqpost-timeout: {timeout}\r\ncontent-length: 2\r\n\r\nhi"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_running_service_takes_over_routes_and_deadlines() {
        let directory = tempfile::tempdir().unwrap();
        let live = Live::new(config(&directory, "[publish]\nmax_timeout = '5s'"));
        let app = App::start(live.clone()).await.unwrap();
        assert_eq!(publish(&app, "orders", "5s").await, 503);
        assert_eq!(publish(&app, "orders", "6s").await, 400);

        let new =
            "[publish]\nmax_timeout = '6s'\nmax_attempts = 1\n[[route]]\nexchange = 'orders'\nmode = 'spool'";
        let Changes { reloadable, needs_restart } = live.apply(&config(&directory, new));
        assert_eq!(reloadable, ["publish.max_timeout", "route"]);
        assert_eq!(needs_restart, ["publish.max_attempts"]);
        assert_eq!(live.now().publish.max_attempts, 3);
        assert_eq!(publish(&app, "orders", "6s").await, 202);
        assert_eq!(publish(&app, "other", "6s").await, 503);

        live.apply(&config(&directory, ""));
        assert_eq!(publish(&app, "orders", "6s").await, 503);
        shutdown::run(app).await;
    }
}
