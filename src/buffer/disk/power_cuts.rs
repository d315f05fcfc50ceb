//! The log against a model, with the power cut at every step: what was synchronised is there, in order, and nothing that
//! was never appended.

use super::log::{Found, Log};
use super::medium::Medium;
use super::ranges::Ranges;
use crate::buffer::names::Names;
use crate::buffer::{Limits, Overflow, Record, THIS_BOOT};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Small segments: 128 KiB.
const LIMITS: Limits =
    Limits { max_size: 640 * 1024, max_age: Duration::from_secs(3_600), overflow: Overflow::DropOldest };

/// What a program does with a log.
#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    /// Everything before that part of what is there.
    ForgetBefore(u8),
    /// A few in the middle.
    Forget(u8),
    Read,
}

/// What must be in the log, and what may be.
#[derive(Default)]
struct Model {
    records: BTreeMap<u64, Record>,
    /// On disk whatever happens.
    safe: BTreeSet<u64>,
    forgotten: BTreeSet<u64>,
    /// Records of an append that did not return.
    attempted: Vec<Record>,
    taken: u32,
}

struct Rig {
    medium: Medium,
    log: Log,
    names: Arc<Names>,
    series: Vec<u32>,
    model: Model,
    next: u64,
}

fn log(medium: &Medium, boot: u128) -> (Log, Arc<Names>, Vec<u32>) {
    let names = Arc::new(Names::new(boot));
    let labels = ["a", "a longer label than fits into one cell of the log", &"long ".repeat(50)];
    let series = labels.map(|label| names.series(label)).to_vec();
    (Log::new(medium.folder(), names.clone(), LIMITS), names, series)
}

impl Rig {
    fn new(memory: bool) -> Self {
        let medium = if memory { Medium::with_memory() } else { Medium::default() };
        let (mut log, names, series) = log(&medium, 1);
        log.open(LIMITS).expect("an empty folder");
        Self { medium, log, names, series, model: Model::default(), next: 0 }
    }

    /// The next records to be taken; all differ.
    fn records(&mut self, count: usize) -> Vec<Record> {
        let record = |taken: u32| Record {
            series: self.series[taken as usize % 7 % self.series.len()],
            boot: THIS_BOOT,
            wall_ms: taken.is_multiple_of(3).then_some(1_772_323_200_000 + i64::from(taken)),
            uptime_ms: u64::from(taken) * 10,
            value: f64::from(taken),
        };
        let records = (self.model.taken..self.model.taken + count as u32).map(record).collect();
        self.model.taken += count as u32;
        records
    }

    /// Carries a step out; `false` if the power has failed.
    fn carry_out(&mut self, step: &Step) -> bool {
        let outcome = match step {
            Step::Append(count) => self.append(*count),
            Step::Sync => self.sync(),
            Step::ForgetBefore(part) => {
                let numbers: Vec<u64> = self.visible().collect();
                let at = numbers.len() * usize::from(*part) / 255;
                let begin = numbers.get(at).copied().unwrap_or(self.next);
                self.model.forgotten.extend(&numbers[..at]);
                self.log.forget(begin, self.holes(begin)).map(drop)
            }
            Step::Forget(part) => {
                let numbers: Vec<u64> = self.visible().collect();
                let at = numbers.len() * usize::from(*part) / 256;
                let Some(begin) = numbers.first().copied() else { return true };
                self.model.forgotten.extend(numbers[at..].iter().take(5));
                self.log.forget(begin, self.holes(begin)).map(drop)
            }
            Step::Read => self.log.read(self.next / 2, 100).map(drop),
        };
        assert!(outcome.is_ok() || self.medium.is_off(), "{outcome:?}");
        outcome.is_ok()
    }

    fn sync(&mut self) -> Result<(), super::StoreError> {
        for (_, mut sync) in self.log.sync()? {
            sync()?;
        }
        self.model.safe.extend(self.model.records.keys());
        Ok(())
    }

    fn append(&mut self, count: usize) -> Result<(), super::StoreError> {
        let mut records = self.records(count);
        while !records.is_empty() {
            self.model.attempted = records.clone();
            let appended = self.log.append(&records)?;
            assert!(appended.taken > 0 && appended.first >= self.next, "{appended:?} after {}", self.next);
            for (number, record) in (appended.first..).zip(records.drain(..appended.taken)) {
                self.model.records.insert(number, record);
                self.next = number + 1;
            }
        }
        self.model.attempted.clear();
        Ok(())
    }

    /// The numbers of what is there and not forgotten.
    fn visible(&self) -> impl Iterator<Item = u64> {
        self.model.records.keys().copied().filter(|number| !self.model.forgotten.contains(number))
    }

    fn holes(&self, begin: u64) -> Ranges {
        let mut ranges = Ranges::default();
        for number in self.model.forgotten.range(begin..) {
            ranges.insert(*number..number + 1);
        }
        ranges
    }

