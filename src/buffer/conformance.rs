//! What every store does, whatever it keeps its records in: one suite, run over memory and over disk.

use super::disk::rig::Rig as OnDisk;
use super::memory::Memory;
use super::{Buffer, Limits, Moment, Overflow, Record, THIS_BOOT, Ticket};
use proptest::prelude::*;
use std::time::Duration;

/// A store, and whoever does its work.
pub(super) trait Subject {
    fn store(&mut self) -> &mut dyn Buffer;
    /// Does all there is to do at that moment.
    fn settle(&mut self, now: Moment);
}

impl Subject for Memory {
    fn store(&mut self) -> &mut dyn Buffer {
        self
    }
    fn settle(&mut self, now: Moment) {
        self.turn(now);
    }
}

impl Subject for OnDisk {
    fn store(&mut self) -> &mut dyn Buffer {
        &mut self.store
    }
    fn settle(&mut self, now: Moment) {
        self.now = now;
        OnDisk::settle(self);
    }
}

/// How to make one.
type Make = fn(Limits) -> Box<dyn Subject>;

fn in_memory(limits: Limits) -> Box<dyn Subject> {
    Box::new(Memory::new(limits))
}

/// Nobody acknowledges anything: everything goes to disk.
fn on_disk(limits: Limits) -> Box<dyn Subject> {
    Box::new(OnDisk::new(limits))
}

/// The server is there: most never leave memory.
fn in_front_of_a_disk(limits: Limits) -> Box<dyn Subject> {
    let mut rig = OnDisk::new(limits);
    rig.store.online(true);
    Box::new(rig)
}

const ALL: [Make; 3] = [in_memory, on_disk, in_front_of_a_disk];
const WIDE: Limits =
    Limits { max_size: 8 * 1024 * 1024, max_age: Duration::from_secs(3_600), overflow: Overflow::DropOldest };

struct Test {
    subject: Box<dyn Subject>,
    now: Moment,
}

impl Test {
    fn new(make: Make, limits: Limits) -> Self {
        let now = Moment { uptime_ms: 100_000, wall_ms: Some(1_772_323_200_000) };
        let mut test = Self { subject: make(limits), now };
        test.settle();
        test
    }

    fn settle(&mut self) {
        self.subject.settle(self.now);
    }

    fn store(&mut self) -> &mut dyn Buffer {
        self.subject.store()
    }

    fn pass(&mut self, ms: u64) {
        let Moment { uptime_ms, wall_ms } = self.now;
        self.now = Moment { uptime_ms: uptime_ms + ms, wall_ms: wall_ms.map(|wall| wall + ms as i64) };
        self.settle();
    }

    fn take(&mut self, value: u32) -> Ticket {
        let Moment { uptime_ms, wall_ms } = self.now;
        let series = self.store().series(["one", "another"][value as usize % 2]);
        self.store().push(Record { series, boot: THIS_BOOT, wall_ms, uptime_ms, value: f64::from(value) })
    }

    fn release(&mut self, ticket: Ticket) {
        self.store().release(ticket..ticket + 1);
    }

    fn keep(&mut self, values: std::ops::Range<u32>) {
        for value in values {
            let ticket = self.take(value);
            self.release(ticket);
        }
        self.settle();
    }

    fn peek(&mut self, max: usize) -> Vec<u32> {
        let mut records = Vec::new();
        self.settle();
        self.store().peek(max, &mut records);
        assert_eq!(self.store().is_ready(), max == 0 || !records.is_empty());
        records.iter().map(|record| record.value as u32).collect()
    }

    fn limit(&mut self, limits: Limits) {
        self.store().limit(limits, Duration::from_secs(5));
        self.settle();
    }

    fn share(&mut self, max: usize) -> Vec<u32> {
        let values = self.peek(max);
        self.store().forget_peeked();
        self.settle();
        values
    }

