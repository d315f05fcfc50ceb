//! The few values that outlive a restart: counter totals, the last level of outputs with `initial = "last"`, which of
//! those with `min_off` were ever on, and the sea-level pressure worked out from a known elevation. One small file,
//! written at most once a minute and at stop.
//!
//! A file that is missing or damaged is an empty one: nothing here may keep the agent from starting. Keys it does not know
//! are passed over, so that an older version can read what a newer one wrote. In the daemon a write is done by a thread of
//! its own, one at a time: an SD card may stall for seconds, and commands do not wait for it.

use crate::clock::Instant;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

/// A change is written at once, but so long after the write before it at the earliest.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);
/// How often to look whether a write on its thread is over.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Enough for a write.
const STACK: usize = 64 * 1024;
/// A larger file is not ours.
const MAX_FILE: u64 = 1024 * 1024;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Totals by input name, in the input's unit.
    pub totals: BTreeMap<String, f64>,
    /// Levels in percent by output name.
    pub levels: BTreeMap<String, f64>,
    /// Names of outputs with `min_off` that were ever on.
    pub was_on: BTreeSet<String>,
    /// By sensor name.
    pub sea_level: BTreeMap<String, Calibration>,
}

/// A sea-level pressure worked out from a known elevation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The boot it was worked out in (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The elevation it was worked out for, in metres.
    pub elevation_m: f64,
    /// hPa.
    pub sea_level_hpa: f64,
}

/// What can go wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading, writing or renaming.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A write that does not end in time.
    #[error("{path}: the disk does not answer")]
    Stalled {
        /// The file.
        path: PathBuf,
    },
    /// Not what this program writes.
    #[error("{path} is damaged ({source}); it is put aside as {path}.damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        source: serde_json::Error,
    },
}

/// The file and what it holds.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    kept: Kept,
    /// When the oldest unwritten change was made.
    changed: Option<Instant>,
    /// When the last write began.
    written: Option<Instant>,
    /// Whether writes have threads of their own.
    apart: bool,
    /// What a write on its thread will say.
    under_way: Option<Receiver<io::Result<()>>>,
    look_at: Instant,
}

impl StateFile {
    /// Opens the file, empty where there is none; a damaged one is put aside and reported, and an empty one is used.
    pub fn open(path: &Path) -> (Self, Option<StateError>) {
        let (kept, error) = match read(path) {
            Ok(kept) => (kept, None),
            Err(error) => {
                if matches!(error, StateError::Damaged { .. }) {
                    // Best effort: if even this fails, the next write replaces the damaged file.
                    let _ = fs::rename(path, path.with_extension("json.damaged"));
                }
                (Kept::default(), Some(error))
            }
        };
        let (path, look_at) = (path.to_owned(), Instant::default());
        (Self { path, kept, changed: None, written: None, apart: false, under_way: None, look_at }, error)
    }

    /// From now on each write has a thread of its own, and nobody waits for it but [`StateFile::finish`].
    #[must_use]
    pub fn written_apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// What is kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Changes what is kept; it is written by [`StateFile::tick`].
    pub fn change(&mut self, now: Instant, change: impl FnOnce(&mut Kept)) {
        let before = self.kept.clone();
        change(&mut self.kept);
        if self.kept != before {
            self.changed.get_or_insert(now);
        }
    }

    /// When [`StateFile::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.under_way {
            Some(_) => Some(self.look_at),
            None => self.changed.map(|at| self.written.map_or(at, |written| at.max(written + WRITE_INTERVAL))),
        }
    }

    /// Writes if there is a change, and the last write is long enough ago; `true` once something has been written.
    ///
    /// # Errors
    /// The write failed; it is tried again a minute later.
    pub fn tick(&mut self, now: Instant) -> Result<bool, StateError> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(false);
        }
        self.look_at = now + LOOK_INTERVAL;
        let over = match &self.under_way {
            None => None,
            Some(written) => match written.try_recv() {
                Err(TryRecvError::Empty) => return Ok(false),
                over => Some(over.unwrap_or_else(|_| Err(died()))),
            },
        };
        self.under_way = None;
        match over {
            Some(over) => self.over(over, now).map(|()| true),
            None => self.write(now).map(|()| self.under_way.is_none()),
        }
    }

    /// Begins to write if there is a change and no write is under way.
    ///
    /// # Errors
    /// The write failed, or could not begin; the change is still unwritten.
    pub fn write(&mut self, now: Instant) -> Result<(), StateError> {
        if self.under_way.is_some() || self.changed.take().is_none() {
            return Ok(());
        }
        self.written = Some(now);
        let begun = match self.apart {
            false => write(&self.path, &self.kept),
            true => write_apart(&self.path, &self.kept).map(|written| self.under_way = Some(written)),
        };
        self.over(begun, now)
    }

    /// Waits until everything is written, for `patience` at most for each of the two writes that may be left.
    ///
    /// # Errors
    /// A write failed or did not end in time.
    pub fn finish(&mut self, patience: Duration, now: Instant) -> Result<(), StateError> {
        loop {
            if let Some(written) = &self.under_way {
                let over = match written.recv_timeout(patience) {
                    Ok(over) => over,
                    Err(RecvTimeoutError::Disconnected) => Err(died()),
                    Err(RecvTimeoutError::Timeout) => return Err(StateError::Stalled { path: self.path.clone() }),
                };
                self.under_way = None;
                self.over(over, now)?;
            }
            if self.changed.is_none() {
                return Ok(());
            }
            self.write(now)?;
        }
    }

    /// What failed is still to be written.
    fn over(&mut self, outcome: io::Result<()>, now: Instant) -> Result<(), StateError> {
        outcome.map_err(|source| {
            self.changed = Some(now);
            StateError::Io { path: self.path.clone(), source }
        })
    }
}

