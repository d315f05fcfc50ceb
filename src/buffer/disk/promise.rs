//! What the store promises, held against a model of everything that was taken: when it is written, what a killed process
//! and a power cut cost, and that a healthy link writes nothing.

use super::medium::Medium;
use super::rig::{FLUSH_MS, Rig, WIDE};
use crate::buffer::{Buffer as _, Limits, Overflow, Ticket};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// One reading.
#[derive(Clone, Copy)]
struct Taken {
    ticket: Ticket,
    at: u64,
    held: bool,
    /// Forgotten: acknowledged live or as history.
    done: bool,
    /// It was there while nobody could take it.
    offline: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Take(u8),
    /// The server acknowledges the held one in that place.
    Acknowledge(u8),
    /// A newer reading takes the place of the held one in that place.
    Release(u8),
    Online(bool),
    Pass(u64),
    /// A share of history, acknowledged or given back.
    Share(u8, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u8..20).prop_map(Step::Take),
        4 => any::<u8>().prop_map(Step::Acknowledge),
        4 => any::<u8>().prop_map(Step::Release),
        2 => any::<bool>().prop_map(Step::Online),
        2 => (0u64..8_000).prop_map(Step::Pass),
        2 => (1u8..50, any::<bool>()).prop_map(|(max, acknowledged)| Step::Share(max, acknowledged)),
    ];
    proptest::collection::vec(step, 1..60)
}

struct Life {
    rig: Rig,
    taken: Vec<Taken>,
    online: bool,
}

impl Life {
    fn new(limits: Limits, memory: bool) -> Self {
        let medium = if memory { Medium::with_memory() } else { Medium::default() };
        Self { rig: Rig::on(medium, limits), taken: Vec::new(), online: false }
    }

    /// The held reading in that place.
    fn held(&mut self, place: u8) -> Option<&mut Taken> {
        let held: Vec<_> = self.taken.iter_mut().filter(|taken| taken.held).collect();
        let count = held.len();
        held.into_iter().nth(usize::from(place) % count.max(1))
    }

    fn carry_out(&mut self, step: &Step) {
        match *step {
            Step::Take(count) => (0..count).for_each(|_| self.take()),
            Step::Acknowledge(place) => {
                if let Some(taken) = self.held(place) {
                    (taken.held, taken.done) = (false, true);
                    let ticket = taken.ticket;
                    self.rig.store.forget(ticket..ticket + 1);
                }
            }
            Step::Release(place) => {
                if let Some(taken) = self.held(place) {
                    taken.held = false;
                    let ticket = taken.ticket;
                    self.rig.store.release(ticket..ticket + 1);
                }
            }
            Step::Online(online) => {
                self.online = online;
                self.rig.store.online(online);
            }
            Step::Pass(ms) => self.rig.pass(ms),
            Step::Share(max, acknowledged) => self.share(usize::from(max), acknowledged),
        }
        self.rig.settle();
        let online = self.online;
        self.taken.iter_mut().for_each(|taken| taken.offline |= !online && !taken.done);
    }

    fn take(&mut self) {
        let (value, at) = (self.taken.len() as f64, self.rig.now.uptime_ms);
        let ticket = self.rig.take(["a", "b"][self.taken.len() % 2], value);
        self.taken.push(Taken { ticket, at, held: true, done: false, offline: false });
    }

    /// Strictly the oldest history comes, up to the first that is held.
    fn share(&mut self, max: usize, acknowledged: bool) {
        let mut records = Vec::new();
        self.rig.store.peek(max, &mut records);
        let waiting = (0..self.taken.len()).filter(|at| !self.taken[*at].done);
        let history: Vec<_> = waiting.take_while(|at| !self.taken[*at].held).take(max).collect();
        let values: Vec<_> = records.iter().map(|record| record.value as usize).collect();
        assert!(history.starts_with(&values), "{values:?} of {history:?}");
        assert_eq!(values.is_empty(), history.is_empty(), "something is always read ahead");
        if acknowledged {
            self.rig.store.forget_peeked();
            values.iter().for_each(|at| self.taken[*at].done = true);
        } else {
            self.rig.store.give_back();
        }
    }

    fn waiting(&self, which: impl Fn(&Taken) -> bool) -> BTreeSet<usize> {
        (0..self.taken.len()).filter(|at| !self.taken[*at].done && which(&self.taken[*at])).collect()
    }