    /// All there is, which may take several shares.
    fn drain(&mut self) -> Vec<u32> {
        let mut all = Vec::new();
        loop {
            let share = self.share(1_000);
            if share.is_empty() {
                return all;
            }
            all.extend(share);
        }
    }
}

#[test]
fn history_leaves_in_the_order_it_was_taken_and_stays_until_it_is_forgotten() {
    for make in ALL {
        let mut test = Test::new(make, WIDE);
        test.keep(0..10);
        assert_eq!(test.peek(3), [0, 1, 2]);
        assert_eq!(test.peek(4), [0, 1, 2, 3], "nothing was forgotten");
        test.store().give_back();
        assert_eq!(test.share(2), [0, 1]);
        test.keep(10..12);
        assert_eq!(test.drain(), (2..12).collect::<Vec<_>>());
        assert_eq!(test.store().contents().waiting, 0);
    }
}

#[test]
fn a_record_is_as_it_was() {
    for make in ALL {
        let mut test = Test::new(make, WIDE);
        let series = test.store().series("°C of the roof");
        let record = |wall_ms, uptime_ms, value| Record { series, boot: THIS_BOOT, wall_ms, uptime_ms, value };
        let all = [
            record(Some(1_772_323_200_123), 99_001, -273.15),
            record(None, 99_002, f64::MAX),
            record(Some(0), 99_003, 5e-324),
        ];
        for record in all {
            let ticket = test.store().push(record);
            test.release(ticket);
        }
        let mut records = Vec::new();
        test.settle();
        test.store().peek(9, &mut records);
        assert_eq!(records, all);
        assert_eq!(test.store().label(series).as_deref(), Some("°C of the roof"));
        assert_eq!((test.store().series("°C of the roof"), test.store().label(series ^ 1)), (series, None));
    }
}

#[test]
fn what_is_held_is_no_history_and_holds_back_what_is_younger() {
    for make in ALL {
        let mut test = Test::new(make, WIDE);
        test.keep(0..2);
        let [first, second] = [2, 3].map(|value| test.take(value));
        test.keep(4..6);
        assert_eq!(test.share(9), [0, 1]);
        assert_eq!(test.peek(9), [0; 0]);
        let contents = test.store().contents();
        assert_eq!((contents.waiting, contents.held), (4, 2));
        test.release(first);
        assert_eq!(test.share(9), [2]);
        test.store().forget(second..second + 1);
        assert_eq!(test.drain(), [4, 5], "the server has the other one");
    }
}

#[test]
fn what_is_too_old_is_dropped_and_counted_unless_it_is_on_its_way() {
    for make in ALL {
        let mut test = Test::new(make, WIDE);
        for value in 0..4 {
            test.keep(value..value + 1);
            test.pass(1_000_000);
        }
        // 0 is 4,000 s old, 1 is 3,000 s.
        assert_eq!(test.store().contents().dropped, 1);
        assert_eq!(test.peek(2), [1, 2]);
        test.pass(1_000_000);
        assert_eq!(test.store().contents().dropped, 1, "it is on its way");
        test.store().give_back();
        test.settle();
        assert_eq!(test.store().contents().dropped, 2);
        assert_eq!(test.drain(), [2, 3]);
        let held = test.take(4);
        test.pass(100_000_000);
        assert_eq!(test.store().contents().dropped, 2, "who holds it knows whether it is still wanted");
        test.store().forget(held..held + 1);
    }
}

