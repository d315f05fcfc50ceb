//! What the server has, in two slots. See the table in [the module above](super).
//!
//! Invariant: whatever a write leaves half done, the other slot is whole and on disk: a slot is left for the other only when
//! what it says is known to be there.

use super::cell::VERSION;
use super::folder::{File, Folder, ToDisk};
use super::ranges::Ranges;
use crate::buffer::names::crc32;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file's name.
pub(super) const NAME: &str = "cursor";
const MAGIC: [u8; 4] = *b"b2mc";
const SLOT: usize = 4096;
const HEAD: usize = 40;
/// Ranges beyond these are not written: what they forget may be sent again after a crash.
const MAX_RANGES: usize = (SLOT - HEAD) / 16;

/// What is forgotten, and what was ever written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// Every record before this one is.
    pub(super) begin: u64,
    /// And these.
    pub(super) ranges: Ranges,
    /// No record with this number or a greater one has been written yet.
    pub(super) next: u64,
}

/// The file.
#[derive(Default)]
pub(super) struct Cursor {
    file: Option<Box<dyn File>>,
    generation: u64,
    /// Where that is.
    slot: u64,
    unsynced: bool,
    /// The last generation known to be on disk.
    safe: Arc<AtomicU64>,
}

impl Cursor {
    /// Reads it; what no slot tells is nothing, and `true` says that there was something that is damaged.
    pub(super) fn open(folder: &dyn Folder) -> io::Result<(Self, Forgotten, bool)> {
        let file = match folder.open(NAME, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(error),
        };
        let slots = [0, 1].map(|slot| read(&*file, slot));
        let damaged = slots.iter().any(|slot| matches!(slot, Slot::Damaged));
        let best = (0..).zip(slots).filter_map(|(place, slot)| match slot {
            Slot::Good(generation, forgotten) => Some((generation, place, forgotten)),
            Slot::Empty | Slot::Damaged => None,
        });
        let (generation, slot, forgotten) = best.max_by_key(|(generation, ..)| *generation).unwrap_or_default();
        // A process that was killed may have left it to the kernel.
        file.sync()?()?;
        let safe = Arc::new(AtomicU64::new(generation));
        Ok((Self { file: Some(file), generation, slot, unsynced: false, safe }, forgotten, damaged))
    }

    /// Whether there is no file yet.
    pub(super) fn is_absent(&self) -> bool {
        self.file.is_none()
    }

    /// Writes the next slot.
    pub(super) fn write(&mut self, forgotten: &Forgotten, folder: &dyn Folder) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(folder.open(NAME, true)?),
        };
        if self.safe.load(Ordering::Acquire) == self.generation {
            self.slot = 1 - self.slot;
        }
        self.generation += 1;
        file.write_at(&encode(forgotten, self.generation), self.slot * SLOT as u64)?;
        self.unsynced = true;
        Ok(())
    }

    /// What is left to do until what was written is on disk, if anything is.
    pub(super) fn sync(&mut self) -> io::Result<Option<ToDisk>> {
        let Some(mut sync) = self.file.as_ref().filter(|_| self.unsynced).map(|file| file.sync()).transpose()? else {
            return Ok(None);
        };
        self.unsynced = false;
        let (safe, generation) = (self.safe.clone(), self.generation);
        Ok(Some(Box::new(move || sync().inspect(|()| safe.store(generation, Ordering::Release)))))
    }
}

enum Slot {
    Empty,
    Damaged,
    Good(u64, Forgotten),
}

fn read(file: &dyn File, slot: u64) -> Slot {
    let mut bytes = vec![0; SLOT];
    match file.read_at(&mut bytes, slot * SLOT as u64) {
        Ok(read) => bytes.truncate(read),
        Err(_) => return Slot::Damaged,
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    decode(&bytes).map_or(Slot::Damaged, |(generation, forgotten)| Slot::Good(generation, forgotten))
}

fn encode(forgotten: &Forgotten, generation: u64) -> Vec<u8> {
    let ranges = forgotten.ranges.as_slice();
    let ranges = &ranges[..ranges.len().min(MAX_RANGES)];
    let mut bytes = vec![0; 4];
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((ranges.len() as u16).to_le_bytes());
    bytes.extend([0; 4]);
    for number in [generation, forgotten.begin, forgotten.next] {
        bytes.extend(number.to_le_bytes());
    }
    for number in ranges.iter().flat_map(|range| [range.start, range.end]) {
        bytes.extend(number.to_le_bytes());
    }
    let crc = crc32(0, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, Forgotten)> {
    let head = bytes.get(..HEAD)?;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let end = HEAD + 16 * usize::from(short(10));
    let crc = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let good = head[4..8] == MAGIC && short(8) == VERSION && crc == crc32(0, bytes.get(4..end)?);
    if !good {
        return None;
    }
    let mut ranges = Ranges::default();
    for at in (HEAD..end).step_by(16) {
        ranges.insert(number(at)..number(at + 8).max(number(at)));
    }
    Some((number(16), Forgotten { begin: number(24), ranges, next: number(32) }))
}