    /// The process starts again, and finds what it finds.
    fn start(&mut self, boot: u128) -> (Found, BTreeMap<u64, Record>) {
        (self.log, self.names, self.series) = log(&self.medium, boot);
        let found = self.log.open(LIMITS).expect("a log");
        let mut there = BTreeMap::new();
        let mut from = found.begin;
        while from < found.next {
            let batch = self.log.read(from, 100).expect("readable");
            assert!(batch.next > from, "reading goes on");
            for (number, record) in batch.records.into_iter().filter(|(number, _)| !found.forgotten.contains(*number)) {
                assert!(number >= from && there.insert(number, record).is_none(), "{number} twice");
            }
            from = batch.next;
        }
        (found, there)
    }

    /// The power is cut; what comes back is held against the model.
    fn cut(&mut self, chance: &mut fastrand::Rng, boot: u128) -> Found {
        self.medium.cut(chance);
        let (found, there) = self.start(boot);
        let mut known: Vec<Record> = self.model.records.values().copied().chain(self.model.attempted.clone()).collect();
        known.sort_by(|a, b| a.value.total_cmp(&b.value));
        let mut last = None;
        for (number, record) in &there {
            let at =
                known.binary_search_by(|known| known.value.total_cmp(&record.value)).expect("it was appended once");
            // The boot of what was written before this start is another one now.
            let as_written = Record { boot: record.boot, ..known[at] };
            assert_eq!((record, record.boot == THIS_BOOT), (&as_written, false), "number {number}");
            assert!(last < Some(record.value), "in order");
            last = Some(record.value);
        }
        let kept: BTreeSet<u64> = there.values().map(|record| record.value as u64).collect();
        for number in self.model.safe.difference(&self.model.forgotten) {
            assert!(kept.contains(&(self.model.records[number].value as u64)), "{number} was on disk");
        }
        assert!(there.keys().next_back().is_none_or(|last| found.next > *last));
        self.next = found.next;
        self.model.safe = there.keys().copied().collect();
        self.model.records = there;
        // What is on record as forgotten stays so; what was to be forgotten besides is there again.
        self.model.forgotten = found.forgotten.as_slice().iter().flat_map(Clone::clone).collect();
        self.model.attempted.clear();
        found
    }
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1usize..300).prop_map(Step::Append),
        3 => Just(Step::Sync),
        1 => any::<u8>().prop_map(Step::ForgetBefore),
        1 => any::<u8>().prop_map(Step::Forget),
        1 => Just(Step::Read),
    ];
    proptest::collection::vec(step, 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_program_survives_any_number_of_power_cuts(
        lives in proptest::collection::vec((steps(12), 0u64..60), 1..5), seed: u64, memory: bool,
    ) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new(memory);
        for (life, (program, fails_after)) in lives.into_iter().enumerate() {
            rig.medium.fail_after(Some(fails_after));
            let _ = program.iter().all(|step| rig.carry_out(step));
            rig.cut(&mut chance, 2 + life as u128);
        }
    }

    #[test]
    fn a_process_that_is_killed_loses_nothing_it_has_written(program in steps(25), memory: bool) {
        let mut rig = Rig::new(memory);
        for step in &program {
            rig.carry_out(step);
        }
        rig.medium.kill();
        let (found, there) = rig.start(2);
        let numbers: Vec<u64> = rig.visible().collect();
        prop_assert_eq!(there.keys().copied().collect::<Vec<_>>(), numbers);
        prop_assert_eq!((found.damaged, found.cursor_damaged), (0, false));
        for (number, record) in there {
            prop_assert_eq!(record, Record { boot: 1, ..rig.model.records[&number] });
        }
    }
}

#[test]
fn the_power_may_fail_in_every_single_step() {
    let program = [
        Step::Append(3),
        Step::Sync,
        Step::Append(280),
        Step::Append(280),
        Step::ForgetBefore(60),
        Step::Sync,
        Step::Append(3_500),
        Step::Append(900),
        Step::Forget(128),
        Step::Sync,
        Step::ForgetBefore(255),
        Step::Append(1),
        Step::Sync,
    ];
    let mut fails_after = 0;
    loop {
        let mut survived = true;
        for seed in 0..12 {
            let mut rig = Rig::new(seed % 2 == 0);
            rig.medium.fail_after(Some(fails_after));
            survived = program.iter().all(|step| rig.carry_out(step));
            rig.cut(&mut fastrand::Rng::with_seed(seed), 2);
            // And it goes on from there.
            assert!(rig.carry_out(&Step::Append(5)) && rig.carry_out(&Step::Sync));
            rig.cut(&mut fastrand::Rng::with_seed(seed), 3);
        }
        if survived {
            assert!(fails_after > 20, "the program has {fails_after} steps");
            return;
        }
        fails_after += 1;
    }
}

#[test]
fn a_number_is_never_used_twice() {
    let mut rig = Rig::new(true);
    for life in 0..5 {
        assert!(rig.carry_out(&Step::Append(10)) && rig.carry_out(&Step::ForgetBefore(255)));
        assert_eq!(rig.medium.names(), ["cursor"], "nothing is kept of what is forgotten");
        rig.medium.kill();
        let (found, there) = rig.start(2 + life);
        assert_eq!((found.begin, found.next, there.len()), (rig.next, rig.next, 0));
    }
    assert_eq!(rig.next, 50);
}
