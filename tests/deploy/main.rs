//! `cross/deploy`, over a real ssh connection: the new version runs afterwards, or what ran before does.
//!
//! What it does under a real systemd is seen on the emulated board. Versions that misbehave are small C programs (`agent.c`)
//! that speak the service manager's protocol; where the configuration matters, it is the real binary.

#[path = "../shell/mod.rs"]
mod shell;

mod board;

use board::{Board, Done, done, end_of, hang_up};
use shell::wait_for;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const BINARY: &str = "usr/local/bin/board2mqtt";
const CONFIGURATION: &str = "etc/board2mqtt/config.toml";
const UNIT: &str = "etc/systemd/system/board2mqtt.service";
/// What a complete installation consists of.
const INSTALLED: [&str; 6] = [
    CONFIGURATION,
    UNIT,
    "etc/sysusers.d/board2mqtt.conf",
    "etc/tmpfiles.d/board2mqtt.conf",
    "etc/udev/rules.d/60-board2mqtt.rules",
    BINARY,
];
/// A good one that needs no hardware.
const GOOD: &str = "[mqtt]\nserver = \"mqtt://127.0.0.1:1\"\n[board]\nkind = \"simulated\"\n\
                    [sensors.bench]\ndriver = \"tmp102\"\naddress = 0x48\n";

/// Binaries and configurations on this side, in a folder with a blank in its name.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("a desk ").tempdir().expect("a folder"))
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.file(name), text).expect("written");
        self.file(name)
    }

    /// A version that does `run` as `agent.c` says.
    fn version(&self, version: &str, run: &str) -> String {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deploy/agent.c");
        let macros = [format!("-DVERSION=\"{version}\""), format!("-DRUN={run}")];
        let path = self.file(version);
        let made = Command::new("cc").args(["-Wall", "-Werror", "-o", &path]).args(macros).arg(source).output();
        let made = done(made.expect("cc"));
        assert_eq!(made.status, Some(0), "{}", made.said);
        path
    }

    /// The real thing, without what only a debugger reads.
    fn real(&self) -> String {
        let path = self.file("board2mqtt");
        let made = Command::new("strip").args(["-o", &path, env!("CARGO_BIN_EXE_board2mqtt")]).status();
        assert!(made.expect("strip").success());
        path
    }
}

/// A board on which version 1 runs, and what it runs as.
fn board_with(desk: &Desk, version: &str, configuration: &str) -> (Board, u32) {
    let board = Board::new();
    let config = desk.write("first.toml", configuration);
    succeeded(&board.deploy(&["--binary", version, "--config", &config]));
    let daemon = board.daemon().expect("it runs");
    fs::remove_file(board.path("state/calls")).expect("there were some");
    (board, daemon)
}

fn succeeded(done: &Done) {
    assert_eq!(done.status, Some(0), "{}", done.said);
}

/// It failed with this in what it said.
fn failed(done: &Done, why: &str) {
    assert_eq!(done.status, Some(1), "{}", done.said);
    assert!(done.said.contains(why), "`{why}` in\n{}", done.said);
}

fn same(a: impl AsRef<Path>, b: impl AsRef<Path>) -> bool {
    fs::read(a).expect("there") == fs::read(b).expect("there")
}

fn with_previous(files: &[&str]) -> Vec<String> {
    let mut all: Vec<_> = INSTALLED.iter().map(|name| (*name).to_owned()).collect();
    all.extend(files.iter().map(|name| format!("{name}.previous")));
    all.sort();
    all
}

