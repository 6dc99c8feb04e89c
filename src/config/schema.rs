//! `Key` and `Section`: the description of a key without its type.

use super::kind::Kind;

/// The prefix of every environment variable that sets a key.
pub(super) const ENVIRONMENT_PREFIX: &str = "AMQPOST__";

/// One key: `section.name`.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    /// Paths that the key had in earlier versions. They still set it.
    pub(super) old: &'static [&'static str],
    /// As it would be written in the environment; `None` for a key that may stay unset or must be
    /// given.
    pub(super) default: Option<&'static str>,
    pub(super) kind: Kind,
    /// Whether a running sidecar takes over another value. Tables of which there may be several are
    /// reloadable as a whole or not at all.
    pub(super) reloadable: bool,
    /// What it means, in Markdown; each line begins with a space.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the documents, which a test writes"))]
    pub(super) doc: &'static str,
}

/// A section; or a table of which the file may hold any number.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
    /// Whether a running sidecar takes over added, changed and removed tables, if there may be
    /// several.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the documents, which a test writes"))]
    pub(super) reloadable: bool,
    /// What it is about, in Markdown; each line begins with a space.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the documents, which a test writes"))]
    pub(super) doc: &'static str,
}

impl Key {
    /// Its name inside the section, such as `connections`.
    pub(super) fn name(&self) -> &'static str {
        self.path.split_once('.').expect("the macro writes section.name").1
    }

    /// Its environment variable, such as `AMQPOST__BROKER__CONNECTIONS`.
    pub(super) fn environment_name(&self) -> String {
        environment_name(self.path)
    }

    /// Whether `path` is the key's present name or one of its old names.
    pub(super) fn is_called(&self, path: &str) -> bool {
        self.path == path || self.old.contains(&path)
    }

    /// Whether the environment variable `name` sets it.
    pub(super) fn is_set_by(&self, name: &str) -> bool {
        self.environment_name() == name || self.old.iter().any(|old| environment_name(old) == name)
    }
}

impl Section {
    /// The names it has, as a sentence.
    pub(super) fn listing(&self) -> String {
        let names: Vec<_> = self.keys.iter().map(Key::name).collect();
        format!("{} has {}", self.name, names.join(", "))
    }
}

fn environment_name(path: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_answers_to_its_old_names_too() {
        let key = Key {
            path: "publish.timeout",
            old: &["link.timeout"],
            default: None,
            kind: Kind::Flag,
            reloadable: false,
            doc: "",
        };
        assert!(key.is_called("publish.timeout") && key.is_called("link.timeout"));
        assert!(!key.is_called("publish.max_timeout"));
        assert!(key.is_set_by("AMQPOST__PUBLISH__TIMEOUT") && key.is_set_by("AMQPOST__LINK__TIMEOUT"));
        assert!(!key.is_set_by("AMQPOST__LINK__TIME"));
    }
}
