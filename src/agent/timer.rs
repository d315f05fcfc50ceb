//! The one timer of the main loop, a timerfd on the absolute monotonic clock, exact to the kernel's own precision, which
//! the reactor's millisecond timers are not; and another that never goes off, but is cancelled when the wall clock is set.

use crate::clock::Instant;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A wake-up this much too early costs more than moving the timer does.
const STEP: Duration = Duration::from_millis(1);

/// The timer.
pub struct Timer {
    descriptor: AsyncFd<OwnedFd>,
    set_to: Option<Instant>,
}

impl Timer {
    /// A timer that is not set. Wants a running reactor.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { descriptor: timer_on(libc::CLOCK_MONOTONIC)?, set_to: None })
    }

    /// To go off at `deadline`. A deadline that only moves away a little is left to an early wake-up.
    pub fn set(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if self.set_to.is_some_and(|set_to| set_to <= deadline && deadline.since(set_to) < STEP) {
            return;
        }
        // Zero would disarm it.
        let nanos = deadline.as_nanos().max(1);
        let at =
            libc::timespec { tv_sec: (nanos / 1_000_000_000) as libc::time_t, tv_nsec: (nanos % 1_000_000_000) as _ };
        let set = set(&self.descriptor, at, libc::TFD_TIMER_ABSTIME);
        debug_assert!(set.is_ok(), "a valid time on an open timer");
        self.set_to = Some(deadline);
    }

    /// Waits until it goes off; for ever if it is not set.
    pub async fn elapsed(&mut self) {
        match self.descriptor.readable().await {
            // The next expiry is a new edge whether this one is read or not.
            Ok(mut guard) => guard.clear_ready(),
            // The reactor is going down, and the loop with it.
            Err(_) => std::future::pending().await,
        }
        self.set_to = None;
    }
}

/// Tells that somebody has set the wall clock: by hand, or a time service that has learnt the date.
///
/// A clock that is only driven faster or slower is not set.
pub struct ClockWatch(AsyncFd<OwnedFd>);

impl ClockWatch {
    /// Watches from now on. Wants a running reactor.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let descriptor = timer_on(libc::CLOCK_REALTIME)?;
        let never = libc::timespec { tv_sec: libc::time_t::MAX, tv_nsec: 0 };
        set(&descriptor, never, libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET)?;
        Ok(Self(descriptor))
    }

    /// Waits until the clock is set.
    pub async fn set(&mut self) {
        loop {
            let Ok(mut guard) = self.0.readable().await else { return std::future::pending().await };
            guard.clear_ready();
            let mut expirations = 0_u64;
            // SAFETY: eight writable bytes, and the descriptor is open.
            let read =
                unsafe { libc::read(self.0.get_ref().as_raw_fd(), (&raw mut expirations).cast(), size_of::<u64>()) };
            // It stays armed. Whatever else it might say is not that the clock was set.
            if read < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECANCELED) {
                return;
            }
        }
    }
}

fn timer_on(clock: libc::clockid_t) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: no memory is passed; the result is checked.
    let raw = unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let owned = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: an owned descriptor is the same open file for as long as it lives, and the registration owns it.
    Ok(unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }?)
}

fn set(timer: &AsyncFd<OwnedFd>, at: libc::timespec, flags: libc::c_int) -> io::Result<()> {
    let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let wanted = libc::itimerspec { it_interval: once, it_value: at };
    // SAFETY: `wanted` is a valid itimerspec for the duration of the call; the old value is not asked for.
    match unsafe { libc::timerfd_settime(timer.get_ref().as_raw_fd(), flags, &wanted, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[tokio::test(flavor = "current_thread")]
    async fn goes_off_at_the_time_set_again_and_again() {
        let mut timer = Timer::new().expect("a timer");
        for _ in 0..3 {
            let at = SystemClock.now() + Duration::from_millis(5);
            timer.set(Some(at));
            timer.elapsed().await;
            assert!(SystemClock.now() >= at);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_clock_that_nobody_sets_is_told_by_nobody() {
        let mut watch = ClockWatch::new().expect("a kernel that can tell");
        let told = tokio::time::timeout(Duration::from_millis(20), watch.set()).await;
        assert!(told.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_deadline_in_the_past_goes_off_at_once_and_one_can_be_moved_closer() {
        let mut timer = Timer::new().expect("a timer");
        timer.set(Some(SystemClock.now() + Duration::from_secs(3600)));
        timer.set(Some(Instant::from_nanos(0)));
        timer.elapsed().await;
    }
}
