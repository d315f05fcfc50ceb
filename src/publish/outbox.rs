//! What is to be sent, newest first: one slot a topic, and a store for what could not be sent in time.
//!
//! A slot holds the newest payload of its topic. Every reading at QoS 1 or 2 enters the store when it is taken, held by its
//! slot, then by the message it is sent in. It is forgotten only when the server has acknowledged it. While the server is
//! away or slow, a newer reading takes the place of an older one in its slot, and the older one is released: so on return
//! every live topic gets its newest value at once, and the store follows, in order, on the history topics.
//!
//! Bounded by construction: the slots by the configuration, what is in flight by the session's window, the store by its
//! limits. Whatever is dropped is counted.

mod reconfigure;
mod slot;

pub use slot::{SlotId, SlotSpec};

use super::Link;
use super::clearing::{self, Clearing};
use super::history::{self, Drain, History};
use super::queue::Queue;
use crate::buffer::{Buffer, Contents, Moment, Record, THIS_BOOT, Ticket};
use crate::clock::{Instant, Stamp};
use crate::mqtt::{Outgoing, PublishError, Token};
use crate::topic::QoS;
use slot::{Readings, Slot};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Above this many unwritten bytes nothing more is handed to the session: the kernel's buffer is full, the link is slow.
const MAX_BACKLOG: usize = 64 * 1024;
/// When to look again whether they have been written: a write announces itself to nobody.
const WRITTEN_SOON: Duration = Duration::from_millis(10);

/// A message the server has not acknowledged.
struct InFlight {
    token: Token,
    slot: SlotId,
    readings: Readings,
}

/// Counts for the metrics topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readings handed to the session on their live topic.
    pub published: u64,
    /// Readings sent as history.
    pub history: u64,
    /// Readings lost: the store was full, or they were too old, too long for a message, or of a series nobody can read.
    pub dropped: u64,
    /// Older values of topics without a history that a newer one replaced while the server was away.
    pub superseded: u64,
}

/// The outbox.
pub struct Outbox {
    slots: Vec<Slot>,
    /// The one that goes first on every connect.
    first: SlotId,
    queue: Queue,
    /// While another plan is taken up.
    claims: Option<reconfigure::Claims>,
    clearing: Clearing,
    in_flight: VecDeque<InFlight>,
    next_token: Token,
    store: Box<dyn Buffer>,
    drain: Drain,
    /// How long the board has slept since it booted, which the instants of the gateway leave out.
    asleep: Duration,
    /// While too many bytes wait to be written.
    look_again: Option<Instant>,
    counts: Counts,
}

impl Outbox {
    /// An empty outbox over `store` that sends at most `drain_per_second` records of history a second.
    pub fn new(store: Box<dyn Buffer>, drain_per_second: u32) -> Self {
        Self {
            slots: Vec::new(),
            first: 0,
            queue: Queue::default(),
            claims: None,
            clearing: Clearing::default(),
            in_flight: VecDeque::new(),
            next_token: 0,
            store,
            drain: Drain::new(drain_per_second),
            asleep: Duration::ZERO,
            look_again: None,
            counts: Counts::default(),
        }
    }

    /// The number of a history, under which the store keeps its readings.
    pub fn series(&mut self, history: &History) -> u32 {
        self.store.series(&history.label())
    }

    /// How long the board has slept since it booted.
    pub fn set_asleep(&mut self, asleep: Duration) {
        self.asleep = asleep;
    }

    /// Sets the newest payload of a state; it goes out as soon as it can.
    pub fn set(&mut self, slot: SlotId, write: impl FnOnce(&mut Vec<u8>)) {
        if self.claims.is_none() {
            return self.replace(slot, Readings::default(), write);
        }
        let mut payload = Vec::new();
        write(&mut payload);
        let Slot { known, payload: said, .. } = &self.slots[slot as usize];
        if !known || *said != payload {
            self.replace(slot, Readings::default(), |into| into.extend_from_slice(&payload));
        }
    }

