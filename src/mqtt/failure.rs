//! What went wrong between us and the server, in words for a person, with the remedy where there is one.
//!
//! A cause is the same text each time the same thing happens, so that a change of cause can be told from a repetition;
//! what varies (our clock) is kept apart. No cause holds a secret.

use super::tls::Trust;
use super::{MAX_INCOMING_PACKET, Server};
use crate::clock::Wall;
use rumqttc::ConnectReturnCode;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use std::fmt;
use std::io;
use tokio_rustls::rustls;

/// What a failure means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing answered, or not as a server that we can talk to.
    Unreachable,
    /// The host is there, its server not yet.
    Refused,
    /// The server does not want us under this name.
    Rejected,
    /// We ended a connection that was no use any more.
    Abandoned,
    /// The server ended it, in order.
    Closed,
    /// Something on the way ended it.
    Broken,
}

/// Why an attempt failed or a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What it means for the next attempt.
    pub class: Class,
    /// In words; the same each time.
    pub cause: String,
    /// Our date, where the cause depends on it.
    pub date: Option<Wall>,
}

impl Failure {
    /// A failure whose cause says everything.
    pub fn new(class: Class, cause: impl Into<String>) -> Self {
        Self { class, cause: cause.into(), date: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        self.date.map_or(Ok(()), |date| write!(f, " (this board's clock says {date})"))
    }
}

/// CONNACK's return codes 1 to 5 (MQTT 3.1.1, 3.2.2.3).
pub(super) fn refusal(code: ConnectReturnCode, client_id: &str) -> Failure {
    use ConnectReturnCode as Code;
    match code {
        Code::Success => unreachable!("only refusals are told"),
        Code::RefusedProtocolVersion => {
            Failure::new(Class::Unreachable, "the server does not speak MQTT 3.1.1 (CONNACK 1)")
        }
        Code::BadClientId => Failure::new(
            Class::Unreachable,
            format!(
                "the server does not accept the client id `{client_id}` (CONNACK 2): set mqtt.client_id to one it does"
            ),
        ),
        Code::ServiceUnavailable => {
            Failure::new(Class::Unreachable, "the server says that it is not available now (CONNACK 3)")
        }
        Code::BadUserNamePassword => Failure::new(
            Class::Rejected,
            "the server refuses user name or password (CONNACK 4): check mqtt.username and mqtt.password",
        ),
        Code::NotAuthorized => Failure::new(
            Class::Rejected,
            "the server does not authorise us (CONNACK 5): check mqtt.username, mqtt.password and the server's access list",
        ),
    }
}

/// What reading or decoding a packet ended with.
pub(super) fn malformed(error: &rumqttc::mqttbytes::Error) -> Failure {
    use rumqttc::mqttbytes::Error;
    match error {
        Error::PayloadSizeLimitExceeded(size) => Failure::new(
            Class::Abandoned,
            format!("the server sent a packet of {size} bytes, at most {MAX_INCOMING_PACKET} are accepted"),
        ),
        Error::InvalidConnectReturnCode(code) => Failure::new(
            Class::Unreachable,
            format!("the server refused the connection with the unknown code {code}, MQTT 3.1.1 has 0 to 5"),
        ),
        other => Failure::new(Class::Abandoned, format!("the server sent what is not MQTT 3.1.1: {other}")),
    }
}

/// The end of an accepted connection by an error of its transport.
pub(super) fn broken(error: &io::Error, server: &Server, trust: Option<&Trust>) -> Failure {
    match tls_error(error) {
        Some(error) => Failure { class: Class::Closed, ..tls(error, server, trust) },
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Failure::new(Class::Closed, "the server closed the connection")
        }
        None => Failure::new(Class::Broken, format!("the connection broke: {}", words(error))),
    }
}

