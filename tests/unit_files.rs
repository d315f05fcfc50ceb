//! The files of `systemd/`, judged by systemd's own tools and against what the documentation promises of them.
//!
//! Nothing is installed and no service started: what the unit does at run time is for a board, emulated or real.
//! Invariant: a tool that is missing fails the test (`tests/all` installs them).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The highest exposure `systemd-analyze security` may find, in tenths of its points (0 to 100).
const MAX_EXPOSURE: u32 = 15;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(shipped(name)).expect("a shipped file")
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} (Debian's package systemd has it): {error}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The unit's settings in order: section, key, value.
fn settings() -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text("board2mqtt.service").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')), line.split_once('=')) {
            (Some(name), _) => section = name.to_owned(),
            (None, Some((key, value))) => found.push((section.clone(), key.to_owned(), value.to_owned())),
            (None, None) => panic!("neither a section nor a setting: {line}"),
        }
    }
    found
}

/// Every value of a key, in order.
fn values(key: &str) -> Vec<String> {
    settings().into_iter().filter(|(_, found, _)| found == key).map(|(_, _, value)| value).collect()
}

/// The unit in a folder of its own, with the program where this build put it.
fn installed(unit: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("board2mqtt.service");
    let program = concat!("=", env!("CARGO_BIN_EXE_board2mqtt"), " ");
    fs::write(&path, unit.replace("=board2mqtt ", program)).expect("written");
    (folder, path)
}

/// What `systemd-analyze verify` finds in our unit; units it comes across are not ours to judge.
fn verified(unit: &str) -> Vec<String> {
    let (_folder, path) = installed(unit);
    let output = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
    said(&output).lines().filter(|line| line.contains("board2mqtt")).map(str::to_owned).collect()
}

#[test]
fn systemd_knows_every_setting_of_the_unit() {
    let unit = text("board2mqtt.service");
    assert_eq!(verified(&unit), [""; 0]);
    let broken = unit.replace("WatchdogSec=", "WatchDogSec=");
    assert!(verified(&broken).iter().any(|line| line.contains("WatchDogSec")), "the check finds what is wrong");
}

#[test]
fn the_unit_exposes_little() {
    let (_folder, path) = installed(&text("board2mqtt.service"));
    let threshold = format!("--threshold={MAX_EXPOSURE}");
    let output =
        run(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager", &threshold]).arg(&path));
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("Overall exposure level"), "{}", said(&output));
}

#[test]
fn the_unit_keeps_what_the_documentation_promises() {
    let one = |key: &str| match values(key).as_slice() {
        [value] => value.clone(),
        several => panic!("{key} stands {} times", several.len()),
    };
    assert_eq!(one("Type"), "notify");
    assert_eq!(one("ExecStart"), "board2mqtt run");
    assert_eq!(values("ExecReload"), ["board2mqtt check", "kill -HUP $MAINPID"]);
    assert_eq!(values("ExecStartPre"), [""; 0], "a failing one would be restarted for ever");
    assert_eq!((one("Restart"), one("RestartPreventExitStatus")), ("always".into(), "78 2".into()));
    assert_eq!(one("StartLimitIntervalSec"), "0");
    assert_eq!(one("AssertPathExists"), "/etc/board2mqtt/config.toml", "a package enables it before there is one");
    assert_eq!((one("User"), one("RuntimeDirectoryPreserve")), ("board2mqtt".into(), "yes".into()));
    assert_eq!((one("StateDirectory"), one("RuntimeDirectory")), ("board2mqtt".into(), "board2mqtt".into()));
    assert!(one("After").split(' ').any(|unit| unit == "modprobe@i2c_dev.service"));
    assert_eq!(one("Wants"), "modprobe@i2c_dev.service");
    assert!(settings().iter().all(|(_, _, value)| !value.contains("network-online")), "starts with the network absent");
    assert_eq!(one("DevicePolicy"), "closed");
    for device in ["char-i2c rw", "char-gpiochip rw", "/dev/gpiomem rw"] {
        assert!(values("DeviceAllow").iter().any(|allowed| allowed == device), "{device}");
    }
}

/// The program of `ExecStopPost` as the shell gets it from systemd.
fn stop_post() -> String {
    let line = values("ExecStopPost").pop().expect("one is set");
    let script = line.strip_prefix("/bin/sh -c '").and_then(|rest| rest.strip_suffix('\'')).expect("a shell's script");
    script.replace("$$", "$")
}

#[test]
fn a_daemon_that_died_is_followed_by_safe_and_a_clean_stop_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, called) = (folder.path().join("board2mqtt"), folder.path().join("called"));
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" > {}\n", called.display())).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let after = |result: &str| {
        let mut command = Command::new("/bin/sh");
        let output = run(command.args(["-c", &stop_post()]).env("PATH", &path).env("SERVICE_RESULT", result));
        assert!(output.status.success(), "{result}: {}", said(&output));
        let arguments = fs::read_to_string(&called).unwrap_or_default();
        let _ = fs::remove_file(&called);
        arguments
    };
    assert_eq!(after("success"), "");
    for result in ["exit-code", "signal", "core-dump", "watchdog", "timeout", "oom-kill"] {
        assert_eq!(after(result), "safe\n", "{result}");
    }
}

