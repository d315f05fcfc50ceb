//! One accepted connection: a read buffer, a write buffer, the window, and the deadlines that tell when it is dead.
//!
//! A turn takes what is buffered, packet by packet, then writes everything there is to write at once, then reads once,
//! then looks at the deadlines. Nothing is kept that a later connection could need, except by the caller.
//!
//! What each packet of the server leads to is in `incoming`.

use super::alarm::Alarm;
use super::asks::Asks;
use super::encode;
use super::failure::{Class, Failure};
use super::transport::{Opened, READ_CHUNK, Stream};
use super::window::{ACK_TIME_OUT, Window};
use super::{Event, Outgoing, PublishError, Statistics, Token};
use crate::clock::{Clock, Instant};
use crate::topic::QoS;
use bytes::{Buf, BytesMut};
use rumqttc::Packet;
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that may wait to be written before a publish is refused.
pub(super) const MAX_BACKLOG: usize = 1024 * 1024;
/// A buffer that has held more is given back once it is empty.
const KEEP_BUFFER: usize = 128 * 1024;

/// What the transport said when a write failed; reading goes on, for the acks that were on their way.
type WriteError = io::Error;

/// A connection that the server has accepted.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    clock: Arc<dyn Clock>,
    pub(super) input: BytesMut,
    output: BytesMut,
    /// The most bytes each of them has held.
    most_input: usize,
    most_output: usize,
    /// The transport holds bytes of its own that it has not sent.
    unflushed: bool,
    write_error: Option<WriteError>,
    pub(super) window: Window,
    /// Subscriptions that found no id free, and their ends.
    asks: Asks,
    /// Events of a packet that had several.
    pub(super) events: VecDeque<Event>,
    keep_alive: Duration,
    pub(super) awaits_pong: bool,
    pub(super) received: Instant,
    written: Instant,
    /// When bytes last left us that had had to wait: the link is slow, and so are its acks.
    waited: Instant,
    /// Bytes wait.
    waits: bool,
    /// What remains to be said is said and acked; messages are neither taken nor acked any more.
    pub(super) closing: bool,
    /// Until then, where nobody else looks at the time.
    close_by: Option<Instant>,
}

/// How a connection turns a transport's error into words.
pub(super) type Explain<'a> = &'a dyn Fn(&io::Error) -> Failure;

/// What a turn uses of the session.
pub(super) struct Turn<'a> {
    pub alarm: &'a mut Alarm,
    pub statistics: &'a mut Statistics,
    /// Ids of messages at QoS 2 that were delivered and not yet released.
    pub delivered: &'a mut BTreeSet<u16>,
    pub explain: Explain<'a>,
}

impl Connection {
    /// Takes over what the attempt opened.
    pub fn new(opened: Opened, keep_alive: Duration, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self {
            stream: opened.stream,
            clock,
            input: opened.input,
            output: BytesMut::with_capacity(READ_CHUNK),
            most_input: 0,
            most_output: 0,
            unflushed: false,
            write_error: None,
            window: Window::new(now, opened.session_present),
            asks: Asks::default(),
            events: VecDeque::new(),
            keep_alive,
            awaits_pong: false,
            received: now,
            written: now,
            waited: now,
            waits: false,
            closing: false,
            close_by: None,
        }
    }

    /// How many more publishes at `qos` fit; none above QoS 0 while subscriptions wait for ids, as those go first.
    pub fn room(&self, qos: QoS) -> usize {
        if self.asks.is_empty() || qos == QoS::AtMostOnce { self.window.room(qos) } else { 0 }
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.output.len()
    }

    /// Appends a publish to the write buffer.
    pub fn publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Result<(), PublishError> {
        let size = encode::publish_size(message);
        if message.topic.len() > encode::MAX_STRING || size > MAX_BACKLOG {
            return Err(PublishError::TooLong);
        }
        if self.room(message.qos) == 0 || self.output.len() + size > MAX_BACKLOG {
            return Err(PublishError::Full);
        }
        self.put_publish(message, token).ok_or(PublishError::Full)
    }

    fn put_publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Option<()> {
        let mut id = 0;
        if message.qos == QoS::ExactlyOnce {
            for release in self.window.sweep() {
                self.put(&Packet::PubRel(release));
            }
        }
        if message.qos != QoS::AtMostOnce {
            id = self.window.publish(message.qos, token, self.clock.now())?;
        }
        encode::publish(&mut self.output, message, id);
        Some(())
    }

