//! The trace of output writes: one line each, stamped when it happens, for tests and measurements.
//!
//! `<CLOCK_MONOTONIC ns> <line as configured> <physical 0|1, or percent>\n`. It never waits for a reader and never fails
//! an output: what cannot be written is counted, and said once.

use crate::clock::Instant;
use crate::line::Level;
use crate::sample::{Failure, Reason};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Room for one line; below `PIPE_BUF`, so that lines from several threads never mix.
const LINE: usize = 384;
/// Bytes of a line's name that are written.
const NAME: usize = 256;

/// Where writes are noted.
pub struct Trace {
    sink: Sink,
    target: String,
    lost: AtomicU64,
}

enum Sink {
    /// A regular file, appended to, or a FIFO.
    File(File),
    /// A datagram socket that somebody else has bound to the path.
    Socket(UnixDatagram, PathBuf),
}

/// What a line was driven to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Physical {
    /// Low or high.
    Switch(bool),
    /// The part of the time it is high.
    Pwm(Level),
}

impl Trace {
    /// Opens `path` (a regular file or a FIFO) or `unix:/path` (a datagram socket).
    ///
    /// A FIFO needs no reader yet: the kernel keeps 64 KiB for it. A socket that nobody has bound yet is tried again at
    /// each write.
    ///
    /// # Errors
    /// `absent` or `permission`, when a file cannot be opened.
    pub fn open(target: &str) -> Result<Self, Failure> {
        let sink = match target.strip_prefix("unix:") {
            Some(path) => socket(Path::new(path)),
            None => file(Path::new(target)),
        };
        let refused = |error: io::Error| {
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let reason = if denied { Reason::Permission } else { Reason::Absent };
            Failure::new(reason, format!("the trace {target} cannot be opened: {error}"))
        };
        Ok(Self { sink: sink.map_err(refused)?, target: from_anywhere(target), lost: AtomicU64::new(0) })
    }

    /// What [`Trace::open`] was given, with an absolute path.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// How many writes could not be noted.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Notes one write; allocates nothing.
    pub(super) fn write(&self, at: Instant, line: &str, value: Physical) {
        let mut buffer = [0; LINE];
        let length = format(&mut buffer, at, line, value);
        if let Err(error) = self.sink.send(&buffer[..length])
            && self.lost.fetch_add(1, Ordering::Relaxed) == 0
        {
            log::warn!(error:%; "output writes are missing from the trace");
        }
    }
}

impl Sink {
    fn send(&self, text: &[u8]) -> io::Result<()> {
        let sent = match self {
            Self::File(file) => (&mut &*file).write(text)?,
            // The receiver may have been started after us, or anew.
            Self::Socket(socket, path) => socket.send(text).or_else(|error| match error.kind() {
                io::ErrorKind::WouldBlock => Err(error),
                _ => socket.connect(path).and_then(|()| socket.send(text)),
            })?,
        };
        if sent == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// The target with an absolute path.
fn from_anywhere(target: &str) -> String {
    let (prefix, path) = target.strip_prefix("unix:").map_or(("", target), |path| ("unix:", path));
    // It fails without a working folder only; the path is then as good as it can be.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    format!("{prefix}{}", absolute.display())
}

fn socket(path: &Path) -> io::Result<Sink> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    // Whether somebody listens shows at the first write.
    let _ = socket.connect(path);
    Ok(Sink::Socket(socket, path.to_owned()))
}

fn file(path: &Path) -> io::Result<Sink> {
    // Opened for reading too, a FIFO neither waits for a reader nor breaks when one goes away.
    let fifo = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let mut options = OpenOptions::new();
    options.append(true).read(fifo).create(!fifo).custom_flags(libc::O_NONBLOCK);
    options.open(path).map(Sink::File)
}

/// Writes the line into `buffer` and returns its length.
fn format(buffer: &mut [u8; LINE], at: Instant, line: &str, value: Physical) -> usize {
    let end = (0..=line.len().min(NAME)).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    let (at, name) = (at.as_nanos(), &line[..end]);
    let mut rest = &mut buffer[..];
    let written = match value {
        Physical::Switch(high) => writeln!(rest, "{at} {name} {}", u8::from(high)),
        Physical::Pwm(level) => writeln!(rest, "{at} {name} {level}"),
    };
    written.expect("a number, a bounded name and a percentage fit");
    LINE - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;

    const AT: Instant = Instant::from_nanos(1_234_567_890);

    fn percent(percent: f64) -> Physical {
        Physical::Pwm(Level::from_percent(percent).expect("a percentage"))
    }

    fn fifo(path: &Path) {
        let text = std::ffi::CString::new(path.to_str().expect("text")).expect("no NUL");
        // SAFETY: `text` is a NUL-terminated string for the duration of the call.
        assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
    }

    #[test]
    fn a_file_is_appended_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace.log");
        fs::write(&path, "before\n").expect("a file");
        let trace = Trace::open(path.to_str().expect("text")).expect("a trace");
        trace.write(AT, "GPIO17", Physical::Switch(true));
        trace.write(AT, "gpiochip0:4", Physical::Switch(false));
        trace.write(Instant::from_nanos(u64::MAX), "pwmchip0:0", percent(12.5));
        let text = fs::read_to_string(&path).expect("a file");
        let expected = "before\n1234567890 GPIO17 1\n1234567890 gpiochip0:4 0\n18446744073709551615 pwmchip0:0 12.5\n";
        assert_eq!(text, expected);
        assert_eq!(trace.lost(), 0);
    }

