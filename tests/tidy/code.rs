//! Rust source without comments and literals, and the constructs that the rules look for.

use std::ops::Range;

/// Rust source with comments and literals blanked out. Lines and columns are those of the file.
pub(crate) struct Code(Vec<char>);

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// An identifier and where it is.
pub(crate) struct Identifier {
    pub(crate) text: String,
    range: Range<usize>,
}

impl Code {
    pub(crate) fn of(source: &str) -> Self {
        let mut chars: Vec<char> = source.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let end = literal_or_comment(&chars, at);
            blank(&mut chars, at..end);
            at = end.max(at + 1);
        }
        Self(chars)
    }

    /// The same source without the items that are compiled for tests only.
    pub(crate) fn without_tests(mut self) -> Self {
        const MARK: &str = "#[cfg(test)]";
        let mark: Vec<char> = MARK.chars().collect();
        while let Some(start) = self.0.windows(mark.len()).position(|window| window == mark) {
            let end = self.body(start + mark.len()).end;
            blank(&mut self.0, start..end);
        }
        self
    }

    pub(crate) fn identifiers(&self) -> Vec<Identifier> {
        let mut identifiers = Vec::new();
        let mut at = 0;
        while at < self.0.len() {
            let end = (at..self.0.len()).find(|end| !is_word(self.0[*end])).unwrap_or(self.0.len());
            if end > at {
                identifiers.push(Identifier { text: self.0[at..end].iter().collect(), range: at..end });
            }
            at = end.max(at) + 1;
        }
        identifiers
    }

    /// What follows an identifier, white space skipped.
    pub(crate) fn after(&self, identifier: &Identifier) -> String {
        self.0[identifier.range.end..].iter().skip_while(|c| c.is_whitespace()).take(80).collect()
    }

    /// Whether the identifier is the first of its path: `lapin` in `lapin::types`, not in
    /// `x::lapin`.
    pub(crate) fn is_first_of_path(&self, identifier: &Identifier) -> bool {
        let before: String =
            self.0[identifier.range.start.saturating_sub(3)..identifier.range.start].iter().collect();
        !before.ends_with("::") || !before.starts_with(is_word)
    }

    /// The line of an identifier, counted from 0.
    pub(crate) fn line(&self, identifier: &Identifier) -> usize {
        self.line_at(identifier.range.start)
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let identifiers = self.identifiers();
        let pairs = identifiers.windows(2).filter(|pair| {
            let between = &self.0[pair[0].range.end..pair[1].range.start];
            pair[0].text == "fn" && between.iter().all(|c| c.is_whitespace())
        });
        pairs
            .filter_map(|pair| {
                let body = self.body(pair[1].range.end);
                let (line, last) = (self.line(&pair[0]), self.line_at(body.end));
                let name = pair[1].text.clone();
                (!body.is_empty()).then_some(Function { name, line, lines: last - line + 1 })
            })
            .collect()
    }

    /// The names that follow each `root`, such as `crate::`, and their lines: one for a path,
    /// several for a group.
    pub(crate) fn named_below(&self, root: &str) -> Vec<(String, usize)> {
        let root: Vec<char> = root.chars().collect();
        let mut names = Vec::new();
        for (start, window) in self.0.windows(root.len()).enumerate() {
            // A path that only goes through the root, such as `super::super::` below `super::`, is
            // another one.
            let begins = start == 0 || !is_word(self.0[start - 1]) && self.0[start - 1] != ':';
            if window != root || !begins {
                continue;
            }
            let path: String = self.0[start + root.len()..].iter().collect();
            let heads = match path.strip_prefix('{') {
                Some(group) => group_heads(group),
                None => vec![first_word(&path)],
            };
            names.extend(heads.into_iter().map(|name| (name, self.line_at(start))));
        }
        names
    }

    /// The range from the first brace after `start` to its closing brace. Without a body the range
    /// is empty, at the semicolon or the end of the enclosing block.
    fn body(&self, start: usize) -> Range<usize> {
        let (mut brackets, mut braces, mut opened) = (0_usize, 0_usize, start);
        for (at, c) in self.0.iter().enumerate().skip(start) {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                ';' if brackets == 0 && braces == 0 => return at..at,
                // This is a variant or an arm, and the last one.
                '}' if brackets == 0 && braces == 0 => return at..at,
                '{' => {
                    opened = if braces == 0 { at } else { opened };
                    braces += 1;
                }
                '}' => {
                    braces -= 1;
                    if braces == 0 && brackets == 0 {
                        return opened..at;
                    }
                }
                _ => {}
            }
        }
        panic!("a body that does not end: {}", self.0[start..].iter().take(200).collect::<String>());
    }

    fn line_at(&self, position: usize) -> usize {
        self.0[..position].iter().filter(|c| **c == '\n').count()
    }
}

