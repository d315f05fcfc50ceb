//! How long to wait before the next attempt, decided from how the last one ended. Pure: time and chance are arguments.
//!
//! - A host that cannot be reached may be far or gone: exponential, with jitter so that a whole fleet does not return at once.
//! - A host that refuses is near and its server is starting: the shortest pause, so that nobody waits for us.
//! - A server that rejects our name needs a person: the longest pause.
//! - A connection that lived has shown that all is well: the shortest pause, and everything before it is forgotten.
//! - Connections that the server ends soon after accepting them, one after the other, are somebody else's with our
//!   client id (MQTT 3.1.1, 3.1.4-2), and each of our returns ends theirs: long pauses. A server that dies again and again
//!   looks the same but for one thing: asked at once, it refuses. So after such an end there is one attempt without a pause.
//!   A bad link does not end connections in order: it resets them, or falls silent. Such an end says nothing of takeovers.

use crate::clock::Instant;
use std::time::Duration;

/// A connection that ended sooner proves nothing about the next one.
const LIVED: Duration = Duration::from_secs(5);
/// So many short connections in a row…
const TAKEOVERS: usize = 3;
/// …within this time are a takeover.
const TAKEOVER_SPAN: Duration = Duration::from_secs(60);

/// How an attempt or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing answered, or what answered is no server for us.
    Unreachable,
    /// The host answered, but not its server.
    Refused,
    /// CONNACK 4 or 5.
    Rejected,
    /// It was accepted and ended after this long.
    Lost {
        /// Since CONNACK.
        lived: Duration,
        /// Who ended it.
        by: By,
    },
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The server, in order.
    Server,
    /// Whatever is between us: a reset, an error of the network.
    Link,
    /// We, as it was no use any more.
    Us,
}

/// The pauses of one session.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// Failures in a row.
    failures: u32,
    /// When the last connections that the server ended early did end, with nothing else in between; the newest last.
    short: [Option<Instant>; TAKEOVERS],
    /// The last attempt was made at once, to see whether the server is still there.
    asked_at_once: bool,
}

impl Backoff {
    /// Pauses of `min` to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0, short: [None; TAKEOVERS], asked_at_once: false }
    }

    /// Other pauses from the next one on; what was learnt stays.
    pub fn set_limits(&mut self, min: Duration, max: Duration) {
        (self.min, self.max) = (min, max);
    }

    /// The pause after `ending` at `now`; `random` is in 0..1.
    pub fn pause(&mut self, ending: Ending, now: Instant, random: f64) -> Duration {
        self.note(ending, now);
        let asked_at_once = std::mem::take(&mut self.asked_at_once);
        match ending {
            Ending::Refused => self.forget(),
            Ending::Lost { lived, .. } if lived >= LIVED => self.forget(),
            Ending::Rejected => {
                self.failures = 0;
                self.max
            }
            Ending::Lost { by: By::Server | By::Link, .. } if !asked_at_once && !self.taken_over(now) => {
                self.asked_at_once = true;
                Duration::ZERO
            }
            _ if self.taken_over(now) => between(self.max / 2, self.max, random).max(self.min),
            Ending::Unreachable | Ending::Lost { .. } => {
                self.failures = self.failures.saturating_add(1);
                let ceiling = self.min.saturating_mul(1 << (self.failures - 1).min(20)).min(self.max);
                between(self.min, ceiling, random)
            }
        }
    }

    /// Whether somebody else seems to use our client id.
    pub fn taken_over(&self, now: Instant) -> bool {
        self.short[0].is_some_and(|first| now.since(first) <= TAKEOVER_SPAN)
    }

    fn note(&mut self, ending: Ending, now: Instant) {
        match ending {
            Ending::Lost { lived, by: By::Server } if lived < LIVED => {
                self.short.rotate_left(1);
                self.short[TAKEOVERS - 1] = Some(now);
            }
            // It lived until the other one returned, or nobody took it over: what came before still tells.
            Ending::Lost { by: By::Server | By::Link, .. } => {}
            _ => self.short = [None; TAKEOVERS],
        }
    }

    fn forget(&mut self) -> Duration {
        self.failures = 0;
        self.min
    }
}

