//! A disk in memory for tests: its power fails at any step, its blocks rot, its space ends.
//!
//! It knows what a process sees and, apart from that, what is really on disk. Between two synchronisations the disk may
//! have written any part of what it was given, in any order, in pieces of a sector.

use super::StoreError;
use super::folder::{File, Folder, ToDisk};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that a disk writes at once or not at all.
const SECTOR: usize = 512;

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Medium(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// As processes see it.
    names: BTreeMap<String, usize>,
    files: Vec<Content>,
    /// As it was when the folder was last synchronised, and what has happened to it since.
    safe_names: BTreeMap<String, usize>,
    renames: Vec<Renamed>,
    /// Steps until the power fails.
    steps: Option<u64>,
    off: bool,
    /// Whether a process is in the folder, and which.
    process: u64,
    removed: bool,
    /// Bytes that fit.
    capacity: Option<usize>,
    /// Writing fails with this.
    refuses: Option<ErrorKind>,
    /// Synchronising takes for ever.
    stalled: bool,
    /// Files cannot be opened.
    locked_up: bool,
    /// Reading these bytes of the file fails.
    unreadable: Option<(String, std::ops::Range<u64>)>,
    /// Steps so far.
    writes: u64,
    /// The file in memory beside the disk, if there is one.
    tail: Option<Vec<u8>>,
    /// Whether there is no space left in memory.
    memory_full: bool,
}

/// The name that goes, and the one that comes with its file.
type Renamed = (Option<String>, Option<(String, usize)>);

#[derive(Clone, Default)]
struct Content {
    seen: Vec<u8>,
    safe: Vec<u8>,
    /// Since the last synchronisation: bytes at a place, or a new length.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                to.resize(to.len().max(at + bytes.len()), 0);
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => to.resize(*length, 0),
        }
    }
}

impl Medium {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk in a machine with a folder in memory.
    pub(super) fn with_memory() -> Self {
        let medium = Self::default();
        medium.state().tail = Some(Default::default());
        medium
    }

    /// A copy of the files on a disk in another machine.
    pub(super) fn copied_onto(&self, other: Self) -> Self {
        for name in self.names() {
            other.put(&name, &self.with_file(&name, |content| content.clone()));
        }
        other
    }

    /// What is in the file in memory.
    pub(super) fn tail(&self) -> Vec<u8> {
        self.state().tail.clone().unwrap_or_default()
    }

    /// Puts something into the file in memory.
    pub(super) fn set_tail(&self, content: &[u8]) {
        self.state().tail = Some(content.to_vec());
    }

    /// From now on nothing can be written to the file in memory.
    pub(super) fn fill_memory(&self) {
        self.state().memory_full = true;
    }

    /// A process's way in.
    pub(super) fn folder(&self) -> Box<dyn Folder> {
        let mut state = self.state();
        state.process += 1;
        Box::new(Seen { medium: self.clone(), process: state.process })
    }

    /// The power fails in that step from now, `None` for never.
    pub(super) fn fail_after(&self, steps: Option<u64>) {
        self.state().steps = steps;
    }

    /// Whether it has failed.
    pub(super) fn is_off(&self) -> bool {
        self.state().off
    }

    /// The process dies; the kernel has all it was given, and writes it in its own time.
    pub(super) fn kill(&self) {
        self.state().process += 1;
    }

    /// The power fails now, if it has not, and comes back: what is on disk is what was synchronised, and whatever else
    /// `chance` lets be.
    pub(super) fn cut(&self, chance: &mut fastrand::Rng) {
        let mut state = self.state();
        let State { safe_names, renames, files, .. } = &mut *state;
        // Names change in order, as in any journal.
        let kept = chance.usize(..=renames.len());
        for (from, to) in renames.drain(..).take(kept) {
            from.iter().for_each(|name| _ = safe_names.remove(name));
            safe_names.extend(to);
        }
        for file in files.iter_mut() {
            for change in std::mem::take(&mut file.pending) {
                if let Some(change) = torn(change, chance) {
                    change.apply(&mut file.safe);
                }
            }
            file.seen = file.safe.clone();
        }
        state.names = state.safe_names.clone();
        state.tail = state.tail.take().map(|_| Default::default());
        (state.off, state.steps) = (false, None);
        state.process += 1;
    }

