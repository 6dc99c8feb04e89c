//! Cuts chunks into lines of at most a given length, wherever the chunks end. Longer lines are
//! skipped in constant memory.

use bytes::{Bytes, BytesMut};

/// One line, without its line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A line with something in it.
    Line(Bytes),
    /// A line that is too long; its rest is skipped.
    TooLong,
}

/// The chunk being cut, and the beginning of the line that goes on in the next one.
#[derive(Debug)]
pub(super) struct Splitter {
    max: usize,
    chunk: Bytes,
    partial: BytesMut,
    skipping: bool,
}

impl Splitter {
    /// Lines of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, chunk: Bytes::new(), partial: BytesMut::new(), skipping: false }
    }

    /// Takes the next chunk, once everything before it has been cut.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the chunk before has not been cut");
        self.chunk = chunk;
    }

    /// The next line; `None` if more has to be fed. Blank lines are skipped.
    pub(super) fn cut(&mut self) -> Option<Cut> {
        while !self.chunk.is_empty() {
            let Some(end) = memchr::memchr(b'\n', &self.chunk) else { return self.keep() };
            let mut piece = self.chunk.split_to(end + 1);
            piece.truncate(end);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if let Some(cut) = self.whole(piece) {
                return Some(cut);
            }
        }
        None
    }

    /// The last line, if no line break ends it. Nothing is fed after that.
    pub(super) fn finish(&mut self) -> Option<Cut> {
        if self.skipping { None } else { self.whole(Bytes::new()) }
    }

    /// Bytes of the line whose end has not been fed.
    pub(super) fn held(&self) -> usize {
        self.partial.len()
    }

    /// Gives up the line whose end has not been fed.
    pub(super) fn skip(&mut self) {
        self.partial = BytesMut::new();
        self.skipping = true;
    }

    /// The rest of the chunk is the beginning of a line, or goes on with one.
    fn keep(&mut self) -> Option<Cut> {
        let piece = std::mem::take(&mut self.chunk);
        if self.skipping {
            return None;
        }
        if self.partial.len() + piece.len() > self.max {
            self.skip();
            return Some(Cut::TooLong);
        }
        self.partial.extend_from_slice(&piece);
        None
    }

    fn whole(&mut self, end: Bytes) -> Option<Cut> {
        if self.partial.len() + end.len() > self.max {
            self.partial = BytesMut::new();
            return Some(Cut::TooLong);
        }
        let line = if self.partial.is_empty() {
            end
        } else {
            self.partial.extend_from_slice(&end);
            std::mem::take(&mut self.partial).freeze()
        };
        let is_blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        (!is_blank).then_some(Cut::Line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(max: usize, chunks: &[&[u8]]) -> Vec<Cut> {
        let mut splitter = Splitter::new(max);
        let mut cuts = Vec::new();
        for chunk in chunks {
            splitter.feed(Bytes::copy_from_slice(chunk));
            cuts.extend(std::iter::from_fn(|| splitter.cut()));
            assert!(splitter.held() <= max, "no more than a line is kept");
        }
        cuts.extend(splitter.finish());
        cuts
    }

    fn line(text: &'static str) -> Cut {
        Cut::Line(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_end_with_a_line_break_or_with_the_text() {
        assert_eq!(cut(9, &[b"{}\n", b"[", b"]\n\"x\""]), [line("{}"), line("[]"), line("\"x\"")]);
        assert_eq!(cut(9, &[b"\n \r\n\t\n{}\r\n\n"]), [line("{}\r")]);
        assert_eq!(cut(9, &[]), []);
    }

    #[test]
    fn a_line_that_is_too_long_costs_itself_only() {
        assert_eq!(
            cut(3, &[b"abc\nabcd\nab", b"cd", b"efgh", b"\nabc"]),
            [line("abc"), Cut::TooLong, Cut::TooLong, line("abc")]
        );
        assert_eq!(cut(3, &[b"ab\nabcd"]), [line("ab"), Cut::TooLong]);
    }

    #[test]
    fn a_line_that_is_given_up_is_skipped_to_its_end() {
        let mut splitter = Splitter::new(100);
        splitter.feed(Bytes::from_static(b"abc"));
        assert_eq!(splitter.cut(), None);
        splitter.skip();
        splitter.feed(Bytes::from_static(b"def\nghi\n"));
        assert_eq!((splitter.cut(), splitter.cut()), (Some(line("ghi")), None));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            text in "[a \\n]{0,200}",
            places in proptest::collection::vec(0..200_usize, 0..20),
            max in 1..12_usize,
        ) {
            let mut places: Vec<_> = places.into_iter().map(|place| place.min(text.len())).collect();
            places.extend([0, text.len()]);
            places.sort_unstable();
            let chunks: Vec<_> =
                places.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]).collect();
            let expected: Vec<_> = text
                .split('\n')
                .filter(|line| line.len() > max || !line.trim().is_empty())
                .map(|line| match line.len() > max {
                    true => Cut::TooLong,
                    false => Cut::Line(Bytes::copy_from_slice(line.as_bytes())),
                })
                .collect();
            prop_assert_eq!(cut(max, &chunks), expected);
        }
    }
}
