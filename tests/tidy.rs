//! The rules of this repository, as tests.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/width.rs"]
mod width;

use code::{Code, Identifier};
use files::{TextFile, rust_files, text_files};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const FUNCTION_LINES_MAX: usize = 70;

/// Libraries that only certain rooms may name, so that their faults are worked around in one place.
const BEHIND_A_DOOR: &[(&str, &[&str])] = &[
    ("lapin", &["link"]),
    ("prometheus", &["metrics"]),
    ("axum", &["listener", "http", "admin", "control"]),
    ("toml", &["config"]),
    ("rusqlite", &["spool/store"]),
    ("sha2", &["publishing"]),
    ("crc32c", &["spool/store"]),
    ("strsim", &["config"]),
    ("rustix", &["open_files", "spool/store", "watched_files"]),
];

/// Which rooms each room may name: dependencies point one way.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("message", &["labels", "outcome"]),
    ("labels", &[]),
    ("outcome", &["labels"]),
    ("hashing", &[]),
    ("locking", &[]),
    ("admission", &[]),
    ("config", &["labels", "message", "text", "watched_files"]),
    ("open_files", &[]),
    ("tasks", &["locking"]),
    ("text", &[]),
    ("watched_files", &[]),
    ("when_woken", &[]),
    ("telemetry", &["config"]),
    ("envelope", &["labels", "message", "text"]),
    ("listener", &["config", "locking", "when_woken"]),
    ("metrics", &["labels", "locking", "outcome"]),
    (
        "link",
        &[
            "admission",
            "config",
            "hashing",
            "labels",
            "locking",
            "message",
            "metrics",
            "outcome",
            "watched_files",
            "when_woken",
        ],
    ),
    (
        "spool",
        &["admission", "config", "hashing", "labels", "link", "locking", "message", "metrics", "outcome"],
    ),
    (
        "publishing",
        &[
            "admission",
            "config",
            "labels",
            "link",
            "locking",
            "message",
            "metrics",
            "outcome",
            "spool",
            "tasks",
        ],
    ),
    (
        "http",
        &[
            "admission",
            "config",
            "envelope",
            "link",
            "listener",
            "locking",
            "message",
            "metrics",
            "outcome",
            "publishing",
            "tasks",
            "text",
        ],
    ),
    ("admin", &["admission", "config", "labels", "link", "listener", "metrics", "spool"]),
    ("control", &["config", "envelope", "labels", "listener", "message", "spool"]),
    (
        "app",
        &[
            "admin",
            "admission",
            "config",
            "control",
            "http",
            "link",
            "listener",
            "metrics",
            "publishing",
            "spool",
        ],
    ),
    ("shutdown", &["admin", "app"]),
    (
        "commands",
        &["app", "config", "control", "locking", "message", "open_files", "shutdown", "spool", "telemetry"],
    ),
    ("main", &["commands"]),
];

/// Fails with all violations and their places.
#[track_caller]
fn none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<_> = violations.into_iter().collect();
    assert!(violations.is_empty(), "{} found:\n{}", violations.len(), violations.join("\n"));
}

/// The room of a file under src: its directory there, or its own name.
fn room(file: &TextFile) -> &str {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    path.split('/').next().unwrap_or_default()
}

/// Whether a file is in a room, or in a part of one such as `spool/store`.
fn is_in(file: &TextFile, part: &str) -> bool {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Lines that hold one of `texts`.
fn lines_with<'a>(file: &'a TextFile, texts: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let lines = file.text.lines().enumerate();
    lines.flat_map(move |(line, text)| {
        texts
            .iter()
            .filter(move |found| text.contains(**found))
            .map(move |found| format!("{} {found}", file.at(line)))
    })
}

// === rooms ===

