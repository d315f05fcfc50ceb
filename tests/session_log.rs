//! What the session writes into the log: transitions with their cause, and never a secret. One test, as the log is global.

mod support;

use board2mqtt::mqtt::Login;
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Log, Metadata, Record};
use std::sync::Mutex;
use support::mosquitto::{Mosquitto, password_file};
use support::session::{connected, disconnected, message, options, session};

static LINES: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

struct Memory;

struct Line(String);

impl<'kvs> VisitSource<'kvs> for Line {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0 += &format!(" {key}={value}");
        Ok(())
    }
}

impl Log for Memory {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = Line(format!("{}: {}", record.target(), record.args()));
        record.key_values().visit(&mut line).expect("key-values");
        LINES.lock().expect("the lines").push((record.level(), line.0));
    }

    fn flush(&self) {}
}

/// The session's own lines at info and above since the last call.
fn transitions() -> Vec<(Level, String)> {
    let lines: Vec<_> = LINES.lock().expect("the lines").drain(..).collect();
    for (_, line) in &lines {
        assert!(!line.contains("s3cret"), "a secret: {line}");
    }
    lines.into_iter().filter(|(level, line)| *level <= Level::Info && line.starts_with("board2mqtt")).collect()
}

#[tokio::test]
async fn an_outage_is_one_line_per_cause_and_one_when_it_is_over() {
    log::set_boxed_logger(Box::new(Memory)).expect("the first logger");
    log::set_max_level(log::LevelFilter::Trace);
    let mut server = Mosquitto::with(|folder| {
        let passwords = password_file(folder, &[("drone01", "s3cret")]);
        format!("allow_anonymous false\npassword_file {}", passwords.display())
    });
    let mut options = options("drone01", server.port());
    options.login = Some(Login { username: "drone01".into(), password: Some("s3cret".into()) });
    let mut session = session(options);

    connected(&mut session).await;
    session.publish(&message("a", "1"), Some(1)).expect("room");
    let lines = transitions();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, Level::Info);
    assert!(
        lines[0].1.contains("connected to the server") && lines[0].1.contains("server=mqtt://127.0.0.1:"),
        "{lines:?}"
    );

    server.kill();
    for _ in 0..10 {
        disconnected(&mut session).await;
    }
    let lines = transitions();
    assert_eq!(lines.len(), 2, "lost, then refused ten times: {lines:?}");
    assert!(lines.iter().all(|(level, _)| *level == Level::Warn), "{lines:?}");
    assert!(lines[0].1.contains("cause=the server closed the connection"), "{lines:?}");
    assert!(lines[1].1.contains("connection refused"), "{lines:?}");

    server.start_again();
    connected(&mut session).await;
    let lines = transitions();
    assert_eq!((lines.len(), lines[0].0), (1, Level::Info), "{lines:?}");
}
