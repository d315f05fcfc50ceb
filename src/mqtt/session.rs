//! One server over the years: pause, attempt, connection, pause.
//!
//! Everything that lasts is a field, so [`Session::event`] can be dropped at any await and called again: an attempt goes
//! on where it was. What is published between two calls leaves in one write.

mod reconfigure;

use super::alarm::Alarm;
use super::connection::{Connection, Turn};
use super::encode::MAX_STRING;
use super::failure::{self, Class, Failure};
use super::reconnect::{Backoff, By, Ending};
use super::resolver::Resolver;
use super::tls::{Loader, Trust};
use super::transport::{self, Opened, Tls};
use super::{Event, Options, OptionsError, Outgoing, PublishError, Server, Statistics, Token};
use crate::clock::{Clock, Instant};
use crate::topic::{self, QoS};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The longest keep-alive CONNECT can carry.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(65_535);

type Attempt = Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>;

enum Phase {
    Pause {
        until: Instant,
    },
    Attempt(Attempt),
    Connected {
        connection: Box<Connection>,
        since: Instant,
    },
    /// On the way to other options: acks are taken, nothing else.
    Leaving {
        connection: Box<Connection>,
    },
    Closed,
}

/// A session with one server, which connects, and connects again, by itself.
pub struct Session {
    options: Arc<Options>,
    clock: Arc<dyn Clock>,
    phase: Phase,
    alarm: Alarm,
    backoff: Backoff,
    tls: Option<Loader>,
    resolver: Arc<Resolver>,
    delivered: BTreeSet<u16>,
    statistics: Statistics,
    /// A connection that everything was said on but DISCONNECT.
    goodbye: Option<Box<Connection>>,
    /// The cause that was logged last, while there is no connection.
    told: Option<String>,
    /// The last attempt failed because of the date.
    wrong_date: bool,
}

