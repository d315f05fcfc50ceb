//! Shows what the subscriber sees, on a thread of its own: plain lines, or the table of [`super::screen`].

use super::command;
use super::screen::{Row, Screen, View};
use super::server::Seen;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// The table is drawn this often.
const REDRAW: Duration = Duration::from_millis(200);
/// How many times it is drawn while a row that has changed stands out.
const FRESH: u64 = 3;
/// Where the gateway says that it has gone.
const STATUS: &str = "sensors/demo/status";
/// What the gauge shows, and what it does.
const ALTITUDE: &str = "sensors/drone01/altitude";
const BEACON: &str = "sensors/demo/beacon";

/// The thread that shows.
pub struct Viewer {
    over: Arc<AtomicBool>,
    done: Receiver<()>,
}

impl Viewer {
    /// One line a message, `topic payload`; says when nobody reads them any more.
    pub fn lines(messages: Receiver<Seen>, closed: oneshot::Sender<()>) -> Self {
        Self::start(move |over| {
            while let Some(seen) = next(&messages, over) {
                let Ok(seen) = seen else { continue };
                if writeln!(std::io::stdout().lock(), "{} {}", seen.topic, seen.payload).is_err() {
                    // The receiver is gone when the demo ends by itself.
                    let _ = closed.send(());
                    return;
                }
                if is_last(&seen) {
                    return;
                }
            }
        })
    }

    /// One line a topic, redrawn in place; what it said last is printed when the screen is given back.
    pub fn table(messages: Receiver<Seen>, address: SocketAddr) -> Self {
        Self::start(move |over| {
            let mut view = View { address: address.to_string(), command: command(address), ..View::default() };
            let mut topics: BTreeMap<String, (Row, u64)> = BTreeMap::new();
            let mut screen = Screen::enter();
            let mut frame = 0;
            while let Some(seen) = next(&messages, over) {
                let is_over = seen.as_ref().is_ok_and(is_last);
                if let Ok(seen) = seen {
                    take(seen, &mut topics, &mut view, frame);
                    if !is_over {
                        continue;
                    }
                }
                frame += 1;
                view.rows =
                    topics.values().map(|(row, at)| Row { fresh: frame - at <= FRESH, ..row.clone() }).collect();
                screen.draw(&view);
                if is_over {
                    break;
                }
            }
            drop(screen);
            let text: String = view.rows.iter().map(|row| format!("{} {}\n", row.topic, row.payload)).collect();
            // Nobody need be there any more.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
        })
    }

    fn start(show: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (is_over, (end, done)) = (over.clone(), channel::<()>());
        thread::spawn(move || {
            show(&is_over);
            drop(end);
        });
        Self { over, done }
    }

    /// Waits until the last words were shown; at most so long, and a little more to give the screen back.
    pub fn finish(self, within: Duration) {
        if self.done.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            self.over.store(true, Ordering::Relaxed);
            let _ = self.done.recv_timeout(2 * REDRAW);
        }
    }
}

/// The next message, or that it is time to draw; `None` at the end.
fn next(messages: &Receiver<Seen>, over: &AtomicBool) -> Option<Result<Seen, ()>> {
    match messages.recv_timeout(REDRAW) {
        _ if over.load(Ordering::Relaxed) => None,
        Ok(seen) => Some(Ok(seen)),
        Err(RecvTimeoutError::Timeout) => Some(Err(())),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

fn is_last(seen: &Seen) -> bool {
    seen.topic == STATUS && seen.payload == "offline"
}

fn take(seen: Seen, topics: &mut BTreeMap<String, (Row, u64)>, view: &mut View, frame: u64) {
    match seen.topic.as_str() {
        ALTITUDE => view.feet = seen.payload.split(' ').next().and_then(|feet| feet.parse().ok()),
        BEACON => view.beacon = seen.payload == "ON",
        _ => {}
    }
    view.messages += 1;
    let row = Row { topic: seen.topic.clone(), payload: printable(&seen.payload), fresh: false };
    topics.insert(seen.topic, (row, frame));
}

/// Anybody may publish anything here: nothing of it may move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