#[test]
fn a_first_installation_runs_and_a_second_one_leaves_it_alone() {
    let (desk, board) = (Desk::new(), Board::new());
    let (binary, config) = (desk.real(), desk.write("my board.toml", GOOD));
    let first = board.deploy(&["--binary", &binary, "--config", &config]);
    succeeded(&first);
    assert!(first.said.contains("config.toml.new: good: 1 sensor"), "{}", first.said);
    assert!(first.said.contains("is ready"), "{}", first.said);
    assert_eq!(board.files(), INSTALLED);
    assert!(same(board.path(BINARY), &binary) && same(board.path(CONFIGURATION), &config));
    let modes = INSTALLED.map(|name| fs::metadata(board.path(name)).expect("there").permissions().mode() & 0o777);
    assert_eq!(modes, [0o640, 0o644, 0o644, 0o644, 0o644, 0o755]);
    let changes = [
        "systemd-sysusers board2mqtt.conf",
        "systemd-tmpfiles --create board2mqtt.conf",
        "daemon-reload",
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=i2c-dev --subsystem-match=gpio --subsystem-match=pwm",
        "enable board2mqtt",
        "restart board2mqtt",
    ];
    assert_eq!(board.changes(), changes);

    let daemon = board.daemon().expect("it runs");
    let second = board.deploy(&["--binary", &binary]);
    succeeded(&second);
    assert!(second.said.contains("nothing changed, nothing restarted"), "{}", second.said);
    assert_eq!((board.daemon(), board.files()), (Some(daemon), with_previous(&[])));
}

#[test]
fn a_board_without_a_configuration_gets_a_sample_and_no_daemon() {
    let (desk, board) = (Desk::new(), Board::new());
    let version = desk.version("1", "GOOD");
    let first = board.deploy(&["--binary", &version]);
    succeeded(&first);
    assert!(first.said.contains("sudo nano /etc/board2mqtt/config.toml"), "{}", first.said);
    assert!(!board.path(CONFIGURATION).exists());
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/drone01.toml");
    assert!(same(board.path("etc/board2mqtt/sample.toml"), sample));
    assert_eq!((board.daemon(), board.read("state/enabled")), (None, String::new()));

    board.write(CONFIGURATION, GOOD);
    succeeded(&board.deploy(&["--binary", &version]));
    assert!(board.daemon().is_some());
    assert_eq!(board.read("state/enabled"), "enabled");
}

#[test]
fn an_upgrade_keeps_the_configuration_and_the_old_binary() {
    let desk = Desk::new();
    let (one, two) = (desk.version("1", "GOOD"), desk.version("2", "GOOD"));
    let (board, daemon) = board_with(&desk, &one, GOOD);
    let other = desk.write("other.toml", "# another\n");
    let upgrade = board.deploy(&["--binary", &two, "--config", &other]);
    succeeded(&upgrade);
    assert!(upgrade.said.contains("config.toml is there and stays as it is"), "{}", upgrade.said);
    assert!(upgrade.said.contains("board2mqtt 2 is ready: version 2 is at work"), "{}", upgrade.said);
    assert_eq!(board.read(CONFIGURATION), GOOD);
    assert!(same(board.path(BINARY), &two) && same(board.path("usr/local/bin/board2mqtt.previous"), &one));
    assert!(board.daemon().is_some_and(|now| now != daemon));
    assert!(board.changes().ends_with(&["restart board2mqtt".to_owned()]), "{:?}", board.changes());
    assert_eq!(board.files(), with_previous(&[BINARY]));
}

#[test]
fn a_refused_configuration_stops_nothing() {
    let desk = Desk::new();
    let (board, daemon) = board_with(&desk, &desk.version("1", "GOOD"), &GOOD.replace("address", "adress"));
    let upgrade = board.deploy(&["--binary", &desk.real()]);
    failed(&upgrade, "refuses the configuration: nothing was replaced");
    assert!(upgrade.said.contains("did you mean `address`"), "{}", upgrade.said);
    assert_eq!((board.daemon(), board.changes()), (Some(daemon), Vec::new()));
    assert_eq!(board.files(), with_previous(&[]));
    assert!(same(board.path(BINARY), desk.file("1")));
}

#[test]
fn a_refused_configuration_is_not_installed_either() {
    let (desk, board) = (Desk::new(), Board::new());
    let config = desk.write("my.toml", "[mqtt]\n");
    failed(&board.deploy(&["--binary", &desk.real(), "--config", &config]), "refuses the configuration");
    assert_eq!((board.files(), board.changes()), (Vec::new(), Vec::new()));
}

