//! Decides which connections may take messages while one of them is suspected, and when the permits
//! of lost publishes are given out again.
//!
//! When a broker is gone, all connections to it are lost, but they notice it at different times. If
//! the permits of the first one went to the others at once, each of them could lose a whole
//! in-flight limit. So a publish that is lost with its connection keeps its permit until **every
//! connection that takes messages has answered something that was sent after the loss**.
//!
//! Why this bounds the unknown answers of an outage by the in-flight limit: an outage is a moment
//! and a set of connections. Nothing that is sent over them after that moment is answered. The
//! first loss among them comes later, so each of the others either takes nothing or holds back the
//! permits of all lost publishes until it is lost itself. At the last loss every lost publish still
//! has its permit, and there are no more permits than the limit.
//!
//! | a connection | to the suspected address | elsewhere |
//! |---|---|---|
//! | is suspected | takes nothing | |
//! | has answered nothing since the suspicion began | takes nothing | takes its part |
//! | has answered something since | takes messages as usual | takes messages as usual |
//!
//! Pure: the caller provides the clock, carries out the decisions and drops the permits.

use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// What a connection may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// As much as there is.
    Full,
    /// It takes at most its part of the in-flight limit, since this moment.
    Part(Instant),
    /// Nothing, since this moment.
    Nothing(Instant),
}

/// A connection that is open.
#[derive(Debug)]
struct Member {
    address: String,
    /// When the newest request was sent that the broker has answered. This is kept current only
    /// while a connection has to prove itself.
    proven: Instant,
    doubt: Option<Doubt>,
    /// The broker blocks publishers: it reads nothing, is not asked, and is handed nothing.
    blocked: bool,
}

/// Why a connection is not fully trusted.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    trust: Trust,
    /// The doubt ends with an answer to something that was sent at this moment or later.
    until_proven: Instant,
}

/// The knowledge that all connections share. `P` is the permit of a publish.
#[derive(Debug)]
pub(crate) struct Ledger<P> {
    members: BTreeMap<u64, Member>,
    /// The number of the next member: none is used twice.
    next: u64,
    /// The permits of lost publishes, each with the moment of the loss, in this order.
    lost: VecDeque<(Instant, P)>,
    last_loss: Option<Instant>,
    /// Every connection should prove that it is alive at this moment or later.
    asked: Option<Instant>,
}

impl<P> Ledger<P> {
    pub(crate) fn new() -> Self {
        Self { members: BTreeMap::new(), next: 0, lost: VecDeque::new(), last_loss: None, asked: None }
    }

    /// A connection to `address` is open. Its newest answered request was sent at `proven`.
    pub(crate) fn join(&mut self, address: &str, proven: Instant, now: Instant) -> u64 {
        let mut member = Member { address: address.to_owned(), proven, doubt: None, blocked: false };
        member.doubt_after_pause(self.last_loss, now);
        let number = self.next;
        self.next += 1;
        self.members.insert(number, member);
        number
    }

    /// The connection takes nothing more, for ever.
    pub(crate) fn leave(&mut self, number: u64) {
        self.members.remove(&number);
    }