fn died() -> io::Error {
    io::Error::other("the thread that writes has died")
}

fn read(path: &Path) -> Result<Kept, StateError> {
    let io = |source| StateError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(io(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).map_err(io)?;
    serde_json::from_slice(&text).map_err(|source| StateError::Damaged { path: path.to_owned(), source })
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    replace(path, &serde_json::to_vec(kept)?)
}

/// The same on a thread, which says how it went.
fn write_apart(path: &Path, kept: &Kept) -> io::Result<Receiver<io::Result<()>>> {
    let (path, text) = (path.to_owned(), serde_json::to_vec(kept)?);
    let (over, written) = sync_channel(1);
    // Nobody listens any more after a stop that did not wait for it.
    let write = move || drop(over.send(replace(&path, &text)));
    std::thread::Builder::new().name("state".into()).stack_size(STACK).spawn(write)?;
    Ok(written)
}

/// Replaces the file as a whole: a power cut leaves the old one or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn is_written_once_a_minute_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/state.json");
        let (mut state, error) = StateFile::open(&path);
        assert!(error.is_none());
        let start = Instant::from_nanos(1);
        let rain = |total| {
            move |kept: &mut Kept| {
                kept.totals.insert("rain".into(), total);
            }
        };
        state.change(start, rain(0.2794));
        assert!(state.tick(start).expect("written at once"));
        assert_eq!(StateFile::open(&path).0.kept(), state.kept());
        state.change(start + Duration::from_secs(1), rain(0.2794));
        assert_eq!(state.deadline(), None, "it is no change");
        state.change(start + Duration::from_secs(2), rain(0.5588));
        state.change(start + Duration::from_secs(3), rain(0.8382));
        assert!(!state.tick(start + Duration::from_secs(59)).expect("too early"));
        assert!(state.tick(start + Duration::from_secs(60)).expect("written"));
        assert_eq!(StateFile::open(&path).0.kept(), state.kept());
        assert_eq!(state.deadline(), None);
        state.change(start + Duration::from_secs(3600), rain(1.1176));
        assert_eq!(state.deadline(), Some(start + Duration::from_secs(3600)));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        fs::write(&path, b"{\"totals\":{\"rain\":").expect("written");
        let (state, error) = StateFile::open(&path);
        assert!(matches!(error, Some(StateError::Damaged { .. })));
        assert_eq!(state.kept(), &Kept::default());
        assert!(folder.path().join("state.json.damaged").exists());
    }

    #[test]
    fn a_failed_write_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), b"").expect("written");
        let (mut state, _) = StateFile::open(&folder.path().join("file/state.json"));
        let start = Instant::from_nanos(1);
        state.change(start, |kept| {
            kept.levels.insert("lamp".into(), 100.0);
        });
        let later = start + Duration::from_secs(61);
        assert!(state.tick(later).is_err());
        assert_eq!(state.deadline(), Some(later + WRITE_INTERVAL));
    }

    #[test]
    fn what_a_newer_version_keeps_besides_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        fs::write(&path, r#"{"levels":{"lamp":100.0},"moods":{"lamp":"good"}}"#).expect("written");
        let (state, error) = StateFile::open(&path);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(state.kept().levels["lamp"], 100.0);
    }

    #[test]
    fn a_disk_that_stalls_keeps_nobody_waiting_but_the_stop_and_that_not_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        let mut state = StateFile::open(&path).0.written_apart();
        // Opening it for writing waits until somebody opens it for reading.
        let fifo = path.with_extension("json.new");
        let name = CString::new(fifo.as_os_str().as_bytes()).expect("a path");
        // SAFETY: a NUL-terminated path for the duration of the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let set = |level: f64| move |kept: &mut Kept| kept.levels.extend([("lamp".into(), level)]);
        let due = Instant::from_nanos(1) + WRITE_INTERVAL;
        state.change(Instant::from_nanos(1), set(1.0));
        assert!(!state.tick(due).expect("it has begun"));
        state.change(due, set(2.0));
        let look = state.deadline().expect("to see how it went");
        assert!(look > due && !state.tick(look).expect("it goes on"));
        assert!(state.deadline() > Some(look), "a time that has passed would be a loop that never rests");
        let stalled = state.finish(Duration::from_millis(20), look);
        assert!(matches!(stalled, Err(StateError::Stalled { .. })), "{stalled:?}");

        assert_eq!(
            fs::read(&fifo).expect("what it writes"),
            br#"{"totals":{},"levels":{"lamp":1.0},"was_on":[],"sea_level":{}}"#
        );
        let failed = state.finish(Duration::from_secs(20), look);
        assert!(matches!(failed, Err(StateError::Io { .. })), "no FIFO can be synced: {failed:?}");
        fs::remove_file(&fifo).expect("a disk like any other again");
        state.finish(Duration::from_secs(20), look).expect("written");
        assert_eq!(StateFile::open(&path).0.kept(), state.kept());
        assert_eq!(state.deadline(), None);
    }
}