#[test]
fn of_what_is_too_much_only_the_wanted_end_is_kept() {
    for make in ALL {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
            let mut test = Test::new(make, Limits { max_size: 64 * 1024, overflow, ..WIDE });
            (0..300).for_each(|tens| test.keep(tens * 10..tens * 10 + 10));
            let contents = test.store().contents();
            assert!(contents.dropped > 500 && contents.waiting > 500, "{contents:?}");
            assert_eq!(contents.waiting as u64 + contents.dropped, 3_000);
            let kept = test.drain();
            let expected = match overflow {
                Overflow::DropOldest => contents.dropped as u32..3_000,
                Overflow::DropNewest => 0..contents.waiting as u32,
            };
            assert_eq!(kept, expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn other_limits_hold_at_once_and_cost_only_what_is_beyond_them() {
    for make in ALL {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
            let mut test = Test::new(make, WIDE);
            (0..300).for_each(|tens| test.keep(tens * 10..tens * 10 + 10));
            let [narrow, wide] = [64 * 1024, WIDE.max_size].map(|max_size| Limits { max_size, overflow, ..WIDE });
            test.limit(wide);
            assert_eq!(test.store().contents().waiting, 3_000, "there is room for all");
            test.limit(narrow);
            (300..400).for_each(|tens| test.keep(tens * 10..tens * 10 + 10));
            let contents = test.store().contents();
            assert!(contents.dropped > 500 && contents.waiting > 500, "{contents:?}");
            assert_eq!(contents.waiting as u64 + contents.dropped, 4_000);
            test.limit(wide);
            test.keep(4_000..5_000);
            assert_eq!(test.store().contents().dropped, contents.dropped, "there is room again");
            let kept = test.drain();
            assert_eq!(kept.len(), contents.waiting + 1_000);
            assert!(kept.is_sorted() && kept.ends_with(&(4_000..5_000).collect::<Vec<_>>()));
            let expected = match overflow {
                Overflow::DropOldest => contents.dropped as u32,
                Overflow::DropNewest => 0,
            };
            assert_eq!(kept[0], expected);
        }
    }
}

#[test]
fn another_age_is_the_measure_from_then_on() {
    for make in ALL {
        let mut test = Test::new(make, WIDE);
        test.keep(0..2);
        test.pass(1_000_000);
        test.keep(2..4);
        test.limit(Limits { max_age: Duration::from_secs(500), ..WIDE });
        assert_eq!(test.store().contents().dropped, 2);
        assert_eq!(test.drain(), [2, 3]);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    /// The held one in that place is released, or forgotten.
    End(u8, bool),
    /// A share, forgotten or given back.
    Share(u8, bool),
    Pass,
}

proptest! {
    #[test]
    fn every_record_leaves_once_in_order_or_is_counted(
        steps in proptest::collection::vec(
            prop_oneof![
                4 => Just(Step::Take),
                3 => (any::<u8>(), any::<bool>()).prop_map(|(place, released)| Step::End(place, released)),
                1 => (1u8..9, any::<bool>()).prop_map(|(max, forgotten)| Step::Share(max, forgotten)),
                1 => Just(Step::Pass),
            ],
            1..200,
        ),
        which in 0usize..3,
    ) {
        let mut test = Test::new(ALL[which], WIDE);
        let (mut taken, mut held, mut left) = (0, Vec::new(), Vec::new());
        let mut acknowledged = Vec::new();
        for step in steps {
            match step {
                Step::Take => {
                    held.push((taken, test.take(taken)));
                    taken += 1;
                }
                Step::End(place, released) if !held.is_empty() => {
                    let (value, ticket) = held.remove(usize::from(place) % held.len());
                    if released {
                        test.release(ticket);
                    } else {
                        acknowledged.push(value);
                        test.store().forget(ticket..ticket + 1);
                    }
                }
                Step::End(..) => {}
                Step::Share(max, true) => left.extend(test.share(usize::from(max))),
                Step::Share(max, false) => {
                    test.peek(usize::from(max));
                    test.store().give_back();
                }
                Step::Pass => test.pass(1_000),
            }
            let contents = test.store().contents();
            prop_assert_eq!(contents.held, held.len());
            prop_assert_eq!(contents.waiting + left.len() + acknowledged.len(), taken as usize);
        }
        held.iter().for_each(|(_, ticket)| test.release(*ticket));
        left.extend(test.drain());
        prop_assert!(left.is_sorted_by(|a, b| a < b), "{left:?}");
        prop_assert!(acknowledged.iter().all(|value| !left.contains(value)));
        prop_assert_eq!(left.len() + acknowledged.len(), taken as usize);
    }
}
