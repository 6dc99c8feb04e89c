//! Where blocks are allocated: dhat's backtraces, grouped by the allocating function and its caller
//! in this project.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// The crate that is counted.
const OURS: &str = "amqpost";

/// Crates that allocate for their callers. The caller is named instead.
const LANGUAGE: [&str; 6] = ["alloc", "core", "std", "dhat", "__rustc", "hashbrown"];

/// The blocks that lapin's thread allocates each time it goes to sleep: their number depends on the
/// machine, not on the code.
const GOES_TO_SLEEP: &str = "flume::Hook";

/// A site with fewer blocks per publish than this does not belong to every publish.
const WORTH_A_ROW: f64 = 0.05;

/// The parts of dhat's file that are read.
#[derive(Deserialize)]
struct Profile {
    pps: Vec<Place>,
    ftbl: Vec<String>,
}

#[derive(Deserialize)]
struct Place {
    #[serde(rename = "tbk")]
    blocks: u64,
    #[serde(rename = "fs")]
    frames: Vec<usize>,
}

/// Blocks by the allocating function and by the frame of this project that called it.
pub(crate) struct Sites(BTreeMap<String, BTreeMap<String, u64>>);

impl Sites {
    /// The file that dhat wrote.
    pub(crate) fn read(file: &Path) -> Self {
        let file = BufReader::new(File::open(file).expect("dhat wrote it"));
        let Profile { pps, ftbl } = serde_json::from_reader(file).expect("dhat's format");
        let mut sites: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
        for Place { blocks, frames } in pps {
            let frames = frames.iter().map(|frame| Frame::of(&ftbl[*frame])).collect::<Vec<_>>();
            let mut frames = frames.iter().skip_while(|frame| frame.is_of_the_language());
            let taker = frames.next();
            let ours = frames.find(|frame| frame.library() == OURS);
            let [taker, ours] = [taker, ours].map(|frame| frame.map(Frame::shown).unwrap_or_default());
            *sites.entry(taker).or_default().entry(ours).or_default() += blocks;
        }
        Self(sites)
    }

    /// All blocks.
    pub(crate) fn all(&self) -> u64 {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// Blocks that depend on when threads sleep.
    pub(crate) fn asleep(&self) -> u64 {
        self.0.keys().filter(|taker| taker.contains(GOES_TO_SLEEP)).map(|taker| self.of(taker)).sum()
    }

    fn of(&self, taker: &str) -> u64 {
        self.0.get(taker).map(|by_ours| by_ours.values().sum()).unwrap_or_default()
    }
}

/// A frame as dhat writes it, `0xADDRESS: FUNCTION (FILE:LINE:COLUMN)`.
struct Frame<'a> {
    function: &'a str,
    file: &'a str,
}

impl<'a> Frame<'a> {
    fn of(text: &'a str) -> Self {
        let text = text.split_once(": ").map_or(text, |(_, text)| text);
        let (function, file) = text.rsplit_once(" (").unwrap_or((text, ""));
        let file = file.trim_end_matches(')');
        Self { function, file: file.rsplit_once(':').map_or(file, |(file, _)| file) }
    }

    /// The crate that the function belongs to. A function of an implementation belongs to the crate
    /// of the type, or to that of the trait if the type is a parameter or built in.
    fn library(&self) -> &'a str {
        let Some(implementation) = self.function.strip_prefix('<') else { return first(self.function) };
        let (of_type, of_trait) = implementation.split_once(" as ").unwrap_or((implementation, ""));
        if of_type.contains("::") { first(of_type) } else { first(of_trait) }
    }

    fn is_of_the_language(&self) -> bool {
        let directory = self.file.split('/').next().unwrap_or_default();
        LANGUAGE.contains(&self.library()) || LANGUAGE.contains(&directory)
    }

    fn shown(&self) -> String {
        format!("{} ({})", self.function.replace("::{{closure}}", ""), self.file)
    }
}

/// The first word of a path.
fn first(path: &str) -> &str {
    let path = path.trim_start_matches(|character: char| !character.is_alphanumeric() && character != '_');
    path.split("::").next().unwrap_or_default()
}

/// Prints the functions that allocate more or fewer blocks in amqpost than in both floors; the rows
/// add up to the difference.
pub(crate) fn print([http, amqp, amqpost]: &[&Sites; 3], publishes: u32) {
    let each = |blocks: u64| blocks as f64 / f64::from(publishes);
    let takers = [http, amqp, amqpost].into_iter().flat_map(|sites: &&Sites| sites.0.keys());
    let mut takers: Vec<_> =
        takers.map(|taker| (taker, [http, amqp, amqpost].map(|sites| each(sites.of(taker))))).collect();
    takers.sort_by_key(|(taker, _)| *taker);
    takers.dedup_by_key(|(taker, _)| *taker);
    let beyond = |[http, amqp, amqpost]: [f64; 3]| amqpost - http - amqp;
    takers.sort_by(|(_, one), (_, other)| beyond(*other).total_cmp(&beyond(*one)));
    println!("\n| beyond | amqpost | floors | taken by |\n|---|---|---|---|");
    for (taker, figures) in takers.into_iter().filter(|(_, figures)| beyond(*figures).abs() >= WORTH_A_ROW) {
        let [http, amqp, amqpost_each] = figures;
        println!("| {:+.2} | {amqpost_each:.2} | {:.2} | {taker} |", beyond(figures), http + amqp);
        let for_ours = amqpost.0.get(taker).into_iter().flatten();
        let of_each = |(frame, blocks): &(&String, &u64)| !frame.is_empty() && each(**blocks) >= WORTH_A_ROW;
        for (frame, blocks) in for_ours.filter(of_each) {
            println!("| | {:.2} | | … for {frame} |", each(*blocks));
        }
    }
}