fn between(low: Duration, high: Duration, random: f64) -> Duration {
    low + high.saturating_sub(low).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn lost(seconds: u64) -> Ending {
        Ending::Lost { lived: Duration::from_secs(seconds), by: By::Server }
    }

    #[test]
    fn time_outs_double_up_to_the_longest_pause() {
        let mut backoff = Backoff::new(MIN, MAX);
        let ceilings: Vec<_> = (0..9).map(|_| backoff.pause(Ending::Unreachable, at(0), 1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.pause(Ending::Unreachable, at(0), 0.0), MIN);
        assert_eq!(backoff.pause(Ending::Unreachable, at(0), 0.5), Duration::from_millis(30_500));
        for _ in 0..1000 {
            backoff.pause(Ending::Unreachable, at(0), 1.0);
        }
        assert_eq!(backoff.pause(Ending::Unreachable, at(0), 1.0), MAX);
    }

    #[test]
    fn a_host_that_refuses_is_asked_again_soon() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..5 {
            backoff.pause(Ending::Unreachable, at(0), 1.0);
        }
        for _ in 0..100 {
            assert_eq!(backoff.pause(Ending::Refused, at(0), 1.0), MIN);
        }
        assert_eq!(backoff.pause(Ending::Unreachable, at(0), 1.0), MIN, "it starts from the beginning");
    }

    #[test]
    fn a_rejected_name_waits_longest() {
        assert_eq!(Backoff::new(MIN, MAX).pause(Ending::Rejected, at(0), 0.0), MAX);
    }

    #[test]
    fn a_connection_that_lived_makes_a_new_start() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..5 {
            backoff.pause(Ending::Unreachable, at(0), 1.0);
        }
        assert_eq!(backoff.pause(lost(5), at(100), 1.0), MIN);
    }

    #[test]
    fn connections_that_end_at_once_are_no_tight_loop() {
        let mut backoff = Backoff::new(MIN, MAX);
        let short = Ending::Lost { lived: Duration::ZERO, by: By::Us };
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause(short, at(0), 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!backoff.taken_over(at(0)), "we ended them ourselves");
    }

    #[test]
    fn three_short_connections_in_a_minute_are_a_takeover() {
        let mut backoff = Backoff::new(MIN, MAX);
        assert_eq!(backoff.pause(lost(1), at(0), 0.0), Duration::ZERO, "is the server still there?");
        assert_eq!(backoff.pause(lost(1), at(2), 0.0), MIN);
        assert!(!backoff.taken_over(at(2)));
        assert_eq!(backoff.pause(lost(1), at(4), 0.0), MAX / 2);
        assert!(backoff.taken_over(at(4)));
        assert_eq!(backoff.pause(lost(1), at(200), 0.0), Duration::ZERO, "long ago is not in a row");
    }

    #[test]
    fn a_link_that_resets_connections_is_no_takeover_and_hides_none() {
        let mut backoff = Backoff::new(MIN, MAX);
        let reset = Ending::Lost { lived: Duration::from_secs(1), by: By::Link };
        for n in 0..10 {
            backoff.pause(reset, at(n), 1.0);
            assert!(!backoff.taken_over(at(n)));
        }
        for n in 10..13 {
            backoff.pause(lost(1), at(2 * n), 1.0);
            backoff.pause(reset, at(2 * n + 1), 1.0);
        }
        assert!(backoff.taken_over(at(25)));
    }

    #[test]
    fn a_server_that_restarts_again_and_again_is_no_takeover() {
        let mut backoff = Backoff::new(MIN, MAX);
        for n in 0..10 {
            assert_eq!(backoff.pause(lost(1), at(n), 1.0), Duration::ZERO);
            assert_eq!(backoff.pause(Ending::Refused, at(n), 1.0), MIN);
            assert!(!backoff.taken_over(at(n)));
        }
    }

    #[test]
    fn the_shortest_pause_holds_even_where_it_is_the_longest() {
        let mut backoff = Backoff::new(MIN, MIN);
        assert_eq!(backoff.pause(lost(0), at(0), 0.0), Duration::ZERO);
        for n in 1..5 {
            assert_eq!(backoff.pause(lost(0), at(n), 0.0), MIN);
        }
    }
}
