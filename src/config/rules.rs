//! What two keys together must fulfil.

use super::Config;
use super::keys::KEYS;
use super::layers::Layers;
use super::listen::{ListenAddress, collide};
use super::problems::{Problem, Problems};
use super::settings::Settings;

/// `key` must be `demand` `other`.
pub(super) struct Rule {
    pub(super) key: &'static str,
    /// Such as `at most`; the other key's name follows.
    pub(super) demand: &'static str,
    pub(super) other: &'static str,
    holds: fn(&Config) -> bool,
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        key: "admin.listen",
        demand: "an address apart from",
        other: "http.listen",
        holds: |config| {
            !config.http.listen.iter().any(|address| match address {
                ListenAddress::Tcp(address) => collide(*address, config.admin.listen),
                ListenAddress::Unix(_) => false,
            })
        },
    },
    Rule {
        key: "broker.ca_file",
        demand: "an amqps URI in",
        other: "broker.endpoints",
        holds: |config| {
            config.broker.ca_file.is_none() || config.broker.endpoints.iter().any(|endpoint| endpoint.tls)
        },
    },
    Rule {
        key: "broker.reconnect_min",
        demand: "at most",
        other: "broker.reconnect_max",
        holds: |config| config.broker.reconnect_min <= config.broker.reconnect_max,
    },
    Rule {
        key: "broker.frame_max",
        demand: "at most",
        other: "broker.write_window",
        holds: |config| config.broker.frame_max <= config.broker.write_window,
    },
    Rule {
        key: "publish.timeout",
        demand: "at most",
        other: "publish.max_timeout",
        holds: |config| config.publish.timeout <= config.publish.max_timeout,
    },
    Rule {
        key: "publish.max_body",
        demand: "at most",
        other: "publish.max_in_flight_bytes",
        holds: |config| config.publish.max_body <= config.publish.max_in_flight_bytes,
    },
];

/// Pairs of which only one may be given, wherever: which of the two should hold, nobody could tell.
pub(super) const EXCLUSIVE: &[(&str, &str)] = &[
    ("broker.endpoints", "broker.endpoints_file"),
    ("broker.user", "broker.user_file"),
    ("broker.password", "broker.password_file"),
];

/// Finds the contradictions between values that are each good by themselves.
pub(super) fn check(config: &Config, settings: &Settings, layers: &Layers, problems: &mut Problems) {
    for (key, other) in EXCLUSIVE {
        if layers.is_explicit(key) && layers.is_explicit(other) {
            contradiction(key, "not to stand beside", other, layers, problems);
        }
    }
    for rule in RULES {
        let other = if rule.other == "broker.endpoints" && layers.is_explicit("broker.endpoints_file") {
            "broker.endpoints_file"
        } else {
            rule.other
        };
        let known = [rule.key, rule.other, other].iter().all(|key| !settings.is_bad(key));
        if known && !(rule.holds)(config) {
            contradiction(rule.key, rule.demand, other, layers, problems);
        }
    }
}

fn contradiction(key: &str, demand: &str, other: &str, layers: &Layers, problems: &mut Problems) {
    let (this, that) = (shown(key, layers), shown(other, layers));
    problems.push(Problem {
        key: key.to_owned(),
        part: None,
        got: Some(this),
        origin: layers.origin(key),
        verdict: format!("expected {demand} {other} = {that} ({})", layers.origin(other)),
    });
}

fn shown(path: &str, layers: &Layers) -> String {
    let key = KEYS.iter().find(|key| key.path == path).expect("rules name keys of the table, a test says so");
    layers.of(path).map_or("unset".to_owned(), |given| given.raw.shown(&key.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_speak_of_keys_that_exist() {
        let rules = RULES.iter().map(|rule| (rule.key, rule.other));
        for (key, other) in rules.chain(EXCLUSIVE.iter().copied()) {
            assert!(KEYS.iter().any(|known| known.path == key), "{key}");
            assert!(KEYS.iter().any(|known| known.path == other), "{other}");
        }
    }
}
