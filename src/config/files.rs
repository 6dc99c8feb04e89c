//! `FromFile`: a value that is in a file. The key gives the path of the file.

use super::endpoint::{Endpoint, redact};
use super::problems::{Mismatch, quoted};
use super::secret::{Secret, is_credential};
use crate::watched_files::{Unread, read_text_in_time};
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// A file that was read when the configuration was. It serialises as its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromFile<T> {
    /// Where it was read from.
    pub path: PathBuf,
    /// The content; `None` if it could not be read in time, and may be read later.
    pub content: Option<T>,
}

/// Certificates as PEM, with at least one `BEGIN CERTIFICATE` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates(String);

/// Something that a file of the configuration holds.
pub(super) trait Content: Sized {
    /// Whether the sidecar can start before it knows the content.
    const MAY_COME_LATER: bool;

    /// Reads the text of the file `path`; or says everything that was expected of it, without a
    /// secret.
    fn parse(text: &str, path: &Path) -> Result<Self, Vec<Mismatch>>;
}

/// Reads a file; or says everything that was expected of it, without a secret.
pub(super) fn open<T: Content>(path: PathBuf) -> Result<FromFile<T>, Vec<Mismatch>> {
    let content = match read_text_in_time(&path) {
        Ok(text) => Some(T::parse(&text, &path)?),
        // A file that blocks must not keep the process from starting.
        Err(Unread::Late) if T::MAY_COME_LATER => None,
        Err(unread) => return Err(unfit(&path, unread.to_string())),
    };
    Ok(FromFile { path, content })
}

impl<T> Serialize for FromFile<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.path.display())
    }
}

impl Certificates {
    /// Takes the text of a file such as `broker.ca_file` names.
    ///
    /// # Errors
    /// What was expected of the text.
    pub fn parse(pem: &str) -> Result<Self, String> {
        if pem.split_once(PEM_BEGIN).is_some_and(|(_, behind)| behind.contains(PEM_END)) {
            Ok(Self(pem.to_owned()))
        } else {
            Err("PEM with at least one BEGIN CERTIFICATE block".to_owned())
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl Content for Certificates {
    const MAY_COME_LATER: bool = true;

    fn parse(text: &str, path: &Path) -> Result<Self, Vec<Mismatch>> {
        Self::parse(text).map_err(|expected| unfit(path, expected))
    }
}

impl Content for Secret {
    const MAY_COME_LATER: bool = true;

    fn parse(text: &str, path: &Path) -> Result<Self, Vec<Mismatch>> {
        parse_credential(text).map_err(|expected| unfit(path, expected))
    }
}

/// One URI a line.
impl Content for Vec<Endpoint> {
    const MAY_COME_LATER: bool = false;

    fn parse(text: &str, path: &Path) -> Result<Self, Vec<Mismatch>> {
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
}

/// Takes the one line of a file such as `broker.password_file` names, without the newlines at its
/// end.
///
/// # Errors
///
/// The expected form of the text, without anything from the text itself.
pub fn parse_credential(text: &str) -> Result<Secret, String> {
    // Editors and `echo` end a file with a newline that nobody means.
    let line = text.trim_end_matches(['\r', '\n']);
    if is_credential(line) {
        Ok(Secret::new(line))
    } else {
        Err("a file with one line, not empty and without control characters".to_owned())
    }
}

fn unfit(path: &Path, expected: impl Into<String>) -> Vec<Mismatch> {
    vec![Mismatch::new(quoted_path(path), expected)]
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}