    /// Sets the newest payload of a reading.
    pub fn set_reading(&mut self, slot: SlotId, value: f64, stamp: Stamp, write: impl FnOnce(&mut Vec<u8>)) {
        let spec = &self.slots[slot as usize].spec;
        let readings = match (spec.qos, spec.series) {
            (QoS::AtMostOnce, _) => Readings::default(),
            (_, None) => Readings { bare: true, ..Readings::default() },
            (_, Some(series)) => self.take(&[(series, value)], stamp),
        };
        self.replace(slot, readings, write);
    }

    /// Sets the newest payload of a sensor's JSON object; `readings` are those that have a history, each with its series.
    pub fn set_object(
        &mut self,
        slot: SlotId,
        readings: &[(u32, f64)],
        stamp: Stamp,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let acknowledged = self.slots[slot as usize].spec.qos > QoS::AtMostOnce;
        let readings = if acknowledged { self.take(readings, stamp) } else { Readings::default() };
        self.replace(slot, readings, write);
    }

    /// Readings enter the store, held.
    fn take(&mut self, readings: &[(u32, f64)], stamp: Stamp) -> Readings {
        let Moment { uptime_ms, wall_ms } = self.moment(stamp);
        let record = |(series, value): &(u32, f64)| Record {
            series: *series,
            boot: THIS_BOOT,
            wall_ms,
            uptime_ms,
            value: *value,
        };
        let tickets = readings.iter().map(|reading| self.store.push(record(reading)));
        let kept = tickets.fold(0..0, |all: Range<Ticket>, ticket| {
            let start = if all.is_empty() { ticket } else { all.start };
            start..ticket + 1
        });
        Readings { kept, bare: false }
    }

    fn moment(&self, stamp: Stamp) -> Moment {
        let uptime = Duration::from_nanos(stamp.at.as_nanos()) + self.asleep;
        Moment { uptime_ms: uptime.as_millis() as u64, wall_ms: stamp.wall.map(|wall| wall.0) }
    }

    fn replace(&mut self, id: SlotId, readings: Readings, write: impl FnOnce(&mut Vec<u8>)) {
        let slot = &mut self.slots[id as usize];
        slot.payload.clear();
        write(&mut slot.payload);
        slot.known = true;
        slot.carried_by = None;
        let superseded = std::mem::replace(&mut slot.owed, readings);
        self.enqueue(id);
        self.release(superseded);
    }

    /// Writes the payload of a slot anew: it stands for the same readings, and is told again where it still holds.
    pub fn correct(&mut self, id: SlotId, write: impl FnOnce(&mut Vec<u8>)) {
        let slot = &mut self.slots[id as usize];
        if slot.known && !slot.payload.is_empty() {
            slot.payload.clear();
            write(&mut slot.payload);
            if slot.spec.retain {
                self.enqueue(id);
            }
        }
    }

    fn enqueue(&mut self, id: SlotId) {
        let slot = &mut self.slots[id as usize];
        if !std::mem::replace(&mut slot.pending, true) {
            self.queue.push(slot.spec.qos, id);
        }
    }

    /// Whether the slot says anything yet.
    pub fn is_known(&self, slot: SlotId) -> bool {
        self.slots[slot as usize].known
    }

    /// Removes a retained value from the server: an empty retained message.
    pub fn clear(&mut self, slot: SlotId) {
        self.set(slot, |_| {});
    }

    /// What did not go out live is history, if there is one for it.
    fn release(&mut self, readings: Readings) {
        self.counts.superseded += u64::from(readings.bare);
        self.store.release(readings.kept);
    }

    /// A connection is there: everything known is to be sent again, and history waits for it.
    pub fn connected(&mut self, now: Instant) {
        self.queue.clear();
        self.slots.iter_mut().for_each(|slot| slot.pending = false);
        self.publish_all();
        self.store.online(true);
        self.drain.connected(now);
    }

    /// Everything known that holds is to be sent again, behind what waits already.
    pub fn publish_all(&mut self) {
        for id in std::iter::once(self.first).chain(0..self.slots.len() as SlotId) {
            let Some(slot) = self.slots.get(id as usize) else { return };
            if slot.known && (slot.spec.lasting || slot.spec.retain || !slot.owed.is_empty()) {
                self.enqueue(id);
            }
        }
    }

