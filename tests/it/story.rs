//! The answers during a fault, and the states that `/link` showed, second by second.

use crate::harness::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A lost or silent connection is noticed long before its heartbeat of ten seconds would show it.
const NOTICED_WITHIN: Duration = Duration::from_secs(6);

/// The code of a request that got no answer.
pub(crate) const NO_ANSWER: &str = "no answer";

/// The answers, and each new state that `/link` showed.
pub(crate) struct Story {
    pub(crate) sent: Vec<Sent>,
    pub(crate) links: Vec<(Instant, serde_json::Value)>,
}

impl Story {
    pub(crate) fn count(&self, code: &str) -> usize {
        self.sent.iter().filter(|message| message.code == code).count()
    }

    pub(crate) fn assert_link_stayed_up(&self) {
        let down = self.links.iter().find(|(_, link)| link["state"] != "up");
        assert!(down.is_none(), "the link was not up: {down:?}");
        assert_eq!(self.count("link_down") + self.count("link_stalled"), 0);
    }

    /// When `/link` first showed something new after the fault.
    pub(crate) fn noticed(&self, fault: Instant) -> Instant {
        let noticed = self.links.iter().map(|(moment, _)| *moment).find(|moment| *moment > fault);
        let noticed = noticed.expect("/link showed nothing of the fault");
        println!("  noticed after {:?}", noticed - fault);
        assert!(noticed - fault < NOTICED_WITHIN, "noticed only after {:?}", noticed - fault);
        noticed
    }

    /// When the first message sent after the fault was confirmed.
    pub(crate) fn confirmed_again(&self, fault: Instant) -> Instant {
        let since = |message: &&Sent| message.code == "confirmed" && message.at > fault;
        let again = self.sent.iter().filter(since).map(|message| message.at + message.took).min();
        let again = again.expect("nothing was confirmed after the fault");
        println!("  confirmed again after {:?}", again - fault);
        again
    }

    /// Fails if a message sent after that moment is unknown, with this `code` or any.
    pub(crate) fn assert_known_since(&self, moment: Instant, code: Option<&str>) {
        let late = with_outcome(&self.sent, "unknown").into_iter();
        let late: Vec<_> = late
            .filter(|message| message.at > moment && code.is_none_or(|code| message.code == code))
            .map(|message| (message.at - moment, message))
            .collect();
        assert!(late.is_empty(), "{} unknown answers too late, the last: {:?}", late.len(), late.last());
    }

    /// For people: the codes of each second by the moment of the answer, and the link.
    pub(crate) fn print(&self, begun: Instant) {
        let mut seconds: BTreeMap<u64, Vec<Sent>> = BTreeMap::new();
        for message in &self.sent {
            let second = (message.at + message.took - begun).as_secs();
            seconds.entry(second).or_default().push(message.clone());
        }
        for (second, sent) in seconds {
            println!("  {second:3} s: {:?}", codes(&sent));
        }
        for (moment, link) in &self.links {
            println!("  {:?}: {} {}", *moment - begun, link["state"], link["connections"]);
        }
        println!("  {:?}", codes(&self.sent));
    }
}
