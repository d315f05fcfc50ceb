//! The end of the segment that is being written: what it has taken since it last went to the disk, in a file in memory
//! that outlives the process, but not the power.
//!
//! Each write to a card costs the file system several blocks of its own. So a record is safe from the death of the process
//! at once, and goes to the card together with the others of `flush_every`. Where there is no such file (no unit's runtime
//! folder, no space in it) nothing is kept back. Invariant: what is here is in the file too.

use super::cell::{self, CELL, Cell};
use super::folder::File;

/// More than that is not kept back; it would be memory for nothing.
const MOST: usize = 64 * 1024;

/// The tail; by default there is no file for it.
#[derive(Default)]
pub(super) struct Tail {
    file: Option<Box<dyn File>>,
    /// What the segment lacks, and where it belongs.
    bytes: Vec<u8>,
    at: u64,
}

/// What an earlier process has left.
pub(super) struct Left {
    /// The number of the segment's first record.
    pub(super) first: u64,
    /// Where in the segment the bytes belong. They may be there.
    pub(super) at: u64,
    /// Cells, the last of which may be torn.
    pub(super) bytes: Vec<u8>,
}

impl Left {
    /// Whether the segment has not gone on without it: none of its good cells there says anything else. A process without
    /// a runtime folder may have written some.
    pub(super) fn is_lacking(&self, segment: &dyn File) -> bool {
        let mut there = vec![0; self.bytes.len()];
        let Ok(read) = segment.read_at(&mut there, self.at) else { return false };
        let cells = there[..read].chunks_exact(CELL).zip(self.bytes.chunks_exact(CELL));
        let differs = |(there, here): (&[u8], &[u8])| {
            there != here && there.first_chunk().is_some_and(|cell| Cell::decode(cell, self.first).is_some())
        };
        !cells.into_iter().any(differs)
    }
}

impl Tail {
    /// A tail in that file, which may hold another process's.
    pub(super) const fn new(file: Option<Box<dyn File>>) -> Self {
        Self { file, bytes: Vec::new(), at: 0 }
    }

    /// What an earlier process has left here, if it has.
    pub(super) fn left(&self) -> Option<Left> {
        let file = self.file.as_ref()?;
        let mut bytes = vec![0; CELL + MOST];
        let read = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(read);
        let (first, at) = cell::tail_header_of(bytes.first_chunk()?)?;
        Some(Left { first, at, bytes: bytes.split_off(CELL) })
    }

    /// The segment has what was kept back, or will never have it: nothing is left here.
    pub(super) fn empty(&mut self) {
        self.bytes.clear();
        if let Some(file) = &mut self.file {
            // What cannot be removed is in the segment, where it would be written again as it is.
            let _ = file.truncate(0);
        }
    }

    /// Keeps bytes that belong to the place `at`, behind those it has, in the segment that begins with `first`; `false` if
    /// it cannot.
    pub(super) fn append(&mut self, first: u64, at: u64, bytes: &[u8]) -> bool {
        let Some(file) = self.file.as_mut().filter(|_| self.bytes.len() + bytes.len() <= MOST) else { return false };
        let end = if self.bytes.is_empty() { 0 } else { (CELL + self.bytes.len()) as u64 };
        let written = if end == 0 {
            file.write_at(&[&cell::tail_header(first, at)[..], bytes].concat(), 0)
        } else {
            file.write_at(bytes, end)
        };
        if written.is_err() {
            // A part of it must not be found: it may never have been appended.
            let _ = file.truncate(end);
            return false;
        }
        if end == 0 {
            self.at = at;
        }
        self.bytes.extend(bytes);
        true
    }

    /// What is kept back, and where it belongs.
    pub(super) fn kept(&self) -> Option<(u64, &[u8])> {
        (!self.bytes.is_empty()).then_some((self.at, &self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::Medium;
    use super::super::rig::{FLUSH_MS, Rig, WIDE};
    use super::*;
    use crate::buffer::Buffer as _;
    use std::io::ErrorKind;

    const SEGMENT: &str = "0000000000000000.log";

    /// A disk that has synchronised the readings 0 to 9, and a tail with 10 to 19.
    fn with_a_tail() -> Rig {
        let mut rig = Rig::on(Medium::with_memory(), WIDE);
        rig.keep(0..10);
        rig.pass(FLUSH_MS);
        rig.keep(10..20);
        assert_eq!(rig.medium.with_file(SEGMENT, |content| content.len()), CELL * (1 + 1 + 2 + 10));
        assert_eq!(rig.medium.tail().len(), CELL * (1 + 10));
        rig
    }

    /// A new process on a copy of the disk, with something else in the tail.
    fn with_this_tail(rig: &Rig, tail: &[u8]) -> Rig {
        let copy = rig.medium.copied_onto(Medium::with_memory());
        copy.set_tail(tail);
        Rig::on(copy, WIDE)
    }

    #[test]
    fn a_tail_that_is_cut_off_anywhere_has_what_is_left() {
        let rig = with_a_tail();
        let tail = rig.medium.tail();
        for end in 0..=tail.len() {
            let mut next = with_this_tail(&rig, &tail[..end]);
            let whole = 10 + (end / CELL).saturating_sub(1) as u32;
            next.keep(100..103);
            assert_eq!(next.values(), (0..whole).chain(100..103).collect::<Vec<_>>(), "cut off at {end}");
            assert_eq!(next.store.contents().dropped, 0);
        }
    }

    #[test]
    fn what_a_tail_left_long_ago_changes_nothing() {
        let mut rig = with_a_tail();
        let tail = rig.medium.tail();
        rig.pass(FLUSH_MS);
        rig.keep(20..30);
        rig.pass(FLUSH_MS);
        // As if it could not have been emptied…
        assert_eq!(with_this_tail(&rig, &tail).values(), (0..30).collect::<Vec<_>>());
        // …and as if another store had left it.
        let mut other = Rig::on(Medium::with_memory(), WIDE);
        other.medium.set_tail(&tail);
        other.restart();
        assert!(other.values().is_empty());
        other.keep(40..45);
        assert_eq!(other.values(), [40, 41, 42, 43, 44]);
    }

    #[test]
    fn a_tail_does_not_replace_what_was_written_without_it() {
        let rig = with_a_tail();
        let mut second = Rig::on(rig.medium.copied_onto(Medium::default()), WIDE);
        second.keep(30..35);
        let mut third = with_this_tail(&second, &rig.medium.tail());
        assert_eq!(third.values(), (0..10).chain(30..35).collect::<Vec<_>>());
    }

    #[test]
    fn without_space_in_memory_the_disk_is_written_at_once() {
        let mut rig = with_a_tail();
        rig.medium.fill_memory();
        rig.keep(20..30);
        assert_eq!(rig.medium.with_file(SEGMENT, |content| content.len()), CELL * (1 + 1 + 2 + 30));
        rig.medium.kill();
        rig.restart();
        assert_eq!(rig.values(), (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_disk_that_refuses_what_a_tail_kept_back_gets_it_later() {
        let mut rig = with_a_tail();
        rig.medium.refuse(Some(ErrorKind::StorageFull));
        rig.pass(FLUSH_MS);
        rig.keep(20..30);
        rig.medium.refuse(None);
        rig.pass(60_000);
        rig.medium.cut(&mut fastrand::Rng::with_seed(1));
        rig.restart();
        assert_eq!(rig.values(), (0..30).collect::<Vec<_>>());
    }
}
