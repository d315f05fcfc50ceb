//! The real `board2mqtt run` on a simulated board: started with a configuration in folders of its own, killed and stopped
//! like a process, its log and the trace of its output writes read back.

use super::wait_for;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What an agent is started with.
pub struct Recipe {
    folder: TempDir,
    config: PathBuf,
    variables: Vec<(String, String)>,
    level: &'static str,
    file_limit: Option<u64>,
}

impl Recipe {
    /// With this text as its configuration.
    pub fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the agent");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config).expect("the configuration");
        Self::in_folder(folder, path)
    }

    /// With a file of `configs/` as it stands, on a simulated board, and `password` in the file it asks for.
    pub fn shipped(name: &str, password: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the agent");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
        let path = folder.path().join(source.file_name().expect("a file's name"));
        std::fs::copy(source, &path).expect("a shipped configuration");
        Self::in_folder(folder, path).file("password", password).set("BOARD__KIND", "simulated")
    }

    fn in_folder(folder: TempDir, config: PathBuf) -> Self {
        let trace = folder.path().join("trace.log").display().to_string();
        Self { folder, config, variables: Vec::new(), level: "info", file_limit: None }.set("SIMULATED__TRACE", trace)
    }

    /// Puts a file beside the configuration, for its owner alone.
    pub fn file(self, name: &str, content: &str) -> Self {
        let mut options = File::options();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options.open(self.folder.path().join(name)).expect("a file");
        file.write_all(content.as_bytes()).expect("a file");
        self
    }

    /// Overrides a key by its environment variable: `MQTT__KEEP_ALIVE`.
    pub fn set(self, key: &str, value: impl Into<String>) -> Self {
        self.variable(&format!("BOARD2MQTT__{key}"), value)
    }

    /// Puts a variable into its environment.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The server is on this port of 127.0.0.1.
    pub fn server(self, port: u16) -> Self {
        self.set("MQTT__SERVER", format!("mqtt://127.0.0.1:{port}"))
    }

    /// What happens on the simulated board.
    pub fn script(self, script: &str) -> Self {
        self.file("script.toml", script).set("SIMULATED__SCRIPT", "script.toml")
    }

    /// How much it logs instead of `info`.
    pub fn log_level(mut self, level: &'static str) -> Self {
        self.level = level;
        self
    }

    /// No file of it may grow beyond so many bytes: a disk that is full for each file alone.
    pub fn file_limit(mut self, bytes: u64) -> Self {
        self.file_limit = Some(bytes);
        self
    }

    /// Starts it.
    pub fn start(self) -> Agent {
        for name in ["run", "state"] {
            std::fs::create_dir(self.folder.path().join(name)).expect("a folder");
        }
        let mut agent = Agent { recipe: self, child: None };
        agent.start_again();
        agent
    }
}

/// One write to an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
    /// As configured.
    pub line: String,
    /// Physical: `0`, `1` or a percentage.
    pub value: String,
}

/// A running agent; killed when dropped.
pub struct Agent {
    recipe: Recipe,
    child: Option<Child>,
}

/// How many readings the store says in this part of a log, at `debug`, that it has taken.
pub fn stored_in(log: &str) -> usize {
    let said = log.lines().filter(|line| line.starts_with("DEBUG safe from the end of this process"));
    said.filter_map(|line| line.rsplit_once("readings=")?.1.parse::<usize>().ok()).sum()
}

