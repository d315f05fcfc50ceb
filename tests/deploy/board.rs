//! A board that `cross/deploy` can reach: a real sshd on loopback, and a folder in place of `/` with stand-ins for systemd.
//!
//! The programs a login finds there are [`TOOLS`] and the stand-ins, nothing else, so what the scripts need of a board is
//! this list. No file outside the folder is written but `/run/sshd`, which an sshd started by root wants to exist.
//! Invariant: nothing outlives the test, the daemon included.

use crate::shell::{PATIENCE, free_port, wait_for};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// What Debian has everywhere (coreutils, dash, diffutils, tar, util-linux) and the scripts use.
const TOOLS: [&str; 23] = [
    "cat", "cmp", "dirname", "env", "flock", "install", "ln", "ls", "mkdir", "mktemp", "mv", "od", "rm", "seq", "sh",
    "sleep", "sync", "tar", "test", "timeout", "tr", "uname", "python3",
];
/// What `stand_in.py` stands in for.
const STAND_INS: [&str; 7] =
    ["systemctl", "journalctl", "systemd-sysusers", "systemd-tmpfiles", "udevadm", "id", "sudo"];

/// The board, its login and who knows the way to it.
pub struct Board {
    folder: TempDir,
    port: u16,
    sshd: Child,
}

/// What a script said and how it ended.
pub struct Done {
    pub status: Option<i32>,
    pub said: String,
}

/// A program in the usual folders, or the one `python3` stands for.
fn find(name: &str) -> PathBuf {
    if name == "python3" {
        let output = Command::new(name).args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
        return PathBuf::from(String::from_utf8(output.stdout).expect("text").trim());
    }
    let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed (tests/all does it)"))
}

fn key(path: &Path) {
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen (Debian's openssh-client)").success());
}

impl Board {
    /// A board fresh from its image: systemd runs, nothing of ours is there. Its path has a blank in it.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("a board ").tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["state", "run/systemd/system", "tmp", "bin", "home", "dev/i2c-1"] {
            fs::create_dir_all(path(name)).expect("a folder");
        }
        for name in TOOLS {
            symlink(find(name), path("bin").join(name)).expect("a link");
        }
        for name in STAND_INS {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/stand_in.py");
            symlink(script, path("bin").join(name)).expect("a link");
        }
        key(&path("host_key"));
        key(&path("key"));
        let port = free_port();
        let sshd = start_sshd(folder.path(), port);
        let board = Self { folder, port, sshd };
        board.wait_for_sshd();
        board
    }

    fn wait_for_sshd(&self) {
        wait_for("sshd", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
        let host = fs::read_to_string(self.path("host_key.pub")).expect("a key");
        self.write("known_hosts", format!("[127.0.0.1]:{} {host}", self.port));
    }

    /// A path on the board.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text of a file on the board; empty where there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read(self.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Writes a file on the board.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// Puts a script in place of one of the tools.
    pub fn replace_tool(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::remove_file(&path).expect("a tool");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// `cross/deploy` to this board, to be run with more arguments.
    pub fn command(&self) -> Command {
        let user = Command::new("id").arg("-un").output().expect("id").stdout;
        let user = String::from_utf8(user).expect("text");
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cross/deploy"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("SSH_OPTIONS", "-F /dev/null -o BatchMode=yes -o Compression=no")
            .arg(format!("{}@127.0.0.1", user.trim()));
        let quoted = |name: &str| format!("\"{}\"", self.path(name).display());
        for option in [
            format!("Port={}", self.port),
            format!("IdentityFile={}", quoted("key")),
            format!("UserKnownHostsFile={}", quoted("known_hosts")),
            "IdentitiesOnly=yes".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.args(["--settle", "0"]).stdin(Stdio::null());
        command
    }

    /// Runs `cross/deploy` with these arguments to its end.
    pub fn deploy<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Done {
        done(self.command().args(arguments).output().expect("cross/deploy"))
    }

    /// Starts it with these arguments, in a process group of its own.
    pub fn start<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Child {
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().expect("cross/deploy")
    }

    /// What the stand-ins were called with, in order, where it matters: what changes the system.
    pub fn changes(&self) -> Vec<String> {
        let asks = ["is-active", "is-enabled", "show", "journalctl", "id "];
        self.read("state/calls")
            .lines()
            .filter(|line| !asks.iter().any(|ask| line.contains(ask)))
            .map(|line| line.replace("systemctl --no-pager --no-ask-password ", "").replace("--quiet ", ""))
            .collect()
    }

    /// The daemon's process id, if one runs.
    pub fn daemon(&self) -> Option<u32> {
        let pid = self.read("state/pid").parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        (!stat.rsplit_once(')')?.1.starts_with(" Z")).then_some(pid)
    }

    /// Files in the places where `cross/deploy` puts some, and the folder it copies to.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["usr", "etc", "tmp"] {
            files_below(self.folder.path(), &self.path(folder), &mut found);
        }
        found.sort();
        found
    }
}

fn files_below(root: &Path, folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            files_below(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).expect("below").display().to_string());
        }
    }
}

/// What it said on both, for people alike.
pub fn done(output: Output) -> Done {
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Done { status: output.status.code(), said }
}

fn start_sshd(folder: &Path, port: u16) -> Child {
    let quoted = |name: &str| format!("\"{}\"", folder.join(name).display());
    let text = |name: &str| folder.join(name).display().to_string();
    fs::copy(folder.join("key.pub"), folder.join("authorized_keys")).expect("copied");
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         SetEnv \"PATH={}\" \"HOME={}\" \"TMPDIR={}\" \"DESTDIR={}\"\n",
        quoted("host_key"),
        quoted("authorized_keys"),
        text("bin"),
        text("home"),
        text("tmp"),
        folder.display()
    );
    fs::write(folder.join("sshd_config"), config).expect("written");
    // An sshd of root's separates itself into this empty folder; where it is missing and cannot be made, sshd says so.
    let _ = fs::create_dir("/run/sshd");
    let log = fs::File::create(folder.join("sshd.log")).expect("a log");
    let mut command = Command::new(find("sshd"));
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config")).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(log).spawn().expect("sshd starts")
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon() {
            signal(pid.cast_signed(), libc::SIGKILL);
        }
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        if std::thread::panicking() {
            eprintln!("---- sshd\n{}---- calls\n{}", self.read("sshd.log"), self.read("state/calls"));
            eprintln!("---- journal\n{}----", self.read("state/journal"));
        }
    }
}

/// Ends a script and its ssh, as a terminal that is closed does; it still removes its own files.
pub fn hang_up(script: &Child) {
    signal(-script.id().cast_signed(), libc::SIGHUP);
}

/// A signal to a process, or with a negative number to a process group.
fn signal(pid: i32, signal: i32) {
    // SAFETY: a process or a group that this test has started and not waited for.
    unsafe { libc::kill(pid, signal) };
}

/// Waits for a child's end and gives its status.
pub fn end_of(mut child: Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        match child.try_wait().expect("its state") {
            Some(status) => return status.code(),
            None if start.elapsed() > PATIENCE => panic!("it does not end"),
            None => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    }
}
