//! The Debian package under a real systemd, in the place of the files that `cross/deploy` has put there.
//!
//! What is in it and what it asks of systemd is tests/package's; here is what comes of it: what runs, what the server is
//! told, what the lines do meanwhile. Each check goes on where the one before ended.

use super::{CONFIGURATION, INPUT, MACHINE, line, wait_for_line};
use crate::board::{Board, STATUS};
use crate::image;

/// What `cross/deploy` and the checks before have put there.
const BY_HAND: &str = "/usr/local/bin/board2mqtt* /etc/systemd/system/board2mqtt.service* /etc/sysusers.d/board2mqtt.conf* \
    /etc/tmpfiles.d/board2mqtt.conf* /etc/udev/rules.d/60-board2mqtt.rules* /run/board2mqtt-deploy.lock";

/// Installs `version`, 1 or 2, and gives what dpkg and the package say.
fn install(board: &Board, version: u8) -> String {
    board.guest.root(&format!("dpkg --install /root/{version}.deb 2>&1"))
}

/// What dpkg has the package do once a version is unpacked; unpacking the same again would cost seconds and show nothing.
fn configure_again(board: &Board) -> String {
    board.guest.root("/var/lib/dpkg/info/board2mqtt.postinst configure 0 2>&1")
}

/// A word of systemctl's about the unit; its exit status is another way to say it.
fn is(board: &Board, question: &str) -> String {
    board.guest.root(&format!("systemctl {question} board2mqtt || true")).trim().to_owned()
}

fn reads_again(board: &mut Board) {
    board.forget();
    board.wait_for("board2mqtt/drone01/thermometer/temperature", |_| Some(()));
}

pub fn unconfigured(board: &mut Board) {
    board.configure(CONFIGURATION, "");
    let folder = tempfile::tempdir().expect("a folder");
    for (package, version) in image::packages(MACHINE.target, folder.path()).iter().zip(1..) {
        board.guest.copy(package, &format!("/root/{version}.deb"));
    }
    board.guest.root(&format!("systemctl disable --now board2mqtt && rm -r {BY_HAND} && systemctl daemon-reload"));
    board.guest.root("cp -r /etc/board2mqtt /root/kept && rm /etc/board2mqtt/config.toml && chgrp root /dev/i2c-1");
    let said = install(board, 1);
    assert!(said.contains("there is no /etc/board2mqtt/config.toml yet"), "{said}");
    assert_eq!(is(board, "is-enabled"), "enabled");
    let started = board.guest.run("root", "systemctl start board2mqtt", "");
    assert!(!started.status.success(), "it cannot start");
    assert!(String::from_utf8_lossy(&started.stderr).contains("Assertion failed"), "{started:?}");
    assert_eq!(is(board, "is-failed"), "inactive", "nothing has failed");
    assert_eq!(board.guest.root("stat -c %G /dev/i2c-1").trim(), "i2c", "the rule is in force");
}

pub fn configured(board: &mut Board) {
    board.forget();
    board.guest.root("cp /root/kept/config.toml /etc/board2mqtt/ && systemd-tmpfiles --create board2mqtt.conf");
    board.guest.root("systemctl start board2mqtt");
    board.wait_for_payload(STATUS, "online");
    reads_again(board);
    let program = board.guest.root(&format!("readlink /proc/{}/exe", board.process()));
    assert_eq!(program.trim(), "/usr/bin/board2mqtt");
}

pub fn upgraded(board: &mut Board) {
    assert!(board.command("beacon", "ON").contains("\"done\""));
    wait_for_line(board, 17, true);
    let before = board.process();
    board.forget();
    let said = install(board, 2);
    board.wait_for_payload(STATUS, "online");
    wait_for_line(board, 17, false);
    board.wait_for_payload("board2mqtt/drone01/beacon", "OFF");
    assert_eq!(board.payloads(STATUS), ["offline", "online"], "{said}");
    assert_ne!(board.process(), before);
    assert_eq!(is(board, "is-active"), "active");
    assert!(board.guest.root("dpkg-query -W board2mqtt").trim().ends_with("-2"), "dpkg has the later version");
    assert_eq!(board.guest.root("dpkg --audit"), "", "and has nothing to complain of");
}

pub fn refused(board: &mut Board) {
    let before = board.process();
    board.guest.root("echo 'nonsense = 1' >>/etc/board2mqtt/config.toml");
    board.forget();
    let said = configure_again(board);
    assert!(said.contains("this version refuses /etc/board2mqtt/config.toml"), "{said}");
    assert_eq!(board.process(), before, "the agent goes on");
    reads_again(board);
    assert_eq!(board.payloads(STATUS), [""; 0]);
    assert!(
        board.guest.root("journalctl --no-pager -o cat -u board2mqtt").contains("nonsense"),
        "the journal tells why"
    );
    board.guest.root("cp /root/kept/config.toml /etc/board2mqtt/");
    board.restart();
}

pub fn stopped(board: &mut Board) {
    board.guest.root("systemctl stop board2mqtt");
    board.forget();
    configure_again(board);
    assert_eq!([is(board, "is-active"), is(board, "is-enabled")], ["inactive", "enabled"]);
    assert_eq!(board.payloads(STATUS), [""; 0]);
    board.restart();
}

pub fn purged(board: &mut Board) {
    assert!(board.command("beacon", "ON").contains("\"done\""));
    wait_for_line(board, 17, true);
    board.forget();
    board.guest.root("dpkg --purge board2mqtt");
    board.wait_for_payload(STATUS, "offline");
    assert_eq!(line(board, 17).1, INPUT, "the line is free");
    assert_eq!(board.guest.root("find / /run -xdev -name '*board2mqtt*'"), "");
    assert_eq!(
        is(board, "is-enabled 2>&1"),
        "Failed to get unit file state for board2mqtt.service: No such file or directory"
    );
    board.guest.root("cp -r /root/kept /etc/board2mqtt");
    install(board, 1);
    board.wait_for_payload(STATUS, "online");
    reads_again(board);
}
