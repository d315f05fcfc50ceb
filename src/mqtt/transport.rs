//! From nothing to CONNACK: name, address, TCP or Unix socket, TLS, CONNECT. All of it within [`TIME_OUT`].
//!
//! The outcome is a stream of bytes on which the server has accepted us, and whatever it sent right after; nothing here
//! outlives the attempt.

use super::failure::{self, Class, Failure, words};
use super::resolver::Resolver;
use super::tls::Trust;
use super::{Options, Server};
use bytes::BytesMut;
use rumqttc::{ConnAck, Connect, ConnectReturnCode, LastWill, Packet};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsConnector, rustls};

/// How long an attempt may take, DNS and CONNACK included.
pub(super) const TIME_OUT: Duration = Duration::from_secs(10);
/// What every connection starts with for what it reads.
pub(super) const READ_CHUNK: usize = 4 * 1024;
/// A CONNACK has 4 bytes; what starts with a longer packet is no MQTT server.
const LONGEST_FIRST_PACKET: usize = 1024;
/// The type of the only packet a server may start with (MQTT 3.1.1, 3.2).
const CONNACK: u8 = 2;
/// The first byte of a TLS alert and of a TLS handshake record (RFC 8446, 5.1).
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// Bytes to and from a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection the server has accepted.
pub(super) struct Opened {
    pub stream: Box<dyn Stream>,
    /// What came after CONNACK.
    pub input: BytesMut,
    /// The server remembered our session.
    pub session_present: bool,
}

/// What TLS needs: the configuration, and the files its refusals are explained with.
#[derive(Clone)]
pub(super) struct Tls {
    pub config: Arc<ClientConfig>,
    pub trust: Trust,
}

/// One attempt. Dropping it closes whatever it had open.
pub(super) async fn open(options: Arc<Options>, tls: Option<Tls>, resolver: Arc<Resolver>) -> Result<Opened, Failure> {
    let until = Instant::now() + TIME_OUT;
    let attempt = Attempt { until, server: &options.server, tls: tls.as_ref(), resolver: &resolver };
    let stream = attempt.stream().await?;
    attempt.within("no CONNACK from", attempt.accepted(stream, &options)).await
}

struct Attempt<'a> {
    until: Instant,
    server: &'a Server,
    tls: Option<&'a Tls>,
    resolver: &'a Resolver,
}

