//! Topics that are ours no longer: the server is to forget the value it has retained there.
//!
//! An empty retained message each, sent again on every connection until it is acknowledged. In memory only. Invariant: none
//! of them ever takes the last place in the window from a live value.

use super::Link;
use crate::mqtt::{Outgoing, Token};
use crate::topic::QoS;

/// Marks their tokens.
const CLEARING: Token = 1 << 62;

/// Whether a token was given to an empty message.
pub fn is_clearing(token: Token) -> bool {
    token & CLEARING != 0
}

/// After so many connections that ended while it was on its way, a topic is left as it is.
const MOST_ENDED: u8 = 3;

struct Entry {
    topic: Box<str>,
    /// That of the values before, so that it cannot overtake one, but acknowledged in any case.
    qos: QoS,
    /// It goes before live values: the topic is still ours, and the next value on it is not retained.
    first: bool,
    /// On its way.
    token: Option<Token>,
    /// How many connections have ended while it was.
    ended: u8,
}

/// What is to be emptied.
#[derive(Default)]
pub struct Clearing {
    entries: Vec<Entry>,
    next: Token,
}

impl Clearing {
    /// The topic is to be emptied; `first` before any live value is sent.
    pub fn add(&mut self, topic: Box<str>, qos: QoS, first: bool) {
        self.entries.push(Entry { topic, qos: qos.max(QoS::AtLeastOnce), first, token: None, ended: 0 });
    }

    /// The topic is ours again, and what is published there next takes the old value's place.
    pub fn cancel(&mut self, topic: &str) {
        self.entries.retain(|entry| *entry.topic != *topic);
    }

    /// Whether all are empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sends what may go now of those that go `first`, or of the others.
    pub fn pump(&mut self, link: &mut dyn Link, first: bool, max_backlog: usize) {
        for entry in &mut self.entries {
            let waits = entry.token.is_some() || link.room(entry.qos) <= 1;
            if entry.first != first || waits || link.backlog() > max_backlog {
                continue;
            }
            let message = Outgoing { topic: &entry.topic, payload: b"", qos: entry.qos, retain: true };
            let token = CLEARING | self.next;
            if link.publish(&message, Some(token)).is_ok() {
                self.next += 1;
                entry.token = Some(token);
            }
        }
    }

    /// Whether some could not be sent yet.
    pub fn waits(&self) -> bool {
        self.entries.iter().any(|entry| entry.token.is_none())
    }

    /// The server has emptied one.
    pub fn acked(&mut self, token: Token) {
        self.entries.retain(|entry| entry.token != Some(token));
    }

    /// What was on its way is to be sent again, unless it may be what ends connections: some servers close those on which
    /// something comes that is not permitted, and the old topics may not be any more.
    pub fn disconnected(&mut self) {
        for entry in &mut self.entries {
            entry.ended += u8::from(entry.token.take().is_some());
        }
        self.entries.retain(|entry| entry.ended < MOST_ENDED);
    }
}
