//! The files that a dial needs, read anew for each dial: user, password, certificate authorities.

use super::failure::DialError;
use crate::config::{BrokerConfig, Certificates, Endpoint, FromFile, Secret, parse_credential};
use crate::labels::ConnectFailure;
use crate::watched_files::{Seen, Watched};
use futures_util::future::{BoxFuture, OptionFuture, join};
use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::watch;

/// The files of all connections.
pub(crate) struct BrokerFiles {
    user: Option<Watched<Secret>>,
    password: Option<Watched<Secret>>,
    /// Trusts the authorities of `broker.ca_file`, or those of the system.
    tls: Watched<RustlsConnector>,
}

/// A user and a password.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

impl BrokerFiles {
    /// Watches the files while the returned tasks run.
    pub(crate) fn watch(broker: &BrokerConfig) -> (Self, Vec<BoxFuture<'static, ()>>) {
        let mut tasks = Vec::new();
        let mut credential = |key, file: &Option<FromFile<Secret>>| {
            let FromFile { path, content } = file.clone()?;
            let (watched, watch) = Watched::file(key, path, content, parse_credential);
            tasks.push(Box::pin(watch) as BoxFuture<'static, ()>);
            Some(watched)
        };
        let user = credential("broker.user_file", &broker.user_file);
        let password = credential("broker.password_file", &broker.password_file);
        let tls = match broker.ca_file.clone() {
            Some(FromFile { path, content }) => {
                let first = content.and_then(|certificates| trusting(&certificates).ok());
                let parse = |text: &str| trusting(&Certificates::parse(text)?);
                let (watched, watch) = Watched::file("broker.ca_file", path, first, parse);
                tasks.push(Box::pin(watch));
                watched
            }
            None => {
                let (watched, watch) = Watched::on_demand("the system's authorities", trusting_the_system);
                // Without TLS nobody asks for them, and they are not read.
                if broker.endpoints.iter().any(|endpoint| endpoint.tls) {
                    tasks.push(Box::pin(watch));
                }
                watched
            }
        };
        (Self { user, password, tls }, tasks)
    }

    /// The credentials for `endpoint`, with the present content of the files.
    pub(crate) async fn login(&self, endpoint: &Endpoint) -> Result<Login, DialError> {
        let fresh = |file: &Option<Watched<Secret>>| {
            let file = file.clone();
            OptionFuture::from(file.map(|file| async move { file.fresh().await }))
        };
        let unread = |key, problem: String| {
            DialError::new(ConnectFailure::Credentials, format!("broker.{key}: {problem}"))
        };
        let (user, password) = join(fresh(&self.user), fresh(&self.password)).await;
        let user = user.transpose().map_err(|problem| unread("user_file", problem))?;
        let password = password.transpose().map_err(|problem| unread("password_file", problem))?;
        Ok(Login {
            user: user.map_or_else(|| endpoint.user.clone(), |user| user.expose().to_owned()),
            password: password.unwrap_or_else(|| endpoint.password.clone()),
        })
    }

    /// A receiver that is told of each password in its file, if there is one.
    pub(crate) fn passwords(&self) -> Option<watch::Receiver<Seen<Secret>>> {
        self.password.as_ref().map(Watched::follow)
    }

    /// The verifier of the broker's certificate, with the present content of the files.
    pub(crate) async fn tls(&self) -> Result<RustlsConnector, DialError> {
        let unread = |problem| DialError::new(ConnectFailure::Tls, format!("broker.ca_file: {problem}"));
        self.tls.fresh().await.map_err(unread)
    }
}

impl std::fmt::Debug for BrokerFiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BrokerFiles").finish_non_exhaustive()
    }
}

fn trusting(certificates: &Certificates) -> Result<RustlsConnector, String> {
    let certificates = CertificateDer::pem_slice_iter(certificates.pem().as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("certificates in PEM: {error}"))?;
    RustlsConnectorConfig::default()
        .with_parsable_certificates(certificates)
        .connector_with_no_client_auth()
        .map_err(|error| error.to_string())
}

fn trusting_the_system() -> Result<RustlsConnector, String> {
    RustlsConnectorConfig::new_with_native_certs()
        .and_then(RustlsConnectorConfig::connector_with_no_client_auth)
        .map_err(|error| error.to_string())
}