impl Attempt<'_> {
    async fn within<T>(&self, what: &str, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match timeout_at(self.until, step).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.unreachable(format!("{what} `{}` within {} s", self.server, TIME_OUT.as_secs()))),
        }
    }

    fn unreachable(&self, cause: String) -> Failure {
        Failure::new(Class::Unreachable, cause)
    }

    fn trust(&self) -> Option<&Trust> {
        self.tls.map(|tls| &tls.trust)
    }

    async fn stream(&self) -> Result<Box<dyn Stream>, Failure> {
        match self.server {
            Server::Unix(path) => Ok(Box::new(self.unix(path).await?)),
            Server::Tcp { host, port } => Ok(Box::new(self.tcp(host, *port).await?)),
            Server::Tls { host, port } => {
                let tcp = self.tcp(host, *port).await?;
                self.within("no end of the TLS handshake with", self.secured(host, tcp)).await
            }
        }
    }

    async fn unix(&self, path: &Path) -> Result<UnixStream, Failure> {
        let connect = async {
            UnixStream::connect(path).await.map_err(|error| {
                let class = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Class::Refused,
                    _ => Class::Unreachable,
                };
                Failure::new(class, format!("no connection to `{}`: {}", self.server, words(&error)))
            })
        };
        self.within("no connection to", connect).await
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let addresses = self.within("no answer from DNS about", self.addresses(host, port)).await?;
        let mut failure = None;
        for (index, address) in addresses.iter().enumerate() {
            let share = addresses.len() - index;
            match self.address(*address, share).await {
                Ok(stream) => return Ok(stream),
                // A host that refuses tells more than one that is silent.
                Err(newer) if newer.class == Class::Refused => failure = Some(newer),
                Err(newer) => failure = failure.or(Some(newer)),
            }
        }
        Err(failure.unwrap_or_else(|| self.unreachable(format!("`{host}` has no address"))))
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        if let Ok(address) = bare(host).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let addresses = self.resolver.addresses(host, port).await;
        addresses.map_err(|error| self.unreachable(format!("cannot resolve `{host}`: {}", words(&error))))
    }

    /// Tries one address with its share of the time that is left.
    async fn address(&self, address: SocketAddr, share: usize) -> Result<TcpStream, Failure> {
        let now = Instant::now();
        let until = now + self.until.saturating_duration_since(now) / u32::try_from(share).unwrap_or(u32::MAX);
        let failed =
            |class, why: &str| Failure::new(class, format!("no connection to `{}` at {address}: {why}", self.server));
        let stream = match timeout_at(until, TcpStream::connect(address)).await {
            Err(_) => return Err(failed(Class::Unreachable, "no answer")),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused || failure::ended(&error) => {
                return Err(failed(Class::Refused, &words(&error)));
            }
            Ok(Err(error)) => return Err(failed(Class::Unreachable, &words(&error))),
            Ok(Ok(stream)) => stream,
        };
        // Everything that falls due together leaves in one write already; waiting for more would only delay commands.
        stream.set_nodelay(true).map_err(|error| failed(Class::Unreachable, &words(&error)))?;
        Ok(stream)
    }

    async fn secured(&self, host: &str, tcp: TcpStream) -> Result<Box<dyn Stream>, Failure> {
        let tls = self.tls.expect("a configuration is loaded for every server with TLS");
        let name = ServerName::try_from(bare(host).to_owned())
            .map_err(|_| self.unreachable(format!("`{host}` is no name a certificate can be for")))?;
        let stream = TlsConnector::from(tls.config.clone())
            .connect(name, tcp)
            .await
            .map_err(|error| failure::unaccepted(&error, self.server, self.trust()))?;
        Ok(Box::new(stream))
    }

    /// CONNECT and CONNACK.
    async fn accepted(&self, mut stream: Box<dyn Stream>, options: &Options) -> Result<Opened, Failure> {
        let mut output = BytesMut::new();
        connect(options).write(&mut output).map_err(|error| self.unreachable(format!("CONNECT: {error}")))?;
        let sent = async {
            stream.write_all(&output).await?;
            stream.flush().await
        };
        let sent = sent.await;
        let mut input = BytesMut::with_capacity(READ_CHUNK);
        loop {
            if let Some(connack) = self.connack(&mut input)? {
                return match connack.code {
                    ConnectReturnCode::Success => {
                        Ok(Opened { stream, input, session_present: connack.session_present })
                    }
                    code => Err(failure::refusal(code, &options.client_id)),
                };
            }
            // What the server said before it closed tells more than that we could not write.
            let error = match (stream.read_buf(&mut input).await, &sent) {
                (Ok(1..), _) => continue,
                (Err(error), _) => error,
                (Ok(0), Err(error)) if !failure::ended(error) => io::Error::new(error.kind(), error.to_string()),
                (Ok(0), _) => io::ErrorKind::UnexpectedEof.into(),
            };
            return Err(failure::unaccepted(&error, self.server, self.trust()));
        }
    }

    /// The packet a server starts with, `None` while it is not whole.
    fn connack(&self, input: &mut BytesMut) -> Result<Option<ConnAck>, Failure> {
        use rumqttc::mqttbytes::Error;
        // Before the decoder takes it away.
        if input.first().is_some_and(|first| first >> 4 != CONNACK) {
            return Err(self.stranger(input));
        }
        match Packet::read(input, LONGEST_FIRST_PACKET) {
            Ok(Packet::ConnAck(connack)) => Ok(Some(connack)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error @ Error::InvalidConnectReturnCode(_)) => Err(failure::malformed(&error)),
            _ => Err(self.stranger(input)),
        }
    }

    fn stranger(&self, said: &[u8]) -> Failure {
        let tls = said.first().is_some_and(|first| TLS_RECORDS.contains(first));
        let cause = if tls && !matches!(self.server, Server::Tls { .. }) {
            format!("`{}` speaks TLS on that port: write mqtts://", self.server)
        } else {
            format!("what answers at `{}` is not an MQTT server", self.server)
        };
        self.unreachable(cause)
    }
}

/// An IPv6 address without the brackets it has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// CONNECT, with the will that says `offline` for us.
fn connect(options: &Options) -> Connect {
    let mut connect = Connect::new(&*options.client_id);
    // Rounded up: the server waits longer for us than we wait for it.
    connect.keep_alive = u16::try_from(options.keep_alive.as_secs_f64().ceil() as u64).unwrap_or(u16::MAX);
    connect.clean_session = options.clean_session;
    let will = LastWill::new(&*options.status_topic, super::OFFLINE, rumqttc::QoS::AtLeastOnce, true);
    connect.last_will = Some(will);
    if let Some(login) = &options.login {
        connect.set_login(&*login.username, login.password.as_deref().unwrap_or_default());
    }
    connect
}