/// An error before CONNACK, on a transport that had been there.
pub(super) fn unaccepted(error: &io::Error, server: &Server, trust: Option<&Trust>) -> Failure {
    if let Some(error) = tls_error(error) {
        return tls(error, server, trust);
    }
    if !ended(error) {
        return Failure::new(Class::Unreachable, format!("no connection to `{server}`: {}", words(error)));
    }
    let hint = match server {
        Server::Tcp { .. } => "; if that port is for TLS, write mqtts://",
        Server::Tls { .. } => "; if that port is not for TLS, write mqtt://",
        Server::Unix(_) => "",
    };
    Failure::new(Class::Refused, format!("`{server}` closed the connection before accepting it{hint}"))
}

/// Whether the other side ended the connection.
pub(super) fn ended(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe)
}

/// An error of the operating system without its number, any other as it is.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A refusal of TLS, on either side.
fn tls(error: &rustls::Error, server: &Server, trust: Option<&Trust>) -> Failure {
    use rustls::Error;
    match error {
        Error::InvalidCertificate(reason) => certificate(reason, server, trust),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Failure::new(
            Class::Unreachable,
            format!("what answers at `{server}` is not TLS: write mqtt:// or the port for TLS (8883 as a rule)"),
        ),
        Error::AlertReceived(alert) => alert_received(*alert, server, trust),
        Error::PeerIncompatible(_) => Failure::new(
            Class::Unreachable,
            format!("`{server}` offers nothing of TLS 1.2 or 1.3 that we accept: {error}"),
        ),
        other => Failure::new(Class::Unreachable, format!("TLS with `{server}` failed: {other}")),
    }
}

/// Why we do not accept the server's certificate.
fn certificate(reason: &CertificateError, server: &Server, trust: Option<&Trust>) -> Failure {
    use CertificateError as Reason;
    let refused = |why: String| Failure::new(Class::Unreachable, format!("the certificate of `{server}` {why}"));
    match reason {
        Reason::UnknownIssuer | Reason::BadSignature => refused(match trust.and_then(|trust| trust.ca.as_deref()) {
            Some(ca) => {
                format!("is not signed by the authority in {}: set tls.ca to the one that signed it", ca.display())
            }
            None => {
                "is signed by an authority that this system does not know: set tls.ca to that authority's certificate"
                    .into()
            }
        }),
        Reason::NotValidForNameContext { expected, presented } => refused(format!(
            "is for {}, not for `{}`: set mqtt.server to a name it has, or have it made for this one",
            presented_names(presented),
            name(expected)
        )),
        Reason::NotValidForName => refused("is for another name: set mqtt.server to the name it has".into()),
        Reason::ExpiredContext { time, not_after } => {
            let why =
                format!("has expired, it was valid until {}: renew it, or set this board's clock", date(*not_after));
            Failure { date: Some(date(*time)), ..refused(why) }
        }
        Reason::Expired => refused("is never valid, it ends before it begins: have it made again".into()),
        Reason::NotValidYetContext { time, not_before } => {
            let why = format!("is valid from {} on: set this board's clock", date(*not_before));
            Failure { date: Some(date(*time)), ..refused(why) }
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            refused("is an authority's own (CA:TRUE), which no server may use: sign one for the server with it".into())
        }
        other => refused(format!("is not accepted: {other}")),
    }
}

/// Why the server does not accept us.
fn alert_received(alert: AlertDescription, server: &Server, trust: Option<&Trust>) -> Failure {
    use AlertDescription as Alert;
    let about_certificate = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::NoCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
    );
    let cause = match trust.and_then(|trust| trust.cert.as_deref()) {
        _ if !about_certificate => format!("`{server}` ended TLS with the alert {alert:?}"),
        None => format!("`{server}` asks for a client certificate ({alert:?}): set tls.cert and tls.key"),
        Some(cert) => format!(
            "`{server}` refuses our certificate {} ({alert:?}): it must be valid and signed by an authority the server knows",
            cert.display()
        ),
    };
    Failure::new(Class::Unreachable, cause)
}

fn date(time: UnixTime) -> Wall {
    Wall(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000))
}

