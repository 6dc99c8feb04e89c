//! How wide a line may be: prose at most 100 columns, code at most 110.

use crate::files::{TextFile, documents, text_files};
use crate::none;

const PROSE_COLUMNS_MAX: usize = 100;
const CODE_COLUMNS_MAX: usize = 110;

/// Files that programs write; they are not held to these rules.
const GENERATED: &[&str] = &["Cargo.lock", "config/amqpost.toml", "docs/configuration.md"];

/// Files and directories whose comments and code are not wrapped yet. This list may only shrink.
const NOT_YET_WRAPPED: &[&str] = &["src"];

/// Whether a file is in a place: a directory or that very file.
fn is_in(file: &TextFile, place: &str) -> bool {
    file.path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The mark of a comment line, for the kinds of files that these rules cover.
fn comment_mark(file: &TextFile) -> Option<&'static str> {
    let is_script = file.text.starts_with("#!") || file.text.starts_with("# shellcheck shell=");
    match file.path.rsplit_once('.') {
        Some((_, "rs")) => Some("//"),
        Some((_, "sh" | "toml")) => Some("#"),
        _ if is_script => Some("#"),
        _ => None,
    }
}

/// Whether a line of prose can be broken: tables, web addresses and single long words cannot.
fn can_be_broken(line: &str) -> bool {
    let text = line.trim_start_matches([' ', '/', '!', '#', '*', '-', '>']);
    !text.starts_with('|') && !text.starts_with('<') && !text.contains("://") && text.contains(' ')
}

fn columns(line: &str) -> usize {
    line.chars().count()
}

#[test]
fn prose_is_at_most_100_columns_wide() {
    let wide =
        documents().into_iter().filter(|file| !GENERATED.contains(&file.path.as_str())).flat_map(|file| {
            let mut is_code = false;
            let lines = file.text.lines().enumerate().filter(|(_, line)| {
                let is_fence = line.trim_start().starts_with("```");
                is_code ^= is_fence;
                let is_prose = !is_code && !is_fence && !line.starts_with("    ") && !line.starts_with('#');
                is_prose && columns(line) > PROSE_COLUMNS_MAX && can_be_broken(line)
            });
            lines
                .map(|(line, text)| format!("{}: {} columns", file.at(line), columns(text)))
                .collect::<Vec<_>>()
        });
    none(wide);
}

#[test]
fn comments_are_at_most_100_columns_wide_and_code_at_most_110() {
    let files = text_files().into_iter().filter(|file| {
        !GENERATED.contains(&file.path.as_str()) && !NOT_YET_WRAPPED.iter().any(|place| is_in(file, place))
    });
    let wide = files.filter_map(|file| Some((comment_mark(&file)?, file))).flat_map(|(mark, file)| {
        let lines = file.text.lines().enumerate().filter(|(_, line)| {
            let content = line.trim_start().strip_prefix(mark);
            match content.map(|content| content.trim_start_matches(['/', '!', '#'])) {
                // Indented text is preformatted.
                Some(prose) if !prose.starts_with("   ") => {
                    columns(line) > PROSE_COLUMNS_MAX && can_be_broken(line)
                }
                Some(_) | None => columns(line) > CODE_COLUMNS_MAX && !line.contains("://"),
            }
        });
        lines.map(|(line, text)| format!("{}: {} columns", file.at(line), columns(text))).collect::<Vec<_>>()
    });
    none(wide);
}

/// A place that is gone must not stay on the list.
#[test]
fn every_place_that_is_not_wrapped_yet_exists() {
    let files = text_files();
    let gone = NOT_YET_WRAPPED.iter().filter(|place| !files.iter().any(|file| is_in(file, place)));
    none(gone.map(|place| format!("{place} is on the list and not in the repository")));
}