    /// What the next start finds.
    fn found(&mut self) -> BTreeSet<usize> {
        self.rig.restart();
        let found: Vec<_> = self.rig.drain().iter().map(|record| record.value as usize).collect();
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        found.into_iter().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_killed_process_loses_only_what_was_taken_online_a_moment_ago(steps in steps(), memory: bool) {
        let mut life = Life::new(WIDE, memory);
        steps.iter().for_each(|step| life.carry_out(step));
        let now = life.rig.now.uptime_ms;
        let written = life.waiting(|taken| taken.offline || now - taken.at >= FLUSH_MS);
        let all = life.waiting(|_| true);
        let contents = life.rig.store.contents();
        prop_assert_eq!(contents.waiting, all.len());
        prop_assert_eq!((contents.dropped, contents.damaged), (0, 0));
        life.rig.medium.kill();
        let found = life.found();
        prop_assert!(written.is_subset(&found), "lost: {:?}", written.difference(&found));
        prop_assert!(found.is_subset(&all), "not forgotten: {:?}", found.difference(&all));
    }

    #[test]
    fn a_power_cut_costs_at_most_what_was_taken_in_flush_every(steps in steps(), seed: u64, memory: bool) {
        let mut life = Life::new(WIDE, memory);
        steps.iter().for_each(|step| life.carry_out(step));
        let now = life.rig.now.uptime_ms;
        let safe = life.waiting(|taken| now - taken.at >= FLUSH_MS);
        life.rig.medium.cut(&mut fastrand::Rng::with_seed(seed));
        let found = life.found();
        prop_assert!(safe.is_subset(&found), "lost: {:?}", safe.difference(&found));
        prop_assert!(found.iter().all(|value| *value < life.taken.len()), "{found:?}");
    }

    #[test]
    fn a_stop_in_order_loses_nothing_and_sends_nothing_twice(steps in steps(), seed: u64, memory: bool) {
        let mut life = Life::new(WIDE, memory);
        steps.iter().for_each(|step| life.carry_out(step));
        life.rig.store.finish();
        life.rig.settle();
        prop_assert!(!life.rig.store.is_busy());
        prop_assert_eq!(life.rig.store.contents().at_risk, 0);
        let all = life.waiting(|_| true);
        // All of it is on disk, so that not even a power cut behind it matters.
        life.rig.medium.cut(&mut fastrand::Rng::with_seed(seed));
        prop_assert_eq!(life.found(), all);
    }

    #[test]
    fn every_reading_is_delivered_dropped_or_waits(steps in steps(), overflow: bool, memory: bool) {
        let overflow = if overflow { Overflow::DropOldest } else { Overflow::DropNewest };
        // Room for fewer than a hundred on disk.
        let limits = Limits { max_size: 28 * 1024, overflow, ..WIDE };
        let mut life = Life::new(limits, memory);
        let (mut delivered, mut acknowledged) = (0, 0);
        for step in steps.iter().chain(&steps).chain(&steps) {
            match step {
                Step::Share(max, _) => delivered += life.rig.share(usize::from(*max)).len(),
                Step::Acknowledge(_) => {
                    acknowledged += usize::from(life.taken.iter().any(|taken| taken.held));
                    life.carry_out(step);
                }
                _ => life.carry_out(step),
            }
        }
        let contents = life.rig.store.contents();
        // A reading that gave way on disk while it was held is still with whoever holds it.
        let held = life.taken.iter().filter(|taken| taken.held).count();
        let free = contents.waiting - contents.held;
        prop_assert_eq!(life.taken.len(), held + free + delivered + acknowledged + contents.dropped as usize);
        prop_assert!(life.rig.medium.bytes() <= 28 * 1024);
    }
}

#[test]
fn a_healthy_link_writes_nothing() {
    let mut life = Life::new(WIDE, false);
    life.carry_out(&Step::Online(true));
    let before = life.rig.medium.writes();
    for _ in 0..1_000 {
        life.carry_out(&Step::Take(10));
        life.carry_out(&Step::Pass(100));
        (0..10).for_each(|_| life.carry_out(&Step::Acknowledge(0)));
        assert_eq!(life.rig.store.deadline(), None, "the thread is not woken either");
    }
    assert_eq!(life.rig.medium.writes(), before);
    assert_eq!(life.rig.medium.names(), [""; 0]);
}

#[test]
fn what_the_server_does_not_acknowledge_is_written_in_groups() {
    let mut life = Life::new(WIDE, false);
    life.carry_out(&Step::Online(true));
    let before = life.rig.medium.writes();
    for _ in 0..600 {
        life.carry_out(&Step::Take(1));
        life.carry_out(&Step::Pass(100));
    }
    // A minute at ten a second: twelve times a write and a synchronisation, and the first time the file and its folder.
    let steps = life.rig.medium.writes() - before;
    assert!((24..=30).contains(&steps), "{steps} steps");
    assert!(life.rig.store.contents().on_disk >= 550);
}

#[test]
fn offline_each_reading_is_written_at_once_and_synchronised_in_groups() {
    let mut life = Life::new(WIDE, false);
    let before = life.rig.medium.writes();
    for _ in 0..600 {
        life.carry_out(&Step::Take(1));
        assert_eq!(life.rig.store.contents().at_risk, 0);
        life.carry_out(&Step::Pass(100));
    }
    let steps = life.rig.medium.writes() - before - 600;
    assert!((12..=18).contains(&steps), "{steps} steps beside the writes");
}

#[test]
fn with_memory_that_outlives_the_process_the_disk_is_written_in_groups_offline_too() {
    let mut life = Life::new(WIDE, true);
    let before = life.rig.medium.writes();
    for _ in 0..600 {
        life.carry_out(&Step::Take(1));
        assert_eq!(life.rig.store.contents().at_risk, 0);
        life.carry_out(&Step::Pass(100));
    }
    let steps = life.rig.medium.writes() - before;
    assert!((24..=31).contains(&steps), "{steps} steps");
    assert_eq!(life.found().len(), 600);
}
