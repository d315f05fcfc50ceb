//! How the store empties: a share at a time, one JSON array a topic, never in the way of live readings and commands.
//!
//! One share is on its way at a time; it is forgotten when the server has acknowledged all its messages. A connection that
//! breaks meanwhile sends it again, so consumers may see doubles and tell them by their times.

use super::Link;
use crate::buffer::{Buffer, Record};
use crate::clock::Instant;
use crate::mqtt::{Outgoing, Token};
use crate::payload;
use crate::quantity::Unit;
use crate::topic::QoS;
use std::time::Duration;

/// How often a share goes out.
const INTERVAL: Duration = Duration::from_millis(250);
/// A share when there is no time left: a few messages of 16 KiB for each topic.
const LAST_SHARES: usize = 4096;
/// Marks the tokens of history messages.
const HISTORY: Token = 1 << 63;

/// Whether a token was given to a history message.
pub fn is_history(token: Token) -> bool {
    token & HISTORY != 0
}

/// Where a topic's readings go when they could not be sent in time.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The history topic.
    pub topic: String,
    /// Digits after the point.
    pub decimals: u8,
    /// The unit of the values.
    pub unit: Unit,
}

/// The state of emptying.
pub struct Drain {
    /// Records in a share.
    share: usize,
    /// Between two shares.
    interval: Duration,
    /// When the next share may go; `None` while there is no connection.
    next: Option<Instant>,
    /// The share on its way, sorted by series, oldest first within each.
    records: Vec<Record>,
    /// How many of them are in messages already.
    sent: usize,
    /// Messages not acknowledged.
    outstanding: usize,
    /// What to forget when all is acknowledged.
    end: u64,
    payload: Vec<u8>,
}

impl Drain {
    /// Empties at most `per_second` records a second.
    pub fn new(per_second: u32) -> Self {
        let share = u128::from(per_second) * INTERVAL.as_millis() / 1000;
        Self {
            share: usize::try_from(share).unwrap_or(usize::MAX).max(1),
            // Where a share would be less than one record, that one comes less often.
            interval: INTERVAL.max(Duration::from_secs(1) / per_second.max(1)),
            next: None,
            records: Vec::new(),
            sent: 0,
            outstanding: 0,
            end: 0,
            payload: Vec::new(),
        }
    }

    /// Live values and commands go first.
    pub fn connected(&mut self, now: Instant) {
        self.next = Some(now + INTERVAL);
    }

    /// The end is near: what waits goes out as fast as the server takes it.
    pub fn hurry(&mut self, now: Instant) {
        self.share = self.share.max(LAST_SHARES);
        self.interval = Duration::ZERO;
        self.next = self.next.map(|next| next.min(now));
    }

    /// The share on its way is to be sent again.
    pub fn disconnected(&mut self, store: &dyn Buffer) {
        self.next = None;
        self.records = Vec::new();
        // The share is given back: what was in flight live may belong before it.
        store.peek(0, &mut self.records);
        self.sent = 0;
        self.outstanding = 0;
    }

    /// One message is acknowledged.
    pub fn acked(&mut self, store: &mut dyn Buffer) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.complete(store);
    }

    fn complete(&mut self, store: &mut dyn Buffer) {
        if self.outstanding == 0 && self.sent == self.records.len() && self.sent > 0 {
            store.forget(self.end);
            self.records.clear();
            self.sent = 0;
        }
    }

    /// When [`Drain::pump`] has something to do that no acknowledgement announces.
    pub fn deadline(&self, store: &dyn Buffer) -> Option<Instant> {
        self.next.filter(|_| self.records.is_empty() && !store.is_empty())
    }

    /// Drops what is too old, unless it is on its way; returns how many records.
    pub fn expire(&mut self, store: &mut dyn Buffer, now: Instant) -> u64 {
        if self.records.is_empty() { store.expire(now.as_nanos() / 1_000_000) } else { 0 }
    }

    /// Sends what may go now; returns how many records.
    pub fn pump<'a>(
        &mut self,
        store: &mut dyn Buffer,
        target: impl Fn(u32) -> Option<&'a History>,
        link: &mut dyn Link,
        now: Instant,
    ) -> u64 {
        if self.deadline(store).is_some_and(|next| now >= next) {
            self.end = store.peek(self.share, &mut self.records);
            // Stable: the order of time stays within each topic.
            self.records.sort_by_key(|record| record.series);
            self.next = Some(now + self.interval);
        }
        let mut count = 0;
        // One place in the window always stays free for a live reading.
        while self.sent < self.records.len() && link.room(QoS::AtLeastOnce) > 1 {
            let Some(history) = target(self.records[self.sent].series) else {
                self.sent += 1;
                continue;
            };
            let encoded = self.encode(history);
            let message =
                Outgoing { topic: &history.topic, payload: &self.payload, qos: QoS::AtLeastOnce, retain: false };
            if link.publish(&message, Some(HISTORY)).is_err() {
                break;
            }
            self.sent += encoded;
            self.outstanding += 1;
            count += encoded as u64;
        }
        self.complete(store);
        count
    }

    /// Encodes as many records of one series as fit one message; returns how many.
    fn encode(&mut self, history: &History) -> usize {
        let rest = &self.records[self.sent..];
        let series = rest[0].series;
        self.payload.clear();
        let mut array = payload::History::new(&mut self.payload, history.unit, history.decimals);
        let mut push = |record: &Record| record.series == series && array.push(record.into(), record.value);
        let fits = rest.iter().take_while(|record| push(record));
        let count = fits.count();
        array.finish();
        count
    }
}
