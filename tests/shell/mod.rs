//! The real binary as a person or a service manager starts it: in a folder of its own, with nothing inherited but PATH.
//!
//! Nothing outlives a test: what is started is killed when dropped, and what should end by itself is waited for with a bound.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it has a value; panics with `what` after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, as the trace stamps its lines.
pub fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the duration of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A port of 127.0.0.1 that nobody listens on now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A folder in which commands are run.
pub struct Shell {
    folder: TempDir,
    started: AtomicUsize,
    variables: Vec<(String, String)>,
}

/// What a command said and how it ended.
pub struct Done {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Shell {
    /// An empty folder with `run` and `state` below it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["run", "state"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self { folder, started: AtomicUsize::new(0), variables: Vec::new() }
    }

    /// With this configuration in `c.toml`, on a simulated board that notes its writes in `trace.log`.
    pub fn with(config: &str) -> Self {
        let shell = Self::new();
        let board = "[board]\nkind = \"simulated\"\n[simulated]\ntrace = \"trace.log\"\n";
        let text = if config.contains("[board]") { config.to_owned() } else { format!("{config}\n{board}") };
        shell.write("c.toml", &text);
        shell
    }

    /// Puts a variable into every command's environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A path in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.file(name), text).expect("written");
    }

    /// The command with these arguments, to be started.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_board2mqtt"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TMPDIR", self.folder.path());
        command.env("RUNTIME_DIRECTORY", self.file("run")).env("STATE_DIRECTORY", self.file("state"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Starts a command; what it says goes to files.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let paths = ["out", "err"].map(|name| self.file(&format!("{number}.{name}")));
        let [out, err] = paths.each_ref().map(|path| File::create(path).expect("a file"));
        let child = self.command(arguments).stdout(out).stderr(err).spawn().expect("the program starts");
        Running { child, paths }
    }

    /// Runs a command to its end; words are parted by blanks.
    pub fn run(&self, arguments: &str) -> Done {
        self.start(&arguments.split_whitespace().collect::<Vec<_>>()).done()
    }

    /// Starts the daemon with `c.toml`.
    pub fn daemon(&self) -> Running {
        self.start(&["run", "-c", "c.toml"])
    }

    /// The physical levels written to a line so far.
    pub fn levels(&self, line: &str) -> Vec<String> {
        self.writes().into_iter().filter(|(_, name, _)| name == line).map(|(_, _, level)| level).collect()
    }

    /// Every write to an output so far: `CLOCK_MONOTONIC` in nanoseconds, line, physical level.
    pub fn writes(&self) -> Vec<(u64, String, String)> {
        let text = std::fs::read_to_string(self.file("trace.log")).unwrap_or_default();
        let parse = |line: &str| {
            let mut fields = line.split(' ');
            let at = fields.next()?.parse().ok()?;
            Some((at, fields.next()?.to_owned(), fields.next()?.to_owned()))
        };
        text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("a line of the trace: {line}"))).collect()
    }

    /// Waits until a line has been driven to exactly these levels.
    pub fn wait_for_levels(&self, line: &str, levels: &[&str]) {
        wait_for(&format!("{line} at {levels:?}"), || (self.levels(line) == levels).then_some(()));
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A command that runs; killed when dropped.
pub struct Running {
    child: Child,
    paths: [PathBuf; 2],
}

impl Running {
    /// What it has written to stdout so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.paths[0]).unwrap_or_default()).into_owned()
    }

    /// What it has written to stderr so far.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.paths[1]).unwrap_or_default()).into_owned()
    }

    /// Waits until stdout holds `text`.
    pub fn wait_for_out(&self, text: &str) {
        wait_for(&format!("`{text}` on stdout"), || self.out().contains(text).then_some(()));
    }

    /// Waits until stderr holds `text`.
    pub fn wait_for_err(&self, text: &str) {
        wait_for(&format!("`{text}` on stderr"), || self.err().contains(text).then_some(()));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: a signal to a child of ours that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// SIGKILL, and its end.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours to kill");
        self.child.wait().expect("its end");
    }

    /// Waits for its end; the status is `None` where a signal ended it.
    pub fn done(mut self) -> Done {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                break status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end\nstdout:\n{}\nstderr:\n{}", self.out(), self.err());
            std::thread::sleep(Duration::from_millis(2));
        };
        Done { status, out: self.out(), err: self.err() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- stdout\n{}---- stderr\n{}----", self.out(), self.err());
        }
    }
}

/// A service manager's end of `NOTIFY_SOCKET`.
pub struct Manager(UnixDatagram);

impl Manager {
    /// Listens in the shell's folder, and tells every command so.
    pub fn new(shell: &mut Shell) -> Self {
        let path = shell.file("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
        shell.set("NOTIFY_SOCKET", path.to_str().expect("text"));
        Self(socket)
    }

    /// The next message.
    pub fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let len = self.0.recv(&mut buffer).expect("a message in time");
        String::from_utf8(buffer[..len].to_vec()).expect("text")
    }

    /// The first message that begins so; the others are dropped.
    pub fn wait_for(&self, beginning: &str) -> String {
        loop {
            let message = self.next();
            if message.starts_with(beginning) {
                return message;
            }
        }
    }

    /// Whether something comes within this time; it is dropped.
    pub fn speaks_within(&self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).expect("a bound");
        let spoke = self.0.recv(&mut [0; 4096]).is_ok();
        self.0.set_read_timeout(Some(PATIENCE)).expect("a bound");
        spoke
    }

    /// Whether nothing has come.
    pub fn is_silent(&self) -> bool {
        self.0.set_nonblocking(true).expect("set");
        self.0.recv(&mut [0; 16]).is_err()
    }
}
