//! The MQTT session: one server, kept connected for years, behind a seam that names no library.
//!
//! This module alone names rumqttc.

use crate::topic::QoS;
use bytes::Bytes;
use std::path::PathBuf;
use std::time::Duration;

/// Packets from the server above this many bytes end the connection.
pub const MAX_INCOMING_PACKET: usize = 256 * 1024;

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

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    /// 5 s to 65,535 s.
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
}