impl Agent {
    /// Starts it again after its end, in the same folders.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        let folder = self.recipe.folder.path();
        let log = File::options().create(true).append(true).open(self.file("agent.log")).expect("its log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_board2mqtt"));
        command.arg("run").arg("-c").arg(&self.recipe.config).args(["--log-level", self.recipe.level]);
        for inherited in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
            command.env_remove(inherited);
        }
        command.env("RUNTIME_DIRECTORY", folder.join("run")).env("STATE_DIRECTORY", folder.join("state"));
        command.envs(self.recipe.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if let Some(limit) = self.recipe.file_limit {
            // SAFETY: both calls are async-signal-safe, and `file_size` is a valid limit for the duration of the call.
            unsafe {
                command.pre_exec(move || {
                    let file_size = libc::rlimit { rlim_cur: limit as _, rlim_max: libc::RLIM_INFINITY };
                    libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                    if libc::setrlimit(libc::RLIMIT_FSIZE, &file_size) == 0 {
                        Ok(())
                    } else {
                        Err(std::io::Error::last_os_error())
                    }
                });
            }
        }
        self.child = Some(command.spawn().expect("the agent can be started"));
    }

    /// A path in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.recipe.folder.path().join(name)
    }

    /// Everything it has logged, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.file("agent.log")).unwrap_or_default()).into_owned()
    }

    /// How many lines of its log contain `text`.
    pub fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until so many lines of its log contain `text`.
    pub fn wait_for_log(&self, text: &str, lines: usize) {
        wait_for(&format!("{lines} × `{text}` in the agent's log"), || (self.logged(text) >= lines).then_some(()));
    }

    /// Every write to an output so far, over all its starts.
    pub fn writes(&self) -> Vec<Write> {
        let text = std::fs::read_to_string(self.file("trace.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(write).collect()
    }

    /// The values written to `line` so far.
    pub fn levels(&self, line: &str) -> Vec<String> {
        self.writes().into_iter().filter(|write| write.line == line).map(|write| write.value).collect()
    }

    /// Waits until exactly these values have been written to `line`, one after the other.
    pub fn wait_for_levels(&self, line: &str, levels: &[&str]) {
        wait_for(&format!("{line} to have been {levels:?}, it was {:?}", self.levels(line)), || {
            let seen = self.levels(line);
            let fits = seen.iter().zip(levels).all(|(seen, level)| seen == level) && seen.len() <= levels.len();
            assert!(fits, "{line} was {seen:?}, not {levels:?}");
            (seen.len() == levels.len()).then_some(())
        });
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        memory_kib(&self.pid().to_string())
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("a running process").count()
    }

    /// Runs another subcommand with its configuration in its surroundings.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let folder = self.recipe.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_board2mqtt"));
        command.args(arguments).arg("-c").arg(&self.recipe.config);
        command.env("RUNTIME_DIRECTORY", folder.join("run")).env("STATE_DIRECTORY", folder.join("state"));
        command.envs(self.recipe.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).output().expect("it can be started")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child of ours that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "the agent is ours to signal");
    }

    /// SIGKILL: nothing is said to anybody.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the agent is ours to kill");
            child.wait().expect("its end");
        }
    }

    /// SIGTERM and its end: the exit status, and how long it took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.wait_for_end();
        (status, begun.elapsed())
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it was started");
        let status = wait_for("the agent's end", || child.try_wait().expect("its state"));
        self.child = None;
        status
    }

    /// Panics if it has ended.
    pub fn assert_alive(&mut self) {
        let ended = self.child.as_mut().expect("it was started").try_wait().expect("its state");
        assert_eq!(ended, None, "the agent has ended");
    }

    /// Its files may grow again.
    pub fn lift_file_limit(&mut self) {
        self.recipe.file_limit = None;
        let none = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: `none` is a valid limit for the duration of the call; the old one is not asked for.
        let set = unsafe { libc::prlimit(self.pid(), libc::RLIMIT_FSIZE, &none, std::ptr::null_mut()) };
        assert_eq!(set, 0, "the agent is ours to limit");
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().expect("it is running").id()).expect("a process id")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("---- the agent's log\n{}\n----", lines[lines.len().saturating_sub(200)..].join("\n"));
        }
    }
}

/// Resident memory of a process in KiB.
pub fn memory_kib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

fn write(line: &str) -> Write {
    let mut fields = line.rsplitn(2, ' ');
    let value = fields.next().expect("a value").to_owned();
    let (at, name) = fields.next().and_then(|rest| rest.split_once(' ')).expect("a time and a line");
    Write { at_ns: at.parse().expect("nanoseconds"), line: name.to_owned(), value }
}
