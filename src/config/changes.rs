//! `Changes`: the differences between two configurations, and which of them a running sidecar can
//! take over. Pure: it reads nothing and changes nothing.

use super::keys::Config;
use super::rules;
use super::secret::Secret;

/// The keys and tables, such as `publish.timeout` and `route`, whose values differ between two
/// configurations. Secrets are named and never shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A running sidecar takes these over.
    pub reloadable: Vec<&'static str>,
    /// These hold only after a restart.
    pub needs_restart: Vec<&'static str>,
}

/// The differences between the configuration in force and a new one.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Changes {
    reload(old, new).1
}

/// The configuration that is in force after `old` has taken over everything that it can from `new`,
/// and the changes.
///
/// The reloadable part of `new` may need a key that waits for the restart: a route, for example,
/// may need the path of the spool. Then all changes wait for the restart.
pub(super) fn reload(old: &Config, new: &Config) -> (Config, Changes) {
    let mut changes = Changes::default();
    for (path, reloadable) in read_once(old).differing(&read_once(new)) {
        let paths = if reloadable { &mut changes.reloadable } else { &mut changes.needs_restart };
        paths.push(path);
    }
    let mut in_force = old.clone();
    in_force.adopt(new);
    if rules::hold(&in_force) {
        return (in_force, changes);
    }
    changes.needs_restart.append(&mut changes.reloadable);
    (old.clone(), changes)
}

/// The configuration without the values that are read from their files at each attempt to connect.
/// Such values need no reload.
fn read_once(config: &Config) -> Config {
    let mut config = config.clone();
    let broker = &mut config.broker;
    for endpoint in &mut broker.endpoints {
        if broker.user_file.is_some() {
            endpoint.user.clear();
        }
        if broker.password_file.is_some() {
            endpoint.password = Secret::new("");
        }
    }
    for file in broker.user_file.iter_mut().chain(&mut broker.password_file) {
        file.content = None;
    }
    if let Some(file) = &mut broker.ca_file {
        file.content = None;
    }
    config
}