    #[test]
    fn a_fifo_needs_no_reader_and_a_full_one_never_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace");
        fifo(&path);
        let trace = Trace::open(path.to_str().expect("text")).expect("a trace without a reader");
        for _ in 0..10_000 {
            trace.write(AT, "GPIO17", Physical::Switch(true));
        }
        assert!(trace.lost() > 0, "64 KiB do not hold 10,000 lines");
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("a reader");
        let mut first = [0; 20];
        reader.read_exact(&mut first).expect("what was kept");
        assert_eq!(&first, b"1234567890 GPIO17 1\n");
    }

    #[test]
    fn a_socket_gets_one_datagram_a_write_even_if_bound_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let trace = Trace::open(&format!("unix:{}", path.display())).expect("a trace without a receiver");
        trace.write(AT, "GPIO17", Physical::Switch(true));
        assert_eq!(trace.lost(), 1);
        let mut buffer = [0; 64];
        for _ in 0..2 {
            let receiver = UnixDatagram::bind(&path).expect("a receiver");
            trace.write(AT, "GPIO17", Physical::Switch(false));
            let length = receiver.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], b"1234567890 GPIO17 0\n");
            drop(receiver);
            fs::remove_file(&path).expect("a socket");
        }
        assert_eq!(trace.lost(), 1);
    }

    #[test]
    fn a_full_socket_never_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let _receiver = UnixDatagram::bind(&path).expect("a receiver");
        let trace = Trace::open(&format!("unix:{}", path.display())).expect("a trace");
        for _ in 0..5_000 {
            trace.write(AT, "GPIO17", Physical::Switch(true));
        }
        assert!(trace.lost() > 0);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let mut buffer = [0; LINE];
        let length = format(&mut buffer, AT, &"ä".repeat(1_000), percent(100.0));
        let text = std::str::from_utf8(&buffer[..length]).expect("text");
        assert_eq!(text, format!("1234567890 {} 100\n", "ä".repeat(128)));
    }

    #[test]
    fn a_target_is_told_as_it_is_found_from_anywhere() {
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(from_anywhere("x/trace.log"), here.join("x/trace.log").display().to_string());
        assert_eq!(from_anywhere("/x/trace"), "/x/trace");
        assert_eq!(from_anywhere("unix:/x/socket"), "unix:/x/socket");
    }

    #[test]
    fn a_folder_that_is_not_there_is_absent() {
        let failure = Trace::open("/nonexistent/trace.log").err().expect("no folder");
        assert_eq!(failure.reason, Reason::Absent);
    }
}
