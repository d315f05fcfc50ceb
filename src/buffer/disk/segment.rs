//! One segment's file: appending cells to it, and reading its records back, whatever has happened to it meanwhile.
//!
//! It knows neither the other segments nor limits. Invariant: a record is read as it was written, or not at all.

use super::cell::{self, Bytes, CELL, Cell, label_cells};
use super::folder::{File, ToDisk};
use super::tail::Tail;
use crate::buffer::names::{Names, crc32};
use crate::buffer::{Record, UNKNOWN_BOOT};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Cells are read so many bytes at a time; a block that cannot be read costs its cells, not those beside it.
const BLOCK: usize = 4096;

/// The segment that is being written.
pub(super) struct Writer {
    file: Box<dyn File>,
    /// The number of its first record.
    first: u64,
    /// Cells are written up to this byte.
    end: u64,
    /// It must not grow beyond this many bytes.
    limit: u64,
    /// The session that is open in it, and how many there have been.
    session: Option<u32>,
    sessions: u8,
    /// Series whose label it has.
    series: BTreeSet<u32>,
    unsynced: bool,
}

impl Writer {
    /// A segment in an empty file.
    pub(super) fn new(mut file: Box<dyn File>, first: u64, limit: u64) -> io::Result<Self> {
        file.reserve(limit)?;
        Ok(Self { file, first, end: 0, limit, session: None, sessions: 0, series: BTreeSet::new(), unsynced: true })
    }

    /// Goes on in a segment that `reader` has read to its end; what follows its last good cell is cut off.
    pub(super) fn resume(reader: Reader, limit: u64) -> io::Result<Self> {
        let Reader { mut file, first, end, session, sessions, series, .. } = reader;
        file.truncate(end)?;
        // Where there is no space left, what is there can be read all the same.
        let _ = file.reserve(limit);
        let session = session.map(|(_, boot)| boot).filter(|boot| *boot != UNKNOWN_BOOT);
        // Only those that have kept their number: any other gets its label again, under the number it has now.
        let series = series.into_iter().filter(|(there, here)| there == here).map(|(there, _)| there).collect();
        Ok(Self { file, first, end, limit, session, sessions, series, unsynced: true })
    }

    /// The bytes that one more record takes.
    fn cost(&self, record: &Record, names: &Names) -> u64 {
        let header = usize::from(self.end == 0);
        let session = usize::from(self.session != Some(record.boot));
        let series = if self.series.contains(&record.series) { 0 } else { 1 + cells_of(record.series, names) };
        ((header + session + series + 1) * CELL) as u64
    }

    /// Whether one more record fits, the one that gets `number`.
    pub(super) fn has_room(&self, number: u64, record: &Record, names: &Names) -> bool {
        number - self.first <= u64::from(u16::MAX) && self.end + self.cost(record, names) <= self.limit
    }

    /// Bytes that a segment of that one record takes.
    pub(super) fn least(record: &Record, names: &Names) -> u64 {
        ((4 + cells_of(record.series, names)) * CELL) as u64
    }

    /// Appends as many of the records as fit, the first of which gets `number`; returns how many, in one write. They are in
    /// `tail`, or where that cannot have them in the file.
    ///
    /// After an error the segment is as it was before, and the next attempt overwrites what this one may have left.
    pub(super) fn append(
        &mut self,
        number: u64,
        records: &[Record],
        names: &Names,
        tail: &mut Tail,
    ) -> io::Result<usize> {
        let (session, sessions) = (self.session, self.sessions);
        let mut bytes = Vec::with_capacity(records.len() * CELL + BLOCK);
        let mut labels = Vec::new();
        let mut taken = 0;
        let (start, mut number) = (self.end, number);
        for record in records {
            if taken > 0 && !self.has_room(number, record, names) {
                break;
            }
            self.encode(number, record, names, &mut bytes, &mut labels);
            self.end = start + bytes.len() as u64;
            number += 1;
            taken += 1;
        }
        if !tail.append(self.first, start, &bytes) {
            let written = self.flush(tail).and_then(|()| self.file.write_at(&bytes, start));
            if let Err(error) = written {
                (self.end, self.session, self.sessions) = (start, session, sessions);
                labels.iter().for_each(|series| _ = self.series.remove(series));
                return Err(error);
            }
        }
        self.unsynced = true;
        Ok(taken)
    }

    /// Writes what `tail` has kept back.
    pub(super) fn flush(&mut self, tail: &mut Tail) -> io::Result<()> {
        if let Some((at, bytes)) = tail.kept() {
            self.file.write_at(bytes, at)?;
            tail.empty();
        }
        Ok(())
    }

    fn encode(&mut self, number: u64, record: &Record, names: &Names, into: &mut Vec<u8>, labels: &mut Vec<u32>) {
        if self.end == 0 {
            into.extend(cell::header(self.first, cell::VERSION));
        }
        if self.session != Some(record.boot) {
            self.session = Some(record.boot);
            self.sessions = self.sessions.wrapping_add(1);
            let boot = names.boot(record.boot).unwrap_or_default();
            into.extend(Cell::Session { number: self.sessions, boot }.encode(self.first));
        }
        if self.series.insert(record.series) {
            labels.push(record.series);
            let label = names.label(record.series).unwrap_or_default();
            let length = label.len() as u16;
            let crc = crc32(0, label.as_bytes());
            into.extend(Cell::Series { number: record.series, length, crc }.encode(self.first));
            into.extend(label.as_bytes());
            into.resize(into.len().next_multiple_of(CELL), 0);
        }
        let Record { series, uptime_ms, wall_ms, value, .. } = *record;
        let offset = (number - self.first) as u16;
        let record = Cell::Record { session: self.sessions, offset, series, uptime_ms, wall_ms, value };
        into.extend(record.encode(self.first));
    }

