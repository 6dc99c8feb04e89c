//! Rules between two keys.

use super::given::Layers;
use super::keys::{Config, RouteConfig, all_keys};
use super::listen::{ListenAddress, collide};
use super::problems::{Mismatch, Problem, Problems, quoted};
use super::raw::Raw;
use super::reader::Found;
use crate::message::Mode;

/// `key` must be `demand` `other`.
pub(super) struct Rule {
    pub(super) key: &'static str,
    /// Such as `at most`; the other key's name follows.
    pub(super) demand: &'static str,
    pub(super) other: &'static str,
    holds: fn(&Config) -> bool,
}

pub(super) const RULES: &[Rule] = &[
    rule("admin.listen", "an address apart from", "http.listen", |config| {
        !config.http.listen.iter().any(|address| match address {
            ListenAddress::Tcp(address) => collide(*address, config.admin.listen),
            ListenAddress::Unix(_) => false,
        })
    }),
    rule("broker.ca_file", "an amqps URI in", "broker.endpoints", |config| {
        config.broker.ca_file.is_none() || config.broker.endpoints.iter().any(|endpoint| endpoint.tls)
    }),
    rule("broker.reconnect_min", "at most", "broker.reconnect_max", |config| {
        config.broker.reconnect_min <= config.broker.reconnect_max
    }),
    rule("broker.frame_max", "at most", "broker.write_window", |config| {
        config.broker.frame_max <= config.broker.write_window
    }),
    rule("publish.timeout", "at most", "publish.max_timeout", |config| {
        config.publish.timeout <= config.publish.max_timeout
    }),
    rule("publish.max_body", "at most", "publish.max_in_flight_bytes", |config| {
        config.publish.max_body <= config.publish.max_in_flight_bytes
    }),
];

const fn rule(
    key: &'static str,
    demand: &'static str,
    other: &'static str,
    holds: fn(&Config) -> bool,
) -> Rule {
    Rule { key, demand, other, holds }
}

/// Each table `[[route]]` must fulfil it.
pub(super) struct RouteRule {
    pub(super) key: &'static str,
    pub(super) demand: &'static str,
    /// The key outside of the table that the rule is about, if there is one.
    other: Option<&'static str>,
    got: fn(&RouteConfig) -> &str,
    /// Whether the table at this position does.
    holds: fn(&Config, usize) -> bool,
}

pub(super) const ROUTE_RULES: &[RouteRule] = &[
    RouteRule {
        key: "route.exchange",
        demand: "a pattern that no earlier table has",
        other: None,
        got: |route| &route.exchange,
        holds: |config, index| {
            !config.route[..index].iter().any(|earlier| earlier.exchange == config.route[index].exchange)
        },
    },
    // A route that keeps messages needs a place to keep them.
    RouteRule {
        key: "route.mode",
        demand: "direct, or spool.path to be set",
        other: Some("spool.path"),
        got: |route| route.mode.as_str(),
        holds: |config, index| config.route[index].mode == Mode::Direct || config.spool.path.is_some(),
    },
];

/// Pairs of keys of which only one may be given, whatever the source: nobody could tell which of
/// the two applies.
pub(super) const EXCLUSIVE: &[(&str, &str)] = &[
    ("broker.endpoints", "broker.endpoints_file"),
    ("broker.user", "broker.user_file"),
    ("broker.password", "broker.password_file"),
    ("spool.park_after", "spool.undeliverable"),
];

/// Whether no two values contradict each other.
pub(super) fn hold(config: &Config) -> bool {
    let routes = |rule: &RouteRule| (0..config.route.len()).all(|index| (rule.holds)(config, index));
    RULES.iter().all(|rule| (rule.holds)(config)) && ROUTE_RULES.iter().all(routes)
}

/// Finds the contradictions between values that are each good by themselves.
pub(super) fn check(config: &Config, found: &Found, layers: &Layers, problems: &mut Problems) {
    for (index, (table, origin)) in found.tables.get("route").into_iter().flatten().enumerate() {
        let known = |rule: &&RouteRule| rule.other.is_none_or(|other| !found.bad.contains(other));
        for rule in ROUTE_RULES.iter().filter(known).filter(|rule| !(rule.holds)(config, index)) {
            let (got, expected) = (quoted((rule.got)(&config.route[index])), rule.demand.to_owned());
            problems.mismatch(rule.key, origin, Mismatch { part: Some(table.clone()), got, expected });
        }
    }
    for (key, other) in EXCLUSIVE {
        if layers.given.is_explicit(key) && layers.given.is_explicit(other) {
            contradiction(key, "not to stand beside", other, layers, problems);
        }
    }
    for rule in RULES {
        let other = if rule.other == "broker.endpoints" && layers.given.is_explicit("broker.endpoints_file") {
            "broker.endpoints_file"
        } else {
            rule.other
        };
        let known = [rule.key, rule.other, other].iter().all(|key| !found.bad.contains(key));
        if known && !(rule.holds)(config) {
            contradiction(rule.key, rule.demand, other, layers, problems);
        }
    }
}

fn contradiction(key: &str, demand: &str, other: &str, layers: &Layers, problems: &mut Problems) {
    let (this, that) = (shown(key, layers), shown(other, layers));
    let verdict = format!("expected {demand} {other} = {that} ({})", layers.given.origin(other));
    let problem = Problem::new(key, layers.given.origin(key), verdict);
    problems.push(Problem { got: Some(this), ..problem });
}

fn shown(path: &str, layers: &Layers) -> String {
    let key = all_keys().find(|key| key.path == path).expect("rules name keys that exist, a test says so");
    let default = || key.default.map(|default| Raw::Plain(default.to_owned()));
    let raw = layers.given.of(path).map(|(raw, _)| raw.clone()).or_else(default);
    raw.map_or("unset".to_owned(), |raw| raw.shown(&key.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_keys_that_exist() {
        let rules = RULES.iter().map(|rule| (rule.key, rule.other));
        for (key, other) in rules.chain(EXCLUSIVE.iter().copied()) {
            assert!(all_keys().any(|known| known.path == key), "{key}");
            assert!(all_keys().any(|known| known.path == other), "{other}");
        }
    }
}
