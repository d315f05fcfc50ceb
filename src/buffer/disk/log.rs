//! The segments as one log: what is appended, read and let go, within the limits, and found again after a crash.
//!
//! It does what it is told when it is told, on whatever thread, and decides nothing by itself but which segment gives way.
//! Invariant: a record's number is never used twice, and the folder never takes up more than `max_size`.

use super::StoreError;
use super::cell::{self, CELL, VERSION};
use super::cursor::{self, Cursor, Forgotten};
use super::folder::{Folder, ToDisk};
use super::ranges::Ranges;
use super::segment::{Reader, Writer};
use super::tail::Tail;
use crate::buffer::names::Names;
use crate::buffer::{Limits, Overflow, Record};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// What file systems give space in.
const BLOCK: u64 = 4096;
/// The folder itself, its lock and its cursor.
const OVERHEAD: u64 = 4 * BLOCK;
/// What a name takes up in a folder.
const NAME_BYTES: u64 = 64;
/// A segment is at most so large.
const SEGMENT: u64 = 1024 * 1024;

/// The log.
pub(super) struct Log {
    folder: Box<dyn Folder>,
    names: Arc<Names>,
    limits: Limits,
    cursor: Cursor,
    segments: VecDeque<Segment>,
    /// Writes the last segment.
    writer: Option<Writer>,
    /// What the last segment lacks.
    tail: Tail,
    reader: Option<Reader>,
    /// Records before this one are forgotten.
    begin: u64,
    /// The number of the next record.
    next: u64,
    /// Bytes of files that are not ours.
    other: u64,
    /// Files were made or removed since the folder was synchronised.
    unsynced: bool,
    /// What has to be brought to the disk besides.
    due: Vec<(String, ToDisk)>,
}

/// A segment's file.
struct Segment {
    /// The number of its first record.
    first: u64,
    /// What it takes up on disk, with what is reserved.
    bytes: u64,
}

/// What was there when the log was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The first record that is not forgotten.
    pub(super) begin: u64,
    /// The number of the next record.
    pub(super) next: u64,
    /// What else is forgotten.
    pub(super) forgotten: Ranges,
    /// Records that a smaller `max_size` than before has cost.
    pub(super) dropped: u64,
    /// Cells that once were something, behind the last good one.
    pub(super) damaged: u64,
    /// No good cursor, but a bad one: what it would have told is sent again.
    pub(super) cursor_damaged: bool,
    /// Files of a newer version, by the names they have now.
    pub(super) aside: Vec<String>,
}

/// What became of records that were to be appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Appended {
    /// The number of the first.
    pub(super) first: u64,
    /// How many were taken; none if there is no room and `overflow` lets nothing go.
    pub(super) taken: usize,
    /// The first record that is still there.
    pub(super) begin: u64,
}

/// Records that were read.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    /// The good ones with their numbers, ascending.
    pub(super) records: Vec<(u64, Record)>,
    /// Where the next read begins. Whatever lies before and is not in `records` is lost.
    pub(super) next: u64,
}

impl Log {
    /// A log that has to be opened.
    pub(super) fn new(folder: Box<dyn Folder>, names: Arc<Names>, limits: Limits) -> Self {
        Self {
            folder,
            names,
            limits,
            cursor: Cursor::default(),
            segments: VecDeque::new(),
            writer: None,
            tail: Tail::default(),
            reader: None,
            begin: 0,
            next: 0,
            other: 0,
            unsynced: false,
            due: Vec::new(),
        }
    }

    /// Opens what is there, under these limits, as the recovery of [the module above](super) tells.
    pub(super) fn open(&mut self, limits: Limits) -> Result<Found, StoreError> {
        self.limits = limits;
        (self.writer, self.reader) = (None, None);
        self.segments.clear();
        self.due.clear();
        let files = self.folder.enter()?;
        self.tail = Tail::new(self.folder.tail());
        let (cursor, forgotten, cursor_damaged) = Cursor::open(&*self.folder)?;
        self.cursor = cursor;
        let mut found = Found { cursor_damaged, ..Found::default() };
        let segments = self.sort_out(files, &mut found)?;
        self.next = segments.keys().copied().max().unwrap_or(0).max(forgotten.next);
        self.begin = forgotten.begin;
        self.segments = segments.into_iter().map(|(first, bytes)| Segment { first, bytes: blocks(bytes) }).collect();
        found.forgotten = forgotten.ranges;
        self.recover_last(&mut found)?;
        self.tail.empty();
        self.remove_forgotten()?;
        let before = self.begin();
        self.make_room(0)?;
        (found.begin, found.next) = (self.begin(), self.next);
        let gone = before..found.begin;
        found.dropped = gone.end - gone.start - found.forgotten.count_in(&gone);
        found.begin = found.forgotten.advance(found.begin);
        Ok(found)
    }

