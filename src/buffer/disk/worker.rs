//! The thread that owns the files: it waits for a request, carries it out, answers, and waits again. And one beside it
//! that waits for the disk, so that what is taken meanwhile is safe from the death of the process at once.
//!
//! They hold nothing that the main thread could wait for, and decide nothing. Invariant: one reply for each request.

use super::StoreError;
use super::folder::ToDisk;
use super::log::{Appended, Batch, Found, Log};
use super::ranges::Ranges;
use crate::buffer::{Limits, Record};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};

/// Requests that may wait: more than there are kinds, one of each of which may be under way.
const REQUESTS: usize = 8;

/// What the main thread asks for.
pub(super) enum Request {
    /// Open the log, under these limits.
    Open(Limits),
    /// Append these.
    Append(Vec<Record>),
    /// Read from that number on, at most so many.
    Read(u64, usize),
    /// Everything before that number is forgotten, and these.
    Forget(u64, Ranges),
    /// Go on under other limits.
    Limit(Limits),
    /// Return when everything is on disk.
    Sync,
}

/// What it hears.
pub(super) enum Reply {
    /// The log is open, or cannot be opened.
    Opened(Result<Found, StoreError>),
    /// What became of the records.
    Appended(Result<Appended, StoreError>),
    /// What was read from that number on.
    Read(u64, Result<Batch, StoreError>),
    /// The cursor is written; whether space was freed.
    Forgotten(Result<bool, StoreError>),
    /// The limits hold; the first record that is still there.
    Limited(Result<u64, StoreError>),
    /// Everything is on disk.
    Synced(Result<(), StoreError>),
}

/// The main thread's end.
pub(super) struct Port {
    requests: SyncSender<Request>,
    replies: Receiver<Reply>,
}

/// The other end, and the log.
pub(super) struct Worker {
    log: Log,
    requests: Receiver<Request>,
    line: Line,
    waits: Waits,
}

/// Called after each reply.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// Where replies go.
#[derive(Clone)]
struct Line {
    replies: Sender<Reply>,
    wake: Wake,
}

impl Line {
    fn say(&self, reply: Reply) {
        // The main thread may have gone; then nobody asks again either.
        let _ = self.replies.send(reply);
        (self.wake)();
    }
}

/// Who waits for the disk.
enum Waits {
    /// Whoever carries out the requests.
    Here(Unsynced),
    /// The other thread; `None` for what it still waits for is of no use any more.
    Apart(Sender<Option<Vec<(String, ToDisk)>>>),
}

impl Waits {
    /// What is still waited for belongs to a folder that is there no more.
    fn reset(&mut self) {
        match self {
            Self::Here(unsynced) => *unsynced = Unsynced::default(),
            // Without the thread the next synchronisation says so.
            Self::Apart(thread) => drop(thread.send(None)),
        }
    }
}

/// What is not known to be on disk, by name. What failed is tried again before anything else.
#[derive(Default)]
struct Unsynced(VecDeque<(String, ToDisk)>);

impl Unsynced {
    fn sync(&mut self, more: Vec<(String, ToDisk)>) -> io::Result<()> {
        for (name, sync) in more {
            // One that still waits will bring what is new there too.
            if !self.0.iter().any(|(waits, _)| *waits == name) {
                self.0.push_back((name, sync));
            }
        }
        while let Some((_, sync)) = self.0.front_mut() {
            sync()?;
            self.0.pop_front();
        }
        Ok(())
    }
}

/// Two ends; `wake` is called after each reply.
pub(super) fn connect(log: Log, wake: Wake) -> (Port, Worker) {
    let (requests, asked) = sync_channel(REQUESTS);
    let (answers, replies) = channel();
    (
        Port { requests, replies },
        Worker { log, requests: asked, line: Line { replies: answers, wake }, waits: Waits::Here(Unsynced::default()) },
    )
}

