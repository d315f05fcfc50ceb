//! The thread that owns the files: it waits for a request, carries it out, answers, and waits again.
//!
//! It holds nothing that the main thread could wait for, and decides nothing. Invariant: one reply for each request.

use super::StoreError;
use super::log::{Appended, Batch, Found, Log};
use super::ranges::Ranges;
use crate::buffer::{Limits, Record};
use std::io;
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
    replies: Sender<Reply>,
    wake: Box<dyn Fn() + Send>,
}

/// Two ends; `wake` is called after each reply.
pub(super) fn connect(log: Log, wake: Box<dyn Fn() + Send>) -> (Port, Worker) {
    let (requests, asked) = sync_channel(REQUESTS);
    let (answers, replies) = channel();
    (Port { requests, replies }, Worker { log, requests: asked, replies: answers, wake })
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
    /// Starts the thread, which ends when the main thread's end is dropped.
    pub(super) fn start(self) -> io::Result<()> {
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
            Request::Open(limits) => Reply::Opened(self.log.open(limits)),
            Request::Append(records) => Reply::Appended(self.log.append(&records)),
            Request::Read(from, max) => Reply::Read(from, self.log.read(from, max)),
            Request::Forget(begin, ranges) => Reply::Forgotten(self.log.forget(begin, ranges)),
            Request::Limit(limits) => Reply::Limited(self.log.limit(limits)),
            Request::Sync => Reply::Synced(self.log.sync()),
        };
        // The main thread may have gone; then nobody asks again either.
        let _ = self.replies.send(reply);
        (self.wake)();
    }
}
