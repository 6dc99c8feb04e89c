//! The answers of a stream as text: one per line as they come, or an array in the order of the
//! request.

use crate::http::dialect::Entries;
use crate::message::Settlement;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// Answers that are written and not yet handed over.
pub(super) struct Answers {
    pub(super) text: BytesMut,
    form: Form,
    entries: Entries,
}

#[derive(Debug)]
enum Form {
    Lines,
    /// The index to be written next, and later answers that were known earlier.
    Array {
        next: u64,
        early: BTreeMap<u64, Bytes>,
    },
}

impl Answers {
    pub(super) fn as_lines(entries: Entries) -> Self {
        Self { text: BytesMut::new(), form: Form::Lines, entries }
    }

    pub(super) fn as_array(entries: Entries) -> Self {
        Self { text: BytesMut::new(), form: Form::Array { next: 0, early: BTreeMap::new() }, entries }
    }

    pub(super) fn add(&mut self, index: u64, settlement: &Settlement) {
        let Self { text, form, entries } = self;
        match form {
            Form::Lines => {
                (entries.encode)(settlement, index, false, text);
                text.extend_from_slice(b"\n");
            }
            Form::Array { next, early } => {
                let mut line = BytesMut::new();
                (entries.encode)(settlement, index, false, &mut line);
                early.insert(index, line.freeze());
                while let Some(line) = early.remove(next) {
                    text.extend_from_slice(if *next == 0 { b"[" } else { b",\n" });
                    text.extend_from_slice(&line);
                    *next += 1;
                }
            }
        }
    }

    /// The answer that says why no more lines were taken from `index` on.
    pub(super) fn add_last(&mut self, index: u64, settlement: &Settlement) {
        (self.entries.encode)(settlement, index, true, &mut self.text);
        self.text.extend_from_slice(b"\n");
    }

    /// There are no more.
    pub(super) fn end(&mut self) {
        match self.form {
            Form::Lines => {}
            Form::Array { next: 0, .. } => self.text.extend_from_slice(b"[]"),
            Form::Array { .. } => self.text.extend_from_slice(b"]"),
        }
    }

    /// How many of the `taken` lines take room here, or will: `under_way` of them have no outcome
    /// yet.
    pub(super) fn owed(&self, taken: u64, under_way: usize) -> usize {
        match &self.form {
            Form::Lines => under_way,
            Form::Array { next, .. } => usize::try_from(taken - next).unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dialect::envelope;
    use crate::outcome::Outcome;
    use proptest::prelude::*;

    const ENTRIES: Entries = envelope::entries("");

    #[test]
    fn an_array_of_nothing_is_empty() {
        let mut answers = Answers::as_array(ENTRIES);
        answers.end();
        assert_eq!(answers.text, "[]");
    }

    #[test]
    fn lines_are_written_as_they_come_and_the_last_says_so() {
        let mut answers = Answers::as_lines(ENTRIES);
        answers.add(1, &Settlement::of(Outcome::Confirmed));
        answers.add(0, &Settlement::of(Outcome::LinkLost));
        answers.add_last(2, &Settlement::of(Outcome::Draining));
        answers.end();
        let text = String::from_utf8(answers.text.to_vec()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"index":1,"outcome":"confirmed","code":"confirmed"}"#,
                concat!(
                    r#"{"index":0,"outcome":"unknown","code":"link_lost","retry":"may_duplicate","#,
                    r#""detail":"The connection was lost before the broker's verdict"}"#,
                ),
                concat!(
                    r#"{"index":2,"outcome":"not_published","code":"draining","retry":"safe","#,
                    r#""detail":"The sidecar is shutting down","last":true}"#,
                ),
            ]
        );
    }

    proptest! {
        #[test]
        fn an_array_is_in_its_order_whatever_the_order_of_outcomes(
            order in Just((0..20_u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut answers = Answers::as_array(ENTRIES);
            for index in order {
                answers.add(index, &Settlement::of(Outcome::Confirmed));
            }
            answers.end();
            let array: Vec<serde_json::Value> = serde_json::from_slice(&answers.text).unwrap();
            let indexes: Vec<_> = array.iter().map(|line| line["index"].as_u64().unwrap()).collect();
            prop_assert_eq!(indexes, (0..20).collect::<Vec<_>>());
        }
    }
}
