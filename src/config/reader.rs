//! `Reader`: turns given values into typed values, and collects all their problems.

use super::declare::EACH_KEY;
use super::given::{Given, Layers, Table};
use super::kind::Kind;
use super::problems::{Mismatch, Origin, Problem, Problems};
use super::raw::Raw;
use super::schema::{Key, Section};
use super::setting::Setting;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// A struct whose fields are the keys of a section.
pub(super) trait Declared: Sized {
    const SECTION: Section;

    /// `None` if a key that must be given is missing or wrong.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// The keys whose values differ.
    fn differing(&self, other: &Self) -> Vec<&'static Key>;

    /// Takes over the values of the keys that are reloadable.
    fn adopt(&mut self, new: &Self);
}

/// Reads the keys of one section or table, one after the other.
pub(super) struct Reader<'a> {
    given: &'a Given,
    problems: &'a mut Problems,
    bad: BTreeSet<&'static str>,
    /// The table that is read, such as `table 2`, and where it stands, if it is one of several.
    table: Option<(String, Origin)>,
}

/// The facts about the read values that the search for contradictions needs.
#[derive(Default)]
pub(super) struct Found {
    /// The keys with a wrong value.
    pub(super) bad: BTreeSet<&'static str>,
    /// The name of each table that was read, and its place in the file.
    pub(super) tables: BTreeMap<&'static str, Vec<(String, Origin)>>,
}

/// A value as the file would spell it.
pub(super) struct Shown<'a, T>(pub(super) &'a T, pub(super) &'a Kind);

impl<'a> Reader<'a> {
    pub(super) fn new(given: &'a Given, problems: &'a mut Problems) -> Self {
        Self { given, problems, bad: BTreeSet::new(), table: None }
    }

    /// The key's value. A wrong one is recorded and replaced by the default, so that the search for
    /// problems can go on; `None` if there is no default.
    pub(super) fn value<T: Setting>(&mut self, key: &'static Key) -> Option<T> {
        let Some((raw, origin)) = self.given.of(key.path) else {
            return default(key).or_else(|| self.missing(key));
        };
        T::read(raw, &key.kind)
            .map_err(|mismatches| {
                for mismatch in mismatches {
                    let table = self.table.iter().map(|(table, _)| table.clone());
                    let part: Vec<_> = table.chain(mismatch.part).collect();
                    let part = (!part.is_empty()).then(|| part.join(", "));
                    self.problems.mismatch(key.path, origin, Mismatch { part, ..mismatch });
                }
                self.bad.insert(key.path);
            })
            .ok()
            .or_else(|| default(key))
    }

    fn missing<T>(&mut self, key: &'static Key) -> Option<T> {
        let (part, origin) = self.table.clone().expect(EACH_KEY);
        self.bad.insert(key.path);
        let problem = Problem::new(key.path, origin, format!("is missing; expected {}", key.kind));
        self.problems.push(Problem { part: Some(part), ..problem });
        None
    }
}

fn default<T: Setting>(key: &Key) -> Option<T> {
    match key.default {
        Some(default) => T::read(&Raw::Plain(default.to_owned()), &key.kind).ok(),
        None => T::unset(),
    }
}

impl Found {
    /// The keys of all sections have been read.
    pub(super) fn after(reader: Reader<'_>) -> Self {
        Self { bad: reader.bad, tables: BTreeMap::new() }
    }

    /// Reads all tables of one kind. A table with a problem is left out and does not hide what is
    /// wrong with another.
    pub(super) fn tables<T: Declared>(&mut self, layers: &Layers, problems: &mut Problems) -> Vec<T> {
        let mut values = Vec::new();
        let places = self.tables.entry(T::SECTION.name).or_default();
        for (index, table) in layers.tables.get(T::SECTION.name).into_iter().flatten().enumerate() {
            let place = (format!("table {}", index + 1), table.origin.clone());
            let (given, all_known) = known(table, &T::SECTION, &place.0, problems);
            let mut reader = Reader { table: Some(place.clone()), ..Reader::new(&given, problems) };
            let value = T::read(&mut reader);
            values
                .extend(value.filter(|_| all_known && reader.bad.is_empty()).inspect(|_| places.push(place)));
        }
        values
    }
}

/// The values that a table gives for existing keys, and whether it has no other keys.
fn known(table: &Table, section: &Section, place: &str, problems: &mut Problems) -> (Given, bool) {
    let (mut given, mut all_known) = (Given::default(), true);
    for entry in &table.entries {
        let path = entry.path();
        if let Some(key) = section.keys.iter().find(|key| key.is_called(&path)) {
            given.set(key.path, entry.raw.clone(), entry.origin.clone());
            continue;
        }
        all_known = false;
        let verdict = format!("unknown key; {}", section.listing());
        let problem = Problem::new(&path, entry.origin.clone(), verdict);
        problems.push(Problem { part: Some(place.to_owned()), ..problem });
    }
    (given, all_known)
}

impl<T: Setting> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.show(self.1, serializer)
    }
}
