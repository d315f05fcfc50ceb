//! A session under test, driven on the current thread.

use super::PATIENCE;
use board2mqtt::clock::SystemClock;
use board2mqtt::mqtt::{Event, Options, Outgoing, Server, Session, TlsFiles};
use board2mqtt::topic::QoS;
use std::sync::Arc;
use std::time::Duration;

/// Options for 127.0.0.1:`port` with short pauses; the status topic is `{client_id}/status`.
pub fn options(client_id: &str, port: u16) -> Options {
    Options {
        server: Server::Tcp { host: "127.0.0.1".into(), port },
        tls: TlsFiles::default(),
        client_id: client_id.into(),
        login: None,
        keep_alive: Duration::from_secs(10),
        clean_session: true,
        status_topic: format!("{client_id}/status"),
        reconnect_min: Duration::from_millis(20),
        reconnect_max: Duration::from_millis(200),
    }
}

/// A session on the system's clock.
pub fn session(options: Options) -> Session {
    Session::new(options, Arc::new(SystemClock)).expect("options for a session")
}

/// A message at QoS 1 that is not retained.
pub fn message<'a>(topic: &'a str, payload: &'a str) -> Outgoing<'a> {
    Outgoing { topic, payload: payload.as_bytes(), qos: QoS::AtLeastOnce, retain: false }
}

/// The first event for which `pick` has a value; the others are dropped.
pub async fn until<T>(session: &mut Session, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(value) = pick(session.event().await) {
                return value;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Waits for [`Event::Connected`] and returns `session_present`.
pub async fn connected(session: &mut Session) -> bool {
    until(session, "the connection", |event| match event {
        Event::Connected { session_present } => Some(session_present),
        _ => None,
    })
    .await
}

/// Waits for [`Event::Disconnected`] and returns its cause and pause.
pub async fn disconnected(session: &mut Session) -> (String, Duration) {
    until(session, "the end of the connection or attempt", |event| match event {
        Event::Disconnected { cause, retry_in } => Some((cause, retry_in)),
        _ => None,
    })
    .await
}

/// Waits for a message on `topic` and returns its payload.
pub async fn received(session: &mut Session, topic: &str) -> String {
    until(session, &format!("a message on {topic}"), |event| match event {
        Event::Message(message) if message.topic == topic => {
            Some(String::from_utf8(message.payload.to_vec()).expect("a payload in UTF-8"))
        }
        _ => None,
    })
    .await
}

/// Waits until the token is acked.
pub async fn acked(session: &mut Session, token: u64) {
    until(session, &format!("the ack of {token}"), |event| (event == Event::Acked(token)).then_some(())).await;
}

/// Subscribes and comes back when the server has certainly taken it: a publish after it is acked after it.
pub async fn subscribed(session: &mut Session, filters: &[(&str, QoS)]) {
    session.subscribe(filters);
    session.publish(&message("test/fence", ""), Some(u64::MAX)).expect("room for one");
    acked(session, u64::MAX).await;
}