    /// The connection is gone: what was not acknowledged waits again.
    pub fn disconnected(&mut self) {
        self.look_again = None;
        self.drain.disconnected(&mut *self.store);
        self.clearing.disconnected();
        for message in std::mem::take(&mut self.in_flight) {
            let slot = &mut self.slots[message.slot as usize];
            // Is it what the slot still stands for? Then the slot sends it again; otherwise it is history.
            if slot.carried_by == Some(message.token) {
                (slot.carried_by, slot.owed) = (None, message.readings);
            } else {
                self.release(message.readings);
            }
        }
        self.store.online(false);
    }

    /// The server has acknowledged `token`.
    pub fn acked(&mut self, token: Token) {
        if history::is_history(token) {
            self.drain.acked(&mut *self.store);
        } else if clearing::is_clearing(token) {
            self.clearing.acked(token);
        } else if let Some(at) = self.in_flight.iter().position(|message| message.token == token)
            && let Some(message) = self.in_flight.remove(at)
        {
            self.store.forget(message.readings.kept);
        }
    }

    /// Lets the store do what is due, and hands to the session whatever may go now.
    pub fn pump(&mut self, link: &mut dyn Link, now: Stamp) {
        let moment = self.moment(now);
        self.store.turn(moment);
        self.look_again = None;
        if !link.is_connected() {
            return;
        }
        self.clearing.pump(link, true, MAX_BACKLOG);
        while let Some((qos, id)) = self.queue.first(|qos| qos == QoS::AtMostOnce || link.room(qos) > 0) {
            if link.backlog() > MAX_BACKLOG {
                self.look_again = Some(now.at + WRITTEN_SOON);
                return;
            }
            if !self.send(id, link) {
                return;
            }
            self.queue.pop(qos);
        }
        self.clearing.pump(link, false, MAX_BACKLOG);
        if self.clearing.waits() && link.backlog() > MAX_BACKLOG {
            self.look_again = Some(now.at + WRITTEN_SOON);
        }
        if self.queue.precedes_history() {
            return;
        }
        let sent = self.drain.pump(&mut *self.store, link, now.at, moment);
        self.counts.history += sent.records;
        self.counts.dropped += sent.unreadable;
    }

    /// The agent is going to stop: history goes out as fast as the server takes it.
    pub fn hurry(&mut self, now: Instant) {
        self.drain.hurry(now);
    }

    /// Nothing is sent any more: what waits is stored for the next start, where the store outlives this process.
    pub fn finish(&mut self) {
        self.store.finish();
    }

    /// Whether the store is still at that.
    pub fn is_storing(&self) -> bool {
        self.store.is_busy()
    }

    /// When [`Outbox::pump`] has something to do that no event announces: bytes have been written, the next share of the
    /// history may go, or something is due in the store.
    ///
    /// A share is not due while it could not go anyway, without a connection or behind live values that wait for an
    /// acknowledgement: a time that has passed would be a loop that never rests.
    pub fn deadline(&self) -> Option<Instant> {
        let share = self.drain.deadline(&*self.store).filter(|_| !self.queue.precedes_history());
        let stored = self
            .store
            .deadline()
            .map(|uptime_ms| Instant::from_nanos(0) + Duration::from_millis(uptime_ms).saturating_sub(self.asleep));
        [self.look_again.or(share), stored].into_iter().flatten().min()
    }

    /// What was published, kept and lost so far.
    pub fn counts(&self) -> Counts {
        Counts { dropped: self.counts.dropped + self.store.contents().dropped, ..self.counts }
    }

    /// What the store has.
    pub fn stored(&self) -> Contents {
        self.store.contents()
    }

    /// How many readings wait: in the store, or unacknowledged.
    pub fn waiting(&self) -> usize {
        let live = self.in_flight.iter().map(|message| &message.readings);
        let bare = live.chain(self.slots.iter().map(|slot| &slot.owed)).filter(|readings| readings.bare);
        self.store.contents().waiting + bare.count()
    }

    /// Whether everything has been sent and acknowledged.
    pub fn is_settled(&self) -> bool {
        let live = self.queue.is_empty() && self.in_flight.is_empty() && self.clearing.is_empty();
        live && self.store.contents().waiting == 0
    }

