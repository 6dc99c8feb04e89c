//! Tests of the differences between two configurations, and of those that a running sidecar takes
//! over.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::changes::reload;
use super::super::kind::Kind;
use super::super::layers::merge;
use super::super::schema::Key;
use super::*;

/// A value of the key that is not its default.
fn another(key: &Key, directory: &Directory) -> String {
    let default = key.default.unwrap_or_default();
    match &key.kind {
        Kind::Flag => "true".to_owned(),
        Kind::Count { min, max } | Kind::Size { min, max } => {
            if default == min.to_string() {
                max.to_string()
            } else {
                min.to_string()
            }
        }
        Kind::Duration { min, .. } | Kind::WholeSeconds { min, .. } if default != "0s" => {
            format!("{}ms", min.as_millis())
        }
        Kind::Duration { max, .. } | Kind::WholeSeconds { max, .. } => format!("{}ms", max.as_millis()),
        Kind::DurationOrNever { .. } => "never".to_owned(),
        Kind::Text { .. } => "another".to_owned(),
        Kind::Choice(words) => (*words.iter().find(|word| **word != default).unwrap()).to_owned(),
        Kind::Listen | Kind::Address => "127.0.0.1:1".to_owned(),
        Kind::Endpoints => "amqps://bob:hunter2@elsewhere".to_owned(),
        Kind::Credential => "hunter2".to_owned(),
        Kind::Path if key.path == "broker.ca_file" => {
            directory.write("ca", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----")
        }
        Kind::Path if key.path == "broker.endpoints_file" => directory.write("endpoints", "amqp://elsewhere"),
        Kind::Path => directory.write("credential", "hunter2"),
        Kind::Directory => "/var/lib/amqpost".to_owned(),
    }
}

/// The configuration with other values for `keys`, whatever the rules between keys say.
fn with_others(keys: &[&Key], directory: &Directory) -> Config {
    let flags = keys.iter().map(|key| (key.path.to_owned(), another(key, directory))).collect();
    let mut problems = Problems::default();
    let layers = merge(&Sources { flags, ..Sources::default() }, &mut problems);
    let (config, _) = Config::read_whole(&layers, &mut problems);
    problems.or(config).unwrap()
}

/// A few keys of all.
fn some_keys() -> impl Strategy<Value = Vec<&'static Key>> {
    subsequence(keys::all_keys().collect::<Vec<_>>(), 0..8)
}

/// Paths of keys, and of other keys that differ because of them: credentials are part of each
/// endpoint.
fn differing(keys: &[&Key]) -> BTreeSet<&'static str> {
    let mut paths: BTreeSet<_> = keys.iter().map(|key| key.path).collect();
    if ["broker.endpoints_file", "broker.user", "broker.password"].iter().any(|path| paths.contains(path)) {
        paths.insert("broker.endpoints");
    }
    paths
}

#[test]
fn each_key_that_differs_is_named_and_no_other() {
    let directory = Directory::new();
    for key in keys::all_keys() {
        let new = with_others(&[key], &directory);
        let Changes { reloadable, needs_restart } = changes(&Config::default(), &new);
        let named: BTreeSet<_> = reloadable.iter().chain(&needs_restart).copied().collect();
        let file_alone = ["broker.user_file", "broker.password_file"].contains(&key.path);
        let expected = differing(&[key]);
        assert!(named == expected || file_alone && named.is_superset(&expected), "{}: {named:?}", key.path);
    }
}

#[test]
fn changes_name_secrets_and_do_not_show_them() {
    let new = flags(&[("broker.endpoints", "amqp://bob:hunter2@h"), ("broker.password", "hunter3")]).unwrap();
    let changes = changes(&Config::default(), &new);
    assert_eq!(changes.needs_restart, ["broker.endpoints", "broker.password"]);
    assert!(!format!("{changes:?}").contains("hunter"));
}

#[test]
fn a_rotated_password_is_no_change_because_its_file_is_read_at_each_connection() {
    let directory = Directory::new();
    let toml = "[broker]\npassword_file = 'DIR/password'";
    directory.write("password", "hunter2");
    let old = directory.load(toml).unwrap();
    directory.write("password", "hunter3");
    assert_eq!(changes(&old, &directory.load(toml).unwrap()), Changes::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_configuration_does_not_differ_from_itself(keys in some_keys()) {
        let config = with_others(&keys, &Directory::new());
        prop_assert_eq!(changes(&config, &config), Changes::default());
    }

    #[test]
    fn what_differs_is_the_same_in_both_directions(one in some_keys(), other in some_keys()) {
        let directory = Directory::new();
        let (one, other) = (with_others(&one, &directory), with_others(&other, &directory));
        let named = |changes: Changes| -> BTreeSet<_> {
            changes.reloadable.into_iter().chain(changes.needs_restart).collect()
        };
        prop_assert_eq!(named(changes(&one, &other)), named(changes(&other, &one)));
    }

    #[test]
    fn after_a_reload_only_what_needs_a_restart_differs(one in some_keys(), other in some_keys()) {
        let directory = Directory::new();
        let (old, new) = (with_others(&one, &directory), with_others(&other, &directory));
        let (in_force, first) = reload(&old, &new);
        let taken = changes(&old, &in_force);
        prop_assert_eq!(&taken.reloadable, &first.reloadable);
        prop_assert!(taken.needs_restart.is_empty());
        prop_assert_eq!(reload(&in_force, &new).1.needs_restart, first.needs_restart);
    }
}
