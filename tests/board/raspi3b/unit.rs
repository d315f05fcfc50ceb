//! The shipped unit under a real systemd 252: the journal, the devices it reaches, and what follows when the agent, the
//! board or its power fails.

use super::{CONFIGURATION, INPUT, line, wait_for_line};
use crate::board::{Board, STATUS};
use std::time::{Duration, Instant};

const READING: &str = "board2mqtt/drone01/thermometer/temperature";

pub fn journal(board: &mut Board) {
    board.configure(CONFIGURATION, "");
    let entries = board.journal();
    let failing = entries.iter().find(|entry| entry["SENSOR"] == "nobody").expect("an entry of the sensor");
    for (field, value) in [
        ("MESSAGE", "sensor fails"),
        ("REASON", "nack"),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "board2mqtt"),
        ("_SYSTEMD_UNIT", "board2mqtt.service"),
    ] {
        let found = failing[field].as_str().unwrap_or_else(|| panic!("no {field} in {failing}"));
        assert!(found.contains(value), "{field} is {found}");
    }
    let connected = entries.iter().find(|entry| entry["SESSION_PRESENT"] == "false").expect("an entry of the session");
    assert!(connected["SERVER"].as_str().is_some_and(|server| server.starts_with("mqtt://10.0.2.2:")), "{connected}");
    assert!(entries.iter().all(|entry| !entry.to_string().contains("secret")), "the password is in the journal");
}

/// Opens every device there is as root from within the unit's control group: what is refused then is refused by the unit.
const DEVICES: &str = r#"
mknod /dev/foreign-i2c c 89 200 2>/dev/null
echo $$ >/sys/fs/cgroup/system.slice/board2mqtt.service/cgroup.procs || exit 1
for device in $(find /dev -type c -o -type b); do
    said=$( (: <>"$device") 2>&1) || case $said in *"not permitted"*) continue ;; esac
    echo "$device"
done
echo $$ >/sys/fs/cgroup/init.scope/cgroup.procs
rm /dev/foreign-i2c
"#;

pub fn devices(board: &mut Board) {
    let printed = board.guest.root(DEVICES);
    // systemd's own `DevicePolicy=closed` lets these through, none of which is hardware.
    let pseudo = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/"];
    let (harmless, hardware): (Vec<_>, Vec<_>) = printed.lines().partition(|device| {
        let name = device.trim_start_matches("/dev/");
        pseudo.iter().any(|pseudo| name == *pseudo || pseudo.ends_with('/') && name.starts_with(pseudo))
    });
    assert!(harmless.contains(&"/dev/null"), "{printed}");
    for expected in ["/dev/i2c-0", "/dev/i2c-1", "/dev/gpiochip0", "/dev/gpiochip1", "/dev/foreign-i2c"] {
        assert!(hardware.contains(&expected), "{expected} is refused: {printed}");
    }
    let reached = |device: &&&str| device.contains("i2c") || device.contains("gpiochip");
    let others: Vec<_> = hardware.iter().filter(|device| !reached(device)).collect();
    assert!(others.is_empty(), "the unit reaches {others:?}");
    let all = board.guest.root("find /dev -type c -o -type b | wc -l");
    assert!(all.trim().parse::<usize>().is_ok_and(|all| all > printed.lines().count() + 10), "only {all} devices");
    assert!(board.guest.test("[ -c /dev/mem ] && [ -b /dev/loop0 ]"), "memory and disk are among them");
}

/// Sends the agent a signal while the beacon is on, and waits until that is off and the agent is another process.
fn ends_by(board: &mut Board, signal: &str) -> Duration {
    board.configure(CONFIGURATION, "");
    assert!(board.command("beacon", "ON").contains("\"done\""));
    wait_for_line(board, 17, true);
    let before = board.process();
    let begun = Instant::now();
    board.guest.root(&format!("kill -{signal} {before}"));
    board.wait("the beacon to go dark", |board| (line(board, 17).1 == INPUT || !line(board, 17).0).then_some(()));
    let took = begun.elapsed();
    board.wait_for_return(begun);
    board.wait_for_payload("board2mqtt/drone01/beacon", "OFF");
    wait_for_line(board, 17, false);
    assert_ne!(board.process(), before);
    took
}

pub fn killed(board: &mut Board) {
    ends_by(board, "KILL");
}

pub fn watchdog(board: &mut Board) {
    let took = ends_by(board, "STOP");
    println!("  the line was free {:.1} s after the agent had stopped", took.as_secs_f64());
    // WatchdogSec=20s, counted from the last sign of life.
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(45), "{took:?}");
    let said = board.guest.root("journalctl --no-pager -o cat -u board2mqtt | grep -c 'Watchdog timeout'");
    assert_eq!(said.trim(), "1");
}

pub fn frozen(board: &mut Board) {
    board.configure(CONFIGURATION, "");
    board.qemu.qmp("stop", &serde_json::json!({}));
    let begun = Instant::now();
    board.wait_for_payload(STATUS, "offline");
    // 1.5 times the keep-alive of 5 s, and up to 5 s until Mosquitto looks.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "offline after {took:?}");
    let thawed = Instant::now();
    board.qemu.qmp("cont", &serde_json::json!({}));
    board.wait_for_return(thawed);
    board.wait("a reading", |board| (board.newest(READING)?.at > thawed).then_some(()));
}

pub fn power_cut(board: &mut Board) {
    board.configure(CONFIGURATION, "");
    assert_eq!(board.server.retained(STATUS).as_deref(), Some("online"));
    board.qemu.kill();
    board.wait_for_payload(STATUS, "offline");
    assert_eq!(board.server.retained(STATUS).as_deref(), Some("offline"));
    assert!(board.server.retained(READING).is_some(), "the value stays, the status tells");
}