/// The first names of the entries of a `{…}` group of a `use`, its opening brace taken off.
fn group_heads(group: &str) -> Vec<String> {
    let (mut heads, mut entry, mut depth) = (Vec::new(), String::new(), 0);
    for c in group.chars() {
        match (c, depth) {
            ('}', 0) | (',', 0) => {
                heads.extend(Some(first_word(&entry)).filter(|word| !word.is_empty()));
                entry.clear();
                if c == '}' {
                    break;
                }
            }
            ('{', _) => depth += 1,
            ('}', _) => depth -= 1,
            _ => entry.push(c),
        }
    }
    heads
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn blank(chars: &mut [char], range: Range<usize>) {
    for c in &mut chars[range] {
        if *c != '\n' {
            *c = ' ';
        }
    }
}

/// The end of the literal or comment that begins at `at`; `at` itself where none does.
fn literal_or_comment(chars: &[char], at: usize) -> usize {
    let peek = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
    let in_word = at > 0 && is_word(chars[at - 1]);
    match (chars[at], peek(1)) {
        ('/', '/') => find(chars, at, |rest| rest[0] == '\n'),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => quoted_end(chars, at, '"'),
        ('r', '"' | '#') if !in_word || matches!(chars[at - 1], 'b' | 'c') => raw_string_end(chars, at),
        // A character, or else the name of a lifetime.
        ('\'', '\\') => quoted_end(chars, at, '\''),
        ('\'', _) if peek(2) == '\'' => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| found(&chars[*at..])).unwrap_or(chars.len())
}

fn quoted_end(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end = find(chars, start + 2 + hashes, |rest| rest.starts_with(&closing));
    (end + closing.len()).min(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

#[test]
fn comments_and_literals_are_no_code() {
    let source = r##"a /* b /* c */ d */ e // f
        "g \" h" i r#"j " k"# l b"m" 'n' '\'' o::<'p>('"') q r"\" s"##;
    let words: Vec<_> = Code::of(source).identifiers().into_iter().map(|word| word.text).collect();
    assert_eq!(words.join(" "), "a e i l b o p q s");
}

#[test]
fn the_lines_of_a_function_are_counted_from_its_name_to_its_last_brace() {
    let source = "fn a(x: [u8; 4]) {\n if x { }\n}\ntrait T { fn b(&self); }\nfn c() -> fn() { d }";
    let functions = Code::of(source).functions();
    let counted: Vec<_> = functions.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
    assert_eq!(counted, [("a", 0, 3), ("c", 4, 1)]);
}

#[test]
fn what_is_compiled_for_tests_only_is_left_out() {
    let source = "#[cfg(test)]\nmod a;\n#[cfg(test)]\nmod b { fn c() { d } }\nfn e() {}\n\
        enum F { G, #[cfg(test)] H(i), }";
    let words: Vec<_> =
        Code::of(source).without_tests().identifiers().into_iter().map(|word| word.text).collect();
    assert_eq!(words.join(" "), "fn e enum F G");
}

#[test]
fn names_are_found_below_a_root_in_paths_and_in_groups() {
    let code =
        Code::of("use crate::{a, b::{x, y}};\nuse crate::c::x; crate::d::E // crate::f\nsuper::super::g");
    assert_eq!(
        code.named_below("crate::"),
        [("a", 0), ("b", 0), ("c", 1), ("d", 1)].map(|(n, l)| (n.to_owned(), l))
    );
    assert_eq!(code.named_below("super::"), [("super".to_owned(), 2)]);
}