    /// What is in a file, to be looked at or spoilt.
    pub(super) fn with_file<T>(&self, name: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut state = self.state();
        let number = state.names[name];
        change(&mut state.files[number].seen)
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Puts a file there, as somebody else has left it.
    pub(super) fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.state();
        let number = state.files.len();
        state.files.push(Content { seen: content.to_vec(), safe: content.to_vec(), pending: Vec::new() });
        state.names.insert(name.to_owned(), number);
        state.safe_names.insert(name.to_owned(), number);
    }

    /// Removes a file, or with none the folder, behind the store's back.
    pub(super) fn vanish(&self, name: Option<&str>) {
        let mut state = self.state();
        match name {
            Some(name) => _ = state.names.remove(name),
            None => {
                state.names.clear();
                state.removed = true;
            }
        }
    }

    /// So many bytes fit.
    pub(super) fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    /// Whatever writes fails so.
    pub(super) fn refuse(&self, kind: Option<ErrorKind>) {
        self.state().refuses = kind;
    }

    /// Whether synchronising takes until this is called again.
    pub(super) fn stall(&self, stalled: bool) {
        self.state().stalled = stalled;
    }

    /// Files that are there cannot be opened.
    pub(super) fn lock_up(&self, locked_up: bool) {
        self.state().locked_up = locked_up;
    }

    /// Those bytes of a file cannot be read.
    pub(super) fn spoil(&self, name: &str, bytes: std::ops::Range<u64>) {
        self.state().unreadable = Some((name.to_owned(), bytes));
    }

    /// Bytes in all files.
    pub(super) fn bytes(&self) -> usize {
        let state = self.state();
        state.names.values().map(|number| state.files[*number].seen.len()).sum()
    }

    /// Writes and synchronisations so far.
    pub(super) fn writes(&self) -> u64 {
        self.state().writes
    }
}

/// What of a change reaches the disk when the power fails.
fn torn(change: Change, chance: &mut fastrand::Rng) -> Option<Change> {
    match change {
        _ if chance.u8(..3) == 0 => None,
        Change::Write(at, bytes) if chance.bool() => {
            // Up to the end of some sector, or from the beginning of one, or all of it.
            let middle = (at + chance.usize(..=bytes.len())) / SECTOR * SECTOR;
            let middle = middle.clamp(at, at + bytes.len()) - at;
            Some(if chance.bool() {
                Change::Write(at, bytes[..middle].to_vec())
            } else {
                Change::Write(at + middle, bytes[middle..].to_vec())
            })
        }
        whole => Some(whole),
    }
}

impl State {
    /// One step of a process that may be dead; the power may fail in it.
    fn step(&mut self, process: u64) -> io::Result<()> {
        if process != self.process || self.off {
            return Err(io::Error::other("no power"));
        }
        if let Some(kind) = self.refuses {
            return Err(kind.into());
        }
        self.writes += 1;
        if let Some(steps) = &mut self.steps {
            match steps.checked_sub(1) {
                Some(left) => *steps = left,
                None => self.off = true,
            }
        }
        Ok(())
    }

    /// Whether the step that has just begun is the last one.
    fn interrupted(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    fn change(&mut self, number: usize, change: Change) {
        change.apply(&mut self.files[number].seen);
        self.files[number].pending.push(change);
    }
}

struct Seen {
    medium: Medium,
    process: u64,
}

struct Open {
    medium: Medium,
    process: u64,
    number: usize,
    name: String,
}

/// The file in memory: no step of the disk, and gone with the power.
struct InMemory {
    medium: Medium,
    process: u64,
}

impl InMemory {
    fn change(&self, change: &Change) -> io::Result<()> {
        let mut state = self.medium.state();
        if state.process != self.process || state.off {
            return Err(io::Error::other("no power"));
        }
        change.apply(state.tail.as_mut().expect("it is there"));
        Ok(())
    }
}

impl File for InMemory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.medium.tail().len() as u64)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let content = self.medium.tail();
        let rest = content.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let full = self.medium.state().memory_full;
        let count = if full { bytes.len() / 2 } else { bytes.len() };
        self.change(&Change::Write(at as usize, bytes[..count].to_vec()))?;
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(&Change::Length(len as usize))
    }

    fn sync(&self) -> io::Result<ToDisk> {
        Ok(Box::new(|| Ok(())))
    }
}

