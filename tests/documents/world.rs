//! A sandbox in which printed commands are carried out: a folder in place of `/`, a Mosquitto in place of the server, a
//! simulated board in place of the hardware.
//!
//! Our own program, Mosquitto's, systemd-sysusers, systemd-tmpfiles and plain file commands run for real. What needs another
//! machine or a running system is held against the files, units, users and targets it names. A command without a rule
//! here is a fault, so that nothing untested is printed.

mod cross;
mod package;

use super::agent::{self, Agent};
use super::commands::Printed;
use super::shapes;
use crate::support::mosquitto::{Mosquitto, password_file};
use crate::support::wait_for;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Users and groups that the commands may name.
const USERS: [&str; 4] = ["root", "board2mqtt", "mosquitto", "mosquitto:"];
/// The password of everybody.
const PASSWORD: &str = "secret";
/// Commands of others, exactly as they are.
const VERBATIM: [&str; 11] = [
    "cargo install cross --locked",
    "cargo install cargo-deb --locked",
    "python3 -m venv ~/.local/share/zig",
    "~/.local/share/zig/bin/pip install cargo-zigbuild ziglang",
    "raspi-config nonint do_i2c 0",
    "journalctl -u board2mqtt",
    "ls /dev/i2c-* /dev/gpiochip*",
    "i2cdetect -l",
    "i2cdetect -y 1",
    "gpiodetect",
    "gpioinfo",
];

/// The sandbox.
pub struct World {
    /// In place of `/`; below it `work` is the repository and `pi` the home on the board.
    root: TempDir,
    /// The server.
    pub server: Mosquitto,
    /// Where the next command runs.
    folder: PathBuf,
    /// Files that an editor is opened on, by path.
    files: Vec<(String, String)>,
}

impl World {
    /// A sandbox whose server knows `users`; `files` are what is to be written where an editor is called.
    pub fn new(users: &[&str], files: Vec<(String, String)>) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["work", "pi", "etc/mosquitto/conf.d", "run", "state", "usr/local/bin"] {
            std::fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["configs", "cross", "systemd", "tests", "deny.toml"] {
            symlink(repository.join(name), root.path().join("work").join(name)).expect("a link");
        }
        let server = Mosquitto::with(|folder| {
            let logins: Vec<_> = users.iter().map(|user| (*user, PASSWORD)).collect();
            let passwords = password_file(folder, &logins);
            let acl = repository.join("configs/mosquitto/acl");
            let (passwords, acl) = (passwords.display(), acl.display());
            format!("allow_anonymous false\npassword_file {passwords}\nacl_file {acl}")
        });
        let folder = root.path().join("work");
        Self { root, server, folder, files }
    }

    /// Back to a folder of the repository.
    pub fn enter(&mut self, folder: &str) {
        self.folder = self.root.path().join("work").join(folder);
    }

    /// Carries a command out and compares what it prints with what it is said to print.
    pub fn carry_out(&mut self, command: &Printed) {
        let mut words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        if words[0] == "sudo" {
            words.remove(0);
            if words[0] == "-u" {
                assert!(USERS.contains(&words[1]), "{}: user {}", command.place, words[1]);
                words.drain(..2);
            }
        }
        if words.starts_with(&["cargo", "run", "--release", "--"]) {
            words.splice(..4, ["board2mqtt"]);
        }
        let line = words.join(" ");
        let printed = match words[0] {
            _ if VERBATIM.contains(&line.as_str()) => String::new(),
            "board2mqtt" => self.ours(&words[1..], command),
            "cross" => self.cross(&words[1..], command),
            "cross/build" => self.cross_build(&words[1..], command),
            "cross/deploy" => self.cross_deploy(&words[1..], command),
            "cross/package" => self.cross_package(&words[1..], command),
            "apt" => self.apt(&words[1..], command),
            "tests/all" => self.is_executable("tests/all"),
            "cd" => self.change_folder(words[1], command),
            "ssh" => self.on_board(&words[2..], command),
            "scp" => self.scp(&words[1..], command),
            "nano" => self.edit(words[1], command),
            "systemctl" => self.systemctl(&words[1..], command),
            "udevadm" => udevadm(&words[1..], command),
            "systemd-sysusers" | "systemd-tmpfiles" => self.systemd(&words, command),
            "chown" => self.change_owner(words[1], words[2], command),
            "install" | "mkdir" | "cp" | "chmod" | "rm" => self.plain(&words, command),
            "mosquitto_passwd" => self.mosquitto_passwd(&words[1..], command),
            "mosquitto_pub" => self.mosquitto_pub(&words[1..], command),
            "mosquitto_sub" => self.mosquitto_sub(&words[1..], command),
            name if name.ends_with("make-ca") => self.make_ca(&words, command),
            _ => panic!("{}: no rule tells how to check `{line}`", command.place),
        };
        if let Some(expected) = &command.output {
            let (expected, printed) = (shapes(expected), shapes(&printed));
            // How many rounds fit into the demo's seconds is the machine's affair: its beginning and its end are shown.
            let rounds = usize::from(words.get(1) == Some(&"demo"));
            let (begin, end) = expected.split_at(expected.len() - rounds);
            let same = printed.starts_with(begin) && printed.ends_with(end) && (rounds > 0 || printed == expected);
            assert!(same, "{}: `{line}` printed\n{}", command.place, printed.join("\n"));
        }
    }