#[test]
fn what_the_unit_sets_counts_when_the_configuration_is_checked() {
    let (desk, board) = (Desk::new(), Board::new());
    board.write(
        "etc/systemd/system/board2mqtt.service.d/server.conf",
        "[Service]\nEnvironment=BOARD2MQTT__MQTT__SERVER=mqtt://127.0.0.1:1\n",
    );
    board.write(CONFIGURATION, GOOD.replace("server =", "# server ="));
    let (one, real) = (desk.version("1", "GOOD"), desk.real());
    succeeded(&board.deploy(&["--binary", &one]));
    succeeded(&board.deploy(&["--binary", &real]));
    assert!(same(board.path(BINARY), &real) && board.daemon().is_some());
}

/// Over the real one comes a version that does `run`; afterwards all is as before, and `why` was told.
fn is_taken_back(run: &str, why: &str) {
    let desk = Desk::new();
    let real = desk.real();
    let (board, daemon) = board_with(&desk, &real, GOOD);
    let unit = format!("{}# an older one\n", board.read(UNIT));
    board.write(UNIT, &unit);
    let upgrade = board.deploy(&["--settle", "1", "--binary", &desk.version("2", run)]);
    failed(&upgrade, "board2mqtt 2 does not become ready: the old one is back, and ready");
    assert!(upgrade.said.contains(why), "{}", upgrade.said);
    assert!(same(board.path(BINARY), &real));
    assert_eq!((board.read(UNIT), board.files()), (unit.clone(), with_previous(&[])));
    assert_eq!(board.read("state/loaded"), unit, "systemd knows the old unit again");
    assert!(board.daemon().is_some_and(|now| now != daemon));
    assert_eq!(board.read("state/enabled"), "enabled");
}

#[test]
fn a_version_that_does_not_become_ready_is_taken_back() {
    is_taken_back("NEVER_READY", "version 2 has no wish to run");
}

#[test]
fn a_version_that_is_ready_and_dies_is_taken_back() {
    is_taken_back("DIES_WHEN_READY", "the daemon was ready, and did not stay");
}

#[test]
fn a_first_installation_that_does_not_become_ready_leaves_nothing() {
    let (desk, board) = (Desk::new(), Board::new());
    let (version, config) = (desk.version("1", "NEVER_READY"), desk.write("my.toml", GOOD));
    let first = board.deploy(&["--binary", &version, "--config", &config]);
    failed(&first, "does not become ready: everything is as it was");
    assert_eq!((board.files(), board.daemon()), (Vec::new(), None));
    assert_eq!(board.read("state/enabled"), "disabled");
}

#[test]
fn an_old_version_that_does_not_come_back_is_told_aloud() {
    let desk = Desk::new();
    let (board, _) = board_with(&desk, &desk.version("1", "READY_ONCE"), GOOD);
    let upgrade = board.deploy(&["--binary", &desk.version("2", "NEVER_READY")]);
    failed(&upgrade, "BUT THE OLD ONE DOES NOT BECOME READY EITHER");
    assert!(same(board.path(BINARY), desk.file("1")));
}

#[test]
fn sudo_is_used_where_the_login_is_not_root() {
    let (desk, board) = (Desk::new(), Board::new());
    let (version, config) = (desk.version("1", "GOOD"), desk.write("my.toml", GOOD));
    board.write("state/sudo", "free");
    succeeded(&board.deploy(&["--binary", &version, "--config", &config]));
    let sudo: Vec<_> = board.changes().into_iter().filter(|call| call.starts_with("sudo ")).collect();
    assert_eq!(sudo[0], "sudo -n true");
    assert!(sudo[1].starts_with("sudo sh ") && sudo.len() == 2, "{sudo:?}");
}

#[test]
fn sudo_can_ask_for_its_password_in_a_terminal() {
    let (desk, board) = (Desk::new(), Board::new());
    let (version, config) = (desk.version("1", "GOOD"), desk.write("my.toml", GOOD));
    board.write("state/sudo", "a secret");
    let mut deploy = board.command();
    deploy.args(["--binary", &version, "--config", &config]);
    let done = in_a_terminal(&deploy, "a secret\n");
    succeeded(&done);
    assert!(done.said.contains("[sudo] password: ") && board.daemon().is_some(), "{}", done.said);
}

