//! Merges the sources: finds the value of each key, and reports values given for unknown keys.

use super::given::Layers;
use super::keys::{TABLES, all_keys};
use super::problems::{Mismatch, Origin, Problem, Problems};
use super::raw::Raw;
use super::schema::{ENVIRONMENT_PREFIX, Key};
use super::sources::Sources;
use super::suggest::suggest;
use super::toml_file;

/// The prefix without its second underscore.
const ENVIRONMENT_NEAR_PREFIX: &str = "AMQPOST_";

/// Part of every text that the caller converted from bytes that were not UTF-8.
const REPLACEMENT_CHARACTER: char = '\u{fffd}';

/// Merges the sources: flags override the environment, and the environment overrides the file.
pub(super) fn merge(sources: &Sources, problems: &mut Problems) -> Layers {
    let mut layers = Layers::default();
    merge_file(sources, &mut layers, problems);
    merge_environment(sources, &mut layers, problems);
    merge_flags(sources, &mut layers, problems);
    layers
}

fn merge_file(sources: &Sources, layers: &mut Layers, problems: &mut Problems) {
    let Some(path) = &sources.file else { return };
    let Some(toml_file::Document { entries, tables }) = toml_file::read(path, problems) else {
        layers.is_incomplete = true;
        return;
    };
    layers.tables = tables;
    for entry in entries {
        let written = entry.path();
        if let Some(key) = all_keys().find(|key| entry.name.is_some() && key.is_called(&written)) {
            layers.given.set(key.path, entry.raw, entry.origin);
        } else {
            let suggestion = suggest(&written, |key| key.path.to_owned());
            problems.push(unknown(&written, entry.origin, &suggestion));
        }
    }
}

fn merge_environment(sources: &Sources, layers: &mut Layers, problems: &mut Problems) {
    for (name, value) in &sources.environment {
        let Some(path) = path_of(name) else { continue };
        let origin = Origin::Environment(name.clone());
        match all_keys().find(|key| key.is_set_by(name)) {
            Some(key) if value.contains(REPLACEMENT_CHARACTER) => {
                problems.mismatch(key.path, &origin, Mismatch::new("<bytes>", "UTF-8"));
            }
            Some(key) => layers.given.set(key.path, Raw::Plain(value.clone()), origin),
            None => {
                let suggestion = suggestion(&path, Key::environment_name);
                problems.push(unknown(&path, origin, &suggestion));
            }
        }
    }
}

fn merge_flags(sources: &Sources, layers: &mut Layers, problems: &mut Problems) {
    for (path, value) in &sources.flags {
        if let Some(key) = all_keys().find(|key| key.is_called(path)) {
            layers.given.set(key.path, Raw::Plain(value.clone()), Origin::Flag);
        } else {
            let suggestion = suggestion(path, |key| key.path.to_owned());
            problems.push(unknown(path, Origin::Flag, &suggestion));
        }
    }
}

/// The path that an environment variable means to set; `None` if it is none of ours.
///
/// One underscore instead of two is ours too, but only where the rest is a key: Kubernetes itself
/// sets `AMQPOST_SERVICE_HOST` and the like beside a service called `amqpost`.
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
    all_keys().find(|key| key.path.replace('.', "_") == rest).map(|key| key.path.to_owned())
}

/// What to do instead of giving this key in the environment or as a flag. A list of tables has no
/// place in either.
fn suggestion(path: &str, spell: impl Fn(&Key) -> String) -> String {
    match TABLES.iter().find(|table| path.split('.').next() == Some(table.name)) {
        Some(table) => format!("{0}s are given in the file only, as tables [[{0}]]", table.name),
        None => suggest(path, spell),
    }
}

/// The value is left out: under a mistyped key it may be a password.
fn unknown(key: &str, origin: Origin, suggestion: &str) -> Problem {
    Problem::new(key, origin, format!("unknown key; {suggestion}"))
}
