//! Time as the gateway sees it: a monotonic instant, a wall-clock date that may not be known yet, and their source.
//!
//! Everything below `agent` takes an instant or a [`Stamp`] as an argument, or a [`Clock`]; nothing else reads the
//! system's clocks, so whole days can be run on a [`ManualClock`].

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Before this date (2026-01-01T00:00:00Z, milliseconds since the epoch) the wall clock is known to be wrong:
/// a board without a real-time clock starts in 1970 or at the date its image was made.
const EARLIEST_PLAUSIBLE_MS: i64 = 1_767_225_600_000;

/// Clocks that differ by more than this many milliseconds have not drifted apart: somebody has set one. A quartz of
/// 100 ppm needs a week for it.
const SET_MS: u64 = 60_000;

/// Nanoseconds on `CLOCK_MONOTONIC`; only differences have a meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant `nanoseconds` after the clock's origin.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, zero if that lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(earlier.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A date: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

impl Wall {
    /// Parses an RFC 3339 date in UTC (`2026-01-31T12:00:00.250Z`); `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text.trim()).ok()?;
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok().map(Self)
    }
}

/// The date of something that happened `ago` in this boot, when the clock said `told`, by what it says `now`.
///
/// That date stands unless somebody has set the clock since: then the old clock was wrong, and the date is counted back
/// from now. So what was measured before the board learnt the date gets one as soon as it is known.
pub fn date_of(told: Option<Wall>, ago: Duration, now: Option<Wall>) -> Option<Wall> {
    let counted =
        now.map(|now| Wall(now.0.saturating_sub_unsigned(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))));
    match (told, counted) {
        (Some(told), Some(counted)) if told.0.abs_diff(counted.0) > SET_MS => Some(counted),
        (told, counted) => told.or(counted),
    }
}

impl fmt::Display for Wall {
    /// RFC 3339, UTC, milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0).unwrap_or(0);
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).fmt(f)
    }
}

/// When something happened: always on the monotonic clock, and on the wall clock where that was known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Monotonic.
    pub at: Instant,
    /// The date, `None` until the clock is known to be right.
    pub wall: Option<Wall>,
}

impl Stamp {
    /// The same with the date it has by the clock as it is `now`, as [`date_of`] works it out.
    #[must_use]
    pub fn dated(self, now: Self) -> Self {
        Self { wall: date_of(self.wall, now.at.since(self.at), now.wall), ..self }
    }
}

/// The source of time.
pub trait Clock: Send + Sync {
    /// The monotonic instant.
    fn now(&self) -> Instant;
    /// What the wall clock says, right or wrong: for telling people, and for certificates.
    fn date(&self) -> Wall;
    /// The date, `None` while it is known to be wrong.
    fn wall(&self) -> Option<Wall> {
        Some(self.date()).filter(|date| date.0 >= EARLIEST_PLAUSIBLE_MS)
    }
    /// Both.
    fn stamp(&self) -> Stamp {
        Stamp { at: self.now(), wall: self.wall() }
    }
    /// How long the board has slept since it booted: what `CLOCK_BOOTTIME` is ahead of the instants.
    fn asleep(&self) -> Duration {
        Duration::ZERO
    }
    /// Waits until `instant`, on the absolute clock so that no lateness adds up; returns at once if it has passed.
    fn sleep_until(&self, instant: Instant);
    /// Waits for `duration`.
    fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration);
    }
}

/// The system's `CLOCK_MONOTONIC` and `CLOCK_REALTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The processor time, user and system, that all threads of this process have used.
pub fn processor_time() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the duration of the call.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant(read(libc::CLOCK_MONOTONIC).as_nanos() as u64)
    }

    fn date(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn asleep(&self) -> Duration {
        // Read in this order, the difference is never negative.
        let awake = read(libc::CLOCK_MONOTONIC);
        read(libc::CLOCK_BOOTTIME).saturating_sub(awake)
    }

    fn sleep_until(&self, instant: Instant) {
        let until = libc::timespec {
            tv_sec: (instant.0 / 1_000_000_000) as libc::time_t,
            tv_nsec: (instant.0 % 1_000_000_000) as _,
        };
        // SAFETY: `until` is a valid timespec; no remainder is asked for, an absolute sleep needs none.
        while unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &until, std::ptr::null_mut()) }
            == libc::EINTR
        {}
    }
}

/// A clock that moves only when told to, for tests and simulated days.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
    /// Nanoseconds since 1970, so that both clocks go equally fast.
    wall: AtomicI64,
}

impl ManualClock {
    /// A clock at `start` whose date is unknown.
    pub fn new(start: Instant) -> Self {
        Self { nanos: AtomicU64::new(start.0), wall: AtomicI64::new(i64::MIN) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
        if self.wall.load(Ordering::Relaxed) != i64::MIN {
            self.wall.fetch_add(by.as_nanos() as i64, Ordering::Relaxed);
        }
    }

    /// Steps the wall clock; `None` makes the date unknown.
    pub fn set_wall(&self, wall: Option<Wall>) {
        self.wall.store(wall.map_or(i64::MIN, |wall| wall.0.saturating_mul(1_000_000)), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.nanos.load(Ordering::Relaxed))
    }

    /// 1970 while it is not known.
    fn date(&self) -> Wall {
        self.wall().unwrap_or(Wall(0))
    }

    fn wall(&self) -> Option<Wall> {
        let nanos = self.wall.load(Ordering::Relaxed);
        (nanos != i64::MIN).then_some(Wall(nanos.div_euclid(1_000_000)))
    }

    /// Moves this clock there instead of waiting.
    fn sleep_until(&self, instant: Instant) {
        self.advance(instant.since(self.now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rfc_3339_in_utc_with_milliseconds() {
        let wall = Wall::parse("2026-01-31T12:00:00.250Z").expect("a date");
        assert_eq!(wall.to_string(), "2026-01-31T12:00:00.250Z");
        assert_eq!(Wall::parse("yesterday"), None);
        assert_eq!(Wall(-5).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_date_is_counted_back_once_it_is_known_and_after_the_clock_was_set() {
        let at = |ms| Some(Wall(ms));
        let hour = Duration::from_secs(3600);
        let now = 1_800_000_000_000;
        let then = now - 3_600_000;
        assert_eq!(date_of(None, hour, at(now)), at(then), "it was not known then");
        assert_eq!(date_of(None, hour, None), None, "and is not known now");
        assert_eq!(date_of(at(then + 59_000), hour, at(now)), at(then + 59_000), "two clocks that drift");
        assert_eq!(date_of(at(then - 86_400_000), hour, at(now)), at(then), "the clock was a day behind");
        assert_eq!(date_of(at(then), hour, None), at(then), "the clock has been lost since");
        assert_eq!(date_of(at(5), Duration::MAX, at(now)), at(i64::MIN), "nothing wraps");
    }

    #[test]
    fn instants_never_wrap() {
        assert_eq!(Instant(5) - Duration::from_secs(1), Instant(0));
        assert_eq!(Instant(5).since(Instant(9)), Duration::ZERO);
        assert_eq!(Instant(5) + Duration::MAX, Instant(u64::MAX));
    }
}
