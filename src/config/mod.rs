//! The configuration: text from files, environment and flags in, valid typed values out.
//!
//! The file overrides the defaults, the environment overrides the file, and flags override the
//! environment. All values are checked once, here, and all problems are reported together; no later
//! code reads the environment or checks a number again. All keys are declared in `keys.rs`; from
//! the declarations, `declare` makes structs and the code that reads, shows and compares them.
//!
//! `toml_file` and `layers` find the `given` values; `reader` and `setting` turn them into typed
//! values; `rules` finds contradictions; `problems` and `suggest` say what is wrong.

mod changes;
mod declare;
mod endpoint;
mod files;
mod given;
mod keys;
mod kind;
mod layers;
mod listen;
mod live;
mod park_after;
mod problems;
mod raw;
mod reader;
#[cfg(test)]
mod reference;
mod routes;
mod rules;
mod schema;
mod secret;
mod setting;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod toml_file;
mod words;

use given::Layers;
use problems::Problems;
use reader::Found;

pub use changes::{Changes, changes};
pub use endpoint::Endpoint;
pub use files::{Certificates, FromFile, parse_credential};
pub use keys::*;
pub use listen::{ListenAddress, SOCKET_PATH_BYTES_MAX};
pub use live::Live;
pub use park_after::ParkAfter;
pub use problems::{ConfigError, Origin, Problem};
pub use secret::Secret;
pub use sources::Sources;
pub use words::{LogFormat, LogLevel, Overtaking, Returns, Undeliverable};

impl Default for Config {
    fn default() -> Self {
        Self::load(&Sources::default()).expect("the defaults are valid, a test says so")
    }
}

impl Config {
    /// Merges the sources, reads the files they point to, and checks everything.
    ///
    /// # Errors
    ///
    /// All the problems there are, together.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let layers = layers::merge(sources, &mut problems);
        let (config, found) = Self::read_whole(&layers, &mut problems);
        // If a file could not be read, any key in it might resolve an apparent contradiction.
        if !layers.is_incomplete {
            rules::check(&config, &found, &layers, &mut problems);
        }
        problems.or(config)
    }

    /// The configuration in force as TOML, without credentials. As JSON: serialise `self`.
    #[must_use]
    pub fn effective(&self) -> String {
        toml::to_string(self).expect("tables of texts, numbers and lists always serialise")
    }

    fn read_whole(layers: &Layers, problems: &mut Problems) -> (Self, Found) {
        let (mut config, found) = Self::read(layers, problems);
        config.broker.complete_endpoints();
        (config, found)
    }
}

impl SpoolConfig {
    /// How long the broker may refuse a destination, even if only the deprecated key says it.
    #[must_use]
    pub fn park_after(&self) -> ParkAfter {
        match self.undeliverable {
            Some(Undeliverable::Wait) => ParkAfter::Never,
            Some(Undeliverable::Park) | None => self.park_after,
        }
    }
}

impl BrokerConfig {
    /// Takes the endpoints from their file, and the user and password of all of them from the keys
    /// or their files.
    fn complete_endpoints(&mut self) {
        if let Some(file) = &self.endpoints_file {
            self.endpoints = file.content.clone().unwrap_or_default();
        }
        let content = |file: &'_ Option<FromFile<Secret>>| file.as_ref()?.content.clone();
        let user = content(&self.user_file).or_else(|| self.user.clone());
        let password = content(&self.password_file).or_else(|| self.password.clone());
        for endpoint in &mut self.endpoints {
            if let Some(user) = &user {
                user.expose().clone_into(&mut endpoint.user);
            }
            if let Some(password) = &password {
                endpoint.password.clone_from(password);
            }
        }
    }
}