    /// The segments by their first records, with their lengths. Newer ones are put aside, empty ones removed.
    fn sort_out(&mut self, files: Vec<(String, u64)>, found: &mut Found) -> Result<BTreeMap<u64, u64>, StoreError> {
        let mut segments = BTreeMap::new();
        self.other = 0;
        for (name, length) in files.into_iter().filter(|(name, _)| name != cursor::NAME) {
            let Some(first) = first_of(&name) else {
                self.other += blocks(length);
                continue;
            };
            let mut header = [0; CELL];
            self.folder.open(&name, false)?.read_at(&mut header, 0)?;
            match cell::version(&header).filter(|version| *version > VERSION) {
                Some(version) => {
                    let aside = format!("{name}.version-{version}");
                    self.folder.rename(&name, &aside)?;
                    self.unsynced = true;
                    self.other += blocks(length);
                    found.aside.push(aside);
                }
                None => drop(segments.insert(first, length)),
            }
        }
        Ok(segments)
    }

    /// Looks for the end of the last segment, to go on there.
    fn recover_last(&mut self, found: &mut Found) -> Result<(), StoreError> {
        let Some(first) = self.segments.back().map(|segment| segment.first) else { return Ok(()) };
        let mut file = self.folder.open(&name(first), false)?;
        if let Some(left) = self.tail.left().filter(|left| left.first == first && left.is_lacking(&*file)) {
            file.write_at(&left.bytes, left.at)?;
            file.sync()?()?;
        }
        let mut reader = Reader::new(file, first);
        let length = reader.len()?;
        self.segments.back_mut().expect("the last one").bytes = blocks(length);
        while reader.read(length, &self.names).is_some() {}
        found.damaged = reader.suspects();
        // The cursor may know of records whose end was torn off: their numbers are not used again.
        found.forgotten.insert(reader.next()..self.next.max(reader.next()));
        if reader.next() >= self.next {
            self.next = reader.next();
            let segment = self.segment_size().max(blocks(reader.end()));
            self.writer = Some(Writer::resume(reader, segment)?);
            self.segments.back_mut().expect("the last one").bytes = segment;
        }
        Ok(())
    }

    /// The first record that is there and not forgotten.
    fn begin(&self) -> u64 {
        self.segments.front().map_or(self.next, |segment| segment.first.max(self.begin))
    }

    /// The number after the last one in a segment.
    fn end_of(&self, segment: usize) -> u64 {
        self.segments.get(segment + 1).map_or(self.next, |following| following.first)
    }

    fn segment_size(&self) -> u64 {
        (self.limits.max_size / 5 / BLOCK * BLOCK).clamp(2 * BLOCK, SEGMENT)
    }

    /// What the folder takes up.
    fn size(&self) -> u64 {
        // The folder's own list of names grows too.
        let segments = self.segments.iter().map(|segment| segment.bytes + NAME_BYTES);
        OVERHEAD + self.other + segments.sum::<u64>()
    }