/// Runs a command in a terminal of its own, in which this is typed.
fn in_a_terminal(command: &Command, typed: &str) -> Done {
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let quoted = words.iter().map(|word| format!("'{}'", word.to_str().expect("text").replace('\'', "'\\''")));
    let line = quoted.collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("script (bsdutils)");
    terminal.stdin.as_mut().expect("a pipe").write_all(typed.as_bytes()).expect("typed");
    done(terminal.wait_with_output().expect("its end"))
}

#[test]
fn a_login_that_cannot_become_root_is_told_before_anything_is_copied() {
    let (desk, board) = (Desk::new(), Board::new());
    let version = desk.version("1", "GOOD");
    board.write("state/sudo", "a secret");
    failed(&board.deploy(&["--binary", &version]), "asks for a password, and there is no terminal");
    fs::remove_file(board.path("bin/sudo")).expect("it was there");
    failed(&board.deploy(&["--binary", &version]), "is not root and has no sudo");
    assert_eq!(board.files(), [""; 0]);
}

/// A copy of a program that says it is for another machine.
fn for_another_machine(desk: &Desk, program: &str, machine: u8) -> String {
    let mut bytes = fs::read(program).expect("there");
    bytes[18] = machine;
    desk.write("foreign", bytes)
}

#[test]
fn a_binary_for_another_machine_is_not_copied() {
    let desk = Desk::new();
    let one = desk.version("1", "GOOD");
    let (board, daemon) = board_with(&desk, &one, GOOD);
    let aarch64 = for_another_machine(&desk, &one, 183);
    failed(&board.deploy(&["--binary", &aarch64]), "is for aarch64-unknown-linux-gnu, ");
    failed(&board.deploy(&["--binary", &desk.write("text", "#!/bin/sh\n")]), "is no program");
    assert_eq!((board.daemon(), board.changes()), (Some(daemon), Vec::new()));
}

#[test]
fn a_binary_that_does_not_run_there_replaces_nothing() {
    let desk = Desk::new();
    let one = desk.version("1", "GOOD");
    let (board, daemon) = board_with(&desk, &one, GOOD);
    // As one for a newer C library or a newer processor: the header is right, and it does not start.
    let mut bytes = fs::read(&one).expect("there");
    bytes.truncate(200);
    failed(&board.deploy(&["--binary", &desk.write("cut", bytes)]), "the binary does not run here (status ");
    assert_eq!((board.daemon(), board.files()), (Some(daemon), with_previous(&[])));
}

#[test]
fn the_board_says_which_binary_it_needs() {
    let (desk, board) = (Desk::new(), Board::new());
    let elf = fs::read(desk.version("1", "GOOD")).expect("built");
    let target = if elf[18] == 62 { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
    let deploy = || {
        let mut command = board.command();
        done(command.env("CARGO_TARGET_DIR", desk.file("target")).output().expect("cross/deploy"))
    };
    failed(&deploy(), &format!("cross/build {target}"));
    let folder = PathBuf::from(desk.file("target")).join(target).join("release");
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("board2mqtt"), elf).expect("written");
    succeeded(&deploy());
}

#[test]
fn a_copy_that_breaks_off_leaves_nothing() {
    let (desk, board) = (Desk::new(), Board::new());
    board.replace_tool("tar", "head -c 9000 | /bin/tar \"$@\"");
    symlink("/usr/bin/head", board.path("bin/head")).expect("a link");
    failed(&board.deploy(&["--binary", &desk.version("1", "GOOD")]), "the files do not arrive");
    assert_eq!(board.files(), [""; 0]);
}

