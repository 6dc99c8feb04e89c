//! `FromFile`: what a key takes from a file that it names.

use super::endpoint::{Endpoint, redact};
use super::problems::{Mismatch, quoted};
use super::secret::{Secret, is_credential};
use serde::{Serialize, Serializer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read. None of ours is nearly this large; a device or a core dump is
/// larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// A file that was read when the configuration was. It serialises as its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromFile<T> {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it held.
    pub content: T,
}

/// Certificates as PEM, with at least one `BEGIN CERTIFICATE` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates(String);

/// Something that a file of the configuration holds.
pub(super) trait Content: Sized {
    /// Reads the file; or says everything that was expected of it, without a secret.
    fn read(path: &Path) -> Result<Self, Vec<Mismatch>>;
}

impl<T> Serialize for FromFile<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.path.display())
    }
}

impl Certificates {
    /// The text of the file.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl Content for Certificates {
    fn read(path: &Path) -> Result<Self, Vec<Mismatch>> {
        let pem = read_text(path).map_err(|expected| unfit(path, expected))?;
        if pem.split_once(PEM_BEGIN).is_some_and(|(_, behind)| behind.contains(PEM_END)) {
            Ok(Self(pem))
        } else {
            Err(unfit(path, "PEM with at least one BEGIN CERTIFICATE block"))
        }
    }
}

impl Content for Secret {
    fn read(path: &Path) -> Result<Self, Vec<Mismatch>> {
        read_credential(path).map_err(|expected| unfit(path, expected))
    }
}

/// One URI a line.
impl Content for Vec<Endpoint> {
    fn read(path: &Path) -> Result<Self, Vec<Mismatch>> {
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
}

/// Reads the one line of a file such as `broker.password_file` names, without the newlines at its
/// end. A file may be rotated: whoever reads it again later reads it by this same rule.
///
/// # Errors
///
/// What was expected of the file, without anything it holds.
pub fn read_credential(path: &Path) -> Result<Secret, String> {
    let text = read_text(path)?;
    // Editors and `echo` end a file with a newline that nobody means.
    let line = text.trim_end_matches(['\r', '\n']);
    if is_credential(line) {
        Ok(Secret::new(line))
    } else {
        Err("a file with one line, not empty and without control characters".to_owned())
    }
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

fn unfit(path: &Path, expected: impl Into<String>) -> Vec<Mismatch> {
    vec![Mismatch::new(quoted_path(path), expected)]
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}
