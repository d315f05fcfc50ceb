//! Logins on an emulated board over ssh: commands as root for the tests, as `pi` for what a README has people type.
//!
//! All commands of a user go over one connection, because a handshake takes an emulated board seconds. It installs nothing
//! and knows no agent. Every command has a bound.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Seconds that a command may take there.
const BOUND: &str = "120";

/// How to log in on a board.
pub struct Guest {
    folder: TempDir,
}

impl Guest {
    /// The board whose sshd is behind `port` of 127.0.0.1, with the keys of the image in `image`.
    pub fn new(image: &Path, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder for ssh");
        let guest = Self { folder };
        let mut text = format!(
            "Host board\nHostName 127.0.0.1\nPort {port}\nIdentityFile {}\nUserKnownHostsFile {}\n",
            image.join("key").display(),
            image.join("known_hosts").display()
        );
        let socket = guest.folder.path().join("%r");
        text += "HostKeyAlias board\nIdentitiesOnly yes\nPreferredAuthentications publickey\nBatchMode yes\n";
        text += "ConnectTimeout 60\nLogLevel ERROR\n";
        // The cheapest the board can do.
        text += "KexAlgorithms curve25519-sha256\nControlMaster auto\nControlPersist yes\n";
        writeln!(text, "ControlPath {}", socket.display()).expect("text");
        std::fs::write(guest.ssh_config(), text).expect("the configuration of ssh");
        guest
    }

    /// A configuration file of ssh that knows the host `board`.
    pub fn ssh_config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Runs a shell script as root and gives what it prints.
    ///
    /// # Panics
    /// With what it says, if it fails.
    pub fn root(&self, script: &str) -> String {
        succeeded(script, &self.run("root", script, ""))
    }

    /// Runs a shell script as `pi`, who has sudo, and gives what it prints.
    ///
    /// # Panics
    /// With what it says, if it fails.
    pub fn pi(&self, script: &str) -> String {
        succeeded(script, &self.run("pi", script, ""))
    }

    /// Whether a shell script succeeds as root.
    pub fn test(&self, script: &str) -> bool {
        self.run("root", script, "").status.success()
    }

    /// Runs a shell script with that as its input, and gives how it ends.
    pub fn run(&self, user: &str, script: &str, input: &str) -> Output {
        let mut child = self.start(user, script);
        // A script that does not read its input ends before it has it all.
        let _ = child.stdin.take().expect("its input is a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("its output")
    }

    /// Starts a shell script, which is to print no more than a pipe holds.
    pub fn start(&self, user: &str, script: &str) -> Child {
        let mut command = Command::new("timeout");
        command.args([BOUND, "ssh", "-F"]).arg(self.ssh_config()).args(["-l", user, "board", "--", script]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ssh (package openssh-client)")
    }

    /// Copies a file of this machine there, as root.
    pub fn copy(&self, from: &Path, to: &str) {
        let mut command = Command::new("timeout");
        command.args([BOUND, "scp", "-q", "-F"]).arg(self.ssh_config()).arg(from).arg(format!("root@board:{to}"));
        succeeded("scp", &command.stdin(Stdio::null()).output().expect("scp (package openssh-client)"));
    }

    /// Writes a file as root, its folders included.
    pub fn write(&self, path: &str, content: &str) {
        let script = format!("mkdir -p \"$(dirname {path})\" && cat >{path}");
        succeeded(&script, &self.run("root", &script, content));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        for user in ["root", "pi"] {
            let mut command = Command::new("ssh");
            command.arg("-F").arg(self.ssh_config()).args(["-l", user, "-O", "exit", "board"]);
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

fn succeeded(script: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "on the board, `{script}` ended with {}:\n{printed}{said}", output.status);
    printed
}
