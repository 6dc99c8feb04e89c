//! The documents agree with the code, their links lead somewhere, and their examples work.

use crate::files::{TextFile, documents, root};
use crate::{MAY_NAME, none};
use amqpost::config::{Config, Sources};
use amqpost::labels::ConnectionState;
use amqpost::metrics::{Metrics, Observed, ObservedSpool};
use amqpost::outcome::{Outcome, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

/// A family of metrics as a scrape shows it.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Family {
    kind: String,
    /// The values of each label, without the `le` of a histogram's buckets.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Fails with the elements that only one of the two has.
#[track_caller]
fn same<T: Ord + std::fmt::Debug>(documented: BTreeSet<T>, rendered: BTreeSet<T>) {
    let (document, code): (Vec<_>, Vec<_>) =
        (documented.difference(&rendered).collect(), rendered.difference(&documented).collect());
    assert!(
        document.is_empty() && code.is_empty(),
        "only in the document: {document:#?}\nonly in the code: {code:#?}"
    );
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// The texts in backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The cells of the tables' rows that begin with a name in backticks, below the given heading.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let section = document.split("\n## ").find(|section| section.starts_with(heading)).expect(heading);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

// === problems.md ===

/// The first line of a section of problems.md.
fn verdict(row: Row) -> String {
    let retry = row.retry.as_str().map_or("no retry".to_owned(), |retry| format!("retry `{retry}`"));
    let after = row.retry_after.map_or(String::new(), |seconds| format!(", `Retry-After: {seconds}`"));
    format!("**{}.** Status {}, outcome `{}`, {retry}{after}.", row.title, row.status, row.class.as_str())
}

#[test]
fn every_outcome_has_its_section_and_no_section_is_about_anything_else() {
    let text = read("docs/problems.md");
    let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, Outcome::ALL.map(Outcome::code));
}

#[test]
fn each_section_gives_the_outcome_as_the_table_has_it() {
    let text = read("docs/problems.md");
    let sections = text.split("\n## ").skip(1).map(|section| section.split_once("\n\n").unwrap().1);
    for (section, outcome) in sections.zip(Outcome::ALL) {
        let first = section.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        assert_eq!(first, verdict(outcome.row()), "{}", outcome.code());
    }
}

#[test]
fn each_section_answers_the_same_three_questions() {
    let text = read("docs/problems.md");
    for section in text.split("\n## ").skip(1) {
        let questions: Vec<_> =
            section.lines().filter_map(|line| line.strip_prefix("- **")?.split(":**").next()).collect();
        assert_eq!(questions, ["In a queue", "Client", "Operator"], "{}", section.lines().next().unwrap());
    }
}

// === metrics.md ===

/// The families of a sidecar that has just started.
fn families() -> BTreeMap<String, Family> {
    let observed = Observed {
        in_flight: 0,
        in_flight_limit: 1,
        link_state: ConnectionState::Up,
        connections: vec![ConnectionState::Up],
        breakers: HashMap::new(),
        spool: ObservedSpool::default(),
    };
    let text = Metrics::new(amqpost::http::ROUTES).render(&observed);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.insert(name.to_owned(), Family { kind: kind.to_owned(), ..Family::default() });
        } else if let Some((name, labels)) = labelled(line) {
            let family = families.get_mut(family_of(name)).expect("TYPE comes before the series");
            for (label, value) in labels.into_iter().filter(|(label, _)| *label != "le") {
                family.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
        }
    }
    families
}

/// The name and the labels of a series with labels. No value of ours contains a comma or a quote.
fn labelled(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (name, rest) = line.split_once('{').filter(|_| !line.starts_with('#'))?;
    let (labels, _) = rest.rsplit_once('}')?;
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    Some((name, pairs.map(|(label, value)| (label, value.trim_matches('"'))).collect()))
}

