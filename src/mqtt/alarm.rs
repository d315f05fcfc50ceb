//! One timer for one task: told a deadline at every turn, it touches the runtime's timer wheel only when it has to.
//!
//! Deadlines here move later with every packet. Re-registering each time would cost more than the packet, so the timer
//! is left alone until it fires, early, and is then set to what the deadline has become.

use crate::clock::{Clock, Instant};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Sleep;

/// A timer that is re-registered only when its deadline moves earlier or when it fired too early.
#[derive(Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// What `sleep` is registered for, `None` once it fired.
    registered: Option<Instant>,
}

impl Alarm {
    /// Ready once `clock` has reached `deadline`; otherwise the task is woken then at the latest.
    pub fn poll(&mut self, clock: &dyn Clock, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = clock.now();
            if now >= deadline {
                return Poll::Ready(());
            }
            if self.registered.is_none_or(|registered| deadline < registered) {
                self.register(deadline, now);
            }
            let sleep = self.sleep.as_mut().expect("a registered alarm has its timer");
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.registered = None;
        }
    }

    fn register(&mut self, deadline: Instant, now: Instant) {
        let at = tokio::time::Instant::now() + deadline.since(now);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
        }
        self.registered = Some(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use std::future::poll_fn;
    use std::time::Duration;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn it_fires_at_the_deadline_that_holds_when_it_fires() {
        let (mut alarm, clock) = (Alarm::default(), SystemClock);
        let start = clock.now();
        let mut turns = 0;
        poll_fn(|cx| {
            turns += 1;
            let deadline = start + if turns == 1 { ms(20) } else { ms(60) };
            alarm.poll(&clock, deadline, cx)
        })
        .await;
        assert!(clock.now().since(start) >= ms(60));
        assert_eq!(turns, 3, "registered, woken too early and registered again, done");
    }

    #[tokio::test]
    async fn an_earlier_deadline_is_kept() {
        let (mut alarm, clock) = (Alarm::default(), SystemClock);
        let start = clock.now();
        poll_fn(|cx| {
            assert!(alarm.poll(&clock, start + Duration::from_secs(3600), cx).is_pending());
            alarm.poll(&clock, start + ms(10), cx)
        })
        .await;
        assert!(clock.now().since(start) < Duration::from_secs(60));
    }
}
