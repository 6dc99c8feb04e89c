//! `Sources`: where the texts of a configuration come from.

use std::fmt;
use std::path::PathBuf;

/// Where the configuration's texts come from. Reading the process environment is the caller's part.
/// `Debug` shows names only, because a value may be a secret.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file of `--config`, if given; it must then be readable.
    pub file: Option<PathBuf>,
    /// Environment variables, name and value; those not named `AMQPOST__…` are ignored. If bytes
    /// are not UTF-8, pass the result of `to_string_lossy`: if they belong to a key of ours, the
    /// U+FFFD in it is reported as a problem.
    pub environment: Vec<(String, String)>,
    /// Key path and text of each flag, such as `("broker.connections", "4")`; if a key occurs
    /// twice, the last text applies.
    pub flags: Vec<(String, String)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        formatter
            .debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &names(&self.environment))
            .field("flags", &names(&self.flags))
            .finish()
    }
}