impl Port {
    /// Asks; `false` if nobody is there any more. It never waits.
    pub(super) fn ask(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// The next reply, if there is one; an error if none will come any more.
    pub(super) fn reply(&self) -> Result<Option<Reply>, TryRecvError> {
        match self.replies.try_recv() {
            Ok(reply) => Ok(Some(reply)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Worker {
    /// Starts the threads, which end when the main thread's end is dropped.
    pub(super) fn start(mut self) -> io::Result<()> {
        let (apart, asked) = channel();
        let (line, mut unsynced) = (self.line.clone(), Unsynced::default());
        let wait = move || {
            for more in asked {
                match more {
                    Some(more) => line.say(Reply::Synced(unsynced.sync(more).map_err(StoreError::Io))),
                    None => unsynced = Unsynced::default(),
                }
            }
        };
        std::thread::Builder::new().name("store-sync".to_owned()).spawn(wait)?;
        self.waits = Waits::Apart(apart);
        std::thread::Builder::new().name("store".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        while let Ok(request) = self.requests.recv() {
            self.carry_out(request);
        }
    }

    /// Carries out one request that waits, if there is one.
    #[cfg(test)]
    pub(super) fn turn(&mut self) -> bool {
        let request = self.requests.try_recv();
        request.map(|request| self.carry_out(request)).is_ok()
    }

    fn carry_out(&mut self, request: Request) {
        let reply = match request {
            Request::Open(limits) => {
                self.waits.reset();
                Reply::Opened(self.log.open(limits))
            }
            Request::Append(records) => Reply::Appended(self.log.append(&records)),
            Request::Read(from, max) => Reply::Read(from, self.log.read(from, max)),
            Request::Forget(begin, ranges) => Reply::Forgotten(self.log.forget(begin, ranges)),
            Request::Limit(limits) => Reply::Limited(self.log.limit(limits)),
            Request::Sync => match self.sync() {
                Some(outcome) => Reply::Synced(outcome),
                None => return,
            },
        };
        self.line.say(reply);
    }

    /// The outcome, unless the other thread tells it.
    fn sync(&mut self) -> Option<Result<(), StoreError>> {
        match (self.log.sync(), &mut self.waits) {
            (Err(error), _) => Some(Err(error)),
            (Ok(more), Waits::Here(unsynced)) => Some(unsynced.sync(more).map_err(StoreError::Io)),
            (Ok(more), Waits::Apart(thread)) => {
                let gone = |_| Err(StoreError::Io(io::Error::other("the thread that waits for it has ended")));
                thread.send(Some(more)).err().map(gone)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::front::{Disk, Options};
    use super::super::medium::Medium;
    use super::super::rig::{FLUSH_MS, Rig, WIDE};
    use super::*;
    use crate::buffer::{Buffer as _, Moment, THIS_BOOT};
    use std::time::Duration;

    #[test]
    fn what_is_taken_while_the_disk_stalls_is_safe_from_the_death_of_the_process() {
        let medium = Medium::with_memory();
        let (sender, woken) = channel();
        let options = Options {
            path: "store".into(),
            memory: None,
            limits: WIDE,
            flush_every: Duration::from_millis(FLUSH_MS),
            boot: 1,
            wake: Box::new(move || _ = sender.send(())),
        };
        let (mut store, worker) = Disk::over(medium.folder(), options);
        worker.start().expect("two threads");
        let mut keep = |values: std::ops::Range<u32>, uptime_ms: u64| {
            let series = store.series("a");
            for value in values {
                let record = Record { series, boot: THIS_BOOT, wall_ms: None, uptime_ms, value: f64::from(value) };
                let ticket = store.push(record);
                store.release(ticket..ticket + 1);
            }
            let now = Moment { uptime_ms, wall_ms: None };
            store.turn(now);
            while store.contents().at_risk > 0 {
                woken.recv_timeout(Duration::from_secs(20)).expect("the thread answers");
                store.turn(now);
            }
        };
        keep(0..10, 1_000);
        medium.stall(true);
        // The disk gets them now, and takes its time.
        keep(10..20, 1_000 + FLUSH_MS);
        keep(20..30, 2_000 + FLUSH_MS);
        medium.kill();
        medium.stall(false);
        assert_eq!(Rig::on(medium, WIDE).values(), (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn what_failed_is_tried_again_before_anything_else_and_kept_once() {
        let (sender, done) = channel();
        let file = |name: &'static str, works: bool| {
            let sender = sender.clone();
            let sync = move || {
                sender.send(name).expect("the test listens");
                if works { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
            };
            (name.to_owned(), Box::new(sync) as ToDisk)
        };
        let mut unsynced = Unsynced::default();
        unsynced.sync(vec![file("a", true), file("b", false), file("c", true)]).expect_err("b fails");
        unsynced.sync(vec![file("b", true), file("d", true)]).expect_err("b fails again");
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["a", "b", "b"]);
        assert_eq!(unsynced.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "c", "d"]);
        let mut unsynced = Unsynced::default();
        unsynced.sync(vec![file("a", true), file("b", true)]).expect("both work");
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(unsynced.0.is_empty());
    }
}