    /// Whether the connection has not left.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.members.contains_key(&number)
    }

    /// The broker answered something that was sent over the connection at `sent`.
    pub(crate) fn answered(&mut self, number: u64, sent: Instant) {
        let Some(member) = self.member(number) else { return };
        member.proven = member.proven.max(sent);
        if member.doubt.is_some_and(|doubt| member.proven >= doubt.until_proven) {
            member.doubt = None;
        }
    }

    /// The broker blocks publishers on the connection.
    pub(crate) fn blocked(&mut self, number: u64) {
        if let Some(member) = self.member(number) {
            member.blocked = true;
            member.doubt = None;
        }
    }

    /// The broker takes publishes on the connection again.
    pub(crate) fn unblocked(&mut self, number: u64, now: Instant) {
        let last_loss = self.last_loss;
        if let Some(member) = self.member(number) {
            member.blocked = false;
            member.doubt_after_pause(last_loss, now);
        }
    }

    /// The connection has answered nothing that was sent at `since` or later, although it was
    /// asked.
    pub(crate) fn suspect(&mut self, number: u64, since: Instant, now: Instant) {
        let Some(address) = self.member(number).map(|member| member.address.clone()) else { return };
        self.asked = self.asked.max(Some(since));
        for member in self.members.values_mut() {
            if member.proven < since && !member.blocked {
                let trust = if member.address == address { Trust::Nothing(now) } else { Trust::Part(now) };
                member.add(Doubt { trust, until_proven: since });
            }
        }
    }

    /// A publish was lost with its connection: keeps its permit.
    pub(crate) fn lost(&mut self, permit: P, now: Instant) {
        // Losses are reported in order of time, but by several threads, so two may be swapped.
        let now = self.last_loss.map_or(now, |last| last.max(now));
        self.lost.push_back((now, permit));
        self.last_loss = Some(now);
        self.asked = Some(now);
        // A connection that takes nothing holds back no permit, so it must prove itself before it
        // takes messages again.
        for doubt in self.members.values_mut().filter_map(|member| member.doubt.as_mut()) {
            doubt.until_proven = doubt.until_proven.max(now);
        }
    }

    /// Asks every connection to prove that it is alive at `now` or later.
    pub(crate) fn ask(&mut self, now: Instant) {
        self.asked = self.asked.max(Some(now));
    }

    /// Whether the connection has something to prove.
    pub(crate) fn is_asked(&self, number: u64) -> bool {
        self.members.get(&number).is_some_and(|member| self.must_prove(member))
    }

    /// What the connection may be given now.
    pub(crate) fn trust(&self, number: u64) -> Trust {
        let member = self.members.get(&number);
        member.and_then(|member| member.doubt).map_or(Trust::Full, |doubt| doubt.trust)
    }

    /// The permits that may be given out again.
    pub(crate) fn released(&mut self) -> impl Iterator<Item = P> + use<P> {
        let taking = self.members.values().filter(|member| member.takes());
        let oldest_proof = taking.map(|member| member.proven).min();
        let is_over = |(at, _): &(Instant, P)| oldest_proof.is_none_or(|proof| proof >= *at);
        let released = self.lost.iter().take_while(|lost| is_over(lost)).count();
        self.lost.drain(..released).map(|(_, permit)| permit).collect::<Vec<_>>().into_iter()
    }

    /// Whether every connection is fully trusted.
    pub(crate) fn all_are_trusted(&self) -> bool {
        self.members.values().all(|member| member.doubt.is_none())
    }

    /// Whether a connection has to prove itself, so that answers matter.
    pub(crate) fn answers_matter(&self) -> bool {
        self.members.values().any(|member| self.must_prove(member))
    }

    fn must_prove(&self, member: &Member) -> bool {
        let asked = self.asked.max(member.doubt.map(|doubt| doubt.until_proven));
        !member.blocked && asked.is_some_and(|asked| member.proven < asked)
    }

    fn member(&mut self, number: u64) -> Option<&mut Member> {
        self.members.get_mut(&number)
    }
}

impl Member {
    /// Whether messages are handed to it.
    fn takes(&self) -> bool {
        let nothing = self.doubt.is_some_and(|doubt| matches!(doubt.trust, Trust::Nothing(_)));
        !self.blocked && !nothing
    }

    fn add(&mut self, new: Doubt) {
        self.doubt = Some(match self.doubt {
            None => new,
            Some(old) => Doubt {
                // A doubt counts from its beginning, and ends as a whole.
                trust: match (old.trust, new.trust) {
                    (Trust::Part(_), Trust::Nothing(_)) => new.trust,
                    (Trust::Full | Trust::Part(_) | Trust::Nothing(_), _) => old.trust,
                },
                until_proven: old.until_proven.max(new.until_proven),
            },
        });
    }

    /// It took nothing and held back no permits. If something was lost since its last proof, it
    /// proves itself first.
    fn doubt_after_pause(&mut self, last_loss: Option<Instant>, now: Instant) {
        if let Some(loss) = last_loss.filter(|loss| self.proven < *loss) {
            self.doubt = Some(Doubt { trust: Trust::Nothing(now), until_proven: loss });
        }
    }
}
