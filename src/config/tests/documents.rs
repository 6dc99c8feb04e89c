//! Tests that keep the two generated documents equal to the table of keys, by rewriting them when
//! they are not.

use std::path::Path;

use super::super::reference;
use super::*;

const DEFAULT_FILE: &str = "config/amqpost.toml";
const PAGE: &str = "docs/configuration.md";

#[test]
fn the_default_file_is_up_to_date() {
    keep(DEFAULT_FILE, &reference::default_file());
}

#[test]
fn the_reference_page_is_up_to_date() {
    keep(PAGE, &reference::page());
}

#[test]
fn the_default_file_sets_every_key_to_its_default() {
    let text = reference::default_file();
    assert_eq!(file(&text), Ok(Config::default()));
    for key in keys::all_keys() {
        let section =
            text.split(&format!("\n[{}]\n", key.path.split('.').next().unwrap())).nth(1).expect(key.path);
        let commented = if key.default.is_none() { "# " } else { "" };
        assert!(section.contains(&format!("\n{commented}{} = ", key.name())), "{}", key.path);
    }
}

#[test]
fn what_the_default_file_holds_in_comments_is_right_too() {
    let directory = Directory::new();
    let secret = directory.write("file", "bob");
    for key in keys::all_keys().filter(|key| key.default.is_none() && key.path != "broker.ca_file") {
        let text = reference::default_file()
            .replace("/path/to/file", &secret)
            .replace(&format!("# {} = ", key.name()), &format!("{} = ", key.name()));
        match key.path {
            // A pair may now be set together, or the file's content may be no URI; but the key is
            // known.
            "broker.endpoints_file" | "spool.undeliverable" => {
                assert!(!file(&text).unwrap_err().contains("unknown"))
            }
            _ => drop(file(&text).unwrap()),
        }
    }
}

#[test]
fn the_examples_of_the_page_load() {
    let page = reference::page();
    let directory = Directory::new();
    directory.write("rabbit-password", "hunter2\n");
    directory.write("rabbit-ca.pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n");
    let blocks: Vec<_> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        directory.load(&block.replace("/run/secrets", "DIR")).unwrap();
    }
    let environment = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let environment = environment.replace("/run/secrets", &directory.0.display().to_string());
    let environment = environment.lines().filter_map(|line| line.split_once('=')).collect::<Vec<_>>();
    assert_eq!(environment.len(), 4);
    Config::load(&Sources { environment: pairs(&environment), ..Sources::default() }).unwrap();
}

/// Rewrites the document if it differs from what the table generates, and fails, so that a second
/// run passes.
fn keep(document: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    if fs::read_to_string(&path).is_ok_and(|written| written == generated) {
        return;
    }
    fs::create_dir_all(path.parent().expect("the document is in a directory")).unwrap();
    fs::write(&path, generated).unwrap();
    panic!("{document} was out of date and is rewritten; look at the change and run the test again");
}
