//! The two documents that are generated from the keys: `config/amqpost.toml` and
//! `docs/configuration.md`.

use super::keys::{Config, SECTIONS, TABLES};
use super::kind::Kind;
use super::rules::{EXCLUSIVE, ROUTE_RULES, RULES};
use super::schema::{Key, Section};
use super::sources::Sources;

/// The width of comments and paragraphs, in columns.
const PROSE_COLUMNS_MAX: usize = 100;

/// The default file: every key with its meaning, accepted values and default.
pub(super) fn default_file() -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "The configuration of amqpost: every key with its meaning, accepted values and default.",
    );
    text.push_str("#\n");
    comment(
        &mut text,
        &format!(
            "Environment variables override this file, and flags override both: \
             AMQPOST__BROKER__CONNECTIONS=4 and --set broker.connections=4 both set broker.connections. \
             An unknown key stops the start. {GENERATED}"
        ),
    );
    for section in SECTIONS {
        text.push('\n');
        comment(&mut text, section.doc);
        lines(&mut text, &[&format!("[{}]", section.name)]);
        for key in section.keys {
            text.push('\n');
            describe(&mut text, key, "Unset by default.");
            let assignment = match key.default {
                Some(default) => format!("{} = {}", key.name(), toml(&key.kind, default)),
                None => format!("# {} = {}", key.name(), example(&key.kind)),
            };
            lines(&mut text, &[&assignment]);
        }
    }
    for table in TABLES {
        text.push('\n');
        comment(&mut text, table.doc);
        lines(&mut text, &[&format!("# [[{}]]", table.name)]);
        for key in table.keys {
            text.push_str("#\n");
            describe(&mut text, key, "Required.");
            lines(&mut text, &[&format!("# {} = {}", key.name(), example(&key.kind))]);
        }
    }
    text
}

fn describe(text: &mut String, key: &Key, without_default: &str) {
    comment(text, key.doc);
    let default = key.default.map_or(without_default.to_owned(), |default| format!("Default: {default}"));
    comment(text, &format!("Accepts {}. {default}", key.kind));
}

/// The reference page.
pub(super) fn page() -> String {
    let mut text = String::from(INTRODUCTION);
    lines(&mut text, &["", "## When something is wrong", ""]);
    lines(&mut text, &[&paragraph(PROBLEMS), "", "```text", &example_of_problems(), "```", "", "## Keys"]);
    for section in SECTIONS {
        lines(&mut text, &["", &format!("### `[{}]`", section.name), "", &paragraph(section.doc), ""]);
        table(&mut text, section, "unset");
    }
    for several in TABLES {
        let about = paragraph(&format!("{} {FILE_ONLY}", several.doc));
        lines(&mut text, &["", &format!("### `[[{}]]`", several.name), "", &about, ""]);
        table(&mut text, several, "required");
    }
    lines(&mut text, &["", "## Rules between keys", ""]);
    for rule in RULES {
        lines(&mut text, &[&format!("- `{}`: {} `{}`", rule.key, rule.demand, rule.other)]);
    }
    for rule in ROUTE_RULES {
        lines(&mut text, &[&format!("- `{}`: {}", rule.key, rule.demand)]);
    }
    for (key, other) in EXCLUSIVE {
        lines(&mut text, &[&format!("- `{key}`: not beside `{other}`, wherever the two are given")]);
    }
    text.push('\n');
    text.push_str(NOTES);
    text
}

fn table(text: &mut String, section: &Section, without_default: &str) {
    lines(text, &["| key | default | accepts | reloadable | meaning |", "|---|---|---|---|---|"]);
    for key in section.keys {
        let default = key.default.map_or(without_default.to_owned(), |default| format!("`{default}`"));
        let reloadable = if key.reloadable || section.reloadable { "yes" } else { "" };
        let (path, kind, doc) = (key.path, &key.kind, key.doc.trim());
        lines(text, &[&format!("| `{path}` | {default} | {kind} | {reloadable} | {doc} |")]);
    }
}

fn lines(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
}

fn comment(text: &mut String, sentence: &str) {
    let mark = "# ";
    let sentence = wrapped(sentence, PROSE_COLUMNS_MAX - mark.len(), &format!("\n{mark}"));
    lines(text, &[&format!("{mark}{sentence}")]);
}

fn paragraph(text: &str) -> String {
    wrapped(text, PROSE_COLUMNS_MAX, "\n")
}

/// The words of a text, with `line_break` between lines of at most this many columns each; a
/// longer word has a line of its own.
pub(super) fn wrapped(text: &str, columns: usize, line_break: &str) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > columns {
            wrapped.push_str(line_break);
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += width;
    }
    wrapped
}

fn toml(kind: &Kind, default: &str) -> String {
    match kind {
        Kind::Flag | Kind::Count { .. } => default.to_owned(),
        Kind::Endpoints => format!("[\"{default}\"]"),
        Kind::Duration { .. }
        | Kind::DurationOrNever { .. }
        | Kind::WholeSeconds { .. }
        | Kind::Size { .. }
        | Kind::Text { .. }
        | Kind::Choice(_)
        | Kind::Listen
        | Kind::Address
        | Kind::Credential
        | Kind::Path
        | Kind::Directory => format!("\"{default}\""),
    }
}

/// An example value, for a key without a default.
fn example(kind: &Kind) -> &'static str {
    match kind {
        Kind::Path => "\"/path/to/file\"",
        Kind::Directory => "\"/var/lib/amqpost/spool\"",
        Kind::Credential => "\"…\"",
        Kind::Text { .. } => "\"orders.*\"",
        Kind::Choice(words) if words.contains(&"fallback") => "\"fallback\"",
        Kind::Choice(_) => "\"wait\"",
        Kind::Flag => "true",
        Kind::Count { .. }
        | Kind::Duration { .. }
        | Kind::DurationOrNever { .. }
        | Kind::WholeSeconds { .. }
        | Kind::Size { .. }
        | Kind::Listen
        | Kind::Address
        | Kind::Endpoints => unreachable!("optional keys are paths and credentials, routes have texts"),
    }
}

/// Real problems, so that the page always shows the program's own messages.
fn example_of_problems() -> String {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let sources = Sources {
        file: None,
        environment: vec![
            pair("AMQPOST__BROKER__HARTBEAT", "10s"),
            pair("AMQPOST__BROKER__ENDPOINTS", "amqp://bob:secret@rabbit/%2f?heartbeat=10"),
        ],
        flags: vec![pair("broker.connections", "99"), pair("publish.timeout", "2m")],
    };
    Config::load(&sources).expect_err("each of the four is wrong").to_string()
}

const GENERATED: &str = "Generated by `cargo test` from src/config/keys.rs.";

const PROBLEMS: &str = "\
Everything is read and checked before amqpost listens or connects. All problems are listed together,
one per line, and the process exits with 64. `amqpost check` does only this. Secrets are never
shown. The value of an unknown key is not shown either: it may be a password under a mistyped key.
";

const FILE_ONLY: &str = "Only the file can hold it; in the environment or as a flag it stops the start.";

const INTRODUCTION: &str = include_str!("reference_head.md");
const NOTES: &str = include_str!("reference_tail.md");
