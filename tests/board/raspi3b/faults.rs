//! What is wrong when the agent starts: each thing is named with its cause and what to do, the rest works, and each is
//! found again when it is mended.

use super::{OUTPUT, line};
use crate::board::Board;

fn health(sensor: &str) -> String {
    format!("board2mqtt/drone01/{sensor}/health")
}

/// The sensor fails for that reason, says so in these words, and is offline.
fn fails(board: &mut Board, sensor: &str, reason: &str, detail: &str) {
    let found = board.wait_for(&health(sensor), |health| {
        let health: serde_json::Value = serde_json::from_str(health).ok()?;
        (health["state"] == "failing" && health["reason"] == reason).then(|| health["detail"].to_string())
    });
    assert!(found.contains(detail), "{sensor}: {found}");
    board.wait_for_payload(&format!("board2mqtt/drone01/{sensor}/status"), "offline");
}

fn recovers(board: &mut Board, sensor: &str) {
    board.wait_for_payload(&health(sensor), "{\"state\":\"ok\"}");
    board.wait_for_payload(&format!("board2mqtt/drone01/{sensor}/status"), "online");
}

/// What `check --probe` printed before the agent ran.
pub fn probe(board: &mut Board) {
    let printed = board.probe();
    for expected in [
        "sensor thermometer (lm75 at /dev/i2c-1 0x48): answers",
        "sensor nobody (lm75 at /dev/i2c-1 0x49): nack: nothing answered",
        "sensor owned (lm75 at /dev/i2c-1 0x4a): busy: the kernel driver lm75 owns /dev/i2c-1 0x4a",
        "sensor nowhere (lm75 at /dev/i2c-7 0x48): absent: /dev/i2c-7 does not exist, there is /dev/i2c-0",
        "sensor forbidden (lm75 at /dev/i2c-0 0x4b): permission: /dev/i2c-0 may be opened by the group video",
        "input door (GPIO27): OFF",
        "output siren (GPIO22): busy: GPIO22 (/dev/gpiochip0:22) is held by gpioset",
    ] {
        assert!(printed.contains(expected), "`{expected}` is not in what `check --probe` printed:\n{printed}");
    }
}

pub fn nobody(board: &mut Board) {
    fails(board, "nobody", "nack", "nothing answered at /dev/i2c-1 0x49");
}

pub fn owned(board: &mut Board) {
    fails(board, "owned", "busy", "the kernel driver lm75 owns /dev/i2c-1 0x4a");
    board.guest.root("echo 0x4a >/sys/bus/i2c/devices/i2c-1/delete_device");
    recovers(board, "owned");
}

pub fn absent(board: &mut Board) {
    fails(board, "nowhere", "absent", "dtoverlay=i2c-gpio,bus=7");
    // Another name for the bus that is there.
    board.guest.root("mknod /dev/i2c-7 c 89 1 && chgrp i2c /dev/i2c-7 && chmod 660 /dev/i2c-7");
    recovers(board, "nowhere");
}

pub fn permission(board: &mut Board) {
    fails(board, "forbidden", "permission", "/dev/i2c-0 may be opened by the group video");
    board.guest.root("chgrp i2c /dev/i2c-0");
    recovers(board, "forbidden");
}

pub fn held(board: &mut Board) {
    let entries = board.journal();
    let told = |entry: &serde_json::Value| {
        entry["OUTPUT"] == "siren"
            && entry["REASON"] == "busy"
            && entry["DETAIL"].as_str().is_some_and(|d| d.contains("held by gpioset"))
    };
    assert!(entries.iter().any(told), "the log does not say who holds the siren's line");
    let reply = board.command("siren", "ON");
    assert!(reply.contains("\"refused\"") && reply.contains("\"hardware\""), "{reply}");
    board.guest.root("systemctl stop holder");
    board.wait_for_payload("board2mqtt/drone01/siren", "OFF");
    assert_eq!(line(board, 22), (false, OUTPUT));
}
