//! How wide a line may be: prose at most 100 columns, code at most 110.

use crate::files::{TextFile, documents, text_files};
use crate::none;

const PROSE_COLUMNS_MAX: usize = 100;
const CODE_COLUMNS_MAX: usize = 110;

/// The marks that begin a line of a comment, for the kinds of files that these rules cover. A C
/// comment of several lines has a star on each.
fn comment_marks(file: &TextFile) -> Option<&'static [&'static str]> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let is_script = file.text.starts_with("#!") || file.text.starts_with("# shellcheck shell=");
    match name.rsplit_once('.') {
        Some((_, "rs" | "dot")) => Some(&["//"]),
        Some((_, "c" | "h")) => Some(&["/*", "*", "//"]),
        Some((_, "sh" | "toml" | "yml" | "yaml" | "py" | "service" | "dockerignore")) => Some(&["#"]),
        _ if is_script || name == "Dockerfile" => Some(&["#"]),
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
    let wide = documents().into_iter().flat_map(|file| {
        let mut is_code = false;
        let lines = file.text.lines().enumerate().filter(|(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            let is_prose = !is_code && !is_fence && !line.starts_with("    ") && !line.starts_with('#');
            is_prose && columns(line) > PROSE_COLUMNS_MAX && can_be_broken(line)
        });
        lines.map(|(line, text)| format!("{}: {} columns", file.at(line), columns(text))).collect::<Vec<_>>()
    });
    none(wide);
}

#[test]
fn comments_are_at_most_100_columns_wide_and_code_at_most_110() {
    let files = text_files().into_iter().filter_map(|file| Some((comment_marks(&file)?, file)));
    let wide = files.flat_map(|(marks, file)| {
        let lines = file.text.lines().enumerate().filter(|(_, line)| {
            let content = marks.iter().find_map(|mark| line.trim_start().strip_prefix(mark));
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
