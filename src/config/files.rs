//! The files that keys point to: endpoints, user, password, certificate authorities.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::CaFile;
use super::endpoint::{Endpoint, redact};
use super::layers::Layers;
use super::problems::{Mismatch, Problems};
use super::raw::quoted;
use super::secret::Secret;
use super::settings::Settings;

/// No file of ours is nearly so large; a device or a core dump is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// What the files hold; `None` where no file was given or it was no good, which is then among the problems.
#[derive(Debug)]
pub(super) struct BrokerFiles {
    pub(super) endpoints: Option<Vec<Endpoint>>,
    pub(super) user: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) ca_file: Option<CaFile>,
}

impl BrokerFiles {
    pub(super) fn read(settings: &mut Settings, layers: &Layers, problems: &mut Problems) -> Self {
        let mut reading = Reading { settings, layers, problems };
        Self {
            endpoints: reading.file("broker.endpoints_file", endpoints),
            user: reading.file("broker.user_file", credential),
            password: reading.file("broker.password_file", credential),
            ca_file: reading.file("broker.ca_file", certificates),
        }
    }
}

struct Reading<'a> {
    settings: &'a mut Settings,
    layers: &'a Layers,
    problems: &'a mut Problems,
}

impl Reading<'_> {
    fn file<T>(&mut self, key: &'static str, read: fn(&Path) -> Result<T, Vec<Mismatch>>) -> Option<T> {
        let path: PathBuf = self.settings.find(key)?;
        match read(&path) {
            Ok(value) => Some(value),
            Err(mismatches) => {
                self.settings.mark_bad(key);
                for mismatch in mismatches {
                    self.problems.mismatch(key, &self.layers.origin(key), mismatch);
                }
                None
            }
        }
    }
}

fn endpoints(path: &Path) -> Result<Vec<Endpoint>, Vec<Mismatch>> {
    let text = read_text(path).map_err(|expected| unfit(path, expected))?;
    let (mut endpoints, mut mismatches) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match Endpoint::parse(line) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(expected) => mismatches.extend(expected.into_iter().map(|expected| Mismatch {
                part: Some(format!("line {} of {}", index + 1, quoted_path(path))),
                got: quoted(&redact(line)),
                expected,
            })),
        }
    }
    if !mismatches.is_empty() {
        Err(mismatches)
    } else if endpoints.is_empty() {
        Err(unfit(path, "a file with at least one URI"))
    } else {
        Ok(endpoints)
    }
}

fn credential(path: &Path) -> Result<Secret, Vec<Mismatch>> {
    Secret::read(path).map_err(|expected| unfit(path, expected))
}

fn certificates(path: &Path) -> Result<CaFile, Vec<Mismatch>> {
    let pem = read_text(path).map_err(|expected| unfit(path, expected))?;
    if pem.split_once(PEM_BEGIN).is_some_and(|(_, behind)| behind.contains(PEM_END)) {
        Ok(CaFile { path: path.to_owned(), pem })
    } else {
        Err(unfit(path, "PEM with at least one BEGIN CERTIFICATE block"))
    }
}

fn unfit(path: &Path, expected: impl Into<String>) -> Vec<Mismatch> {
    vec![Mismatch::new(quoted_path(path), expected)]
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Reads a text file; or says what was expected of it.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("a readable file: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("a file of at most 1 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "a file of UTF-8 text".to_owned())
}