impl Folder for Seen {
    fn enter(&mut self) -> Result<Vec<(String, u64)>, StoreError> {
        let mut state = self.medium.state();
        state.step(self.process)?;
        state.removed = false;
        let length = |(name, number): (&String, &usize)| (name.clone(), state.files[*number].seen.len() as u64);
        Ok(state.names.iter().map(length).collect())
    }

    fn is_there(&self) -> bool {
        !self.medium.state().removed
    }

    fn open(&self, name: &str, new: bool) -> io::Result<Box<dyn File>> {
        let mut state = self.medium.state();
        if state.locked_up && !new {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let number = match state.names.get(name).copied() {
            Some(number) if !new => number,
            None if !new => return Err(ErrorKind::NotFound.into()),
            _ => {
                state.step(self.process)?;
                let number = state.files.len();
                state.files.push(Content::default());
                state.names.insert(name.to_owned(), number);
                state.renames.push((None, Some((name.to_owned(), number))));
                state.interrupted()?;
                number
            }
        };
        Ok(Box::new(Open { medium: self.medium.clone(), process: self.process, number, name: name.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.medium.state();
        state.step(self.process)?;
        let number = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), number);
        state.renames.push((Some(from.to_owned()), Some((to.to_owned(), number))));
        state.interrupted()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.medium.state();
        state.step(self.process)?;
        state.names.remove(name).ok_or(ErrorKind::NotFound)?;
        state.renames.push((Some(name.to_owned()), None));
        state.interrupted()
    }

    fn tail(&self) -> Option<Box<dyn File>> {
        let is_there = self.medium.state().tail.is_some();
        is_there.then(|| Box::new(InMemory { medium: self.medium.clone(), process: self.process }) as Box<dyn File>)
    }

    fn names(&self) -> ToDisk {
        let Self { medium, process } = Self { medium: self.medium.clone(), ..*self };
        Box::new(move || {
            let mut state = medium.state();
            state.step(process)?;
            state.interrupted()?;
            state.safe_names = state.names.clone();
            state.renames.clear();
            Ok(())
        })
    }
}

impl File for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.medium.state().files[self.number].seen.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.medium.state();
        let spoilt = state.unreadable.as_ref().filter(|(name, _)| *name == self.name);
        if spoilt.is_some_and(|(_, bytes)| at < bytes.end && at + into.len() as u64 > bytes.start) {
            return Err(io::Error::other("bad block"));
        }
        let rest = state.files[self.number].seen.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.medium.state();
        state.step(self.process)?;
        let (at, mut count) = (at as usize, bytes.len());
        let others: usize =
            state.names.values().filter(|number| **number != self.number).map(|n| state.files[*n].seen.len()).sum();
        let room = state.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(others));
        let full = (at + count).max(state.files[self.number].seen.len()) > room;
        if full {
            count = room.saturating_sub(at).min(count);
        }
        if state.off {
            count /= 2;
        }
        state.change(self.number, Change::Write(at, bytes[..count].to_vec()));
        state.interrupted()?;
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        self.medium.state().step(self.process)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.medium.state();
        state.step(self.process)?;
        state.change(self.number, Change::Length(len as usize));
        state.interrupted()
    }

    fn sync(&self) -> io::Result<ToDisk> {
        let (medium, process, number) = (self.medium.clone(), self.process, self.number);
        Ok(Box::new(move || {
            while medium.state().stalled {
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut state = medium.state();
            state.step(process)?;
            state.interrupted()?;
            let file = &mut state.files[number];
            file.safe = file.seen.clone();
            file.pending.clear();
            Ok(())
        }))
    }
}
