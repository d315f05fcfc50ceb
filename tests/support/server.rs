//! A model of the MQTT server's end of a session, for simulated time: what is on the wire, what has arrived, what is acked.
//!
//! It stands where the session stands in the agent. What is on the wire when the connection breaks is lost, and so is every
//! ack; both the worst that may happen. It gives up on a silent server when the real session would.

use board2mqtt::clock::{Clock, Instant, ManualClock};
use board2mqtt::mqtt::{Message, Outgoing, PublishError, Token};
use board2mqtt::publish::Link;
use board2mqtt::topic::QoS;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Publishes that may be unacked, as in the session.
const WINDOW: usize = 80;
/// The session's patience with a server that acks nothing.
const ACK_TIME_OUT: Duration = Duration::from_secs(30);
/// How long acks that come out of order are held back.
const HELD_BACK: Duration = Duration::from_millis(200);

/// How the server behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Takes and acks everything at once.
    #[default]
    Healthy,
    /// Acks late and in any order.
    Reorders,
    /// Takes everything and acks nothing.
    WithholdsAcks,
    /// A half-open connection: nothing arrives, nothing comes back.
    Silent,
}

/// A message the server has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// The server's end.
pub struct Server {
    clock: Arc<ManualClock>,
    random: fastrand::Rng,
    keep_alive: Duration,
    connected: bool,
    mood: Mood,
    /// When the mood began.
    since: Instant,
    /// Sent and not arrived.
    wire: VecDeque<(Option<Token>, Arrived)>,
    /// Arrived and not acked.
    unacked: Vec<(Token, Instant)>,
    /// By topic.
    pub retained: BTreeMap<String, Vec<u8>>,
    /// What has arrived since somebody last looked.
    pub arrived: Vec<Arrived>,
}

impl Server {
    pub fn new(clock: Arc<ManualClock>, keep_alive: Duration, seed: u64) -> Self {
        Self {
            since: clock.now(),
            clock,
            random: fastrand::Rng::with_seed(seed),
            keep_alive,
            connected: false,
            mood: Mood::Healthy,
            wire: VecDeque::new(),
            unacked: Vec::new(),
            retained: BTreeMap::new(),
            arrived: Vec::new(),
        }
    }

    pub fn mood(&self) -> Mood {
        self.mood
    }

    pub fn set_mood(&mut self, mood: Mood) {
        self.mood = mood;
        self.since = self.clock.now();
    }

    /// The connection is there.
    pub(super) fn connect(&mut self) {
        self.connected = true;
        self.since = self.clock.now();
    }

    /// The connection is gone, and the will with it is published.
    pub(super) fn disconnect(&mut self, status_topic: &str) {
        self.connected = false;
        self.wire.clear();
        self.unacked.clear();
        self.retained.insert(status_topic.to_owned(), b"offline".to_vec());
    }

    /// What a new subscription to `topic` gets at once.
    pub(super) fn retained_message(&self, topic: &str) -> Option<Message> {
        let payload = self.retained.get(topic)?.clone();
        Some(Message { topic: topic.to_owned(), payload: payload.into(), retain: true })
    }

    /// Takes what is on the wire and says what it acks now.
    pub(super) fn turn(&mut self) -> Vec<Token> {
        let now = self.clock.now();
        if self.mood == Mood::Silent {
            return Vec::new();
        }
        while let Some((token, message)) = self.wire.pop_front() {
            self.unacked.extend(token.map(|token| (token, now)));
            self.take(message);
        }
        let held_back = self.unacked.first().is_some_and(|(_, at)| now < *at + HELD_BACK);
        match self.mood {
            Mood::WithholdsAcks | Mood::Silent => return Vec::new(),
            Mood::Reorders if held_back && self.unacked.len() < 8 => return Vec::new(),
            Mood::Reorders => self.random.shuffle(&mut self.unacked),
            Mood::Healthy => {}
        }
        self.unacked.drain(..).map(|(token, _)| token).collect()
    }

    fn take(&mut self, message: Arrived) {
        if message.retain && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if message.retain {
            self.retained.insert(message.topic.clone(), message.payload.clone());
        }
        self.arrived.push(message);
    }

    /// When there is something to do although nobody sends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let held_back = self.unacked.first().filter(|_| self.mood == Mood::Reorders).map(|(_, at)| *at + HELD_BACK);
        [held_back, self.gives_up_at()].into_iter().flatten().min()
    }

    /// When the session would call the server dead.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        if !self.connected {
            return None;
        }
        match self.mood {
            Mood::Silent => Some(self.since + self.keep_alive.mul_f64(1.5)),
            Mood::WithholdsAcks => self.unacked.first().map(|(_, at)| *at + ACK_TIME_OUT),
            Mood::Healthy | Mood::Reorders => None,
        }
    }
}

impl Link for Server {
    fn is_connected(&self) -> bool {
        self.connected
    }

    fn room(&self, _: QoS) -> usize {
        let sent = self.wire.iter().filter(|(token, _)| token.is_some()).count();
        WINDOW.saturating_sub(sent + self.unacked.len())
    }

    fn backlog(&self) -> usize {
        0
    }

    fn publish(&mut self, message: &Outgoing<'_>, token: Option<Token>) -> Result<(), PublishError> {
        if !self.connected {
            return Err(PublishError::NotConnected);
        }
        if token.is_some() && self.room(message.qos) == 0 {
            return Err(PublishError::Full);
        }
        let (topic, payload) = (message.topic.to_owned(), message.payload.to_vec());
        self.wire.push_back((token, Arrived { topic, payload, retain: message.retain }));
        Ok(())
    }
}
