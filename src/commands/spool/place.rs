//! Where the spool is and how to reach it: read-only, through its sidecar, or by opening it.

use super::Failure;
use crate::commands::ConfigArguments;
use crate::commands::client::{self, ClientError, Target};
use crate::control::{ChangeRequest, Desk, Done, ErrorBody, Operation, Sidecar, SocketPath};
use crate::spool::store::{self, Holder, OpenError, Store, StoreReader, StoreSettings};
use crate::spool::{self, SpoolHandle, SpoolSnapshot};
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{Method, Request, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A sidecar that has not answered within this time is shown as silent.
const STATUS_WITHIN: Duration = Duration::from_secs(2);
/// A sidecar that has not answered within this time gets no changes.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Longer than the sidecar's own deadline, so that the sidecar itself reports a delay.
const CHANGE_WITHIN: Duration = Duration::from_secs(40);

/// Where the spool is.
#[derive(Args)]
pub(super) struct PlaceArguments {
    /// The spool's directory. The default is spool.path of the configuration.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArguments,
}

/// A spool's settings.
pub(super) struct SpoolPlace {
    settings: StoreSettings,
    socket: Arc<SocketPath>,
}

/// The process that makes the changes.
pub(super) enum Hands {
    /// The sidecar that has the spool.
    Sidecar(Arc<SocketPath>),
    /// This command, which has opened the spool.
    Own(Store, Box<Desk>),
}

impl SpoolPlace {
    pub(super) fn of(arguments: PlaceArguments) -> Result<Self, Failure> {
        let PlaceArguments { path, config } = arguments;
        let config = config.load().map_err(Failure::Config)?;
        let Some(path) = path.or_else(|| config.spool.path.clone()) else {
            return Err(Failure::Usage(
                "there is no spool.path in the configuration; give --path".to_owned(),
            ));
        };
        let socket = Arc::new(SocketPath::of(&path));
        Ok(Self { settings: spool::settings(&config.spool, &path, config.idempotency.window), socket })
    }

    /// A read-only connection.
    pub(super) fn reader(&self) -> Result<StoreReader, Failure> {
        let directory = &self.settings.directory;
        let opened = StoreReader::open(directory);
        if let Err(OpenError::Files { source, .. }) = &opened
            && source.kind() == io::ErrorKind::NotFound
        {
            return Err(Failure::Failed(format!("there is no spool in {}", directory.display())));
        }
        Ok(opened?)
    }

    /// Whether a process has the spool, and the state that it reports.
    pub(super) async fn sidecar(&self) -> Result<(Sidecar, Option<SpoolSnapshot>), Failure> {
        let why = match self.ask(STATUS_WITHIN).await {
            Ok(response) => match live(&response) {
                Ok(live) => return Ok((Sidecar::Answers, Some(live))),
                Err(why) => why,
            },
            Err(error) => silence(&error),
        };
        // Only the lock shows whether a process has the spool: a dead one may have left its socket.
        let holder = store::holder(&self.settings.directory)?;
        Ok((holder.map_or(Sidecar::None, |Holder { pid }| Sidecar::Silent { pid, why }), None))
    }

    /// Decides which process makes changes; changes nothing yet.
    pub(super) async fn hands(&self) -> Result<Hands, Failure> {
        let why = match self.ask(HELLO_WITHIN).await {
            Ok(_) => return Ok(Hands::Sidecar(Arc::clone(&self.socket))),
            Err(error) => silence(&error),
        };
        // First a read-only connection: opening for writing would create a missing spool.
        let reader = self.reader()?;
        match Store::open(self.settings.clone()) {
            Ok((store, handle)) => {
                let spool = SpoolHandle::new(handle);
                Ok(Hands::Own(store, Box::new(Desk::new(spool, reader))))
            }
            Err(error @ OpenError::InUse { .. }) => {
                Err(Failure::Failed(format!("{error}, which does not answer: {why}; nothing was changed")))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn ask(&self, within: Duration) -> Result<Response<Bytes>, ClientError> {
        client::send(&at(&self.socket), request::<()>(Method::GET, "/v1/status", None), within).await
    }
}

/// The state that a sidecar reports, or why there is none.
fn live(response: &Response<Bytes>) -> Result<SpoolSnapshot, String> {
    /// The part of a status that is not read from the disk.
    #[derive(Deserialize)]
    struct Answer {
        live: SpoolSnapshot,
    }
    if response.status().is_success() {
        let answer = serde_json::from_slice::<Answer>(response.body());
        return answer.map(|answer| answer.live).map_err(|error| format!("it answers otherwise: {error}"));
    }
    let fault = serde_json::from_slice::<ErrorBody>(response.body());
    Err(fault.map_or_else(|_| format!("it answers {}", response.status()), |fault| fault.error))
}

/// Why a process that may be running did not answer.
fn silence(error: &ClientError) -> String {
    match error {
        ClientError::Connect(_, error) if error.kind() == io::ErrorKind::NotFound => {
            "it has no control socket".to_owned()
        }
        ClientError::Connect(_, error) => format!("no connection to its control socket: {error}"),
        ClientError::Http(_) | ClientError::Timeout(_) => error.to_string(),
    }
}

impl Hands {
    /// Makes a change to one part of the selected messages.
    pub(super) async fn change(&self, change: Operation, order: ChangeRequest) -> Result<Done, Failure> {
        match self {
            Hands::Own(_, desk) => {
                desk.change(change, order).await.map_err(|error| Failure::Failed(error.to_string()))
            }
            Hands::Sidecar(socket) => {
                let path = match change {
                    Operation::Redrive => "/v1/redrive",
                    Operation::Park => "/v1/park",
                    Operation::Drop => "/v1/drop",
                };
                let request = request(Method::POST, path, Some(&order));
                match client::send(&at(socket), request, CHANGE_WITHIN).await {
                    Ok(response) => read(&response),
                    Err(error @ ClientError::Connect(..)) => Err(Failure::Failed(error.to_string())),
                    Err(error @ (ClientError::Http(_) | ClientError::Timeout(_))) => {
                        Err(Failure::Unknown(format!("{error}: the change may be made or not")))
                    }
                }
            }
        }
    }

    /// Closes the spool, if this command has opened it.
    pub(super) fn done(self) {
        if let Hands::Own(store, desk) = self {
            drop(desk);
            store.close();
        }
    }
}

fn at(socket: &SocketPath) -> Target {
    Target::Unix(socket.way.clone())
}

fn request<T: Serialize>(method: Method, path: &str, body: Option<&T>) -> Request<Full<Bytes>> {
    let body = body.map(|body| serde_json::to_vec(body).expect("texts and numbers always serialise"));
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "amqpost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .expect("the path and the headers are valid")
}

fn read<T: DeserializeOwned>(response: &Response<Bytes>) -> Result<T, Failure> {
    let wrong =
        |error: serde_json::Error| Failure::Unknown(format!("the sidecar answered otherwise: {error}"));
    if response.status().is_success() {
        return serde_json::from_slice(response.body()).map_err(wrong);
    }
    let fault: ErrorBody = serde_json::from_slice(response.body()).map_err(wrong)?;
    // The sidecar continues with the late change.
    let is_late = response.status().as_u16() == 504;
    Err(if is_late { Failure::Unknown(fault.error) } else { Failure::Failed(fault.error) })
}
