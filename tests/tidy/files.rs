//! The text files of the repository, as a clone has them.

use std::fs;
use std::path::{Path, PathBuf};

/// A file and its text. The path is relative to the repository, with `/` between its parts.
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    /// `path:line`, as editors and compilers write it. `line` counts from 0.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{}", self.path, line + 1)
    }
}

/// The directory of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that is not ignored by git, in the order of their paths.
pub(crate) fn text_files() -> Vec<TextFile> {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect("the repository has a .gitignore");
    let ignored: Vec<_> = ignored.lines().chain([".git"]).filter(|line| !line.is_empty()).collect();
    let mut paths = Vec::new();
    walk(root(), &ignored, &mut paths);
    paths.sort();
    paths.iter().filter_map(|path| text_file(path)).collect()
}

/// The Rust files of the given directories. A directory that does not exist has none.
pub(crate) fn rust_files(directories: &[&str]) -> Vec<TextFile> {
    let is_in =
        |path: &str, directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
    let mut files = text_files();
    files.retain(|file| {
        file.path.ends_with(".rs") && directories.iter().any(|directory| is_in(&file.path, directory))
    });
    assert!(!files.is_empty(), "no Rust files in {directories:?}");
    files
}

/// Every Markdown file: README, ARCHITECTURE, docs and the like. Those in src are parts of a page.
pub(crate) fn documents() -> Vec<TextFile> {
    let mut files = text_files();
    files.retain(|file| file.path.ends_with(".md") && !file.path.starts_with("src/"));
    files
}

fn walk(directory: &Path, ignored: &[&str], paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository") {
        let entry = entry.expect("an entry of a directory");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        if ignored.iter().any(|pattern| matches(pattern, &name)) {
            continue;
        }
        // Links are not followed: their targets are visited at their own place or are not part of
        // the repository.
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() {
            walk(&entry.path(), ignored, paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}

/// The two kinds of pattern in use: a name, and `*` with the end of a name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => pattern.trim_matches('/') == name,
    }
}

fn text_file(path: &Path) -> Option<TextFile> {
    // A test that runs at the same time may have removed a file of its own; a file that is not
    // UTF-8 is not text.
    let text = String::from_utf8(fs::read(path).ok()?).ok()?;
    let path = path.strip_prefix(root()).expect("the walk begins at the root").display().to_string();
    Some(TextFile { path, text })
}
