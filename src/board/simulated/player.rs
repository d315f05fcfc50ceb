//! Who does the deeds of a schedule: a position in it, and the thread that sleeps until the next one is due.
//!
//! The thread sleeps on a condition rather than on the clock, so that dropping the board ends it at once.

use super::World;
use super::schedule::{Act, Deed};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Deeds, and how far they are done.
pub(super) struct Player {
    deeds: Vec<Deed>,
    /// Start of the lap, since the start of the board.
    lap: Duration,
    next: usize,
}

impl Player {
    /// At the start of the first lap; the deeds are in the order of their times.
    pub(super) fn new(deeds: Vec<Deed>) -> Self {
        Self { deeds, lap: Duration::ZERO, next: 0 }
    }

    /// When the next deed is due, since the start of the board; `None` if there is none left.
    pub(super) fn due(&self) -> Option<Duration> {
        self.deeds.get(self.next).map(|deed| self.lap.saturating_add(deed.at))
    }

    /// Takes the next deed if it is due by `elapsed`.
    pub(super) fn take(&mut self, elapsed: Duration) -> Option<(Duration, &Act)> {
        let due = self.due().filter(|due| *due <= elapsed)?;
        let act = &self.deeds[self.next].act;
        self.next += 1;
        if *act == Act::StartOver {
            (self.lap, self.next) = (due, 0);
        }
        Some((due, act))
    }
}

/// The thread of a board; dropping it ends it.
pub(super) struct Thread {
    stop: Arc<Stop>,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for `duration`, or less if the stop is asked for; true if it is.
    fn within(&self, duration: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(asked, duration, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Thread {
    /// Starts it, unless there is nothing to do.
    pub(super) fn start(world: &Arc<World>) -> io::Result<Option<Self>> {
        if world.player().due().is_none() {
            return Ok(None);
        }
        let (world, stop) = (world.clone(), Arc::new(Stop::default()));
        let asked = stop.clone();
        let run = move || {
            while let Some(due) = world.play(world.clock.now()) {
                if asked.within(due.since(world.clock.now())) {
                    break;
                }
            }
        };
        let handle = thread::Builder::new().name("simulation".into()).spawn(run)?;
        Ok(Some(Self { stop, handle: Some(handle) }))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(Err(_)) = self.handle.take().map(JoinHandle::join) {
            log::error!("the simulation's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_a_long_wait_at_once() {
        let stop = Arc::new(Stop::default());
        let waiting = stop.clone();
        let thread = thread::spawn(move || waiting.within(Duration::from_secs(3_600)));
        stop.ask();
        assert!(thread.join().expect("no panic"));
        assert!(!Stop::default().within(Duration::from_millis(1)));
    }

    #[test]
    fn deeds_are_done_in_order_lap_after_lap() {
        let deed = |seconds, act| Deed { at: Duration::from_secs(seconds), act };
        let deeds = vec![deed(0, Act::Level(0, true)), deed(10, Act::Level(0, false)), deed(20, Act::StartOver)];
        let mut player = Player::new(deeds);
        let mut times = Vec::new();
        while let Some((due, _)) = player.take(Duration::from_secs(45)) {
            times.push(due.as_secs());
        }
        assert_eq!(times, [0, 10, 20, 20, 30, 40, 40]);
        assert_eq!(player.due(), Some(Duration::from_secs(50)));
        assert_eq!(Player::new(Vec::new()).due(), None);
    }
}
