//! The raw values that the sources give, each with its origin.

use super::problems::Origin;
use super::raw::Raw;
use std::collections::BTreeMap;

/// For each key, the value that applies and its origin. Without `Debug`, because the value may be a
/// secret in clear text.
#[derive(Default)]
pub(super) struct Given(BTreeMap<&'static str, (Raw, Origin)>);

/// One `name = value` of a section; or, without a name, a value where a section should be.
pub(super) struct Entry {
    pub(super) section: String,
    pub(super) name: Option<String>,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// One of several tables of a name.
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    pub(super) origin: Origin,
}

/// All sources merged.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) given: Given,
    /// By their name, each kind in the order of the file.
    pub(super) tables: BTreeMap<&'static str, Vec<Table>>,
    /// The file could not be read. Without it, the other values may only seem to contradict each
    /// other.
    pub(super) is_incomplete: bool,
}

impl Given {
    pub(super) fn set(&mut self, path: &'static str, raw: Raw, origin: Origin) {
        self.0.insert(path, (raw, origin));
    }

    /// The value and its origin; `None` where nobody gave one.
    pub(super) fn of(&self, path: &str) -> Option<(&Raw, &Origin)> {
        self.0.get(path).map(|(raw, origin)| (raw, origin))
    }

    /// Where the key's value is from.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.of(path).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Whether a source set the key, even if only to its default.
    pub(super) fn is_explicit(&self, path: &str) -> bool {
        self.of(path).is_some()
    }
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