    /// Sends one slot; `false` if it has to wait.
    fn send(&mut self, id: SlotId, link: &mut dyn Link) -> bool {
        let slot = &mut self.slots[id as usize];
        let acknowledged = slot.spec.qos > QoS::AtMostOnce;
        let message =
            Outgoing { topic: &slot.spec.topic, payload: &slot.payload, qos: slot.spec.qos, retain: slot.spec.retain };
        let token = acknowledged.then_some(self.next_token);
        match link.publish(&message, token) {
            Ok(()) => {}
            Err(PublishError::NotConnected | PublishError::Full) => return false,
            Err(error @ PublishError::TooLong) => {
                log::error!(topic = &*slot.spec.topic, error:% = error; "message dropped");
                slot.pending = false;
                let Readings { kept, bare } = std::mem::take(&mut slot.owed);
                self.counts.dropped += kept.end - kept.start + u64::from(bare);
                self.store.forget(kept);
                return true;
            }
        }
        slot.pending = false;
        self.counts.published += 1;
        if let Some(token) = token {
            self.next_token += 1;
            let readings = std::mem::take(&mut slot.owed);
            if !readings.is_empty() {
                slot.carried_by = Some(token);
            }
            self.in_flight.push_back(InFlight { token, slot: id, readings });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::memory::Memory;
    use crate::buffer::{Limits, Overflow};
    use crate::clock::Wall;
    use crate::quantity::Unit;
    use proptest::prelude::*;

    /// The other end: what was published, in order, what has not been acknowledged, and what has. What is not
    /// acknowledged when the connection breaks was lost on the way, the worst that may happen to it.
    pub(super) struct Server {
        connected: bool,
        window: usize,
        /// The window at QoS 2 is full.
        full_at_2: bool,
        backlog: usize,
        seen: Vec<(String, String)>,
        pub(super) unacked: VecDeque<(Token, String, String)>,
        taken: Vec<(String, String)>,
    }

    impl Link for Server {
        fn is_connected(&self) -> bool {
            self.connected
        }
        fn room(&self, qos: QoS) -> usize {
            if self.full_at_2 && qos == QoS::ExactlyOnce { 0 } else { self.window - self.unacked.len() }
        }
        fn backlog(&self) -> usize {
            self.backlog
        }
        fn publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Result<(), PublishError> {
            if token.is_some() && self.room(message.qos) == 0 {
                return Err(PublishError::Full);
            }
            let (topic, payload) =
                (message.topic.to_owned(), String::from_utf8(message.payload.to_vec()).expect("text"));
            self.unacked.extend(token.map(|token| (token, topic.clone(), payload.clone())));
            self.seen.push((topic, payload));
            Ok(())
        }
    }

    pub(super) fn history(topic: &str) -> History {
        History { topic: topic.to_owned(), decimals: 0, unit: Unit::One }
    }

    pub(super) struct Rig {
        pub(super) outbox: Outbox,
        pub(super) server: Server,
        now: Instant,
    }

    impl Rig {
        pub(super) fn new(topics: &[&str], records: usize) -> Self {
            let max_age = Duration::from_secs(3600);
            let limits = Limits { max_size: 0, max_age, overflow: Overflow::DropOldest };
            let mut outbox = Outbox::new(Box::new(Memory::of(records, limits)), 1000);
            for topic in topics {
                let series = Some(outbox.series(&history(&format!("{topic}/history"))));
                let (topic, qos) = ((*topic).into(), QoS::AtLeastOnce);
                outbox.add(SlotSpec { topic, qos, retain: true, series, lasting: false });
            }
            let (seen, taken) = (Vec::new(), Vec::new());
            let unacked = VecDeque::new();
            let server = Server { connected: false, window: 4, full_at_2: false, backlog: 0, seen, unacked, taken };
            Self { outbox, server, now: Instant::from_nanos(1_000_000_000) }
        }

        fn stamp(&self) -> Stamp {
            Stamp { at: self.now, wall: Some(Wall(self.now.as_nanos() as i64 / 1_000_000)) }
        }

        pub(super) fn pump(&mut self) {
            let now = self.stamp();
            self.outbox.pump(&mut self.server, now);
        }

        pub(super) fn measure(&mut self, slot: SlotId, value: f64) {
            self.now = self.now + Duration::from_secs(1);
            let now = self.stamp();
            self.outbox.set_reading(slot, value, now, |into| into.extend_from_slice(value.to_string().as_bytes()));
            self.pump();
        }

        pub(super) fn connect(&mut self) {
            self.server.connected = true;
            self.outbox.connected(self.now);
            self.pump();
        }

        pub(super) fn disconnect(&mut self) {
            self.server.connected = false;
            self.server.unacked.clear();
            self.outbox.disconnected();
        }

        pub(super) fn ack(&mut self) {
            self.ack_at(0);
        }

        fn ack_at(&mut self, at: usize) {
            let (token, topic, payload) = self.server.unacked.remove(at).expect("something is on its way");
            self.server.taken.push((topic, payload));
            self.outbox.acked(token);
            self.pump();
        }

        /// Acknowledges everything until nothing is left to send.
        pub(super) fn settle(&mut self) {
            for _ in 0..10_000 {
                while !self.server.unacked.is_empty() {
                    self.ack();
                }
                self.now = self.now + Duration::from_millis(250);
                self.pump();
                if self.outbox.is_settled() {
                    return;
                }
            }
            panic!("it does not settle");
        }

        pub(super) fn seen(&mut self) -> Vec<String> {
            std::mem::take(&mut self.server.seen)
                .into_iter()
                .map(|(topic, payload)| format!("{topic} {payload}"))
                .collect()
        }
    }

    #[test]
    fn a_full_window_at_qos_2_holds_back_nothing_else() {
        let mut rig = Rig::new(&["a"], 100);
        let slow = rig.outbox.add(SlotSpec::state("slow", QoS::ExactlyOnce, true));
        rig.measure(0, 1.0);
        rig.measure(0, 2.0);
        rig.connect();
        rig.server.full_at_2 = true;
        rig.outbox.set(slow, |into| into.push(b'1'));
        rig.measure(0, 3.0);
        let seen = rig.seen();
        assert_eq!(seen[..2], ["a 2", "a 3"]);
        assert!(seen[2].starts_with("a/history ") && seen.len() == 3, "{seen:?}");
        while !rig.server.unacked.is_empty() {
            rig.ack();
        }
        assert!(!rig.outbox.is_settled());
        rig.server.full_at_2 = false;
        rig.pump();
        assert_eq!(rig.seen(), ["slow 1"]);
        rig.settle();
    }

    #[test]
    fn a_connection_begins_with_a_little_history() {
        let mut rig = Rig::new(&["a"], 400);
        (0..300).for_each(|value| rig.measure(0, f64::from(value)));
        for _ in 0..2 {
            rig.connect();
            rig.ack();
            let shares = [(); 3].map(|()| {
                rig.seen();
                rig.now = rig.now + Duration::from_millis(250);
                rig.pump();
                let share = rig.seen().iter().map(|message| message.matches("\"value\"").count()).sum::<usize>();
                rig.ack();
                share
            });
            assert_eq!(shares, [16, 32, 64]);
            rig.disconnect();
        }
    }

    #[test]
    fn after_an_outage_the_newest_goes_first_and_history_follows_in_order() {
        let mut rig = Rig::new(&["a", "b"], 100);
        for value in [1.0, 2.0, 3.0] {
            rig.measure(0, value);
            rig.measure(1, value * 10.0);
        }
        rig.connect();
        assert_eq!(rig.seen(), ["a 3", "b 30"]);
        rig.settle();
        assert_eq!(
            rig.seen(),
            [
                r#"a/history [{"time":"1970-01-01T00:00:02.000Z","value":1,"unit":""},{"time":"1970-01-01T00:00:04.000Z","value":2,"unit":""}]"#,
                r#"b/history [{"time":"1970-01-01T00:00:03.000Z","value":10,"unit":""},{"time":"1970-01-01T00:00:05.000Z","value":20,"unit":""}]"#,
            ]
        );
    }

    #[test]
    fn what_was_sent_but_not_acknowledged_is_sent_again() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        rig.measure(0, 2.0);
        assert_eq!(rig.seen(), ["a 1", "a 2"]);
        rig.ack();
        rig.disconnect();
        rig.connect();
        assert_eq!(rig.seen(), ["a 2"], "1 was acknowledged, 2 was not and is the newest");
        rig.settle();
        assert_eq!(rig.seen(), [""; 0]);
    }

    #[test]
    fn a_live_reading_never_waits_behind_history() {
        let mut rig = Rig::new(&["a", "b"], 1000);
        (0..500).for_each(|value| rig.measure(0, f64::from(value)));
        rig.connect();
        rig.ack();
        rig.seen();
        rig.now = rig.now + Duration::from_secs(1);
        rig.pump();
        assert!(rig.seen().iter().all(|line| line.starts_with("a/history")), "history is on its way");
        rig.measure(1, 7.0);
        assert_eq!(rig.seen(), ["b 7"]);
    }

    #[test]
    fn what_only_an_object_says_has_its_history_too() {
        let mut rig = Rig::new(&[], 100);
        let object = rig.outbox.add(SlotSpec::state("roof", QoS::AtLeastOnce, true));
        let [t, h] =
            ["roof/temperature/history", "roof/humidity/history"].map(|topic| rig.outbox.series(&history(topic)));
        let measure = |rig: &mut Rig, text: &str, readings: &[(u32, f64)]| {
            rig.now = rig.now + Duration::from_secs(1);
            let now = rig.stamp();
            rig.outbox.set_object(object, readings, now, |into| into.extend_from_slice(text.as_bytes()));
            rig.pump();
        };
        measure(&mut rig, "first", &[(t, 1.0), (h, 10.0)]);
        measure(&mut rig, "second", &[(t, 2.0)]);
        measure(&mut rig, "third", &[(t, 3.0), (h, 30.0)]);
        assert_eq!(rig.outbox.waiting(), 5);
        rig.connect();
        assert_eq!(rig.seen(), ["roof third"]);
        rig.settle();
        assert_eq!(
            rig.seen(),
            [
                r#"roof/temperature/history [{"time":"1970-01-01T00:00:02.000Z","value":1,"unit":""},{"time":"1970-01-01T00:00:03.000Z","value":2,"unit":""}]"#,
                r#"roof/humidity/history [{"time":"1970-01-01T00:00:02.000Z","value":10,"unit":""}]"#,
            ]
        );
    }

    #[test]
    fn states_are_published_again_on_every_connect() {
        let mut rig = Rig::new(&[], 10);
        let state = rig.outbox.add(SlotSpec::state("status", QoS::AtLeastOnce, true));
        rig.outbox.set(state, |into| into.extend_from_slice(b"online"));
        for _ in 0..3 {
            rig.connect();
            assert_eq!(rig.seen(), ["status online"]);
            rig.disconnect();
        }
        assert_eq!(rig.outbox.waiting(), 0, "a state is no reading");
    }

    #[test]
    fn what_was_lost_on_the_way_is_history_once_a_newer_value_takes_its_place() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        rig.measure(0, 2.0);
        rig.disconnect();
        rig.measure(0, 3.0);
        rig.seen();
        rig.connect();
        rig.settle();
        let history = r#"a/history [{"time":"1970-01-01T00:00:02.000Z","value":1,"unit":""},{"time":"1970-01-01T00:00:03.000Z","value":2,"unit":""}]"#;
        assert_eq!(rig.seen(), ["a 3", history]);
    }

