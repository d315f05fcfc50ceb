//! The MQTT session: one server, kept connected for years, behind a seam that names no library.
//!
//! This module alone names rumqttc, and takes its packets and its `MqttState` but neither its event loop nor its TLS:
//! - the event loop flushes once per request, so every reading would be a segment of its own; here everything that was
//!   published since the last turn leaves in one write;
//! - it keeps its queue and its packet ids over a reconnect in ways that lose publishes, stick for ever after an ack out
//!   of order, and repeat an error without a pause; here every connection starts from nothing, the caller keeps what is
//!   unacked, and `reconnect` says how long to wait;
//! - it notices a silent server after up to two keep-alives; here after one and a half;
//! - its TLS feature pins an old certificate verifier; here the `ClientConfig` is our own.
//!
//! Top to bottom: `session` (the pauses, attempts and connections of one server), `connection` (one accepted connection:
//! two buffers and four deadlines), `incoming` (what each packet leads to), `window` (packet ids, tokens, acks), `asks` (SUBSCRIBE and its end),
//! `encode` (PUBLISH), `transport` (bytes to and from the server, up to CONNACK), `resolver` (names), `tls` (what is trusted), `failure` (what went wrong, in words), `reconnect` (how long
//! to wait), `alarm` (one timer).
//!
//! It keeps no message: what is not acked when a connection ends is the caller's to send again.

mod alarm;
mod asks;
mod connection;
mod encode;
mod failure;
mod incoming;
mod reconnect;
mod resolver;
mod session;
mod tls;
mod transport;
mod window;

pub use session::Session;

use crate::topic::{QoS, TopicError};
use bytes::Bytes;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Packets from the server above this many bytes end the connection.
pub const MAX_INCOMING_PACKET: usize = 256 * 1024;

/// The payload of the will and of a clean stop.
pub const OFFLINE: &str = "offline";

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// `mqtt://host:port`
    Tcp {
        /// Name or address.
        host: String,
        /// 1883 where none is given.
        port: u16,
    },
    /// `mqtts://host:port`
    Tls {
        /// Name or address; the server's certificate must be for it.
        host: String,
        /// 8883 where none is given.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

impl fmt::Display for Server {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "mqtt://{host}:{port}"),
            Self::Tls { host, port } => write!(f, "mqtts://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The files of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file of the private CA; the system's roots where absent.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate chain, with [`TlsFiles::key`].
    pub cert: Option<PathBuf>,
    /// PEM file of the client's private key.
    pub key: Option<PathBuf>,
}

/// User name and password; its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Given in CONNECT.
    pub username: String,
    /// Given in CONNECT.
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// Everything a session needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub server: Server,
    /// Used with [`Server::Tls`].
    pub tls: TlsFiles,
    /// The client identifier.
    pub client_id: String,
    /// User name and password.
    pub login: Option<Login>,
    /// 1 s to 65,535 s; the configuration asks for at least 5 s.
    pub keep_alive: Duration,
    /// Whether the server shall forget us at each disconnect.
    pub clean_session: bool,
    /// The will's topic; its payload is `offline`, retained, QoS 1.
    pub status_topic: String,
    /// The shortest pause before a new attempt.
    pub reconnect_min: Duration,
    /// The longest.
    pub reconnect_max: Duration,
}

/// A message to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Checked when the configuration was.
    pub topic: &'a str,
    /// At most what MQTT allows.
    pub payload: &'a [u8],
    /// 0, 1 or 2.
    pub qos: QoS,
    /// Kept by the server.
    pub retain: bool,
}

/// Given with a publish at QoS 1 or 2, given back by [`Event::Acked`].
pub type Token = u64;

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// As published.
    pub topic: String,
    /// As published.
    pub payload: Bytes,
    /// It was retained before we subscribed.
    pub retain: bool,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// CONNACK arrived: subscribe and publish every state.
    Connected {
        /// The server remembered our session.
        session_present: bool,
    },
    /// The connection ended or an attempt failed; every unacked token is forgotten. The session tries again by itself.
    Disconnected {
        /// What happened, in words for a person, with the remedy where there is one.
        cause: String,
        /// How long it waits before the next attempt.
        retry_in: Duration,
    },
    /// A message on a subscribed topic.
    Message(Message),
    /// The server has taken responsibility for this publish (PUBACK, PUBCOMP).
    Acked(Token),
    /// The server refused a subscription, which its access list usually explains; it is not asked again on this connection.
    SubscriptionRefused {
        /// As it was asked for.
        filter: String,
    },
}

/// Options no session can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Outside what CONNECT can carry.
    #[error("keep-alive is {0:?}, allowed are whole seconds from 1 s to 65535 s")]
    KeepAlive(Duration),
    /// MQTT 3.1.1, 3.1.3.1.
    #[error("an empty client id needs a clean session")]
    AnonymousSession,
    /// A string of CONNECT has at most 65,535 bytes.
    #[error("the {what} has {length} bytes, at most 65535 are allowed")]
    TooLong {
        /// Which one.
        what: &'static str,
        /// How long it is.
        length: usize,
    },
    /// MQTT 3.1.1, 3.1.2.9.
    #[error("a password needs a user name")]
    PasswordWithoutName,
    /// The will could not be published there.
    #[error("the status topic: {0}")]
    StatusTopic(#[source] TopicError),
    /// A pause of zero would be a busy loop.
    #[error("reconnect pauses are {min:?} to {max:?}, the shortest must be at least 1ms and at most the longest")]
    Reconnect {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

/// Why a publish was not taken; the message is still the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
    /// The window or the write buffer is full: an [`Event::Acked`] makes room, or the next [`Session::event`].
    #[error("too much is on its way already")]
    Full,
    /// It will never fit: topic above 65,535 bytes, or the whole above 1 MiB.
    #[error("a topic of at most 65535 bytes and a packet of at most 1 MiB can be published")]
    TooLong,
}

/// What a session has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections the server accepted.
    pub connects: u64,
    /// Accepted connections and attempts that ended.
    pub failures: u64,
    /// MQTT bytes read, before TLS.
    pub bytes_in: u64,
    /// MQTT bytes written, before TLS.
    pub bytes_out: u64,
    /// Writes they were given to the transport in.
    pub writes: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Messages published.
    pub messages_out: u64,
}
