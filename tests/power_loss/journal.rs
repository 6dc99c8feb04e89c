//! The journal of a process's file operations, and the state of the disk after a power cut at any
//! point in it.

use fastrand::Rng;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The spool's files, as the shim numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Database,
    Log,
    Rollback,
    Answers,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { length: usize },
    BeginSync,
    Sync,
    Remove,
}

/// An operation of a thread on a file.
pub(crate) struct Asked {
    pub(crate) file: File,
    pub(crate) operation: Operation,
    thread: u32,
}

/// Which syncs take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// All syncs of the process.
    Asked,
    /// Of the log only those before a checkpoint, as with `synchronous=NORMAL`.
    NotAtCommits,
}

/// All operations, in order.
pub(crate) struct Journal(pub(crate) Vec<Asked>);

/// An existing file (its directory entry is always durable): the content that is certainly on the
/// disk, and the writes that may be.
#[derive(Default)]
struct Half {
    durable: Vec<u8>,
    pending: Vec<Operation>,
    /// How many of them a thread's sync covers: those that existed when it began.
    covered: HashMap<u32, usize>,
}

impl Journal {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("the shim has written its journal");
        let (mut operations, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((head, tail)) = rest.split_at_checked(22) {
            let number =
                |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes")) as usize;
            let (offset, length) = (number(2), number(10));
            let thread = u32::from_le_bytes(head[18..].try_into().expect("4 bytes"));
            let (content, tail) = tail.split_at(length);
            let operation = match head[0] {
                b'w' => Operation::Write { offset, bytes: content.to_vec() },
                b't' => Operation::Truncate { length: offset },
                b'b' => Operation::BeginSync,
                b's' => Operation::Sync,
                b'u' => Operation::Remove,
                other => panic!("operation {other}"),
            };
            let file = [File::Database, File::Log, File::Rollback, File::Answers][usize::from(head[1]) - 1];
            operations.push(Asked { file, operation, thread });
            rest = tail;
        }
        Self(operations)
    }

    /// The answers before the cut, one per line.
    pub(crate) fn answers(&self, cut: usize) -> Vec<String> {
        let mut text = Vec::new();
        for Asked { file, operation, .. } in &self.0[..cut] {
            if let (File::Answers, Operation::Write { bytes, .. }) = (file, operation) {
                text.extend_from_slice(bytes);
            }
        }
        String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
    }

    /// Writes the files as a start after the cut finds them: the synced content, and some blocks of
    /// the rest.
    pub(crate) fn play(&self, cut: usize, syncs: Syncs, into: &Path, random: &mut Rng) {
        let mut halves = [const { None }; 3];
        for (at, Asked { file, operation, thread }) in self.0[..cut].iter().enumerate() {
            let half = match file {
                File::Database => &mut halves[0],
                File::Log => &mut halves[1],
                File::Rollback => &mut halves[2],
                File::Answers => continue,
            };
            if matches!(operation, Operation::Remove) {
                *half = None;
                continue;
            }
            let half = half.get_or_insert_with(Half::default);
            match operation {
                Operation::BeginSync => drop(half.covered.insert(*thread, half.pending.len())),
                Operation::Sync if syncs == Syncs::Asked || *file != File::Log || self.moves(at) => {
                    half.synced(*thread);
                }
                Operation::Sync => {}
                other => half.pending.push(other.clone()),
            }
        }
        for (half, name) in halves.into_iter().zip(["spool.db", "spool.db-wal", "spool.db-journal"]) {
            let Some(half) = half else { continue };
            fs::write(into.join(name), half.found(random)).expect("written");
        }
    }

    /// Whether the thread's next operation, apart from answers, is a write to the database.
    fn moves(&self, at: usize) -> bool {
        let of_thread = |asked: &&Asked| asked.thread == self.0[at].thread && asked.file != File::Answers;
        let next = self.0[at + 1..].iter().find(of_thread);
        next.is_some_and(|asked| {
            asked.file == File::Database && matches!(asked.operation, Operation::Write { .. })
        })
    }
}

impl Half {
    /// The thread's sync has ended: everything written before it began is on the disk.
    fn synced(&mut self, thread: u32) {
        let covered = self.covered.remove(&thread).expect("it has begun").min(self.pending.len());
        for operation in self.pending.drain(..covered) {
            apply(&mut self.durable, &operation, |_| true);
        }
        // A sync of another thread that is under way has this many fewer writes to cover.
        for begun in self.covered.values_mut() {
            *begun = begun.saturating_sub(covered);
        }
    }

    /// Each unsynced block may have reached the disk or not, independently of the blocks before it.
    fn found(self, random: &mut Rng) -> Vec<u8> {
        let percent = [0, 10, 50, 90, 100][random.usize(..5)];
        let block = [512, 4096][random.usize(..2)];
        let mut bytes = self.durable;
        for operation in &self.pending {
            match operation {
                Operation::Write { offset, bytes: content } => {
                    for (index, part) in content.chunks(block).enumerate() {
                        let part = Operation::Write { offset: offset + index * block, bytes: part.to_vec() };
                        apply(&mut bytes, &part, |_| random.u32(..100) < percent);
                    }
                }
                other => apply(&mut bytes, other, |_| random.u32(..100) < percent),
            }
        }
        bytes
    }
}

fn apply(to: &mut Vec<u8>, operation: &Operation, mut reaches: impl FnMut(&Operation) -> bool) {
    if !reaches(operation) {
        return;
    }
    match operation {
        Operation::Write { offset, bytes } => {
            let end = offset + bytes.len();
            to.resize(to.len().max(end), 0);
            to[*offset..end].copy_from_slice(bytes);
        }
        Operation::Truncate { length } => to.resize(*length, 0),
        Operation::BeginSync | Operation::Sync | Operation::Remove => {}
    }
}
