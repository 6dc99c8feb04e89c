//! Answers questions about a spool over a read-only connection. A question fails if the spool
//! cannot be read.

use super::wire::{MessagesPage, Query, Report, ShownMessage, Sidecar, Status};
use crate::envelope::envelope_of;
use crate::spool::store::{Filter, Page, ReadError, Seq, StoreReader, VerifyProgress};
use serde_json::value::RawValue;
use std::collections::VecDeque;

/// The default number of messages on a page.
const PAGE: usize = 100;
/// The largest number of messages on a page.
pub(super) const PAGE_MAX: usize = 1000;

/// The spool's contents, with at most `largest` destinations. The caller fills in which process has
/// it.
pub async fn status(reader: &StoreReader, largest: usize) -> Result<Status, ReadError> {
    let held = reader.summary(largest.min(PAGE_MAX)).await?;
    Ok(Status { sidecar: Sidecar::None, live: None, held })
}

/// A page of the selected messages, without their contents.
///
/// # Errors
/// When the query is not valid, or the spool cannot be read.
pub async fn lines(reader: &StoreReader, query: &Query) -> Result<MessagesPage, String> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let page = Page { after: query.after.map(Seq::new), limit };
    let messages = reader.list(query.filter()?, page).await.map_err(|error| error.to_string())?;
    let next = messages.last().filter(|_| messages.len() == limit).map(|entry| entry.seq);
    Ok(MessagesPage { messages, next })
}

/// One whole message; `None` if there is no such number.
pub async fn shown(reader: &StoreReader, seq: i64) -> Result<Option<ShownMessage>, ReadError> {
    let whole = reader.get(Seq::new(seq)).await?;
    Ok(whole.map(|whole| ShownMessage {
        entry: whole.entry,
        damaged: whole.message.is_none(),
        envelope: whole.message.map(|message| {
            RawValue::from_string(envelope_of(&message)).expect("it was just written as JSON")
        }),
    }))
}

/// Verifies the whole spool.
pub async fn report(
    reader: &StoreReader,
    progress: impl Fn(VerifyProgress) + Send,
) -> Result<Report, ReadError> {
    reader.verify(progress).await.map(Report::from)
}

/// The selected messages as envelopes, one at a time. Has one page of numbers and one message in
/// memory.
#[derive(Debug)]
pub struct Export {
    filter: Filter,
    after: Option<Seq>,
    until: Seq,
    page: VecDeque<Seq>,
    ended: bool,
}

/// One step of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// The envelope of a message, on one line.
    Envelope(String),
    /// A message whose bytes are not those that were stored.
    Damaged(i64),
}

impl Export {
    /// An export of the messages that exist now, without later ones.
    ///
    /// # Errors
    /// When the query is not valid, or the spool cannot be read.
    pub async fn begin(reader: &StoreReader, query: &Query) -> Result<Self, String> {
        let filter = query.filter()?;
        let until = reader.newest().await.map_err(|error| error.to_string())?;
        let after = query.after.map(Seq::new);
        Ok(Self { filter, after, until, page: VecDeque::new(), ended: false })
    }

    /// An export of the messages with these numbers.
    #[must_use]
    pub fn of(seqs: impl IntoIterator<Item = i64>) -> Self {
        let page = seqs.into_iter().map(Seq::new).collect();
        Self { filter: Filter::default(), after: None, until: Seq::new(0), page, ended: true }
    }

    /// The next message; `None` after the last one. Messages delivered in the meantime are left
    /// out.
    pub async fn next(&mut self, reader: &StoreReader) -> Result<Option<Exported>, ReadError> {
        loop {
            while let Some(seq) = self.page.pop_front() {
                let Some(whole) = reader.get(seq).await? else { continue };
                return Ok(Some(match whole.message {
                    Some(message) => Exported::Envelope(envelope_of(&message)),
                    None => Exported::Damaged(seq.number()),
                }));
            }
            if self.ended {
                return Ok(None);
            }
            let page = Page { after: self.after, limit: PAGE_MAX };
            let entries = reader.list(self.filter.clone(), page).await?;
            self.ended = entries.len() < PAGE_MAX;
            self.after = entries.last().map(|entry| entry.seq);
            let seqs = entries.into_iter().map(|entry| entry.seq);
            self.page = seqs.take_while(|seq| *seq <= self.until).collect();
            self.ended |= self.after > Some(self.until);
        }
    }
}
