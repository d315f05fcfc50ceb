//! From a hangup to another configuration: read and judged on a thread of its own, one at a time.
//!
//! It applies nothing. Invariant: every hangup is followed by a reading that begins after it; hangups that come while one
//! is under way share the next.

use crate::buffer;
use crate::mqtt;
use crate::plan::Plan;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

/// What may be another one after a reload.
pub struct Configuration {
    /// What to do.
    pub plan: Plan,
    /// The session's options, which [`mqtt::Options::validate`] accepts.
    pub session: mqtt::Options,
    /// How much may wait while the server is away.
    pub limits: buffer::Limits,
    /// What a power cut may cost of it.
    pub flush_every: Duration,
    /// Records of history a second.
    pub drain_per_second: u32,
}

/// Why a configuration is not taken up. Whoever has read it has shown the whole report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The first fault, in one line.
    pub first: String,
    /// How many there are.
    pub faults: usize,
}

/// Reads and judges the configuration as it is now; it may take its time.
pub type Read = dyn Fn() -> Result<Configuration, Refusal> + Send + Sync;

/// Who asks for a reload, and what reads the configuration then.
pub struct Source {
    /// SIGHUP.
    pub hangup: Signal,
    /// Called on a thread of its own.
    pub read: Arc<Read>,
}

/// What happens to reloads.
pub enum Event {
    /// Somebody has asked, the reading has begun.
    Begun,
    /// It has ended.
    Read(Result<Box<Configuration>, Refusal>),
}

type Reading = oneshot::Receiver<Result<Configuration, Refusal>>;

/// The reloads of a running agent.
pub struct Reloads {
    source: Option<Source>,
    reading: Option<Reading>,
    /// Somebody has asked since the reading began.
    asked: bool,
}

impl Reloads {
    /// Waits for nothing where there is no source.
    pub fn new(source: Option<Source>) -> Self {
        Self { source, reading: None, asked: false }
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn event(&mut self) -> Event {
        let Some(source) = &mut self.source else { return pending().await };
        loop {
            if self.asked && self.reading.is_none() {
                self.asked = false;
                self.reading = Some(begin(source.read.clone()));
                return Event::Begun;
            }
            tokio::select! {
                Some(()) = source.hangup.recv() => self.asked = true,
                outcome = end(&mut self.reading) => {
                    self.reading = None;
                    return Event::Read(outcome.map(Box::new));
                }
            }
        }
    }
}

fn begin(read: Arc<Read>) -> Reading {
    let (sender, reading) = oneshot::channel();
    let thread = std::thread::Builder::new().name("reload".into());
    // Without a thread the sender is dropped, which is told as any other end without an outcome.
    let _ = thread.spawn(move || sender.send(read()).is_ok());
    reading
}

async fn end(reading: &mut Option<Reading>) -> Result<Configuration, Refusal> {
    let Some(reading) = reading else { return pending().await };
    reading.await.unwrap_or_else(|_| {
        let first = "the configuration could not be read: its thread did not start, or has died".to_owned();
        Err(Refusal { first, faults: 1 })
    })
}