    /// Appends as many of the records as go into one segment.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<Appended, StoreError> {
        self.find_folder()?;
        let fits = |writer: &Writer| records.first().is_none_or(|first| writer.has_room(self.next, first, &self.names));
        if !self.writer.as_ref().is_some_and(fits) && !self.rotate(records)? {
            return Ok(Appended { first: self.next, taken: 0, begin: self.begin() });
        }
        let (first, writer) = (self.next, self.writer.as_mut().expect("there is one after a rotation"));
        let taken = writer.append(first, records, &self.names, &mut self.tail)?;
        self.next += taken as u64;
        Ok(Appended { first, taken, begin: self.begin() })
    }

    fn find_folder(&self) -> Result<(), StoreError> {
        if self.folder.is_there() { Ok(()) } else { Err(StoreError::Removed) }
    }

    /// Begins a new segment; `false` if there is no room for it and nothing gives way.
    fn rotate(&mut self, records: &[Record]) -> Result<bool, StoreError> {
        self.seal()?;
        let least = records.first().map_or(0, |first| blocks(Writer::least(first, &self.names)));
        let size = self.segment_size().max(least);
        if !self.make_room(size)? {
            return Ok(false);
        }
        let name = name(self.next);
        match Writer::new(self.folder.open(&name, true)?, self.next, size) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => {
                // An empty file is no harm, but takes up a name.
                let _ = self.folder.remove(&name);
                return Err(error.into());
            }
        }
        self.segments.push_back(Segment { first: self.next, bytes: size });
        self.unsynced = true;
        Ok(true)
    }

    /// Nothing more is appended to the last segment.
    fn seal(&mut self) -> io::Result<()> {
        if let Some(writer) = &mut self.writer {
            let (bytes, sync) = writer.seal(&mut self.tail)?;
            let segment = self.segments.back_mut().expect("a writer has its segment");
            segment.bytes = blocks(bytes);
            self.due.push((name(segment.first), sync));
            self.writer = None;
        }
        Ok(())
    }

    /// Goes on under other limits; gives the first record that is still there.
    pub(super) fn limit(&mut self, limits: Limits) -> Result<u64, StoreError> {
        self.limits = limits;
        self.find_folder()?;
        // What it has reserved is by the measure of the limits before.
        self.seal()?;
        self.make_room(0)?;
        Ok(self.begin())
    }

    fn make_room(&mut self, bytes: u64) -> Result<bool, StoreError> {
        while self.size() + bytes > self.limits.max_size {
            if self.segments.is_empty() {
                return Err(StoreError::NoRoom { other: self.other });
            }
            if self.limits.overflow == Overflow::DropNewest {
                return Ok(false);
            }
            self.remove_oldest()?;
        }
        Ok(true)
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(first) = self.segments.front().map(|segment| segment.first) else { return Ok(()) };
        match self.folder.remove(&name(first)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.unsynced = true,
        }
        self.segments.pop_front();
        if self.segments.is_empty() {
            self.writer = None;
            self.tail.empty();
        }
        self.reader.take_if(|reader| reader.first() == first);
        Ok(())
    }

    /// Reads up to `max` records from the number `from` on, of one segment.
    pub(super) fn read(&mut self, from: u64, max: usize) -> Result<Batch, StoreError> {
        let from = from.max(self.begin());
        let mut batch = Batch { records: Vec::new(), next: from };
        let Some(at) = self.segments.partition_point(|segment| segment.first <= from).checked_sub(1) else {
            return Ok(batch);
        };
        let (first, end) = (self.segments[at].first, self.end_of(at));
        let is_written = at + 1 == self.segments.len();
        if let Some(writer) = self.writer.as_mut().filter(|_| is_written) {
            writer.flush(&mut self.tail)?;
        }
        let mut reader = match self.reader.take().filter(|reader| reader.first() == first && reader.next() <= from) {
            Some(reader) => reader,
            None => match self.folder.open(&name(first), false) {
                Ok(file) => Reader::new(file, first),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Batch { next: end, ..batch }),
                Err(error) => return Err(error.into()),
            },
        };
        let writer = self.writer.as_ref().filter(|_| is_written);
        let limit = writer.map_or_else(|| reader.len(), |writer| Ok(writer.end()))?;
        while batch.records.len() < max {
            let read = reader.read(limit, &self.names);
            let Some((number, record)) = read.filter(|(number, _)| *number < end) else {
                batch.next = end;
                break;
            };
            if number >= from {
                batch.records.push((number, record));
                batch.next = number + 1;
            }
        }
        self.reader = Some(reader);
        Ok(batch)
    }

    /// Every record before `begin` is forgotten, and those in `ranges`; whether that has freed space.
    pub(super) fn forget(&mut self, begin: u64, ranges: Ranges) -> Result<bool, StoreError> {
        self.find_folder()?;
        self.begin = begin;
        self.unsynced |= self.cursor.is_absent();
        let written = self.cursor.write(&Forgotten { begin, ranges, next: self.next }, &*self.folder);
        // Even where the cursor cannot be written for want of space: this makes some. A segment that is gone needs none.
        let freed = self.remove_forgotten()?;
        written?;
        Ok(freed)
    }

    fn remove_forgotten(&mut self) -> io::Result<bool> {
        let before = self.segments.len();
        while !self.segments.is_empty() && self.end_of(0) <= self.begin {
            self.remove_oldest()?;
        }
        Ok(self.segments.len() < before)
    }

    /// What is left to do until everything is on disk, in this order, each by the file's name; the folder has none. It takes
    /// the disk's time, and may be done elsewhere.
    pub(super) fn sync(&mut self) -> Result<Vec<(String, ToDisk)>, StoreError> {
        self.find_folder()?;
        let segment = self.writer.as_mut().map(|writer| writer.sync(&mut self.tail)).transpose()?.flatten();
        self.due.extend(segment.zip(self.segments.back()).map(|(sync, segment)| (name(segment.first), sync)));
        self.due.extend(std::mem::take(&mut self.unsynced).then(|| (String::new(), self.folder.names())));
        self.due.extend(self.cursor.sync()?.map(|sync| (cursor::NAME.to_owned(), sync)));
        Ok(std::mem::take(&mut self.due))
    }
}

/// A segment's file name.
fn name(first: u64) -> String {
    format!("{first:016x}.log")
}

/// The number of the first record of the segment with that name.
fn first_of(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(".log")?;
    let first = u64::from_str_radix(digits, 16).ok()?;
    (name(first) == file).then_some(first)
}

/// Whole blocks.
const fn blocks(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}
