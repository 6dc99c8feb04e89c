//! The configuration file: TOML in, entries with their lines out.

use std::path::Path;

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::read_text;
use super::keys::SECTIONS;
use super::problems::{Mismatch, Origin, Problem, Problems};
use super::raw::{Raw, quoted};
use super::routes;

/// One `name = value` of a section; or, without a name, a value where a section should be.
pub(super) struct Entry {
    pub(super) section: String,
    pub(super) name: Option<String>,
    pub(super) raw: Raw,
    pub(super) line: usize,
}

impl Entry {
    /// The key as it was written.
    pub(super) fn path(&self) -> String {
        match &self.name {
            Some(name) => format!("{}.{name}", self.section),
            None => self.section.clone(),
        }
    }
}

/// What the file holds.
pub(super) struct Document {
    pub(super) entries: Vec<Entry>,
    pub(super) routes: Vec<routes::Table>,
}

/// Reads the file; `None` if it cannot be read or is no TOML, which is then among the problems.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Option<Document> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(expected) => {
            let got = quoted(&path.display().to_string());
            problems.mismatch("--config", &Origin::Flag, Mismatch::new(got, expected));
            return None;
        }
    };
    let (document, errors) = DeTable::parse_recoverable(&text);
    if errors.is_empty() {
        let document = document.get_ref();
        let routes = document.get_key_value(routes::TABLE).map(|(name, value)| {
            let line = line_of(&text, name.span().start);
            tables(value.get_ref(), line, path, &text, problems)
        });
        let entries = entries(document, path, &text, problems);
        return Some(Document { entries, routes: routes.unwrap_or_default() });
    }
    for error in errors {
        // Only the message: the parser's own display shows the line, and with it perhaps a password.
        problems.push(Problem {
            key: "--config".to_owned(),
            part: None,
            got: None,
            origin: origin(path, line_of(&text, error.span().map_or(0, |span| span.start))),
            verdict: format!("expected TOML: {}", error.message()),
        });
    }
    None
}

/// Where in the file something stands.
pub(super) fn origin(path: &Path, line: usize) -> Origin {
    Origin::File { path: path.to_owned(), line }
}

fn entries(document: &DeTable<'_>, path: &Path, text: &str, problems: &mut Problems) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (section, value) in document {
        let section_line = line_of(text, section.span().start);
        let section = section.get_ref().to_string();
        if section == routes::TABLE {
            continue;
        }
        let known = SECTIONS.iter().any(|known| known.name == section);
        match value.get_ref().as_table() {
            Some(table) if known || !table.is_empty() => {
                entries.extend(entries_of(&section, table, text));
            }
            None if known => {
                let got = format!("<{}>", value.get_ref().type_str());
                let mismatch = Mismatch::new(got, "a table of keys");
                problems.mismatch(&section, &origin(path, section_line), mismatch);
            }
            Some(_) | None => {
                entries.push(Entry { section, name: None, raw: raw(value.get_ref()), line: section_line });
            }
        }
    }
    // The parser's map sorts by name or not, depending on its features elsewhere in the program.
    entries.sort_by_key(|entry| entry.line);
    entries
}

fn entries_of(section: &str, table: &DeTable<'_>, text: &str) -> Vec<Entry> {
    let entry = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
        section: section.to_owned(),
        name: Some(name.get_ref().to_string()),
        raw: raw(value.get_ref()),
        line: line_of(text, name.span().start),
    };
    table.iter().map(entry).collect()
}

/// The tables of an array of tables. One table in single brackets is a slip that would otherwise go unnoticed.
fn tables(
    value: &DeValue<'_>,
    line: usize,
    path: &Path,
    text: &str,
    problems: &mut Problems,
) -> Vec<routes::Table> {
    let items = value.as_array().map(|items| items.iter().collect::<Vec<_>>());
    let of = |item: &Spanned<DeValue<'_>>| {
        let table = item.get_ref().as_table()?;
        let mut entries = entries_of(routes::TABLE, table, text);
        entries.sort_by_key(|entry| entry.line);
        Some(routes::Table { entries, origin: origin(path, line_of(text, item.span().start)) })
    };
    let tables: Option<Vec<_>> = items.and_then(|items| items.into_iter().map(of).collect());
    tables.unwrap_or_else(|| {
        let got = format!("<{}>", value.type_str());
        let mismatch = Mismatch::new(got, "tables [[route]], in double brackets");
        problems.mismatch(routes::TABLE, &origin(path, line), mismatch);
        Vec::new()
    })
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::String(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Raw::Other("<integer beyond 64 bits>"), Raw::Integer),
        DeValue::Boolean(flag) => Raw::Boolean(*flag),
        DeValue::Array(items) => Raw::Array(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("<float>"),
        DeValue::Datetime(_) => Raw::Other("<date or time>"),
        DeValue::Table(_) => Raw::Other("<table>"),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}