impl Session {
    /// A session that starts its first attempt with the first [`Session::event`]. Files are read then, not now.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Result<Self, OptionsError> {
        options.validate()?;
        Ok(Self {
            backoff: Backoff::new(options.reconnect_min, options.reconnect_max),
            phase: Phase::Pause { until: clock.now() },
            tls: loader(&options, &clock),
            options: Arc::new(options),
            clock,
            alarm: Alarm::default(),
            resolver: Arc::default(),
            delivered: BTreeSet::new(),
            statistics: Statistics::default(),
            goodbye: None,
            told: None,
            wrong_date: false,
        })
    }

    /// Waits for the next event, on a connection after writing everything published since the last call in one go.
    ///
    /// Cancel-safe: it may be dropped and called again, no event is lost and an attempt under way goes on. After
    /// [`Session::close`] it waits for ever.
    pub async fn event(&mut self) -> Event {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Whether the server has accepted us and nothing is known to be wrong.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. })
    }

    /// How many publishes at QoS 1 will be taken now, 0 to 80, counted from the oldest that is not acked.
    pub fn room(&self) -> usize {
        self.room_at(QoS::AtLeastOnce)
    }

    /// How many publishes at `qos` will be taken now: 0 to 80 at QoS 1, 0 to 10 at QoS 2, and at QoS 0 whatever
    /// [`Session::backlog`] allows.
    pub fn room_at(&self, qos: QoS) -> usize {
        self.connection().map_or(0, |connection| connection.room(qos))
    }

    /// Bytes that wait to be written. They grow with publishes at QoS 0, which have no window, on a link that stalls.
    pub fn backlog(&self) -> usize {
        self.connection().map_or(0, Connection::backlog)
    }

    /// What has been done so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Appends `message` to what the next [`Session::event`] or [`Session::flush`] writes.
    ///
    /// At QoS 1 and 2 `token` comes back in [`Event::Acked`], unless an [`Event::Disconnected`] comes first; at QoS 0 it
    /// never does. QoS 2 is exactly once on one connection; what the caller sends again on the next one may arrive twice.
    pub fn publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Result<(), PublishError> {
        let Phase::Connected { connection, .. } = &mut self.phase else { return Err(PublishError::NotConnected) };
        connection.publish(message, token)?;
        self.statistics.messages_out += 1;
        Ok(())
    }

    /// Asks for `filters`, split into as many packets as it takes; does nothing unless connected, since
    /// [`Event::Connected`] is where to subscribe.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)]) {
        if let Phase::Connected { connection, .. } = &mut self.phase {
            connection.subscribe(filters);
        }
    }

    /// The wall clock has been set: if the last attempt failed because of the date, the next one is made now.
    pub fn clock_set(&mut self) {
        if let (Phase::Pause { until }, true) = (&mut self.phase, self.wrong_date) {
            *until = self.clock.now();
        }
    }

    /// Asks to hear `filters` no longer; does nothing unless connected. What is on its way still comes.
    pub fn unsubscribe(&mut self, filters: &[&str]) {
        if let Phase::Connected { connection, .. } = &mut self.phase {
            connection.unsubscribe(filters);
        }
    }

    /// Writes what is published so far as far as the transport takes it now; never waits.
    pub fn flush(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        self.with_connection(|connection, turn| connection.poll_write(&mut cx, turn));
    }

    /// Ends the session: `offline` on the status topic, retained, then acks for everything that is out, then DISCONNECT.
    ///
    /// Returns the tokens that were acked meanwhile. Messages that arrive meanwhile are not taken, so a persistent
    /// session gives them to the next connection. Past `deadline` the connection is dropped without DISCONNECT, and the
    /// server publishes the will, which says the same.
    pub async fn close(&mut self, deadline: Duration) -> Vec<Token> {
        let mut acked = Vec::new();
        let mut ended = true;
        if matches!(self.phase, Phase::Connected { .. } | Phase::Leaving { .. }) {
            ended = tokio::time::timeout(deadline, self.finish(&mut acked)).await.unwrap_or(false);
        }
        if !ended {
            log::warn!(server:% = self.options.server; "the server did not acknowledge everything before the stop");
        }
        reconfigure::say_goodbye(self.goodbye.take()).await;
        self.phase = Phase::Closed;
        acked
    }

    /// Whether everything was acked and DISCONNECT is sent.
    async fn finish(&mut self, acked: &mut Vec<Token>) -> bool {
        if let Phase::Connected { connection, .. } = &mut self.phase {
            connection.finish(&self.options.status_topic);
        }
        loop {
            match poll_fn(|cx| self.poll_connection(cx)).await {
                Ok(Some(Event::Acked(token))) => acked.push(token),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        match &mut self.phase {
            Phase::Connected { connection, .. } | Phase::Leaving { connection } => {
                connection.disconnect().await.is_ok()
            }
            _ => false,
        }
    }

    fn connection(&self) -> Option<&Connection> {
        match &self.phase {
            Phase::Connected { connection, .. } => Some(connection),
            _ => None,
        }
    }

    fn with_connection<T>(&mut self, act: impl FnOnce(&mut Connection, &mut Turn<'_>) -> T) -> Option<T> {
        let (Phase::Connected { connection, .. } | Phase::Leaving { connection }) = &mut self.phase else {
            return None;
        };
        let (server, tls) = (&self.options.server, &self.tls);
        let explain = |error: &std::io::Error| failure::broken(error, server, trust(tls).as_ref());
        let mut turn = Turn {
            alarm: &mut self.alarm,
            statistics: &mut self.statistics,
            delivered: &mut self.delivered,
            explain: &explain,
        };
        Some(act(connection, &mut turn))
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Failure>> {
        self.with_connection(|connection, turn| connection.poll(cx, turn)).unwrap_or(Poll::Ready(Ok(None)))
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match &mut self.phase {
                Phase::Closed => return Poll::Pending,
                Phase::Pause { until } => {
                    std::task::ready!(self.alarm.poll(&*self.clock, *until, cx));
                    if let Err(failure) = self.attempt() {
                        return Poll::Ready(self.failed(&failure));
                    }
                }
                Phase::Attempt(attempt) => {
                    return Poll::Ready(match std::task::ready!(attempt.as_mut().poll(cx)) {
                        Ok(opened) => self.accepted(opened),
                        Err(failure) => self.failed(&failure),
                    });
                }
                Phase::Leaving { .. } => {
                    let outcome = std::task::ready!(self.poll_connection(cx));
                    return Poll::Ready(match outcome {
                        Ok(Some(event)) => event,
                        Ok(None) => self.left(Ok(())),
                        Err(failure) => self.left(Err(failure)),
                    });
                }
                Phase::Connected { .. } => match std::task::ready!(self.poll_connection(cx)) {
                    Ok(Some(event)) => return Poll::Ready(event),
                    Ok(None) => self.phase = Phase::Closed,
                    Err(failure) => return Poll::Ready(self.failed(&failure)),
                },
            }
        }
    }

    fn attempt(&mut self) -> Result<(), Failure> {
        let goodbye = self.goodbye.take();
        let tls = match &mut self.tls {
            Some(loader) => Some(Tls { config: loader.load()?, trust: loader.trust() }),
            None => None,
        };
        let (options, resolver) = (self.options.clone(), self.resolver.clone());
        self.phase = Phase::Attempt(Box::pin(async move {
            // First, as the next server may be the same one.
            reconfigure::say_goodbye(goodbye).await;
            transport::open(options, tls, resolver).await
        }));
        Ok(())
    }

    fn accepted(&mut self, opened: Opened) -> Event {
        let session_present = opened.session_present;
        if !session_present {
            self.delivered.clear();
        }
        let connection = Connection::new(opened, self.options.keep_alive, self.clock.clone());
        self.phase = Phase::Connected { connection: Box::new(connection), since: self.clock.now() };
        self.statistics.connects += 1;
        self.told = None;
        log::info!(server:% = self.options.server, session_present; "connected to the server");
        Event::Connected { session_present }
    }

    fn failed(&mut self, failure: &Failure) -> Event {
        let now = self.clock.now();
        let ending = match (&self.phase, failure.class) {
            (Phase::Connected { since, .. }, class) => {
                let by = match class {
                    Class::Closed => By::Server,
                    Class::Broken => By::Link,
                    Class::Unreachable | Class::Refused | Class::Rejected | Class::Abandoned => By::Us,
                };
                Ending::Lost { lived: now.since(*since), by }
            }
            (_, Class::Refused) => Ending::Refused,
            (_, Class::Rejected) => Ending::Rejected,
            (_, Class::Unreachable | Class::Abandoned | Class::Closed | Class::Broken) => Ending::Unreachable,
        };
        if ending == Ending::Unreachable
            && let Some(loader) = &mut self.tls
        {
            loader.forget();
        }
        let retry_in = self.backoff.pause(ending, now, fastrand::f64());
        self.phase = Phase::Pause { until: now + retry_in };
        self.statistics.failures += 1;
        self.wrong_date = failure.date.is_some();
        let cause = self.name_takeover(failure, now);
        self.tell(failure, &cause);
        Event::Disconnected { cause, retry_in }
    }

    fn name_takeover(&self, failure: &Failure, now: Instant) -> String {
        if !self.backoff.taken_over(now) {
            return failure.to_string();
        }
        let id = &self.options.client_id;
        format!("{failure}: another client with the id `{id}` seems to take over this session (the server's log tells)")
    }

    /// One line per outage, and one more each time its cause changes.
    fn tell(&mut self, failure: &Failure, cause: &str) {
        let stable = if failure.date.is_some() { &failure.cause } else { cause };
        if self.told.as_deref() == Some(stable) {
            return;
        }
        log::warn!(server:% = self.options.server, cause; "no connection to the server");
        self.told = Some(stable.to_owned());
    }
}

fn trust(tls: &Option<Loader>) -> Option<Trust> {
    tls.as_ref().map(Loader::trust)
}

fn loader(options: &Options, clock: &Arc<dyn Clock>) -> Option<Loader> {
    matches!(options.server, Server::Tls { .. }).then(|| Loader::new(options.tls.clone(), clock.clone()))
}

impl Options {
    /// Whether a session can be made of them.
    ///
    /// # Errors
    /// The first thing that keeps one from being made.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let keep_alive = self.keep_alive;
        if keep_alive > MAX_KEEP_ALIVE || keep_alive < Duration::from_secs(1) || keep_alive.subsec_nanos() > 0 {
            return Err(OptionsError::KeepAlive(keep_alive));
        }
        if self.client_id.is_empty() && !self.clean_session {
            return Err(OptionsError::AnonymousSession);
        }
        let (min, max) = (self.reconnect_min, self.reconnect_max);
        if min < Duration::from_millis(1) || min > max {
            return Err(OptionsError::Reconnect { min, max });
        }
        topic::validate(&self.status_topic).map_err(OptionsError::StatusTopic)?;
        fits("client id", &self.client_id)?;
        if let Some(login) = &self.login {
            fits("user name", &login.username)?;
            fits("password", login.password.as_deref().unwrap_or_default())?;
            if login.username.is_empty() && login.password.is_some() {
                return Err(OptionsError::PasswordWithoutName);
            }
        }
        Ok(())
    }
}

fn fits(what: &'static str, text: &str) -> Result<(), OptionsError> {
    if text.len() > MAX_STRING { Err(OptionsError::TooLong { what, length: text.len() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::{Login, TlsFiles};
    use super::*;
    use crate::clock::SystemClock;

    fn options() -> Options {
        Options {
            server: Server::Tcp { host: "127.0.0.1".into(), port: 1 },
            tls: TlsFiles::default(),
            client_id: "board2mqtt-test".into(),
            login: None,
            keep_alive: Duration::from_secs(30),
            clean_session: true,
            status_topic: "t/status".into(),
            reconnect_min: Duration::from_millis(5),
            reconnect_max: Duration::from_millis(20),
        }
    }

    fn refusal(change: impl FnOnce(&mut Options)) -> String {
        let mut options = options();
        change(&mut options);
        Session::new(options, Arc::new(SystemClock)).err().expect("a refusal").to_string()
    }

    #[test]
    fn options_no_session_can_be_made_of() {
        let keep_alive = refusal(|options| options.keep_alive = Duration::from_millis(1500));
        assert_eq!(keep_alive, "keep-alive is 1.5s, allowed are whole seconds from 1 s to 65535 s");
        assert!(refusal(|options| options.keep_alive = Duration::ZERO).contains("keep-alive is 0ns"));
        assert!(refusal(|options| options.status_topic = "a/+".into()).contains("wildcard"));
        assert!(refusal(|options| options.client_id = "x".repeat(65_536)).contains("client id has 65536 bytes"));
        assert!(refusal(|options| options.reconnect_min = Duration::ZERO).contains("must be at least 1ms"));
        let login = Login { username: String::new(), password: Some("secret".into()) };
        assert_eq!(refusal(|options| options.login = Some(login)), "a password needs a user name");
        let anonymous = refusal(|options| {
            options.client_id.clear();
            options.clean_session = false;
        });
        assert_eq!(anonymous, "an empty client id needs a clean session");
    }

    #[test]
    fn nothing_is_taken_without_a_connection() {
        let mut session = Session::new(options(), Arc::new(SystemClock)).expect("a session");
        let message = Outgoing { topic: "a", payload: b"1", qos: QoS::AtLeastOnce, retain: false };
        assert_eq!(session.publish(&message, Some(1)), Err(PublishError::NotConnected));
        assert_eq!((session.room(), session.backlog(), session.is_connected()), (0, 0, false));
        session.subscribe(&[("a", QoS::AtMostOnce)]);
        session.flush();
    }

    #[tokio::test]
    async fn a_refusing_host_is_named_and_asked_again_after_the_shortest_pause() {
        let mut session = Session::new(options(), Arc::new(SystemClock)).expect("a session");
        for _ in 0..3 {
            let Event::Disconnected { cause, retry_in } = session.event().await else { panic!("port 1 is closed") };
            assert_eq!(cause, "no connection to `mqtt://127.0.0.1:1` at 127.0.0.1:1: connection refused");
            assert_eq!(retry_in, Duration::from_millis(5));
        }
        assert_eq!(session.statistics().failures, 3);
        assert!(session.close(Duration::from_secs(1)).await.is_empty());
    }
}
