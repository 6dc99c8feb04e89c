//! One attempt to connect: files, TCP, TLS, AMQP handshake, first channel; and the kill
//! switch.

use super::failure::DialError;
use super::files::Login;
use super::transport::Transport;
use crate::config::{BrokerConfig, Endpoint, Secret};
use crate::labels::ConnectFailure;
use crate::link::LinkSettings;
use crate::link::lanes::open_channel;
use crate::locking::lock;
use async_compat::Compat;
use futures_util::stream::{BoxStream, StreamExt};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::types::{LongString, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection that is ready to publish.
pub(crate) struct Dialled {
    pub(crate) connection: Arc<Connection>,
    pub(crate) shared: Channel,
    /// For probes only.
    pub(crate) control: Channel,
    pub(crate) kill_switch: KillSwitch,
    pub(crate) transport: Transport,
    /// lapin's events. There is exactly one listener: clones would compete for events (ADR-0001).
    pub(crate) events: BoxStream<'static, Event>,
    pub(crate) user: Arc<str>,
    /// What it logged in with.
    pub(crate) password: Secret,
    /// When the newest request was sent that the broker has answered.
    pub(crate) proven: Instant,
}

/// The hard abort of a connection: a duplicate of its socket, shut down in both directions.
///
/// lapin's own `close` waits forever for a broker that does not answer (ADR-0001). After the kill
/// switch is pulled, everything pending resolves within 3 to 100 ms and lapin's I/O thread ends.
/// Dropping pulls it as well, so that an abandoned attempt leaves no thread behind.
pub(crate) struct KillSwitch(StdTcpStream);

impl KillSwitch {
    fn of(socket: &TcpStream) -> std::io::Result<Self> {
        let duplicate = socket2::SockRef::from(socket).try_clone()?;
        Ok(Self(duplicate.into()))
    }

    /// Shuts the socket down. The kernel drops the bytes that it still holds.
    pub(crate) fn pull(&self) {
        // Both calls fail only on a socket that is dead already, which is the goal.
        drop(socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)));
        drop(self.0.shutdown(Shutdown::Both));
    }
}

impl Drop for KillSwitch {
    fn drop(&mut self) {
        self.pull();
    }
}

/// Connects to an `address` of `endpoint` within `broker.connect_timeout`, first channel included.
/// Before that, a file that blocks may take two seconds, and only at the first attempts. After it,
/// a failure that says little is looked into for a second, once a minute.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    address: SocketAddr,
    settings: &LinkSettings,
) -> Result<Dialled, DialError> {
    let LinkSettings { broker, files, diagnoses, .. } = settings;
    let too_late = || DialError::new(ConnectFailure::Timeout, "broker.connect_timeout passed");
    let login = files.login(endpoint).await?;
    let login_bytes = login.user.len() + login.password.expose().len();
    let tls = if endpoint.tls { Some(files.tls().await?) } else { None };
    let dialled =
        tokio::time::timeout(broker.connect_timeout, attempt(endpoint, address, broker, login, tls))
            .await
            .unwrap_or_else(|_| Err(too_late()));
    match dialled {
        Ok(dialled) => Ok(dialled),
        Err(error) => Err(diagnoses.explain(error, endpoint, address, login_bytes).await),
    }
}

async fn attempt(
    endpoint: &Endpoint,
    address: SocketAddr,
    broker: &BrokerConfig,
    login: Login,
    tls: Option<RustlsConnector>,
) -> Result<Dialled, DialError> {
    let (user, password): (Arc<str>, _) = (login.user.as_str().into(), login.password.clone());
    let uri = uri(endpoint, broker, login);
    let socket = TcpStream::connect(address).await.map_err(|error| DialError::tcp(&error))?;
    prepare(&socket, broker).map_err(|error| DialError::tcp(&error))?;
    let kill_switch = KillSwitch::of(&socket).map_err(|error| DialError::tcp(&error))?;
    let transport = Transport::of(&socket).map_err(|error| DialError::tcp(&error))?;
    let mut stream = AsyncTcpStream::Plain(Compat::new(socket));
    if let Some(connector) = tls {
        stream = stream
            .into_rustls(&connector, &endpoint.host)
            .await
            .map_err(|error| DialError::new(ConnectFailure::Tls, error))?;
    }
    // lapin may ask for a second stream if the first one ends early. There is none.
    let stream = Mutex::new(Some(stream));
    let hand_out = async move |_, _| {
        let stream = lock(&stream).take();
        stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    };
    let runtime = lapin::runtime::default_runtime().map_err(|error| DialError::amqp(&error))?;
    let connection = Connection::connector(uri, runtime, hand_out, client_properties(broker))
        .await
        .map_err(|error| DialError::amqp(&error))?;
    let events = connection.events_listener().boxed();
    let shared =
        open_channel(&connection, broker.connect_timeout).await.map_err(|error| DialError::amqp(&error))?;
    let proven = Instant::now();
    let control = connection.create_channel().await.map_err(|error| DialError::amqp(&error))?;
    Ok(Dialled {
        connection: Arc::new(connection),
        shared,
        control,
        kill_switch,
        transport,
        events,
        user,
        password,
        proven,
    })
}

fn prepare(socket: &TcpStream, broker: &BrokerConfig) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = socket2::SockRef::from(socket);
    socket.set_keepalive(true)?;
    // The connection ends if the peer's kernel does not acknowledge written bytes for as long as
    // heartbeats allow.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(broker.heartbeat * 2))?;
    Ok(())
}

/// The URI for lapin.
fn uri(endpoint: &Endpoint, broker: &BrokerConfig, login: Login) -> AMQPUri {
    let heartbeat_seconds = u16::try_from(broker.heartbeat.as_secs()).unwrap_or(u16::MAX);
    AMQPUri {
        scheme: if endpoint.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: login.user, password: login.password.expose().to_owned() },
            host: endpoint.host.clone(),
            port: endpoint.port,
        },
        vhost: endpoint.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(u32::try_from(broker.frame_max).unwrap_or(u32::MAX)),
            heartbeat: Some(heartbeat_seconds),
            ..AMQPQueryString::default()
        },
    }
}

fn client_properties(broker: &BrokerConfig) -> ConnectionProperties {
    let property = |text: &str| LongString::from(text);
    ConnectionProperties::default()
        .with_connection_name(property(&broker.connection_name))
        .with_client_property(ShortString::from("product"), property("amqpost"))
        .with_client_property(ShortString::from("version"), property(env!("CARGO_PKG_VERSION")))
}
