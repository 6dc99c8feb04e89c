//! Makes a certificate authority and a server certificate for loopback, for each node.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The files of a new authority and server certificate.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate, to be trusted by clients.
    pub ca: PathBuf,
    /// The server's certificate, for `localhost` and 127.0.0.1.
    pub server: PathBuf,
    /// The server's private key.
    pub server_key: PathBuf,
}

impl Certificates {
    /// Makes both and writes them as PEM files into `directory`.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn make_in(directory: &Path) -> Self {
        let (ca, server, key) = make().unwrap_or_else(|e| panic!("making certificates: {e}"));
        let write = |name: &str, pem: String| {
            let path = directory.join(name);
            std::fs::write(&path, pem).unwrap_or_else(|e| panic!("writing {}: {e}", path.display()));
            path
        };
        Self {
            ca: write("ca.pem", ca),
            server: write("server.pem", server),
            server_key: write("server-key.pem", key),
        }
    }
}

fn make() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "localhost");
    let server = server.signed_by(&key, &authority)?;
    Ok((authority.pem(), server.pem(), key.serialize_pem()))
}
