//! The few values that outlive a restart: counter totals, the last level of outputs with `initial = "last"`, and the
//! sea-level pressure worked out from a known elevation. One small file, written at most once a minute and at stop.
//!
//! A file that is missing or damaged is an empty one: nothing here may keep the agent from starting.

use crate::clock::Instant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a change may wait for its write.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);
/// A larger file is not ours.
const MAX_FILE: u64 = 1024 * 1024;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kept {
    /// Totals by input name, in the input's unit.
    pub totals: BTreeMap<String, f64>,
    /// Levels in percent by output name.
    pub levels: BTreeMap<String, f64>,
    /// By sensor name.
    pub sea_level: BTreeMap<String, Calibration>,
}

/// A sea-level pressure worked out from a known elevation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
        (Self { path: path.to_owned(), kept, changed: None }, error)
    }

    /// What is kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Changes what is kept; it is written later, by [`StateFile::tick`].
    pub fn change(&mut self, now: Instant, change: impl FnOnce(&mut Kept)) {
        change(&mut self.kept);
        self.changed.get_or_insert(now);
    }

    /// When [`StateFile::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.changed.map(|changed| changed + WRITE_INTERVAL)
    }

    /// Writes if a change has waited long enough; whether it did.
    ///
    /// # Errors
    /// The write failed; it is tried again a minute later.
    pub fn tick(&mut self, now: Instant) -> Result<bool, StateError> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(false);
        }
        self.changed = Some(now);
        self.write().map(|()| true)
    }

    /// Writes now if there is a change.
    ///
    /// # Errors
    /// The write failed; the change is still unwritten.
    pub fn write(&mut self) -> Result<(), StateError> {
        if self.changed.is_none() {
            return Ok(());
        }
        write(&self.path, &self.kept).map_err(|source| StateError::Io { path: self.path.clone(), source })?;
        self.changed = None;
        Ok(())
    }
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

/// Replaces the file as a whole: a power cut leaves the old one or the new one.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_once_a_minute_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/state.json");
        let (mut state, error) = StateFile::open(&path);
        assert!(error.is_none());
        let start = Instant::from_nanos(1);
        state.change(start, |kept| {
            kept.totals.insert("rain".into(), 0.2794);
        });
        assert!(!state.tick(start + Duration::from_secs(59)).expect("nothing to do"));
        assert!(!path.exists());
        assert!(state.tick(start + Duration::from_secs(60)).expect("written"));
        assert_eq!(StateFile::open(&path).0.kept(), state.kept());
        assert_eq!(state.deadline(), None);
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
}
