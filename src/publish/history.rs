//! How the store empties: a share at a time, one JSON array a topic, never in the way of live readings and commands.
//!
//! One share is on its way at a time; it is forgotten when the server has acknowledged all its messages. A connection that
//! breaks meanwhile sends it again, so consumers may see doubles and tell them by their times.
//!
//! What waits goes to the topic it was taken for, in the unit of that time, even where the configuration has changed since:
//! all that is needed for that is the label of its series, which the store keeps with it.
//!
//! A record of this boot gets its date when it is sent, so one that was taken before the board knew the date has one by then;
//! a board that is not told the date at once when its network is back is given a while for it.

use super::Link;
use crate::buffer::{Buffer, Moment, Record, THIS_BOOT};
use crate::clock::{self, Instant, Wall};
use crate::mqtt::{Outgoing, Token};
use crate::payload::{self, Boot, When};
use crate::quantity::Unit;
use crate::topic::QoS;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// How often a share goes out.
const INTERVAL: Duration = Duration::from_millis(250);
/// While the date is not known, history waits this long after a connect for somebody to tell it.
const CLOCK_PATIENCE: Duration = Duration::from_secs(30);
/// The first share of a connection, at most.
const FIRST_SHARE: usize = 16;
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

/// A history as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Label<'a> {
    topic: Cow<'a, str>,
    unit: Cow<'a, str>,
    decimals: u8,
}

impl History {
    /// The label of its series in the store.
    pub fn label(&self) -> String {
        let label = Label { topic: (&self.topic).into(), unit: self.unit.symbol().into(), decimals: self.decimals };
        serde_json::to_string(&label).expect("text and a number are JSON")
    }

    /// The history that a label stands for; `None` where another version has written what this one cannot read.
    fn of(label: &str) -> Option<Self> {
        let Label { topic, unit, decimals } = serde_json::from_str(label).ok()?;
        let unit = Unit::parse(&unit)?;
        // More digits than the configuration accepts: no label of ours.
        (decimals <= 9).then(|| Self { topic: topic.into_owned(), decimals, unit })
    }
}

/// The size of a share, and the time between two.
fn pace(per_second: u32) -> (usize, Duration) {
    let share = u128::from(per_second) * INTERVAL.as_millis() / 1000;
    // Where a share would be less than one record, that one comes less often.
    let interval = INTERVAL.max(Duration::from_secs(1) / per_second.max(1));
    (usize::try_from(share).unwrap_or(usize::MAX).max(1), interval)
}

/// What one turn of emptying has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Records in messages.
    pub records: u64,
    /// Records whose label nobody can read, given up.
    pub unreadable: u64,
}

/// The state of emptying.
pub struct Drain {
    /// Records in a share.
    share: usize,
    /// Between two shares.
    interval: Duration,
    /// How much of it goes out now: a little on a new connection, doubled with each share the server has taken. A link that
    /// breaks again and again breaks in the middle of little.
    some: usize,
    /// When the next share may go; `None` while there is no connection.
    next: Option<Instant>,
    /// Nor before this, while the date is not known.
    undated_until: Instant,
    /// The share on its way, sorted by series, oldest first within each.
    records: Vec<Record>,
    /// How many of them are in messages already.
    sent: usize,
    /// Messages not acknowledged.
    outstanding: usize,
    payload: Vec<u8>,
}

impl Drain {
    /// Empties at most `per_second` records a second.
    pub fn new(per_second: u32) -> Self {
        let (share, interval) = pace(per_second);
        Self {
            share,
            interval,
            some: FIRST_SHARE,
            next: None,
            undated_until: Instant::default(),
            records: Vec::new(),
            sent: 0,
            outstanding: 0,
            payload: Vec::new(),
        }
    }

    /// At most `per_second` records a second from now on.
    pub fn set_rate(&mut self, per_second: u32) {
        (self.share, self.interval) = pace(per_second);
    }

    /// Live values and commands go first.
    pub fn connected(&mut self, now: Instant) {
        self.next = Some(now + INTERVAL);
        self.some = FIRST_SHARE;
        // Once, from the first connection on: a link that never holds for so long must not keep it back for ever.
        if self.undated_until == Instant::default() {
            self.undated_until = now + CLOCK_PATIENCE;
        }
    }

    /// The end is near: what waits goes out as fast as the server takes it.
    pub fn hurry(&mut self, now: Instant) {
        self.share = self.share.max(LAST_SHARES);
        self.some = self.share;
        (self.interval, self.undated_until) = (Duration::ZERO, now);
        self.next = self.next.map(|next| next.min(now));
    }

