//! A running `board2mqtt`, its log, and its end.

use crate::support::wait_for;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_board2mqtt");

/// The program on a simulated board, in folders of its own, with a server in place of the configured one.
pub fn command(folders: &Path, server: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env("BOARD2MQTT__BOARD__KIND", "simulated")
        .env("BOARD2MQTT__MQTT__SERVER", server)
        .env("RUNTIME_DIRECTORY", folders)
        .env("STATE_DIRECTORY", folders)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null());
    command
}

/// A daemon; it is killed when dropped.
pub struct Agent {
    folders: TempDir,
    child: Child,
}

impl Agent {
    /// Starts `board2mqtt run` with a configuration, a server and more of the environment.
    pub fn start(config: &Path, server: &str, environment: &[(&str, &str)]) -> Self {
        let folders = tempfile::tempdir().expect("a folder");
        let log = File::create(folders.path().join("log")).expect("a log");
        let mut command = command(folders.path(), server);
        command.args(["run", "-c"]).arg(config).envs(environment.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the program starts");
        Self { folders, child }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folders.path().join("log")).expect("the log")
    }

    /// Waits until its log contains `text`.
    pub fn wait_for_log(&self, text: &str) {
        let mut last = String::new();
        let found = || {
            last = self.log();
            last.contains(text).then_some(())
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(text, found)));
        assert!(outcome.is_ok(), "`{text}` is not in the log:\n{last}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