/// The family of a series; the series of a histogram have suffixes.
fn family_of(series: &str) -> &str {
    ["_bucket", "_count", "_sum"].iter().find_map(|end| series.strip_suffix(end)).unwrap_or(series)
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels_and_no_other_is() {
    let documented: BTreeSet<_> = rows(&read("docs/metrics.md"), "Families")
        .iter()
        .map(|row| (quoted(&row[0]).pop_first().unwrap(), row[1].clone(), quoted(&row[2])))
        .collect();
    let rendered: BTreeSet<_> = families()
        .into_iter()
        .map(|(name, family)| (name, family.kind, family.labels.into_keys().collect::<BTreeSet<_>>()))
        .collect();
    same(documented, rendered);
}

#[test]
fn every_label_from_a_closed_list_is_documented_with_its_values() {
    // The page explains the first two elsewhere; the others are not closed lists.
    const ELSEWHERE: [&str; 6] = ["amqpost_publishes_total", "code", "method", "route", "status", "version"];
    let documented = rows(&read("docs/metrics.md"), "Label values")
        .iter()
        .map(|row| (quoted(&row[0]).pop_first().unwrap(), quoted(&row[1])))
        .collect();
    let mut rendered = BTreeSet::new();
    for (name, family) in families().into_iter().filter(|(name, _)| !ELSEWHERE.contains(&name.as_str())) {
        for (label, values) in
            family.labels.into_iter().filter(|(label, _)| !ELSEWHERE.contains(&label.as_str()))
        {
            rendered.insert((format!("{name}{{{label}}}"), values));
        }
    }
    same(documented, rendered);
}

/// An alert on a metric that does not exist never fires.
#[test]
fn every_metric_that_a_document_names_exists() {
    let families = families();
    for document in documents() {
        for (position, _) in document.text.match_indices("amqpost_") {
            let name: String =
                document.text[position..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(families.contains_key(family_of(&name)), "{} names {name}", document.path);
        }
    }
}

// === ARCHITECTURE.md ===

#[test]
fn every_room_is_on_the_map() {
    let text = read("ARCHITECTURE.md");
    let map = text.split("\n## ").find(|section| section.starts_with("The rooms")).expect("The rooms");
    let on_the_map = quoted(map);
    let rooms = MAY_NAME.iter().map(|(room, _)| *room);
    none(
        rooms
            .filter(|room| !on_the_map.contains(*room) && !on_the_map.contains(&format!("{room}.rs")))
            .map(|room| format!("ARCHITECTURE.md does not have the room {room}")),
    );
}

// === links ===

/// The targets of the links in a document except web addresses, each with its line, counted from 0.
fn links(document: &TextFile) -> Vec<(usize, &str)> {
    let lines = document.text.lines().enumerate();
    let targets = lines.flat_map(|(line, text)| {
        text.split("](").skip(1).filter_map(move |rest| Some((line, rest.split_once(')')?.0)))
    });
    targets.filter(|(_, target)| !target.contains("://")).collect()
}

/// The fragment of a link that leads to a heading.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for document in documents() {
        let directory = root().join(&document.path).parent().expect("a file is in a directory").to_owned();
        for (line, target) in links(&document) {
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { root().join(&document.path) } else { directory.join(path) };
            let has_heading = || {
                let text = fs::read_to_string(&file).unwrap_or_default();
                text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment)
            };
            if !file.exists() || !fragment.is_empty() && !has_heading() {
                broken.push(format!("{} leads to {target}", document.at(line)));
            }
        }
    }
    none(broken);
}

// === examples ===

/// The fenced blocks of a language, each with its first line, counted from 0.
fn blocks(document: &TextFile, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = document.text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let block: Vec<_> = lines.by_ref().take_while(|(_, line)| line.trim() != "```").collect();
        if info.trim() == language {
            let first = block.first().map_or(0, |(first, _)| *first);
            blocks.push((first, block.iter().map(|(_, line)| format!("{line}\n")).collect()));
        }
    }
    blocks
}

/// Creates the files that an example refers to in `directory`, and returns the example with their
/// paths.
fn with_files(example: &str, directory: &str) -> String {
    const SECRETS: &str = "/run/secrets";
    for line in example.lines() {
        let Some((key, rest)) = line.split_once(&format!("\"{SECRETS}/")) else { continue };
        let content = match key.trim_end_matches([' ', '=']) {
            "ca_file" => "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            "endpoints_file" => "amqp://guest:guest@127.0.0.1\n",
            _ => "hunter2\n",
        };
        let name = rest.split('"').next().unwrap_or_default();
        fs::write(format!("{directory}/{name}"), content).expect("the directory is ours");
    }
    example.replace(SECRETS, directory)
}

#[test]
fn every_configuration_in_the_documents_loads() {
    let mut loaded = 0;
    for document in documents() {
        for (line, example) in blocks(&document, "toml") {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("amqpost.toml");
            fs::write(&file, with_files(&example, directory.path().to_str().unwrap())).unwrap();
            let result = Config::load(&Sources { file: Some(file), ..Sources::default() });
            assert!(result.is_ok(), "{}:\n{}", document.at(line), result.unwrap_err());
            loaded += 1;
        }
    }
    assert!(loaded > 0, "no document has an example");
}