#[test]
fn a_full_disk_replaces_nothing() {
    let desk = Desk::new();
    let (board, daemon) = board_with(&desk, &desk.version("1", "GOOD"), GOOD);
    // A write beyond the limit fails half-way, as on a full disk.
    board.replace_tool("install", "trap '' XFSZ; ulimit -f 16; exec /usr/bin/install \"$@\"");
    failed(&board.deploy(&["--binary", &desk.real()]), "a file cannot be written: nothing was replaced");
    assert_eq!((board.daemon(), board.files()), (Some(daemon), with_previous(&[])));
}

#[test]
fn a_connection_that_breaks_does_not_leave_the_board_half_way() {
    let desk = Desk::new();
    let (one, two) = (desk.version("1", "GOOD"), desk.version("2", "NEVER_READY"));
    let (board, _) = board_with(&desk, &one, GOOD);
    board.write("state/hold", "");
    let deploy = board.start(&["--binary", &two]);
    wait_for("the restart", || board.changes().contains(&"restart board2mqtt".to_owned()).then_some(()));
    assert!(same(board.path(BINARY), &two), "the new one is in place");
    hang_up(&deploy);
    assert_eq!(end_of(deploy), None, "ended by the signal");
    fs::remove_file(board.path("state/hold")).expect("it was there");
    wait_for("the old one", || (same(board.path(BINARY), &one) && board.daemon().is_some()).then_some(()));
    wait_for("the folder's end", || (board.files() == with_previous(&[])).then_some(()));
}

#[test]
fn boards_that_cannot_take_it_say_why() {
    let desk = Desk::new();
    let version = desk.version("1", "GOOD");
    let refused = |prepare: &dyn Fn(&Board), why: &str| {
        let board = Board::new();
        prepare(&board);
        let before = board.files();
        failed(&board.deploy(&["--binary", &version]), why);
        assert_eq!((board.files(), board.daemon()), (before, None));
    };
    refused(&|board| fs::remove_dir(board.path("run/systemd/system")).expect("removed"), "does not run systemd");
    refused(&|board| board.write("usr/bin/board2mqtt", "a package's"), "upgrade that, or remove it first");
    let mask = |board: &Board| {
        board.write("etc/systemd/system/other.service", "");
        symlink("/dev/null", board.path(UNIT)).expect("a link");
    };
    refused(&mask, "systemctl unmask board2mqtt");
}

#[test]
fn two_at_once_do_not_meet() {
    let (desk, board) = (Desk::new(), Board::new());
    let lock = fs::File::create(board.path("run/board2mqtt-deploy.lock")).expect("made");
    lock.lock().expect("ours");
    failed(&board.deploy(&["--binary", &desk.version("1", "GOOD")]), "another deploy is at work here");
    assert_eq!(board.files(), [""; 0]);
}

#[test]
fn wrong_usage_and_a_host_that_is_not_there_are_told() {
    let run = |arguments: &[&str], path: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/deploy");
        let mut command = Command::new("/bin/bash");
        done(command.arg(script).args(arguments).env("PATH", path).output().expect("bash"))
    };
    let usual = std::env::var("PATH").expect("set");
    for (arguments, why) in [
        (&[][..], "no host"),
        (&["a", "b"], "two hosts: a and b"),
        (&["a", "--fast"], "unknown option: --fast"),
        (&["a", "--target"], "--target needs a value"),
        (&["a", "--target", "x", "--binary", "y"], "exclude each other"),
        (&["a", "--settle", "soon"], "--settle is a number of seconds"),
    ] {
        let done = run(arguments, &usual);
        assert!(done.status == Some(2) && done.said.contains(why), "{arguments:?}: {}", done.said);
    }
    failed(&run(&["a", "--config", "/nowhere.toml"], &usual), "/nowhere.toml cannot be read");
    let port = format!("Port={}", shell::free_port());
    failed(&run(&["127.0.0.1", "-o", &port, "-o", "BatchMode=yes"], &usual), "cannot be reached");
    let desk = Desk::new();
    symlink("/usr/bin/dirname", desk.file("dirname")).expect("a link");
    failed(&run(&["a"], &desk.0.path().display().to_string()), "install Debian's openssh-client");
}