    /// What is left to do until everything is on disk, if anything is.
    pub(super) fn sync(&mut self, tail: &mut Tail) -> io::Result<Option<ToDisk>> {
        if !self.unsynced {
            return Ok(None);
        }
        self.flush(tail)?;
        let sync = self.file.sync()?;
        self.unsynced = false;
        Ok(Some(sync))
    }

    /// It is full: gives back what was reserved; how long it is, and what is left to do until everything is on disk.
    pub(super) fn seal(&mut self, tail: &mut Tail) -> io::Result<(u64, ToDisk)> {
        self.flush(tail)?;
        self.file.truncate(self.end)?;
        Ok((self.end, self.file.sync()?))
    }

    /// How long it is.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }
}

fn cells_of(series: u32, names: &Names) -> usize {
    names.label(series).map_or(0, |label| label_cells(label.len()))
}

/// Reads a segment's records one after the other.
pub(super) struct Reader {
    file: Box<dyn File>,
    first: u64,
    /// Where the next cell begins.
    at: u64,
    /// A block and where it begins.
    block: Vec<u8>,
    block_at: u64,
    /// Behind the last good cell.
    end: u64,
    /// Whole cells behind it that are not good, but not empty either.
    suspects: u64,
    /// The session that is open: its number here, and its boot.
    session: Option<(u8, u32)>,
    sessions: u8,
    /// Numbers of series here to those they have in this run.
    series: BTreeMap<u32, u32>,
    /// The next record has this number at least.
    next: u64,
}

impl Reader {
    /// Reads a segment from its beginning.
    pub(super) fn new(file: Box<dyn File>, first: u64) -> Self {
        Self {
            file,
            first,
            at: CELL as u64,
            block: Vec::new(),
            block_at: 0,
            end: 0,
            suspects: 0,
            session: None,
            sessions: 0,
            series: BTreeMap::new(),
            next: first,
        }
    }

    /// The number of its first record.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// The number of the record after the last one read.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Bytes up to the end of the last good cell.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Whole cells behind that which once were something.
    pub(super) const fn suspects(&self) -> u64 {
        self.suspects
    }

    /// The next record before the byte `limit` and its number; damaged ones are passed over.
    pub(super) fn read(&mut self, limit: u64, names: &Names) -> Option<(u64, Record)> {
        while self.at + CELL as u64 <= limit {
            let bytes = self.bytes(limit)?;
            self.at += CELL as u64;
            let Some(cell) = Cell::decode(&bytes, self.first) else {
                self.suspects += u64::from(bytes.iter().any(|byte| *byte != 0));
                continue;
            };
            if let Cell::Series { number, length, crc } = cell {
                self.label(number, usize::from(length), crc, names);
                continue;
            }
            (self.end, self.suspects) = (self.at, 0);
            match cell {
                Cell::Record { offset, .. } if self.first + u64::from(offset) < self.next => {}
                Cell::Record { session, offset, series, uptime_ms, wall_ms, value } => {
                    let number = self.first + u64::from(offset);
                    self.next = number + 1;
                    let boot = self.session.filter(|(open, _)| *open == session).map_or(UNKNOWN_BOOT, |(_, boot)| boot);
                    // Where the label is damaged, a series known otherwise still has the number.
                    let known = self.series.get(&series).copied().or_else(|| names.label(series).map(|_| series));
                    let Some(series) = known else { continue };
                    return Some((number, Record { series, boot, wall_ms, uptime_ms, value }));
                }
                Cell::Session { number, boot } => {
                    self.session = Some((number, names.boot_number(boot)));
                    self.sessions = number;
                }
                Cell::Series { .. } | Cell::Unknown => {}
            }
        }
        None
    }

    /// A label follows, good or not.
    fn label(&mut self, number: u32, length: usize, crc: u32, names: &Names) {
        let mut label = vec![0; length];
        let whole = self.file.read_at(&mut label, self.at).is_ok_and(|read| read == length);
        self.at += (label_cells(length) * CELL) as u64;
        if let Some(label) = String::from_utf8(label).ok().filter(|label| whole && crc32(0, label.as_bytes()) == crc) {
            (self.end, self.suspects) = (self.at, 0);
            self.series.insert(number, names.series(&label));
        }
    }

    /// The bytes of the cell that comes next; `None` at the end of the file.
    fn bytes(&mut self, limit: u64) -> Option<Bytes> {
        let begin = self.at / BLOCK as u64 * BLOCK as u64;
        let at = (self.at - begin) as usize;
        if self.block_at != begin || self.block.len() < at + CELL {
            // Nothing beyond the limit: it may be what a failed write has left, to be overwritten.
            let wanted = (limit - begin).min(BLOCK as u64) as usize;
            self.block.resize(wanted, 0);
            // A block that cannot be read is as good as one that is damaged.
            let read = self.file.read_at(&mut self.block, begin).unwrap_or_else(|_| {
                self.block.fill(0);
                wanted
            });
            self.block.truncate(read);
            self.block_at = begin;
        }
        self.block.get(at..at + CELL).map(|bytes| bytes.try_into().expect("a cell"))
    }
}
