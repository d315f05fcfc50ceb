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