    /// The share on its way is to be sent again.
    pub fn disconnected(&mut self, store: &mut dyn Buffer) {
        self.next = None;
        self.records = Vec::new();
        store.give_back();
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
            store.forget_peeked();
            self.some = self.some.saturating_mul(2).min(self.share);
            self.records.clear();
            self.sent = 0;
        }
    }

    /// When [`Drain::pump`] has something to do that no acknowledgement announces.
    pub fn deadline(&self, store: &dyn Buffer) -> Option<Instant> {
        let next = self.next.filter(|_| self.records.is_empty() && store.is_ready());
        next.map(|next| next.max(self.undated_until))
    }

    /// Sends what may go now.
    pub fn pump(&mut self, store: &mut dyn Buffer, link: &mut dyn Link, now: Instant, moment: Moment) -> Sent {
        if moment.wall_ms.is_some() {
            self.undated_until = Instant::default();
        }
        if self.deadline(store).is_some_and(|next| now >= next) {
            store.peek(self.some.min(self.share), &mut self.records);
            // Stable: the order of time stays within each topic.
            self.records.sort_by_key(|record| record.series);
            self.next = Some(now + self.interval);
        }
        let mut done = Sent::default();
        // One place in the window always stays free for a live reading.
        while self.sent < self.records.len() && link.room(QoS::AtLeastOnce) > 1 {
            let label = store.label(self.records[self.sent].series);
            let Some(history) = label.and_then(|label| History::of(&label)) else {
                self.sent += 1;
                done.unreadable += 1;
                continue;
            };
            let encoded = self.encode(&history, store, moment);
            let message =
                Outgoing { topic: &history.topic, payload: &self.payload, qos: QoS::AtLeastOnce, retain: false };
            if link.publish(&message, Some(HISTORY)).is_err() {
                break;
            }
            self.sent += encoded;
            self.outstanding += 1;
            done.records += encoded as u64;
        }
        self.complete(store);
        done
    }

    /// Encodes as many records of one series as fit one message; returns how many.
    fn encode(&mut self, history: &History, store: &dyn Buffer, now: Moment) -> usize {
        let rest = &self.records[self.sent..];
        let series = rest[0].series;
        self.payload.clear();
        let mut array = payload::History::new(&mut self.payload, history.unit, history.decimals);
        let mut push = |record: &Record| {
            record.series == series && array.push(when(record, |boot| store.boot(boot), now), record.value)
        };
        let fits = rest.iter().take_while(|record| push(record));
        let count = fits.count();
        array.finish();
        count
    }
}

/// When a record was taken, by the clock as it is now. What an earlier boot did not know, nobody does any more.
fn when(record: &Record, boot: impl Fn(u32) -> Option<u128>, now: Moment) -> When {
    let (told, uptime_ms) = (record.wall_ms.map(Wall), record.uptime_ms);
    if record.boot != THIS_BOOT {
        return When { wall: told, uptime_ms, boot: Boot::Earlier(boot(record.boot)) };
    }
    let ago = Duration::from_millis(now.uptime_ms.saturating_sub(uptime_ms));
    When { wall: clock::date_of(told, ago, now.wall_ms.map(Wall)), uptime_ms, boot: Boot::This }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_boot_took_is_dated_when_the_date_is_known_and_what_an_earlier_one_took_is_marked() {
        let record = |boot, wall_ms| Record { series: 0, boot, wall_ms, uptime_ms: 5_000, value: 1.0 };
        let now = |wall_ms| Moment { uptime_ms: 65_000, wall_ms };
        let known = |boot| (boot == 7).then_some(0xb007);
        let told = |boot, wall_ms, now| when(&record(boot, wall_ms), known, now);
        let of = |wall: Option<i64>, boot| When { wall: wall.map(Wall), uptime_ms: 5_000, boot };
        let date = 1_800_000_000_000;
        assert_eq!(told(THIS_BOOT, None, now(None)), of(None, Boot::This));
        assert_eq!(told(THIS_BOOT, None, now(Some(date))), of(Some(date - 60_000), Boot::This));
        assert_eq!(told(THIS_BOOT, Some(date - 59_000), now(Some(date))), of(Some(date - 59_000), Boot::This));
        assert_eq!(
            told(THIS_BOOT, Some(5), now(Some(date))),
            of(Some(date - 60_000), Boot::This),
            "the clock was wrong"
        );
        assert_eq!(told(7, None, now(Some(date))), of(None, Boot::Earlier(Some(0xb007))));
        assert_eq!(told(7, Some(5), now(Some(date))), of(Some(5), Boot::Earlier(Some(0xb007))));
        assert_eq!(told(8, None, now(Some(date))), of(None, Boot::Earlier(None)));
    }

    #[test]
    fn a_label_tells_all_that_sending_needs() {
        let history = History { topic: "a \"b\"/°/history".into(), decimals: 3, unit: Unit::Celsius };
        assert_eq!(history.label(), r#"{"topic":"a \"b\"/°/history","unit":"°C","decimals":3}"#);
        assert_eq!(History::of(&history.label()), Some(history));
        for other in
            ["", "{}", r#"{"topic":"a","unit":"furlong","decimals":1}"#, r#"{"topic":"a","unit":"m","decimals":10}"#]
        {
            assert_eq!(History::of(other), None, "{other}");
        }
    }
}
