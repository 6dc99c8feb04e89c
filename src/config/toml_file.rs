//! The configuration file: TOML in, entries with their lines out.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::files::read_text;
use super::keys::SECTIONS;
use super::problems::{Mismatch, Origin, Problem, Problems};
use super::raw::{Raw, quoted};

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

/// Reads the file; `None` if it cannot be read or is no TOML, which is then among the problems.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Option<Vec<Entry>> {
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
        return Some(entries(document.get_ref(), path, &text, problems));
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
        let known = SECTIONS.iter().any(|known| known.name == section);
        match value.get_ref().as_table() {
            Some(table) if known || !table.is_empty() => {
                entries.extend(table.iter().map(|(name, value)| Entry {
                    section: section.clone(),
                    name: Some(name.get_ref().to_string()),
                    raw: raw(value.get_ref()),
                    line: line_of(text, name.span().start),
                }));
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