    /// Asks for `filters`, in as many packets as it takes.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)]) {
        self.asks.subscribe(filters);
        self.ask();
    }

    /// Asks to hear `filters` no longer.
    pub fn unsubscribe(&mut self, filters: &[&str]) {
        self.asks.unsubscribe(filters);
        self.ask();
    }

    /// Sends as much of what is to be asked as there are ids for.
    pub(super) fn ask(&mut self) {
        while let Some(packet) = self.asks.next(&mut self.window, self.clock.now()) {
            self.put(&packet);
        }
    }

    /// As [`Connection::finish`], given up at `deadline`.
    pub fn leave(&mut self, status_topic: &str, deadline: Instant) {
        self.finish(status_topic);
        self.close_by = Some(deadline);
    }

    /// Says `offline` and lets everything be acked; [`Connection::poll`] is ready with `None` when all is said.
    pub fn finish(&mut self, status_topic: &str) {
        self.closing = true;
        self.asks.clear();
        let offline =
            Outgoing { topic: status_topic, payload: super::OFFLINE.as_bytes(), qos: QoS::AtLeastOnce, retain: true };
        // The part of the circle that publishes may not use has an id for it; where it has none the will says it.
        if self.put_publish(&offline, None).is_none() {
            self.write_error = Some(io::ErrorKind::TimedOut.into());
        }
    }

    /// DISCONNECT, which makes the server forget the will, then the end of the stream.
    pub async fn disconnect(&mut self) -> io::Result<()> {
        self.put(&Packet::Disconnect);
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await?;
        self.stream.shutdown().await
    }

    /// One turn: the next event, `None` when closing is done, or why the connection is dead.
    pub fn poll(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) -> Poll<Result<Option<Event>, Failure>> {
        loop {
            if let Some(event) = self.next_event(turn)? {
                return Poll::Ready(Ok(Some(event)));
            }
            self.poll_write(cx, turn);
            if self.closing && self.window.is_empty() && self.output.is_empty() {
                return Poll::Ready(Ok(None));
            }
            if self.poll_read(cx, turn)?.is_ready() {
                // A server that never stops talking must still be pinged.
                self.ping_if_due(self.received);
                continue;
            }
            if let Some(error) = &self.write_error {
                return Poll::Ready(Err((turn.explain)(error)));
            }
            let deadline = self.deadline();
            if turn.alarm.poll(&*self.clock, deadline, cx).is_pending() {
                return Poll::Pending;
            }
            let now = self.clock.now();
            self.check(now)?;
            self.ping_if_due(now);
        }
    }

    /// Writes what there is to write without waiting, and notes an error for the next turn.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) {
        self.most_output = self.most_output.max(self.output.len());
        while !self.output.is_empty() && self.write_error.is_none() {
            match pin!(self.stream.write(&self.output)).poll(cx) {
                Poll::Pending => {
                    self.waits = true;
                    return;
                }
                Poll::Ready(Ok(0)) => self.write_error = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.output.advance(count);
                    self.unflushed = true;
                    self.written = self.clock.now();
                    self.waited = if self.waits { self.written } else { self.waited };
                    turn.statistics.bytes_out += count as u64;
                    turn.statistics.writes += 1;
                }
                Poll::Ready(Err(error)) => self.write_error = Some(error),
            }
        }
        if self.unflushed && self.write_error.is_none() {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => (self.unflushed, self.waits) = (false, false),
                Poll::Ready(Err(error)) => self.write_error = Some(error),
            }
        }
        give_back(&mut self.output, &mut self.most_output);
    }

    /// One read; ready once there are new bytes.
    fn poll_read(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) -> Poll<Result<(), Failure>> {
        give_back(&mut self.input, &mut self.most_input);
        self.input.reserve(READ_CHUNK);
        let count = match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(outcome) => outcome,
        };
        let count = count.map_err(|error| (turn.explain)(&error))?;
        self.received = self.clock.now();
        self.most_input = self.most_input.max(self.input.len());
        turn.statistics.bytes_in += count as u64;
        Poll::Ready(Ok(()))
    }

    /// Appends a packet that is not a publish.
    pub(super) fn put(&mut self, packet: &Packet) {
        packet.write(&mut self.output, usize::MAX).expect("nothing of ours is above 256 MiB");
    }

    /// When something has to be done even if nothing happens.
    fn deadline(&self) -> Instant {
        [self.silent_at(), self.ping_at(), self.stalled_at(), self.window.overdue(self.waited), self.close_by]
            .into_iter()
            .flatten()
            .min()
            .expect("silence always ends")
    }

    /// A little before 1.5 keep-alives have passed, so that it is noticed within them.
    fn silent_at(&self) -> Option<Instant> {
        Some(self.received + self.keep_alive + self.keep_alive * 48 / 100)
    }

    /// The server wants to hear from us once per keep-alive, and a silent server must be made to speak.
    fn ping_at(&self) -> Option<Instant> {
        (!self.awaits_pong).then(|| self.received.min(self.written) + self.keep_alive)
    }

    fn stalled_at(&self) -> Option<Instant> {
        (!self.output.is_empty() || self.unflushed).then(|| self.written + ACK_TIME_OUT)
    }

    fn ping_if_due(&mut self, now: Instant) {
        if self.ping_at().is_some_and(|at| now >= at) {
            self.awaits_pong = true;
            self.put(&Packet::PingReq);
        }
    }

    fn check(&self, now: Instant) -> Result<(), Failure> {
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        let cause = if passed(self.silent_at()) {
            format!("nothing came from the server for {:?}, 1.5 times the keep-alive", self.keep_alive * 3 / 2)
        } else if passed(self.stalled_at()) {
            format!("the server took nothing for {ACK_TIME_OUT:?}")
        } else if passed(self.window.overdue(self.waited)) {
            format!("the server acknowledged nothing for {ACK_TIME_OUT:?}")
        } else if passed(self.close_by) {
            "the server did not acknowledge everything in time".to_owned()
        } else {
            return Ok(());
        };
        Err(Failure::new(Class::Abandoned, cause))
    }
}

/// Frees an empty buffer that has held more than it is worth keeping.
fn give_back(buffer: &mut BytesMut, most: &mut usize) {
    if buffer.is_empty() && *most > KEEP_BUFFER {
        *buffer = BytesMut::with_capacity(READ_CHUNK);
        *most = 0;
    }
}
