//! The few things the store does to files, so that a test can stand in for the disk and take its power away.
//!
//! Names are those of files in the store's folder; nothing else is touched.

use super::StoreError;
use std::fs::{self, DirBuilder, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A folder that belongs to this process.
pub(super) trait Folder: Send {
    /// Makes the folder if it is missing, locks it, and lists its files with their lengths.
    fn enter(&mut self) -> Result<Vec<(String, u64)>, StoreError>;
    /// Whether it is still the folder that was entered.
    fn is_there(&self) -> bool;
    /// Opens a file, or makes one that is empty.
    fn open(&self, name: &str, new: bool) -> io::Result<Box<dyn File>>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The file in memory for what the disk is to get later, if there is one. It outlives the process, not the power.
    fn tail(&self) -> Option<Box<dyn File>>;
    /// What brings the names of files to the disk.
    fn names(&self) -> ToDisk;
}

/// What returns when something is on disk; on whatever thread.
pub(super) type ToDisk = Box<dyn FnMut() -> io::Result<()> + Send>;

/// An open file.
pub(super) trait File: Send {
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Reads as much as there is, at most `into.len()` bytes.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all bytes, or tells why not; then any part of them may have been written.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Takes disk space for that many bytes in all, beyond the end of the file; where that is unknown, nothing happens.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;
    /// Cuts it off there and gives back what was reserved behind.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// What brings its content to the disk, up to when it is called.
    fn sync(&self) -> io::Result<ToDisk>;
}

/// A folder of the file system.
pub(super) struct Directory {
    path: PathBuf,
    /// A folder in memory.
    memory: Option<PathBuf>,
    /// Open and locked, once it has been entered.
    lock: Option<fs::File>,
}

const LOCK: &str = "lock";

impl Directory {
    /// The folder at `path`, which need not be there; `memory` is one whose files outlive the process, but not the power.
    pub(super) fn new(path: &Path, memory: Option<PathBuf>) -> Self {
        Self { path: path.to_owned(), memory, lock: None }
    }

    fn make(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        // Its name is to survive a power cut as much as what is in it. A parent that cannot be opened is none of ours.
        self.path.parent().and_then(|parent| fs::File::open(parent).ok()).map_or(Ok(()), |parent| parent.sync_all())
    }

    fn lock(&self) -> Result<fs::File, StoreError> {
        let open = fs::File::options().read(true).write(true).create(true).truncate(false).open(self.path.join(LOCK));
        let mut file = open.map_err(StoreError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { holder: holder(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(StoreError::Io(error)),
        }
        let write = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        write.map_err(StoreError::Io)?;
        Ok(file)
    }
}

/// Whom the lock's file names.
fn holder(lock: &mut fs::File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(32).read_to_string(&mut text));
    match text.trim() {
        pid if read.is_ok() && !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

impl Folder for Directory {
    fn enter(&mut self) -> Result<Vec<(String, u64)>, StoreError> {
        self.lock = None;
        self.make().map_err(StoreError::Io)?;
        self.lock = Some(self.lock()?);
        let entries = fs::read_dir(&self.path).map_err(StoreError::Io)?;
        let length = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()))
        };
        let listed = entries.map(length).collect::<io::Result<Vec<_>>>().map_err(StoreError::Io)?;
        Ok(listed.into_iter().filter(|(name, _)| name != LOCK).collect())
    }

    fn is_there(&self) -> bool {
        self.lock.as_ref().and_then(|lock| lock.metadata().ok()).is_some_and(|lock| lock.nlink() > 0)
    }

    fn open(&self, name: &str, new: bool) -> io::Result<Box<dyn File>> {
        let mut options = fs::File::options();
        options.read(true).write(true).create(new).truncate(new);
        Ok(Box::new(options.open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn tail(&self) -> Option<Box<dyn File>> {
        // Its name is the folder's own number, so whoever has the folder's lock has the file.
        let folder = fs::metadata(&self.path).ok()?;
        let path = self.memory.as_ref()?.join(format!("buffer-{:x}-{:x}", folder.dev(), folder.ino()));
        let mut options = fs::File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
        Some(Box::new(file))
    }

    fn names(&self) -> ToDisk {
        let path = self.path.clone();
        Box::new(move || fs::File::open(&path)?.sync_all())
    }
}

impl File for fs::File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match std::os::unix::fs::FileExt::read_at(self, &mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let Ok(bytes) = libc::off64_t::try_from(bytes) else { return Ok(()) };
        // SAFETY: the descriptor is open for writing for the duration of the call, which takes no pointers.
        if unsafe { libc::fallocate64(self.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, bytes) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // Reserving saves writes of the file system's own; one that cannot does without.
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EIO) => Err(error),
            _ => Ok(()),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<ToDisk> {
        let file = self.try_clone()?;
        Ok(Box::new(move || file.sync_data()))
    }
}
