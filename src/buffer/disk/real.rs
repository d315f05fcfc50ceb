//! The store with its thread, on a folder of the file system.

use super::StoreError;
use super::folder::{Directory, Folder as _};
use super::front::{Disk, Options};
use super::rig::WIDE;
use crate::buffer::{Buffer as _, Contents, Limits, Moment, Record, THIS_BOOT};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    store: Disk,
    woken: Receiver<()>,
    now: Moment,
}

fn start(path: &Path, limits: Limits) -> Running {
    let (sender, woken) = channel();
    // Whoever waited may have gone.
    let wake = Box::new(move || _ = sender.send(()));
    let flush_every = Duration::from_secs(5);
    let store = Disk::start(Options { path: path.to_owned(), memory: None, limits, flush_every, boot: 1, wake });
    Running { store, woken, now: Moment { uptime_ms: 100_000, wall_ms: None } }
}

impl Running {
    /// Takes in what the thread answers until `done`.
    fn wait(&mut self, what: &str, done: impl Fn(&mut Disk) -> bool) {
        self.store.turn(self.now);
        while !done(&mut self.store) {
            self.woken
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("waited for {what}: {:?}", self.store.contents()));
            self.store.turn(self.now);
        }
    }

    fn keep(&mut self, values: std::ops::Range<u32>) {
        let series = self.store.series("a");
        for value in values {
            let (wall_ms, uptime_ms) = (None, self.now.uptime_ms);
            let ticket =
                self.store.push(Record { series, boot: THIS_BOOT, wall_ms, uptime_ms, value: f64::from(value) });
            self.store.release(ticket..ticket + 1);
        }
        self.wait("everything to be written", |store| store.contents().at_risk == 0);
    }

    fn values(&mut self) -> Vec<u32> {
        let mut all = Vec::new();
        while self.store.contents().waiting > 0 {
            self.wait("a share", |store| store.is_ready());
            let mut share = Vec::new();
            self.store.peek(1_000, &mut share);
            self.store.forget_peeked();
            all.extend(share.iter().map(|record| record.value as u32));
        }
        self.wait("the note of it", |store| !store.is_busy());
        all
    }
}

/// What a folder takes up on disk.
fn taken_up(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    // One that is removed meanwhile takes up nothing.
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.blocks() * 512);
    files.map(|file| bytes(&file)).sum::<u64>() + bytes(folder)
}

#[test]
fn what_is_written_is_there_for_the_next_one_within_the_limit_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/buffer");
    let limits = Limits { max_size: 256 * 1024, ..WIDE };
    let mut first = start(&path, limits);
    for thousand in 0..20 {
        first.keep(thousand * 1_000..(thousand + 1) * 1_000);
        assert!(taken_up(&path) <= limits.max_size, "{} bytes", taken_up(&path));
    }
    let dropped = first.store.contents().dropped as u32;
    assert!(dropped > 10_000);
    assert_eq!(fs::metadata(&path).expect("a folder").permissions().mode() & 0o777, 0o700);
    drop(first);
    // The first one's thread may still be about to end.
    fs::File::open(path.join("lock")).and_then(|lock| lock.lock()).expect("the lock is given back");

    let mut second = start(&path, limits);
    second.wait("an answer", |store| !store.is_busy());
    assert_eq!(second.values(), (dropped..20_000).collect::<Vec<_>>());
    let mut left: Vec<_> =
        fs::read_dir(&path).expect("a folder").map(|file| file.expect("a file").file_name()).collect();
    left.sort();
    assert_eq!(left, ["cursor", "lock"]);
}

#[test]
fn a_second_store_on_one_folder_is_told_who_has_it_and_does_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = start(folder.path(), WIDE);
    first.keep(0..10);
    let refused = Directory::new(folder.path(), None).enter().expect_err("it is locked");
    assert!(matches!(refused, StoreError::InUse { .. }));
    let pid = std::process::id();
    assert_eq!(refused.to_string(), format!("in use by process {pid}: a store belongs to one agent"));

    let mut second = start(folder.path(), WIDE);
    second.wait("an answer", |store| !store.is_busy());
    let series = second.store.series("a");
    let ticket = second.store.push(Record { series, boot: THIS_BOOT, wall_ms: None, uptime_ms: 1, value: 100.0 });
    second.store.release(ticket..ticket + 1);
    assert_eq!((second.store.contents().waiting, second.store.contents().at_risk), (1, 1));
    first.keep(10..20);
    assert_eq!(first.values(), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_file_in_place_of_the_folder_is_no_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("buffer");
    fs::write(&path, "precious").expect("written");
    let refused = Directory::new(&path, None).enter().expect_err("a file");
    assert!(matches!(refused, StoreError::Io(_)), "{refused}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
}

#[test]
fn a_removed_folder_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("buffer");
    let mut running = start(&path, WIDE);
    running.keep(0..10);
    fs::remove_dir_all(&path).expect("removed");
    running.keep(10..20);
    // Noticed while reading ahead, or while writing.
    let Contents { dropped, damaged, .. } = running.store.contents();
    assert_eq!(dropped + damaged, 10);
    assert_eq!(running.values(), (10..20).collect::<Vec<_>>());
    assert!(path.join("lock").exists());
}
