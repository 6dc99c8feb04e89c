//! The tables `[[route]]`: which exchanges have which mode. Only the file can give them: a list has no place in a variable.

use super::RouteConfig;
use super::keys::Key;
use super::kind::Kind;
use super::layers::Layers;
use super::problems::{Mismatch, Origin, Problem, Problems};
use super::raw::quoted;
use super::suggest::listed;
use super::toml_file::Entry;
use super::value::Value;
use crate::message::Mode;

/// What the tables are called.
pub(super) const TABLE: &str = "route";

/// What is said to whoever gives a route in the environment or as a flag.
pub(super) const FILE_ONLY: &str = "routes are given in the file only, as tables [[route]]";

/// One line on what they are about.
#[cfg_attr(not(test), expect(dead_code, reason = "read by the documents, which a test writes"))]
pub(super) const DOC: &str = "The mode of requests that name none, by exchange. The first table whose pattern fits holds; where none fits the mode is `direct`.";

/// The keys of each table.
pub(super) const KEYS: &[Key] = &[
    Key {
        path: "route.exchange",
        default: None,
        kind: Kind::Text { max_characters: 255 },
        doc: "The exchanges: a name in which each `*` stands for any characters, dots and none included. The default exchange is `amq.default`.",
    },
    Key {
        path: "route.mode",
        default: None,
        kind: Kind::Choice(Mode::WORDS),
        doc: "The mode of requests that name none.",
    },
    Key {
        path: "route.override",
        default: Some("true"),
        kind: Kind::Flag,
        doc: "Whether a request may name another mode; where not, one that does is answered 400.",
    },
];

/// One table as it was written.
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    pub(super) origin: Origin,
}

/// What is known of a table while it is read.
#[derive(Default)]
struct Reading {
    exchange: Option<String>,
    mode: Option<Mode>,
    may_override: Option<bool>,
}

/// Reads all tables; what is wrong with one does not hide what is wrong with another.
pub(super) fn read(layers: &Layers, problems: &mut Problems) -> Vec<RouteConfig> {
    let mut routes: Vec<RouteConfig> = Vec::new();
    let has_spool = layers.is_explicit("spool.path");
    for (index, table) in layers.routes.iter().enumerate() {
        let part = format!("table {}", index + 1);
        let Some(route) = one(table, &part, problems) else { continue };
        let mut mismatch = |key, got: &str, expected: &str| {
            let (part, expected) = (Some(part.clone()), expected.to_owned());
            problems.mismatch(key, &table.origin, Mismatch { part, got: quoted(got), expected });
        };
        if routes.iter().any(|earlier| earlier.exchange == route.exchange) {
            mismatch("route.exchange", &route.exchange, "a pattern that no earlier table has");
        }
        // A route that keeps messages needs a place to keep them.
        if route.mode != Mode::Direct && !has_spool {
            mismatch("route.mode", route.mode.as_str(), "direct, or spool.path to be set");
        }
        routes.push(route);
    }
    routes
}

fn one(table: &Table, part: &str, problems: &mut Problems) -> Option<RouteConfig> {
    let mut reading = Reading::default();
    let mut is_good = true;
    for entry in &table.entries {
        let origin = table.origin.at_line(entry.line);
        let Some(key) = KEYS.iter().find(|key| Some(key.name()) == entry.name.as_deref()) else {
            problems.push(Problem {
                key: entry.path(),
                part: Some(part.to_owned()),
                got: None,
                origin,
                verdict: format!("unknown key; {}", listed(TABLE, KEYS)),
            });
            is_good = false;
            continue;
        };
        match Value::parse(&key.kind, &entry.raw) {
            Ok(value) => reading.take(key, value),
            Err(mismatches) => {
                is_good = false;
                for mismatch in mismatches {
                    problems.mismatch(
                        key.path,
                        &origin,
                        Mismatch { part: Some(part.to_owned()), ..mismatch },
                    );
                }
            }
        }
    }
    let given = |name| table.entries.iter().any(|entry| entry.name.as_deref() == Some(name));
    for missing in KEYS.iter().filter(|key| key.default.is_none() && !given(key.name())) {
        is_good = false;
        problems.push(Problem {
            key: missing.path.to_owned(),
            part: Some(part.to_owned()),
            got: None,
            origin: table.origin.clone(),
            verdict: format!("is missing; expected {}", missing.kind),
        });
    }
    reading.finished().filter(|_| is_good)
}

impl Reading {
    fn take(&mut self, key: &Key, value: Value) {
        match (key.path, value) {
            ("route.exchange", Value::Text(pattern)) => self.exchange = Some(pattern),
            ("route.mode", Value::Choice(position)) => self.mode = Mode::ALL.get(position).copied(),
            ("route.override", Value::Flag(flag)) => self.may_override = Some(flag),
            (path, _) => unreachable!("{path} has a kind that gives another value"),
        }
    }

    fn finished(self) -> Option<RouteConfig> {
        Some(RouteConfig {
            exchange: self.exchange?,
            mode: self.mode?,
            r#override: self.may_override.unwrap_or(true),
        })
    }
}