fn name(server: &ServerName<'_>) -> String {
    server.to_str().into_owned()
}

/// Turns `DnsName("a")` and `IpAddress(…)` as the verifier presents them into a list for a person.
fn presented_names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all".into();
    }
    let bare = |text: &String| match text.split_once('(') {
        Some((_, rest)) => rest.trim_end_matches(')').trim_matches('"').to_owned(),
        None => text.clone(),
    };
    presented.iter().map(|name| format!("`{}`", bare(name))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn server() -> Server {
        Server::Tls { host: "broker.lan".into(), port: 8883 }
    }

    fn wrapped(error: rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn wrong_credentials_wait_for_a_person_and_the_rest_does_not() {
        use ConnectReturnCode as Code;
        let class = |code| refusal(code, "x").class;
        assert_eq!(class(Code::RefusedProtocolVersion), Class::Unreachable);
        assert_eq!(class(Code::BadClientId), Class::Unreachable);
        assert_eq!(class(Code::ServiceUnavailable), Class::Unreachable);
        assert_eq!(class(Code::BadUserNamePassword), Class::Rejected);
        assert_eq!(class(Code::NotAuthorized), Class::Rejected);
    }

    #[test]
    fn our_clock_is_told_where_it_matters_and_is_no_part_of_the_cause() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext { time: at(1_800_000_000), not_after: at(1_790_000_000) };
        let failure = unaccepted(&wrapped(expired.into()), &server(), None);
        let cause = "the certificate of `mqtts://broker.lan:8883` has expired, it was valid until 2026-09-21T14:13:20.000Z: \
                     renew it, or set this board's clock";
        assert_eq!(failure.cause, cause);
        assert_eq!(failure.to_string(), format!("{cause} (this board's clock says 2027-01-15T08:00:00.000Z)"));
        let early = CertificateError::NotValidYetContext { time: at(7), not_before: at(1_790_000_000) };
        assert_eq!(
            unaccepted(&wrapped(early.into()), &server(), None).to_string(),
            "the certificate of `mqtts://broker.lan:8883` is valid from 2026-09-21T14:13:20.000Z on: set this board's clock \
             (this board's clock says 1970-01-01T00:00:07.000Z)"
        );
    }

    #[test]
    fn a_wrong_name_is_told_with_those_it_has() {
        let reason = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("broker.lan").expect("a name"),
            presented: vec!["DnsName(\"other.lan\")".into(), "IpAddress(10.0.0.1)".into()],
        };
        let failure = unaccepted(&wrapped(reason.into()), &server(), None);
        assert!(failure.cause.contains("is for `other.lan`, `10.0.0.1`, not for `broker.lan`"), "{failure}");
    }

    #[test]
    fn an_alert_about_certificates_says_which_to_set() {
        let alert = || wrapped(rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
        let failure = unaccepted(&alert(), &server(), None);
        assert!(failure.cause.contains("asks for a client certificate"), "{failure}");
        let trust = Trust { ca: None, cert: Some("drone01.pem".into()) };
        let failure = unaccepted(&alert(), &server(), Some(&trust));
        assert!(failure.cause.contains("refuses our certificate drone01.pem"), "{failure}");
    }

    #[test]
    fn a_reset_before_connack_is_a_server_that_is_not_ready() {
        let reset = io::Error::from_raw_os_error(libc::ECONNRESET);
        assert_eq!(unaccepted(&reset, &server(), None).class, Class::Refused);
        assert_eq!(words(&reset), "connection reset by peer");
        let lost = broken(&reset, &server(), None);
        assert_eq!(
            (lost.class, lost.cause.as_str()),
            (Class::Broken, "the connection broke: connection reset by peer")
        );
        let end = broken(&io::ErrorKind::UnexpectedEof.into(), &server(), None);
        assert_eq!((end.class, end.cause.as_str()), (Class::Closed, "the server closed the connection"));
    }
}