#[test]
fn a_library_is_named_only_behind_its_door() {
    let named = rust_files(&["src"]).into_iter().flat_map(|file| {
        let code = Code::of(&file.text);
        let words = code.identifiers();
        let violations = words.iter().enumerate().filter_map(|(position, word)| {
            let (library, rooms) = BEHIND_A_DOOR.iter().find(|(library, _)| word.text == *library)?;
            let imported = position > 0 && words[position - 1].text == "use";
            let in_path = code.after(word).starts_with("::") && code.is_first_of_path(word);
            let outside = (imported || in_path) && !rooms.iter().any(|room| is_in(&file, room));
            outside
                .then(|| format!("{} names {library}, which belongs to {rooms:?}", file.at(code.line(word))))
        });
        violations.collect::<Vec<_>>()
    });
    none(named);
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        let room = room(&file);
        if room == "lib" {
            continue;
        }
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == room) else {
            violations.push(format!("{}: the room {room} has no row in MAY_NAME", file.path));
            continue;
        };
        let code = Code::of(&file.text);
        let mut named = [code.named_below("crate::"), code.named_below("amqpost::")].concat();
        let above = "super::".repeat(file.path.trim_end_matches("/mod.rs").matches('/').count());
        let climbs = code.without_tests().named_below(&above);
        named.extend(climbs.into_iter().filter(|(name, _)| MAY_NAME.iter().any(|(room, _)| room == name)));
        for (named, line) in named {
            if named != room && !allowed.contains(&named.as_str()) {
                violations.push(format!("{} the room {room} names {named}", file.at(line)));
            }
        }
    }
    none(violations);
}

