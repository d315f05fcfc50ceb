//! PWM, as the kernel's tracing tells every state that was applied to a channel: from outside there is nothing to see, for
//! QEMU has no model of it.

use super::{CONFIGURATION, line, trace, traced};
use crate::board::Board;

/// What GPIO18 is when the PWM comes out there.
const ALTERNATIVE_5: u32 = 2;

const APPLY: &str = "pwm/pwm_apply";

/// A state applied to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    period: u64,
    duty: u64,
    inversed: bool,
    enabled: bool,
}

/// Forgets what was applied so far.
fn watch(board: &Board) {
    trace(board, APPLY, "0");
}

/// What was applied since [`watch`].
fn applied(board: &Board) -> Vec<Applied> {
    let text = traced(board, APPLY);
    let field = |line: &str, name: &str| -> u64 {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
    };
    let state = |line: &str| Applied {
        period: field(line, "period"),
        duty: field(line, "duty_cycle"),
        inversed: field(line, "polarity") == 1,
        enabled: field(line, "enabled") == 1,
    };
    text.lines().map(state).collect()
}

/// The configuration with that fan.
fn fan(table: &str) -> String {
    CONFIGURATION.replace("pwm = { line = \"GPIO18\", frequency = 25000 }\nsafe = 30", table)
}

/// Starts the agent anew with a channel that nobody has exported.
fn start_fresh(board: &mut Board, configuration: &str) {
    board.guest.root("systemctl stop board2mqtt; cd /sys/class/pwm/pwmchip0; for c in 0 1; do [ ! -e pwm$c ] || echo $c >unexport; done");
    watch(board);
    board.configure(configuration, "");
    board.wait_for("board2mqtt/drone01/fan", |state| (!state.is_empty()).then_some(()));
}

/// 25 kHz from the first moment on, never off again, and in the end exactly these duties.
fn has_run_through(board: &mut Board, duties: &[u64], inversed: bool) {
    let states = applied(board);
    let on: Vec<_> = states.iter().skip_while(|state| !state.enabled).collect();
    assert!(on.iter().all(|state| state.enabled && state.period == 40_000 && state.inversed == inversed), "{states:?}");
    let mut seen: Vec<_> = on.iter().map(|state| state.duty).collect();
    seen.dedup();
    assert_eq!(seen, duties, "{states:?}");
}

/// Commands and the curve, on a fan that is not yet running.
fn exercise(board: &mut Board, configuration: &str, inversed: bool) {
    board.qemu.set("thermometer", "temperature", 20_000);
    board.wait_for_payload("board2mqtt/drone01/thermometer/temperature", "20.0000");
    start_fresh(board, configuration);
    let state = "board2mqtt/drone01/fan";
    board.wait_for_payload(state, "10");
    board.qemu.set("thermometer", "temperature", 25_000);
    board.wait_for_payload(state, "50");
    for (payload, level) in [("40", "40"), ("OFF", "0"), ("ON", "40"), ("100", "100"), ("0.5", "0.5"), ("AUTO", "50")] {
        let reply = board.command("fan", payload);
        assert!(reply.contains("\"done\""), "{payload}: {reply}");
        board.wait_for_payload(state, level);
    }
    let reply = board.command("fan", "{\"level\":60,\"for\":\"1h\"}");
    assert!(reply.contains("\"max-on\""), "{reply}");
    // Off until the thermometer is read, then what the curve says.
    let duties = [0, 4_000, 20_000, 16_000, 0, 16_000, 40_000, 200, 20_000];
    has_run_through(board, &duties, inversed);
}

const RULES: &str = "max_on = \"30m\"\n\
    follow = { reading = \"thermometer.temperature\", curve = [[20, 10], [30, 90]], stale_after = \"1m\" }";

pub fn by_rppal(board: &mut Board) {
    assert_eq!(line(board, 18).1, ALTERNATIVE_5, "the device tree leads the PWM there");
    exercise(board, &fan(&format!("pwm = {{ line = \"GPIO18\", frequency = 25000 }}\n{RULES}")), false);
    assert!(board.journal().iter().all(|entry| !entry["MESSAGE"].as_str().is_some_and(|text| text.contains("rppal"))));
}

pub fn restart(board: &mut Board) {
    board.command("fan", "80");
    watch(board);
    board.restart();
    board.wait_for_payload("board2mqtt/drone01/fan", "50");
    // `on_exit` is safe, and so is `initial`.
    has_run_through(board, &[0, 20_000], false);
}

pub fn by_sysfs(board: &mut Board) {
    let table = format!("pwm = {{ chip = \"pwmchip0\", channel = 1, frequency = 25000 }}\nactive = \"low\"\n{RULES}");
    exercise(board, &fan(&table), true);
}

pub fn elsewhere(board: &mut Board) {
    board.configure(&fan("pwm = { line = \"GPIO12\", frequency = 25000 }\nsafe = 30"), "");
    let told = |entry: &serde_json::Value| {
        entry["OUTPUT"] == "fan"
            && entry["DETAIL"].as_str().is_some_and(|detail| detail.contains("dtoverlay=pwm,pin=12,func=4"))
    };
    board.wait("the log to name the overlay", |board| board.journal().iter().any(told).then_some(()));
    let reply = board.command("fan", "40");
    assert!(reply.contains("\"hardware\""), "{reply}");
    assert!(board.command("beacon", "OFF").contains("\"done\""), "the rest works");
}
