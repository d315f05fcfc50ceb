//! What several test programs share: the real agent, a real Mosquitto, its own clients, and a link that can be broken.
//!
//! Everything waits for a condition with a bound, and says what it waited for when the bound passes.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod agent;
pub mod hostile;
pub mod inside;
pub mod mosquitto;
pub mod proxy;
pub mod raw;
pub mod rig;
pub mod scripted;
pub mod server;
pub mod session;
pub mod shipped;

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it has a value; panics with `what` after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
