//! The outbox under another plan: slots that are asked for again go on, the others are left.
//!
//! Between [`Outbox::reconfigure`] and [`Outbox::reconfigured`] every slot of the new plan is added as at the start. What
//! was measured for a slot that is left is history, which the store knows by its series: it needs no slot. Invariant: of a
//! slot that is left nothing is sent any more but its topic's end.

use super::slot::Slot;
use super::{Outbox, SlotId, SlotSpec};
use crate::buffer::Limits;
use std::collections::HashMap;
use std::time::Duration;

/// What a reload has found and not settled yet.
#[derive(Default)]
pub(super) struct Claims {
    /// Slots nobody has asked for again, by topic.
    unclaimed: HashMap<Box<str>, SlotId>,
    /// Numbers that mean nothing any more.
    vacant: Vec<SlotId>,
}

impl Outbox {
    /// Adds a slot, or gives the one that is there already with just this specification.
    pub fn add(&mut self, spec: SlotSpec) -> SlotId {
        if let Some(id) = self.claim(&spec) {
            return id;
        }
        let slot = Slot::new(spec);
        match self.vacancy() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as SlotId - 1
            }
        }
    }

    /// Adds the slot that goes first on every connect.
    pub fn add_first(&mut self, spec: SlotSpec) -> SlotId {
        self.first = self.add(spec);
        self.first
    }

    /// Another plan is to be taken up. Until [`Outbox::reconfigured`] a state that its slot says already is not sent again.
    pub fn reconfigure(&mut self) {
        let mut claims = Claims::default();
        for (id, slot) in self.slots.iter().enumerate().rev() {
            let id = id as SlotId;
            if slot.gone {
                claims.vacant.push(id);
            } else {
                claims.unclaimed.insert(slot.spec.topic.clone(), id);
            }
        }
        self.claims = Some(claims);
    }

    /// Every slot of the new plan is there: what nobody has asked for is left, and emptied where it is retained.
    pub fn reconfigured(&mut self) {
        let Some(claims) = self.claims.take() else { return };
        let mut left: Vec<_> = claims.unclaimed.into_values().collect();
        left.sort_unstable();
        for id in left {
            let SlotSpec { topic, qos, retain, .. } = self.retire(id);
            if retain {
                self.clearing.add(topic, qos, false);
            }
        }
        let slots = &self.slots;
        self.queue.retain(|id| !slots[id as usize].gone);
        self.slots.shrink_to_fit();
    }

    /// Other limits of the store, and another rate at which it empties; what waits stays, as far as it fits.
    pub fn limit(&mut self, limits: Limits, flush_every: Duration, drain_per_second: u32) {
        self.store.limit(limits, flush_every);
        self.drain.set_rate(drain_per_second);
    }

    /// The slot with just this specification, if there is one; one with the same topic and another is left.
    fn claim(&mut self, spec: &SlotSpec) -> Option<SlotId> {
        if spec.retain {
            self.clearing.cancel(&spec.topic);
        }
        let id = self.claims.as_mut()?.unclaimed.remove(&spec.topic)?;
        if self.slots[id as usize].spec == *spec {
            return Some(id);
        }
        let old = self.retire(id);
        if old.retain && !spec.retain {
            self.clearing.add(old.topic, old.qos, true);
        }
        None
    }

    /// A number that can be given anew.
    fn vacancy(&mut self) -> Option<SlotId> {
        self.claims.as_mut()?.vacant.pop()
    }

    /// Leaves a slot; what only it had is history. Gives what it was.
    fn retire(&mut self, id: SlotId) -> SlotSpec {
        let slot = &mut self.slots[id as usize];
        let none = SlotSpec { topic: Box::default(), series: None, retain: false, ..slot.spec };
        let Slot { spec, owed, .. } = std::mem::replace(slot, Slot { gone: true, ..Slot::new(none) });
        self.release(owed);
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Rig, history};
    use super::*;
    use crate::topic::QoS;

    /// A reading's slot, with a history.
    fn reading(outbox: &mut Outbox, topic: &str, qos: QoS, retain: bool) -> SlotSpec {
        let series = Some(outbox.series(&history(&format!("{topic}/history"))));
        SlotSpec { topic: topic.into(), qos, retain, series, lasting: false }
    }

    fn plain(outbox: &mut Outbox, topic: &str) -> SlotSpec {
        reading(outbox, topic, QoS::AtLeastOnce, true)
    }

    /// Takes up a plan of these topics; gives their slots.
    fn reconfigure(rig: &mut Rig, topics: &[&str]) -> Vec<SlotId> {
        rig.outbox.reconfigure();
        let slots = topics.iter().map(|topic| {
            let spec = plain(&mut rig.outbox, topic);
            rig.outbox.add(spec)
        });
        let slots = slots.collect();
        rig.outbox.reconfigured();
        rig.pump();
        slots
    }

    #[test]
    fn what_is_asked_for_again_goes_on_whatever_comes_and_goes_around_it() {
        let mut rig = Rig::new(&["a", "b", "c"], 100);
        rig.connect();
        rig.measure(1, 1.0);
        rig.settle();
        assert_eq!(rig.seen(), ["b 1"]);
        assert_eq!(reconfigure(&mut rig, &["d", "b", "a"]), [3, 1, 0]);
        rig.settle();
        assert_eq!(rig.seen(), ["c "], "what is gone is emptied, and nothing else is said");
        assert_eq!(reconfigure(&mut rig, &["b", "e"]), [1, 2], "a number that was left is given anew");
        rig.settle();
        assert_eq!(rig.seen(), ["a ", "d "]);
        rig.disconnect();
        rig.connect();
        assert_eq!(rig.seen(), ["b 1"]);
        rig.settle();
    }

    #[test]
    fn what_was_measured_for_a_topic_that_is_gone_is_history() {
        let mut rig = Rig::new(&["a", "b"], 100);
        // One on its way, one that only its slot has, when the plan changes.
        rig.connect();
        rig.measure(0, 1.0);
        rig.disconnect();
        rig.measure(0, 2.0);
        reconfigure(&mut rig, &["b", "c"]);
        assert_eq!(rig.outbox.waiting(), 2);
        rig.connect();
        rig.settle();
        let seen = rig.seen();
        assert_eq!(seen[..2], ["a 1", "a "]);
        assert!(seen[2].starts_with("a/history [{") && seen[2].contains("\"value\":2"), "{seen:?}");
        assert_eq!((seen.len(), rig.outbox.counts().dropped), (3, 0));
    }

    #[test]
    fn an_unacknowledged_message_of_a_slot_that_is_another_now_is_not_sent_as_its() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        reconfigure(&mut rig, &[]);
        assert_eq!(reconfigure(&mut rig, &["b"]), [0]);
        rig.measure(0, 5.0);
        assert_eq!(rig.seen(), ["a 1", "a ", "b 5"]);
        rig.disconnect();
        rig.connect();
        rig.settle();
        let seen = rig.seen();
        assert_eq!(seen[..2], ["b 5", "a "], "the emptying is repeated until it is acknowledged");
        assert!(seen[2].starts_with("a/history ") && seen.len() == 3, "{seen:?}");
    }

    #[test]
    fn emptying_takes_no_last_place_and_ends_when_the_topic_is_ours_again() {
        let mut rig = Rig::new(&["a", "b", "c", "d", "e"], 100);
        rig.connect();
        let live = reconfigure(&mut rig, &["live"])[0];
        assert_eq!(rig.seen(), ["a ", "b ", "c "], "one place of four is left");
        rig.measure(live, 1.0);
        assert_eq!(rig.seen(), ["live 1"]);
        reconfigure(&mut rig, &["live", "b", "e"]);
        rig.settle();
        assert_eq!(rig.seen(), ["d "], "and neither `b` again nor `e`");
    }

    #[test]
    fn a_topic_that_is_not_retained_any_more_is_emptied_before_its_next_value() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        rig.settle();
        rig.outbox.reconfigure();
        let spec = reading(&mut rig.outbox, "a", QoS::AtLeastOnce, false);
        let slot = rig.outbox.add(spec);
        rig.outbox.reconfigured();
        rig.measure(slot, 2.0);
        rig.settle();
        assert_eq!(rig.seen(), ["a 1", "a ", "a 2"]);
    }

    #[test]
    fn a_topic_that_is_not_retained_any_more_is_emptied_whatever_else_is_taken_up_before() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        rig.settle();
        rig.disconnect();
        for _ in 0..2 {
            rig.outbox.reconfigure();
            let spec = reading(&mut rig.outbox, "a", QoS::AtLeastOnce, false);
            rig.outbox.add(spec);
            rig.outbox.reconfigured();
        }
        rig.connect();
        rig.settle();
        assert_eq!(rig.seen(), ["a 1", "a "]);
    }

    #[test]
    fn a_topic_whose_emptying_ends_three_connections_is_left_as_it_is() {
        let mut rig = Rig::new(&["a"], 100);
        rig.connect();
        rig.measure(0, 1.0);
        rig.settle();
        rig.seen();
        reconfigure(&mut rig, &[]);
        for _ in 0..4 {
            rig.disconnect();
            rig.connect();
        }
        assert_eq!(rig.seen(), ["a ", "a ", "a "]);
    }

    #[test]
    fn a_state_that_its_slot_says_already_is_not_sent_again() {
        let mut rig = Rig::new(&[], 100);
        let state = |topic: &str| SlotSpec::state(topic, QoS::AtLeastOnce, true);
        let say = |rig: &mut Rig, status: &[u8]| {
            rig.outbox.reconfigure();
            let slots = [rig.outbox.add_first(state("status")), rig.outbox.add(state("lamp"))];
            rig.outbox.set(slots[1], |into| into.extend_from_slice(b"ON"));
            rig.outbox.set(slots[0], |into| into.extend_from_slice(status));
            rig.outbox.reconfigured();
            rig.pump();
        };
        rig.connect();
        say(&mut rig, b"online");
        rig.settle();
        rig.seen();
        say(&mut rig, b"online");
        assert_eq!(rig.seen(), [""; 0]);
        say(&mut rig, b"still online");
        assert_eq!(rig.seen(), ["status still online"]);
        rig.settle();
        rig.disconnect();
        rig.connect();
        assert_eq!(rig.seen(), ["status still online", "lamp ON"], "the first goes first");
    }

    #[test]
    fn other_limits_cost_what_is_beyond_them_and_are_counted() {
        let mut rig = Rig::new(&["a"], 100);
        (0..50).for_each(|value| rig.measure(0, f64::from(value)));
        let limits = Limits { max_size: 0, max_age: Duration::from_secs(3600), overflow: Default::default() };
        rig.outbox.limit(limits, Duration::from_secs(5), 1);
        // One of the history, and the newest, which its slot holds.
        assert_eq!((rig.outbox.waiting(), rig.outbox.counts().dropped), (2, 48));
        rig.connect();
        rig.settle();
        let seen = rig.seen();
        assert!(seen[0] == "a 49" && seen[1].contains("\"value\":48"), "{seen:?}");
    }
}