    #[test]
    fn of_two_values_lost_on_the_way_the_newer_one_is_sent_live_again() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        rig.measure(0, 2.0);
        rig.disconnect();
        rig.seen();
        rig.connect();
        rig.settle();
        let history = r#"a/history [{"time":"1970-01-01T00:00:02.000Z","value":1,"unit":""}]"#;
        assert_eq!(rig.seen(), ["a 2", history]);
    }

    #[test]
    fn a_value_removed_from_its_topic_is_not_lost_with_it() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        rig.outbox.clear(0);
        rig.pump();
        rig.disconnect();
        rig.seen();
        rig.connect();
        rig.settle();
        let history = r#"a/history [{"time":"1970-01-01T00:00:02.000Z","value":1,"unit":""}]"#;
        assert_eq!(rig.seen(), ["a ", history]);
    }

    #[test]
    fn what_waits_for_bytes_to_be_written_is_not_left_to_chance() {
        let mut rig = Rig::new(&["a"], 100);
        rig.measure(0, 1.0);
        rig.server.backlog = MAX_BACKLOG + 1;
        rig.connect();
        let again = rig.outbox.deadline().expect("nobody announces a write");
        assert!(again > rig.now && rig.seen().is_empty());
        rig.server.backlog = 0;
        rig.now = again;
        rig.pump();
        assert_eq!(rig.seen(), ["a 1"]);
        assert_eq!(rig.outbox.deadline(), None);
        rig.server.backlog = MAX_BACKLOG + 1;
        rig.measure(0, 2.0);
        rig.disconnect();
        assert_eq!(rig.outbox.deadline(), None, "without a connection");
    }

    #[test]
    fn before_a_stop_history_goes_as_fast_as_the_server_takes_it() {
        let mut rig = Rig::new(&["a"], 10_000);
        (0..10_000).for_each(|value| rig.measure(0, f64::from(value)));
        rig.connect();
        rig.outbox.hurry(rig.now);
        rig.pump();
        while !rig.server.unacked.is_empty() {
            rig.ack();
        }
        assert!(rig.outbox.is_settled(), "{} records wait for time to pass", rig.outbox.waiting());
    }

    #[test]
    fn a_drain_of_one_a_second_is_no_faster() {
        let mut rig = Rig::new(&["a"], 100);
        rig.outbox.drain = Drain::new(1);
        (0..10).for_each(|value| rig.measure(0, f64::from(value)));
        rig.connect();
        let end = rig.now + Duration::from_secs(4);
        while rig.now < end {
            rig.now = rig.now + Duration::from_millis(50);
            rig.pump();
            while !rig.server.unacked.is_empty() {
                rig.ack();
            }
        }
        assert_eq!(rig.outbox.counts().history, 4);
    }

    #[test]
    fn nothing_is_due_while_nothing_can_go() {
        let mut rig = Rig::new(&["a", "b"], 100);
        (0..10).for_each(|value| rig.measure(0, f64::from(value)));
        assert_eq!(rig.outbox.deadline(), None, "without a connection");
        rig.server.window = 1;
        rig.measure(1, 0.0);
        rig.connect();
        rig.now = rig.now + Duration::from_secs(5);
        rig.pump();
        assert_eq!(rig.outbox.deadline(), None, "while live values wait for an acknowledgement");
        rig.server.window = 4;
        rig.pump();
        assert_eq!(rig.outbox.deadline(), None, "while a share is on its way");
        rig.settle();
        assert_eq!(rig.outbox.deadline(), None, "when all is done");
    }

    proptest! {
        /// Whatever happens to the connection, every value is acknowledged or counted; no live topic goes back in time.
        #[test]
        fn nothing_is_lost_silently(steps in proptest::collection::vec(0u8..8, 1..300), records in 5usize..200) {
            let mut rig = Rig::new(&["a", "b"], records);
            let mut value = 0.0;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    0..=3 => { value += 1.0; rig.measure(SlotId::from(step % 2), value); }
                    4 if rig.server.connected => rig.disconnect(),
                    4 | 5 if !rig.server.connected => rig.connect(),
                    5 => rig.outbox.publish_all(),
                    _ if !rig.server.unacked.is_empty() => rig.ack_at(number % rig.server.unacked.len()),
                    _ => {}
                }
            }
            if !rig.server.connected {
                rig.connect();
            }
            rig.settle();
            let mut arrived = std::collections::BTreeSet::new();
            for (topic, payload) in &rig.server.taken {
                if topic.ends_with("history") {
                    let array: Vec<serde_json::Value> = serde_json::from_str(payload).expect("an array");
                    arrived.extend(array.iter().map(|entry| entry["value"].as_u64().expect("a count")));
                } else {
                    arrived.insert(payload.parse().expect("a count"));
                }
            }
            for topic in ["a", "b"] {
                let of_topic = rig.server.seen.iter().filter(|(seen, _)| seen == topic);
                let live: Vec<u64> = of_topic.map(|(_, payload)| payload.parse().expect("a count")).collect();
                prop_assert!(live.is_sorted(), "{live:?}");
            }
            let lost = value as u64 - arrived.len() as u64;
            prop_assert!(lost <= rig.outbox.counts().dropped, "lost {lost}, counted {}", rig.outbox.counts().dropped);
        }
    }
}