/// A root folder with the user and groups of `board2mqtt.sysusers`, made by systemd-sysusers itself.
fn root_with_users() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("etc")).expect("made");
    let option = format!("--root={}", root.path().display());
    let output = run(Command::new("systemd-sysusers").arg(option).arg(shipped("board2mqtt.sysusers")));
    assert!(output.status.success(), "{}", said(&output));
    root
}

#[test]
fn the_user_has_no_login_and_is_in_the_groups_of_the_devices() {
    let root = root_with_users();
    let read = |name: &str| fs::read_to_string(root.path().join("etc").join(name)).expect("made by systemd-sysusers");
    let passwd = read("passwd");
    let user = passwd.lines().find(|line| line.starts_with("board2mqtt:")).expect("the user");
    assert!(user.ends_with(":/:/usr/sbin/nologin"), "{user}");
    for name in ["i2c", "gpio"] {
        let groups = read("group");
        let group = groups.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("the group");
        assert!(group.ends_with(":board2mqtt"), "{group}");
    }
}

#[test]
fn secrets_are_readable_by_the_daemon_alone() {
    let root = root_with_users();
    let folder = root.path().join("etc/board2mqtt");
    fs::create_dir(&folder).expect("made");
    for (name, mode) in [("config.toml", 0o644), ("password", 0o666), ("drone01.key", 0o600), ("ca.pem", 0o644)] {
        fs::write(folder.join(name), "x").expect("written");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    let option = format!("--root={}", root.path().display());
    let output = run(Command::new("systemd-tmpfiles").args([&option, "--create"]).arg(shipped("board2mqtt.tmpfiles")));
    // Giving a file to root takes root; the modes change for anyone who owns the files.
    let privileged = fs::metadata(&folder).expect("there").uid() == 0;
    assert!(output.status.success() || !privileged, "{}", said(&output));
    let mode = |name: &str| fs::metadata(folder.join(name)).expect("there").mode() & 0o777;
    let expected = if privileged { [0o640, 0o640, 0o640, 0o644] } else { [mode("config.toml"), 0o640, 0o640, 0o644] };
    assert_eq!(["config.toml", "password", "drone01.key", "ca.pem"].map(mode), expected);
}

/// The rules of the udev file, each as its comma-separated parts.
fn rules() -> Vec<Vec<String>> {
    let text = text("60-board2mqtt.rules");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(", ").map(str::to_owned).collect()).collect()
}

#[test]
fn udev_rules_match_one_kind_of_device_each_and_use_known_keys() {
    for rule in rules() {
        assert!(rule[0].starts_with("SUBSYSTEM==\"") && rule[1].starts_with("KERNEL==\""), "{rule:?}");
        for part in &rule {
            let key = part.split(['=', '!', '+']).next().unwrap_or_default();
            assert!(["SUBSYSTEM", "KERNEL", "ACTION", "GROUP", "MODE", "RUN"].contains(&key), "{part}");
            assert!(part.ends_with('"') && part.matches('"').count() == 2, "{part}");
        }
    }
    let knows = |part: &str| rules().iter().any(|rule| rule.iter().any(|found| found == part));
    assert!(["SUBSYSTEM==\"i2c-dev\"", "SUBSYSTEM==\"gpio\"", "SUBSYSTEM==\"pwm\""].into_iter().all(knows));
    // udevadm learnt to verify with systemd 254.
    let verify = Command::new("udevadm").arg("verify").arg(shipped("60-board2mqtt.rules")).output();
    if let Ok(output) = verify.as_ref().map(|output| (output, said(output))).map_err(drop)
        && !output.1.contains("Unknown command")
    {
        assert!(output.0.status.success(), "{}", output.1);
    }
}

#[test]
fn an_exported_pwm_channel_becomes_writable_and_nothing_beside_it() {
    let sys = tempfile::tempdir().expect("a folder");
    let (chip, beside) = (sys.path().join("chip"), sys.path().join("beside"));
    fs::create_dir_all(chip.join("pwm0")).expect("made");
    let files = [chip.join("export"), chip.join("pwm0/duty_cycle"), beside.clone()];
    for file in &files {
        fs::write(file, "0").expect("written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("set");
    }
    symlink(&beside, chip.join("device")).expect("linked");
    let line = rules().concat().into_iter().find(|part| part.starts_with("RUN+=")).expect("a program");
    let script = line.split('\'').nth(1).expect("a shell's script");
    let group = fs::metadata(&chip).expect("there").gid().to_string();
    let script = script.replace("gpio", &group).replace("/sys%p", &chip.display().to_string());
    let output = run(Command::new("/bin/sh").args(["-c", &script]));
    assert!(output.status.success(), "{}", said(&output));
    let modes = files.map(|file| fs::metadata(file).expect("there").mode() & 0o777);
    // rppal waits for exactly this mode.
    assert_eq!(modes, [0o770, 0o770, 0o644]);
}
