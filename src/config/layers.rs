//! `Layers`: for each key the value that holds, where it was given, and what was given for no key at all.

use std::collections::BTreeMap;

use super::Sources;
use super::keys::{ENVIRONMENT_PREFIX, KEYS, Key, find};
use super::problems::{Mismatch, Origin, Problem, Problems};
use super::raw::Raw;
use super::routes;
use super::suggest::suggest;
use super::toml_file;

/// The prefix with its second underscore forgotten.
const ENVIRONMENT_NEAR_PREFIX: &str = "AMQPOST_";

/// What stands in a text whose bytes were not UTF-8, if the caller converted it as best it could.
const REPLACEMENT_CHARACTER: char = '\u{fffd}';

/// A value, which may be a secret in clear, and where it was given.
pub(super) struct Given {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// The sources merged: defaults < file < environment < flags.
pub(super) struct Layers {
    given: BTreeMap<&'static str, Given>,
    /// Whether the file, if there is one, could be read: without it the rest may contradict itself by mistake.
    pub(super) complete: bool,
    /// The tables `[[route]]`, in the order of the file.
    pub(super) routes: Vec<routes::Table>,
}

impl Layers {
    pub(super) fn merge(sources: &Sources, problems: &mut Problems) -> Self {
        let mut layers = Self { given: BTreeMap::new(), complete: true, routes: Vec::new() };
        for key in KEYS {
            if let Some(default) = key.default {
                layers.set(key, Raw::Plain(default.to_owned()), Origin::Default);
            }
        }
        layers.merge_file(sources, problems);
        layers.merge_environment(sources, problems);
        layers.merge_flags(sources, problems);
        layers
    }

    /// What holds for the key; nothing for an optional key that nobody set.
    pub(super) fn of(&self, path: &str) -> Option<&Given> {
        self.given.get(path)
    }

    /// Where the key's value was given.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.of(path).map_or(Origin::Default, |given| given.origin.clone())
    }

    /// Whether somebody set the key, be it to its default.
    pub(super) fn is_explicit(&self, path: &str) -> bool {
        self.origin(path) != Origin::Default
    }

    fn set(&mut self, key: &Key, raw: Raw, origin: Origin) {
        self.given.insert(key.path, Given { raw, origin });
    }

    fn merge_file(&mut self, sources: &Sources, problems: &mut Problems) {
        let Some(path) = &sources.file else { return };
        let Some(toml_file::Document { entries, routes }) = toml_file::read(path, problems) else {
            self.complete = false;
            return;
        };
        self.routes = routes;
        for entry in entries {
            let origin = toml_file::origin(path, entry.line);
            if let Some(key) = entry.name.as_deref().and_then(|name| find(&entry.section, name)) {
                self.set(key, entry.raw, origin);
            } else {
                let written = entry.path();
                let suggestion = suggest(&written, |key| key.path.to_owned());
                problems.push(unknown(written, origin, &suggestion));
            }
        }
    }

    fn merge_environment(&mut self, sources: &Sources, problems: &mut Problems) {
        for (name, value) in &sources.environment {
            let Some(path) = path_of(name) else { continue };
            let origin = Origin::Environment(name.clone());
            match KEYS.iter().find(|key| key.environment_name() == *name) {
                Some(key) if value.contains(REPLACEMENT_CHARACTER) => {
                    problems.mismatch(key.path, &origin, Mismatch::new("<bytes>", "UTF-8"));
                }
                Some(key) => self.set(key, Raw::Plain(value.clone()), origin),
                None => {
                    let suggestion = suggestion(&path, Key::environment_name);
                    problems.push(unknown(path, origin, &suggestion));
                }
            }
        }
    }

    fn merge_flags(&mut self, sources: &Sources, problems: &mut Problems) {
        for (path, value) in &sources.flags {
            if let Some(key) = path.split_once('.').and_then(|(section, name)| find(section, name)) {
                self.set(key, Raw::Plain(value.clone()), Origin::Flag);
            } else {
                let suggestion = suggestion(path, |key| key.path.to_owned());
                problems.push(unknown(path.clone(), Origin::Flag, &suggestion));
            }
        }
    }
}

/// The path that an environment variable means to set; `None` if it is none of ours.
///
/// One underscore where two belong is ours too, but only where the rest is a key: Kubernetes itself sets
/// `AMQPOST_SERVICE_HOST` and the like beside a service called `amqpost`.
fn path_of(name: &str) -> Option<String> {
    let starts_with =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let flat = |text: &str| text.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_");
    if starts_with(ENVIRONMENT_PREFIX) {
        return Some(name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace("__", "."));
    }
    if !starts_with(ENVIRONMENT_NEAR_PREFIX) {
        return None;
    }
    let rest = flat(&name[ENVIRONMENT_NEAR_PREFIX.len()..].to_ascii_lowercase());
    KEYS.iter().find(|key| key.path.replace('.', "_") == rest).map(|key| key.path.to_owned())
}

/// What to do instead of giving this key in the environment or as a flag.
fn suggestion(path: &str, spell: impl Fn(&Key) -> String) -> String {
    if path.split('.').next() == Some(routes::TABLE) {
        return routes::FILE_ONLY.to_owned();
    }
    suggest(path, spell)
}

/// The value stays out of it: under a mistyped key it may be a password.
fn unknown(key: String, origin: Origin, suggestion: &str) -> Problem {
    Problem { key, part: None, got: None, origin, verdict: format!("unknown key; {suggestion}") }
}
