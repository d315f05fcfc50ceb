//! A server that says exactly what a test tells it to, packet by packet.

use super::PATIENCE;
use bytes::BytesMut;
use rumqttc::{ConnAck, Connect, ConnectReturnCode, Packet, Publish, QoS};
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server; each [`Scripted::accept`] is one connection.
pub struct Scripted {
    listener: TcpListener,
}

impl Scripted {
    /// On a free port.
    pub async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    /// On 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("its address").port()
    }

    /// The next connection, and its CONNECT.
    pub async fn connect(&self) -> (Link, Connect) {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        let mut link = Link { stream, input: BytesMut::new() };
        match link.next().await {
            Some(Packet::Connect(connect)) => (link, connect),
            other => panic!("CONNECT comes first, not {other:?}"),
        }
    }

    /// The next connection, accepted.
    pub async fn accept(&self, session_present: bool) -> Link {
        let (mut link, _) = self.connect().await;
        link.say(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, session_present))).await;
        link
    }
}

/// One connection.
pub struct Link {
    stream: TcpStream,
    input: BytesMut,
}

impl Link {
    /// Sends a packet.
    pub async fn say(&mut self, packet: Packet) {
        let mut output = BytesMut::new();
        packet.write(&mut output, usize::MAX).expect("a packet");
        self.say_bytes(&output).await;
    }

    /// Sends bytes that may be no packet.
    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("a client that listens");
    }

    /// The next packet, `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.input, usize::MAX) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the client sent what is no packet: {error}"),
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input));
            match read.await.expect("a packet in time") {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    /// The next packet, which must be a PUBLISH.
    pub async fn publish(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("a PUBLISH was expected, not {other:?}"),
        }
    }

    /// Ends the connection as a link does that has forgotten it: with a reset.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let length = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("a few bytes");
        let fd = self.stream.as_raw_fd();
        // SAFETY: `linger` is readable for the duration of the call, and the descriptor is open.
        let set =
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length) };
        assert_eq!(set, 0, "a socket");
    }

    /// Whether nothing comes for this long.
    pub async fn is_quiet(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.next()).await.is_err()
    }
}

/// A PUBLISH from the server.
pub fn publish(topic: &str, payload: &str, qos: QoS, id: u16, dup: bool) -> Packet {
    let mut publish = Publish::new(topic, qos, payload);
    publish.pkid = id;
    publish.dup = dup;
    Packet::Publish(publish)
}
