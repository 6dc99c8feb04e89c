//! Parses the configuration file into entries and tables, each with its line.

use super::given::{Entry, Table};
use super::keys::{SECTIONS, TABLES};
use super::problems::{Mismatch, Origin, Problem, Problems, quoted};
use super::raw::Raw;
use crate::watched_files::read_text_patiently;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the file holds.
pub(super) struct Document {
    pub(super) entries: Vec<Entry>,
    /// By their name, each kind in the order of the file.
    pub(super) tables: BTreeMap<&'static str, Vec<Table>>,
}

/// The path and the text of the file. An entry's position in the text gives its line.
struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

/// Reads the file; `None` if it cannot be read or is no TOML, which is then among the problems.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Option<Document> {
    let text = match read_text_patiently(path) {
        Ok(text) => text,
        Err(expected) => {
            let got = quoted(&path.display().to_string());
            problems.mismatch("--config", &Origin::Flag, Mismatch::new(got, expected.to_string()));
            return None;
        }
    };
    let place = Text { path, text: &text };
    let (document, errors) = DeTable::parse_recoverable(&text);
    if errors.is_empty() {
        return Some(place.document(document.get_ref(), problems));
    }
    for error in errors {
        // Only the message: the parser's own display shows the line, and with it perhaps a
        // password.
        let origin = place.origin(error.span().map_or(0, |span| span.start));
        problems.push(Problem::new("--config", origin, format!("expected TOML: {}", error.message())));
    }
    None
}

impl Text<'_> {
    /// Where in the file the byte stands.
    fn origin(&self, offset: usize) -> Origin {
        let line = self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
        Origin::File { path: self.path.to_owned(), line }
    }

    fn document(&self, document: &DeTable<'_>, problems: &mut Problems) -> Document {
        let (mut entries, mut tables) = (Vec::new(), BTreeMap::new());
        // The parser's map sorts by name or not, depending on its features elsewhere in the
        // program.
        let mut sections: Vec<_> = document.iter().collect();
        sections.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in sections {
            let (section, origin) = (name.get_ref(), self.origin(name.span().start));
            if let Some(kind) = TABLES.iter().find(|kind| kind.name == section) {
                tables.insert(kind.name, self.tables(kind.name, value.get_ref(), &origin, problems));
                continue;
            }
            let known = SECTIONS.iter().any(|known| known.name == section);
            match value.get_ref().as_table() {
                Some(table) if known || !table.is_empty() => entries.extend(self.entries(section, table)),
                None if known => {
                    let got = format!("<{}>", value.get_ref().type_str());
                    problems.mismatch(section, &origin, Mismatch::new(got, "a table of keys"));
                }
                Some(_) | None => {
                    let (section, raw) = (section.to_string(), raw(value.get_ref()));
                    entries.push(Entry { section, name: None, raw, origin });
                }
            }
        }
        Document { entries, tables }
    }

    fn entries(&self, section: &str, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let entry = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
            section: section.to_owned(),
            name: Some(name.get_ref().to_string()),
            raw: raw(value.get_ref()),
            origin: self.origin(name.span().start),
        };
        entries.into_iter().map(entry).collect()
    }

    /// The tables of an array of tables. One table in single brackets is a slip that would
    /// otherwise go unnoticed.
    fn tables(
        &self,
        name: &str,
        value: &DeValue<'_>,
        origin: &Origin,
        problems: &mut Problems,
    ) -> Vec<Table> {
        let table = |item: &Spanned<DeValue<'_>>| {
            let entries = self.entries(name, item.get_ref().as_table()?);
            Some(Table { entries, origin: self.origin(item.span().start) })
        };
        let tables: Option<Vec<_>> = value.as_array().and_then(|items| items.iter().map(table).collect());
        tables.unwrap_or_else(|| {
            let got = format!("<{}>", value.type_str());
            let expected = format!("tables [[{name}]], in double brackets");
            problems.mismatch(name, origin, Mismatch::new(got, expected));
            Vec::new()
        })
    }
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
