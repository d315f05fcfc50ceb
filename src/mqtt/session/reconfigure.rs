//! A session that goes on under other options: the connection is left in order where CONNECT or the server is another one.
//!
//! Invariant: what the caller has not seen acked by the [`Event::Disconnected`] that ends the old connection is the
//! caller's to send on the new one; in between nothing is taken.

use super::{Phase, Session, loader};
use crate::mqtt::connection::Connection;
use crate::mqtt::failure::Failure;
use crate::mqtt::reconnect::Backoff;
use crate::mqtt::{Event, Options};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

/// How long the old server has to acknowledge what is out, and how long DISCONNECT may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

impl Session {
    /// Goes on under `options`, which [`Options::validate`] has accepted; whether it has to connect anew for that.
    ///
    /// Then [`Event::Disconnected`] comes as soon as the old server has everything, or a second has passed: until then
    /// only [`Event::Acked`] does. Otherwise a connection, an attempt or a pause goes on; renewed certificates are read
    /// for the next attempt.
    pub fn reconfigure(&mut self, options: Options) -> bool {
        let new = Arc::new(options);
        let old = mem::replace(&mut self.options, new.clone());
        match &mut self.tls {
            Some(loader) if old.tls == new.tls && old.server == new.server => loader.forget(),
            tls => *tls = loader(&new, &self.clock),
        }
        if connects_alike(&old, &new) {
            self.backoff.set_limits(new.reconnect_min, new.reconnect_max);
            return false;
        }
        self.backoff = Backoff::new(new.reconnect_min, new.reconnect_max);
        (self.told, self.wrong_date) = (None, false);
        let now = self.clock.now();
        self.phase = match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Connected { mut connection, .. } => {
                log::info!(server:% = old.server; "leaving the server, the configuration has changed");
                connection.leave(&old.status_topic, now + LEAVE_WITHIN);
                Phase::Leaving { connection }
            }
            Phase::Pause { .. } | Phase::Attempt(_) => Phase::Pause { until: now },
            as_it_is @ (Phase::Leaving { .. } | Phase::Closed) => as_it_is,
        };
        true
    }

    /// The old server has everything, or does not answer: the next attempt may begin.
    pub(super) fn left(&mut self, outcome: Result<(), Failure>) -> Event {
        let phase = mem::replace(&mut self.phase, Phase::Pause { until: self.clock.now() });
        let mut cause = "left in order, the configuration has changed".to_owned();
        match (phase, outcome) {
            (Phase::Leaving { connection }, Ok(())) => self.goodbye = Some(connection),
            (_, Ok(())) => {}
            (_, Err(failure)) => cause = format!("left, the configuration has changed; {failure}"),
        }
        self.statistics.failures += 1;
        Event::Disconnected { cause, retry_in: Duration::ZERO }
    }
}

/// Ends a connection that everything was said on.
pub(super) async fn say_goodbye(connection: Option<Box<Connection>>) {
    if let Some(mut connection) = connection {
        // Who does not take it in time publishes the will, which says what was said already.
        let _ = tokio::time::timeout(LEAVE_WITHIN, connection.disconnect()).await;
    }
}

/// Whether a connection made under `old` is what `new` asks for.
fn connects_alike(old: &Options, new: &Options) -> bool {
    let pauses = Options { reconnect_min: new.reconnect_min, reconnect_max: new.reconnect_max, ..old.clone() };
    pauses == *new
}
