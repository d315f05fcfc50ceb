//! The log's way out: the journal with key-values as fields where systemd listens, plain lines on stderr elsewhere.
//!
//! It decides no level. Invariants: one record is one line, whatever a payload put into it; libraries are heard from
//! `warn` up and rumqttc and rumqttd never, since their packets may hold secrets and `mqtt` reports the same in words.

use crate::clock::{Clock, SystemClock, Wall};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// What `journalctl -t` finds us by.
const IDENTIFIER: &str = "board2mqtt";

/// Libraries that are never heard.
const SILENCED: [&str; 2] = ["rumqttc", "rumqttd"];

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// systemd's journal, in its native protocol.
    Journal,
    /// Lines `LEVEL message key=value`, with the time in front where a person watches a terminal; elsewhere whoever
    /// collects the lines stamps them.
    Stderr,
}

/// Installs the process's log at `level`; says where it goes. Fails where one is installed already.
///
/// Stderr takes the journal's place where its socket does not answer. `log::set_max_level` changes the level later.
pub fn init_log(level: LevelFilter) -> Result<Destination, SetLoggerError> {
    let sink = choose(connected_to_journal(), JournalLog::empty);
    let destination = sink.destination();
    log::set_boxed_logger(Box::new(Logger(sink)))?;
    log::set_max_level(level);
    Ok(destination)
}

enum Sink {
    Journal(JournalLog),
    Stderr { timed: bool },
}

impl Sink {
    fn destination(&self) -> Destination {
        match self {
            Self::Journal(_) => Destination::Journal,
            Self::Stderr { .. } => Destination::Stderr,
        }
    }
}

fn choose(connected: bool, open: impl FnOnce() -> io::Result<JournalLog>) -> Sink {
    match connected.then(open) {
        Some(Ok(journal)) => Sink::Journal(journal.with_syslog_identifier(IDENTIFIER.to_owned())),
        Some(Err(_)) | None => Sink::Stderr { timed: io::stderr().is_terminal() },
    }
}

struct Logger(Sink);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_heard(metadata.target(), metadata.level()) && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // A log that cannot be written has nowhere to say so.
        let _ = match &self.0 {
            Sink::Journal(journal) => send(journal, record),
            Sink::Stderr { timed } => {
                let time = if *timed { SystemClock.wall() } else { None };
                io::stderr().lock().write_all(line(record, time).as_bytes())
            }
        };
    }

    fn flush(&self) {}
}

/// Whether a record of `target` at `level` is meant for people.
fn is_heard(target: &str, level: Level) -> bool {
    match target.split("::").next().unwrap_or_default() {
        IDENTIFIER => true,
        library => level <= Level::Warn && !SILENCED.contains(&library),
    }
}

/// Sends the record with its key-values as fields, and in the message too: `journalctl` shows nothing else.
fn send(journal: &JournalLog, record: &Record<'_>) -> io::Result<()> {
    let message = Text(record).to_string();
    journal.journal_send(
        &Record::builder()
            .metadata(record.metadata().clone())
            .args(format_args!("{message}"))
            .file(record.file())
            .line(record.line())
            .module_path(record.module_path())
            .key_values(record.key_values())
            .build(),
    )
}

/// One line for stderr, its end included.
fn line(record: &Record<'_>, time: Option<Wall>) -> String {
    let time = time.map(|time| format!("{time} ")).unwrap_or_default();
    format!("{time}{level:<5} {text}\n", level = record.level(), text = Text(record))
}

/// `message key=value key="with spaces"`, without any control character.
struct Text<'a>(&'a Record<'a>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, &self.0.args().to_string(), "")?;
        self.0.key_values().visit(&mut Pairs(f)).map_err(|_| fmt::Error)
    }
}

struct Pairs<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl<'kvs> VisitSource<'kvs> for Pairs<'_, '_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_string();
        write!(self.0, " {}=", key.as_str())?;
        if value.is_empty() || value.contains([' ', '"', '=', '\\']) || value.contains(char::is_control) {
            self.0.write_char('"')?;
            write_escaped(self.0, &value, "\"\\")?;
            self.0.write_char('"')?;
        } else {
            self.0.write_str(&value)?;
        }
        Ok(())
    }
}

/// Writes `text` with its control characters and those in `also` escaped as Rust escapes them.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str, also: &str) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() || also.contains(c) {
            write!(f, "{}", c.escape_default())?;
        } else {
            f.write_char(c)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(message: fmt::Arguments<'_>, pairs: &[(&str, &str)], time: Option<Wall>) -> String {
        let record = Record::builder().level(Level::Warn).args(message).key_values(&pairs).build();
        line(&record, time)
    }

    #[test]
    fn a_record_is_a_level_a_message_and_its_values() {
        let text = lines(format_args!("sensor failing"), &[("sensor", "roof"), ("reason", "no answer")], None);
        assert_eq!(text, "WARN  sensor failing sensor=roof reason=\"no answer\"\n");
        assert_eq!(lines(format_args!("ready"), &[], Some(Wall(0))), "1970-01-01T00:00:00.000Z WARN  ready\n");
        assert_eq!(lines(format_args!("x"), &[("temperature", "21.5°C")], None), "WARN  x temperature=21.5°C\n");
    }

    #[test]
    fn nothing_from_outside_begins_a_line_or_another_value() {
        let text = lines(
            format_args!("one\ntwo\x1b[2J"),
            &[("topic", "a\r\nERROR forged=\"1\"\\\u{9b}"), ("empty", "")],
            None,
        );
        assert_eq!(text, "WARN  one\\ntwo\\u{1b}[2J topic=\"a\\r\\nERROR forged=\\\"1\\\"\\\\\\u{9b}\" empty=\"\"\n");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn libraries_are_heard_from_warn_up_and_rumqtt_never() {
        assert!(is_heard("board2mqtt", Level::Trace));
        assert!(is_heard("board2mqtt::mqtt::session", Level::Debug));
        assert!(!is_heard("board2mqtt_other", Level::Info));
        assert!(is_heard("rustls::check", Level::Warn));
        assert!(!is_heard("rustls::client::hs", Level::Info));
        assert!(!is_heard("rumqttc::state", Level::Error));
        assert!(!is_heard("rumqttd::router", Level::Error));
    }

    #[test]
    fn the_level_is_kept_although_the_journal_takes_everything() {
        let logger = Logger(Sink::Stderr { timed: false });
        log::set_max_level(LevelFilter::Warn);
        let enabled = |level| logger.enabled(&Metadata::builder().target("board2mqtt::poll").level(level).build());
        assert!(enabled(Level::Error) && enabled(Level::Warn));
        assert!(!enabled(Level::Info) && !enabled(Level::Debug));
    }

    #[test]
    fn stderr_takes_the_place_of_a_journal_that_is_away() {
        let refused = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(choose(true, refused).destination(), Destination::Stderr);
        assert_eq!(choose(false, || unreachable!("not asked")).destination(), Destination::Stderr);
    }
}