/// A mutation that applies nowhere proves nothing, and nobody would notice before the long run.
#[test]
fn every_mutation_of_the_chaos_run_applies() {
    let directory = files::root().join("tests/chaos/mutations");
    let patches = std::fs::read_dir(directory).expect("the mutations have a directory");
    let failed = patches.filter_map(|patch| {
        let patch = patch.expect("a directory can be read").path();
        let apply = ["apply", "--check", "-p1"];
        let output = Command::new("git").current_dir(files::root()).args(apply).arg(&patch).output();
        let output = output.expect("git can be run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success()).then(|| format!("{}: {said}", patch.display()))
    });
    none(failed);
}

// === size and form ===

#[test]
fn every_rust_file_begins_by_saying_its_one_job() {
    let files = rust_files(&["src", "tests", "benches"]).into_iter();
    none(files.filter(|file| !file.text.starts_with("//! ")).map(|file| file.path));
}

#[test]
fn every_executable_file_names_its_interpreter() {
    let is_executable = |file: &TextFile| {
        let metadata = files::root().join(&file.path).metadata().expect("a file of the repository");
        metadata.permissions().mode() & 0o111 != 0
    };
    let files = text_files().into_iter();
    none(files.filter(|file| is_executable(file) && !file.text.starts_with("#!/")).map(|file| file.path));
}

#[test]
fn no_function_is_longer_than_its_limit() {
    let functions = rust_files(&["src", "tests", "benches"]).into_iter().flat_map(|file| {
        let functions = Code::of(&file.text).functions().into_iter();
        let long = functions.filter(|function| function.lines > FUNCTION_LINES_MAX);
        long.map(|f| format!("{} fn {}: {} lines", file.at(f.line), f.name, f.lines)).collect::<Vec<_>>()
    });
    none(functions);
}

#[test]
fn no_line_ends_in_white_space() {
    let lines = text_files().into_iter().flat_map(|file| {
        let lines = file.text.lines().enumerate().filter(|(_, line)| line.trim_end() != *line);
        lines.map(|(line, _)| file.at(line)).collect::<Vec<_>>()
    });
    none(lines);
}

// === what must not occur ===

#[test]
fn nothing_is_left_half_done() {
    let macros = rust_files(&["src", "tests", "benches"]).into_iter().flat_map(|file| {
        let code = Code::of(&file.text);
        let words = code.identifiers().into_iter();
        let unfinished = words.filter(|word| {
            matches!(word.text.as_str(), "todo" | "unimplemented" | "dbg")
                && code.after(word).starts_with('!')
        });
        unfinished.map(|word| format!("{} {}!", file.at(code.line(&word)), word.text)).collect::<Vec<_>>()
    });
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let marked = text_files().into_iter().flat_map(|file| lines_with(&file, &marks).collect::<Vec<_>>());
    none(macros.chain(marked));
}

#[test]
fn nothing_but_a_test_unwraps() {
    let files = rust_files(&["src"]);
    let unwraps = files.iter().filter(|file| !is_for_tests(file, &files)).flat_map(|file| {
        let code = Code::of(&file.text).without_tests();
        let unwraps = code.identifiers().into_iter().filter(|word| word.text == "unwrap");
        unwraps.map(|word| file.at(code.line(&word))).collect::<Vec<_>>()
    });
    none(unwraps);
}

/// Whether a file of src is compiled for tests only, by its name or by how its parent mounts it.
fn is_for_tests(file: &TextFile, files: &[TextFile]) -> bool {
    let (directory, name) = file.path.rsplit_once('/').unwrap_or_default();
    let stem = name.trim_end_matches(".rs");
    let mounted = ["", "pub(crate) "].map(|visibility| format!("#[cfg(test)]\n{visibility}mod {stem};"));
    stem == "tests"
        || stem.ends_with("_tests")
        || directory.ends_with("/tests")
        || files.iter().any(|parent| {
            parent.path == format!("{directory}/mod.rs")
                && mounted.iter().any(|mounted| parent.text.contains(mounted))
        })
}

/// Unit tests that sleep in real time: the end of the file's path, and the number of sleeps. The
/// list may only shrink.
const SLEEPING_TESTS: &[(&str, usize)] = &[
    ("/counted_requests_tests.rs", 1),
    ("/store/writing/inbox.rs", 2),
    ("/store/tests/damage.rs", 1),
    ("/store/tests/keys.rs", 1),
    ("/store/tests/size.rs", 1),
];

/// The words of the code that make a thread or a task sleep.
fn sleeps(code: &Code) -> Vec<Identifier> {
    let words = code.identifiers().into_iter();
    words.filter(|word| word.text == "sleep" || word.text == "sleep_until").collect()
}

/// A sleep is too short, so that the test fails on a slow machine, or too long, so that everybody
/// waits.
#[test]
fn no_scenario_sleeps() {
    let scenarios =
        rust_files(&["tests"]).into_iter().filter(|file| !file.path.starts_with("tests/it/harness/"));
    let sleeps = scenarios.flat_map(|file| {
        let code = Code::of(&file.text);
        sleeps(&code).iter().map(|word| file.at(code.line(word))).collect::<Vec<_>>()
    });
    none(sleeps);
}

/// A file with a clock that tests pause may sleep in its tests: no time passes.
#[test]
fn no_unit_test_sleeps_in_real_time_except_those_that_are_known() {
    let files = rust_files(&["src"]);
    let mut violations = Vec::new();
    for file in &files {
        let code = Code::of(&file.text);
        let all = sleeps(&code).len();
        let outside_tests =
            if is_for_tests(file, &files) { 0 } else { sleeps(&Code::of(&file.text).without_tests()).len() };
        let in_tests = if file.text.contains("start_paused = true") { 0 } else { all - outside_tests };
        let known =
            SLEEPING_TESTS.iter().find(|(path, _)| file.path.ends_with(path)).map_or(0, |(_, count)| *count);
        if in_tests > known {
            violations.push(format!("{}: {in_tests} sleeps in its tests, {known} are known", file.path));
        } else if in_tests < known {
            violations
                .push(format!("{}: only {in_tests} sleeps are left, correct SLEEPING_TESTS", file.path));
        }
    }
    let gone = SLEEPING_TESTS.iter().filter(|(path, _)| !files.iter().any(|file| file.path.ends_with(path)));
    violations.extend(gone.map(|(path, _)| format!("{path} is gone, remove it from SLEEPING_TESTS")));
    none(violations);
}

#[test]
fn no_file_names_a_machine_or_a_package_registry() {
    let names = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("crates", ".io"),
        concat!("docs", ".rs"),
        concat!("pypi", ".org"),
        concat!("npmjs", "."),
        concat!("proxy.", "golang.org"),
        concat!("rubygems", ".org"),
        concat!("maven", ".org"),
    ];
    // Cargo writes the lock file, and where each package is from belongs into it.
    let files = text_files().into_iter().filter(|file| file.path != "Cargo.lock");
    none(files.flat_map(|file| lines_with(&file, &names).collect::<Vec<_>>()));
}