    /// A path of the printed command in the sandbox.
    fn real(&self, path: &str) -> PathBuf {
        match path.strip_prefix('/') {
            Some(below) => self.root.path().join(below),
            None => self.folder.join(path),
        }
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.server.port())
    }

    /// Runs a real program to its good end.
    fn run(&self, process: &mut Command, command: &Printed) -> String {
        let output = process.current_dir(&self.folder).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {process:?}: {error}", command.place));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.root.path().display().to_string(), "");
        assert!(
            output.status.success(),
            "{}: {process:?} ended with {}: {}{}",
            command.place,
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn ours(&self, arguments: &[&str], command: &Printed) -> String {
        let mut process = agent::command(&self.root.path().join("run"), &self.url());
        process.args(arguments).envs(command.environment.iter().map(|(name, value)| (name, value)));
        let installed = self.real("/etc/board2mqtt/config.toml");
        let wants_configuration = !["demo", "drivers", "help", "safe"].contains(&arguments[0]);
        if wants_configuration && !arguments.contains(&"-c") {
            process.arg("-c").arg(installed);
        }
        if arguments[0] == "demo" && !arguments.contains(&"--seconds") {
            process.args(["--seconds", "1"]);
        }
        self.run(&mut process, command)
    }

    fn is_executable(&self, name: &str) -> String {
        let mode = std::fs::metadata(self.folder.join(name)).expect(name).permissions().mode();
        assert!(mode & 0o111 != 0, "{name} can be run");
        String::new()
    }

    fn change_folder(&mut self, to: &str, command: &Printed) -> String {
        self.folder = self.real(to);
        assert!(self.folder.is_dir(), "{}: {to} is there by now", command.place);
        String::new()
    }

    fn on_board(&mut self, remote: &[&str], command: &Printed) -> String {
        match remote {
            [] => self.folder = self.root.path().join("pi"),
            ["mkdir", "-p", folder] => {
                std::fs::create_dir_all(self.root.path().join("pi").join(folder)).expect("a folder");
            }
            _ => panic!("{}: no rule for {remote:?} over ssh", command.place),
        }
        String::new()
    }

    fn scp(&mut self, arguments: &[&str], command: &Printed) -> String {
        self.enter("");
        let (target, sources) = arguments.split_last().expect("a target");
        let (_, target) = target.split_once(':').expect("HOST:PATH");
        for source in sources {
            let source = self.only(source, command);
            let name = source.file_name().expect("a name");
            let copied = std::fs::copy(&source, self.root.path().join("pi").join(target).join(name));
            copied.unwrap_or_else(|error| panic!("{}: {}: {error}", command.place, source.display()));
        }
        String::new()
    }

    fn edit(&self, path: &str, command: &Printed) -> String {
        let text = self.files.iter().find(|(name, _)| name == path).map(|(_, text)| text);
        let text = text.unwrap_or_else(|| panic!("{}: what goes into {path}?", command.place));
        std::fs::write(self.real(path), text).expect("written");
        String::new()
    }

    fn systemctl(&self, arguments: &[&str], command: &Printed) -> String {
        let unit = match arguments {
            ["daemon-reload"] => return String::new(),
            ["enable", "--now", unit] | ["start" | "restart" | "reload" | "status", unit] => unit,
            _ => panic!("{}: no rule for systemctl {arguments:?}", command.place),
        };
        let path = |folder: &str| self.real(&format!("{folder}/systemd/system/{unit}.service"));
        let installed = path("/etc").exists() || path("/usr/lib").exists();
        assert!(installed || *unit == "mosquitto", "{}: no unit {unit} was installed", command.place);
        String::new()
    }

    /// systemd's own tools on what was installed.
    fn systemd(&self, words: &[&str], command: &Printed) -> String {
        let root = format!("--root={}", self.root.path().display());
        let output = Command::new(words[0]).arg(root).args(&words[1..]).output().expect(words[0]);
        // Giving a file to root takes root; the modes change for anyone who owns the files.
        let privileged = std::fs::metadata(self.root.path()).expect("there").uid() == 0;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || !privileged, "{}: {words:?}: {said}", command.place);
        if words[0] == "systemd-sysusers" {
            let users = std::fs::read_to_string(self.real("/etc/passwd")).expect("made by systemd-sysusers");
            assert!(users.contains("board2mqtt:"), "{}: {users}", command.place);
        } else {
            let mode = std::fs::metadata(self.real("/etc/board2mqtt/password")).expect("the password").mode();
            assert_eq!(mode & 0o777, 0o640, "{}: the password's mode", command.place);
        }
        String::new()
    }

    fn change_owner(&self, owner: &str, path: &str, command: &Printed) -> String {
        assert!(USERS.contains(&owner), "{}: owner {owner}", command.place);
        // A key is read from where its script puts it, which may not have run in this sandbox.
        assert!(self.real(path).exists(), "{}: {path} is there by now", command.place);
        String::new()
    }

    /// A program that only touches the files it is given.
    fn plain(&self, words: &[&str], command: &Printed) -> String {
        let path = |word: &&str| if word.starts_with('/') { self.real(word) } else { PathBuf::from(word) };
        self.run(Command::new(words[0]).args(words[1..].iter().map(path)), command)
    }

    fn make_ca(&self, words: &[&str], command: &Printed) -> String {
        let script = if words[0].contains('/') { self.real(words[0]) } else { self.folder.join("make-ca") };
        self.is_executable(&script.display().to_string());
        self.run(Command::new(script).arg(self.real(words[1])).args(&words[2..]), command)
    }

    fn mosquitto_passwd(&self, arguments: &[&str], command: &Printed) -> String {
        let path = |word: &&str| if word.starts_with('/') { self.real(word) } else { PathBuf::from(word) };
        let program = crate::support::mosquitto::find("mosquitto_passwd");
        self.run(Command::new(program).arg("-b").args(arguments.iter().map(path)).arg(PASSWORD), command)
    }

    /// Its arguments with our server's host and port, and the password.
    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut process = self.server.client(program);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "-h" | "-p" => drop(rest.next()),
                "-P" => {
                    rest.next();
                    process.args(["-P", PASSWORD]);
                }
                other => drop(process.arg(other)),
            }
        }
        process
    }

    fn mosquitto_pub(&self, arguments: &[&str], command: &Printed) -> String {
        self.run(&mut self.client("mosquitto_pub", arguments), command)
    }

    /// Subscribes, starts the daemon on what was installed, and gives as many lines as are shown.
    fn mosquitto_sub(&self, arguments: &[&str], command: &Printed) -> String {
        let count = command.output.as_deref().unwrap_or("one").lines().count();
        let mut process = self.client("mosquitto_sub", arguments);
        process.args(["-C", &count.to_string(), "-W", "20"]).stdout(Stdio::piped());
        let subscribed = || self.server.log().matches("Sending SUBACK").count();
        let before = subscribed();
        let mut subscriber = process.spawn().expect("mosquitto_sub");
        wait_for("the subscription", || (subscribed() > before).then_some(()));
        let _agent = Agent::start(&self.real("/etc/board2mqtt/config.toml"), &self.url(), &[]);
        let mut printed = String::new();
        subscriber.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
        let status = subscriber.wait().expect("its end");
        assert!(status.success(), "{}: not {count} messages in time:\n{printed}", command.place);
        printed
    }
}

fn udevadm(arguments: &[&str], command: &Printed) -> String {
    let rules = super::file("systemd/60-board2mqtt.rules");
    match arguments {
        ["control", "--reload"] => {}
        ["trigger", matches @ ..] => {
            for subsystem in matches {
                let name = subsystem.strip_prefix("--subsystem-match=").expect("a subsystem");
                assert!(rules.contains(&format!("SUBSYSTEM==\"{name}\"")), "{}: {name}", command.place);
            }
        }
        _ => panic!("{}: no rule for udevadm {arguments:?}", command.place),
    }
    String::new()
}
