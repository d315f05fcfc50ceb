//! A set of numbers, as the ranges it is made of.
//!
//! Invariant: ranges are not empty, sorted, and neither overlap nor touch.

use std::ops::Range;

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// The ranges, ascending.
    pub(super) fn as_slice(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Adds a range; returns how many numbers are new.
    pub(super) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let before = self.count_in(&range);
        let from = self.0.partition_point(|known| known.end < range.start);
        let to = self.0.partition_point(|known| known.start <= range.end);
        let touched = &self.0[from..to];
        let start = touched.first().map_or(range.start, |known| known.start.min(range.start));
        let end = touched.last().map_or(range.end, |known| known.end.max(range.end));
        self.0.splice(from..to, std::iter::once(start..end));
        range.end - range.start - before
    }

    /// Whether the number is in the set.
    pub(super) fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|known| known.end <= number);
        self.0.get(at).is_some_and(|known| known.start <= number)
    }

    /// How many numbers of `range` are in the set.
    pub(super) fn count_in(&self, range: &Range<u64>) -> u64 {
        let from = self.0.partition_point(|known| known.end <= range.start);
        let met = self.0[from..].iter().take_while(|known| known.start < range.end);
        met.map(|known| known.end.min(range.end) - known.start.max(range.start)).sum()
    }

    /// Takes out everything before `begin` and what joins it there; returns the first number from `begin` on that is not in
    /// the set.
    pub(super) fn advance(&mut self, begin: u64) -> u64 {
        let at = self.0.partition_point(|known| known.end < begin);
        self.0.drain(..at);
        match self.0.first() {
            Some(first) if first.start <= begin => {
                let end = first.end;
                self.0.remove(0);
                end
            }
            _ => begin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((0u64..60, 0u64..12, 0u8..4), 1..60)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            let mut begin = 0;
            for (start, length, step) in steps {
                let range = start.max(begin)..(start + length).max(begin);
                if step == 0 {
                    begin = ranges.advance(range.end);
                    let expected = (range.end..).find(|number| !model.contains(number)).expect("one");
                    prop_assert_eq!(begin, expected);
                    model.retain(|number| *number >= begin);
                } else {
                    let new = range.clone().filter(|number| model.insert(*number)).count();
                    prop_assert_eq!(ranges.insert(range.clone()), new as u64);
                }
                for pair in ranges.0.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start);
                }
                let all: BTreeSet<u64> = ranges.as_slice().iter().flat_map(Clone::clone).collect();
                prop_assert_eq!(&all, &model);
                prop_assert_eq!(ranges.count_in(&range), model.range(range).count() as u64);
                prop_assert!((0..80).all(|number| ranges.contains(number) == model.contains(&number)));
            }
        }
    }
}
