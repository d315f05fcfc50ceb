//! `systemctl reload` of the shipped unit: what is the same is not touched, and a bad file changes nothing and says why.
//!
//! An output that is on has to stay on all the time: its registers are looked at from outside while the reload is under
//! way, and the kernel's tracing has every level and direction in between, however short it was.

use super::{CONFIGURATION, OUTPUT, line, trace, traced};
use crate::board::{Board, STATUS};
use std::process::Output;
use std::time::{Duration, Instant};

const READING: &str = "board2mqtt/drone01/thermometer/temperature";
const BEACON: &str = "board2mqtt/drone01/beacon";
const LAMP: &str = "board2mqtt/drone01/lamp";
const METRICS: &str = "board2mqtt/drone01/metrics";
/// Those that are read too: an input is, all the time.
const LEVELS: &str = "gpio/gpio_value";
const DIRECTIONS: &str = "gpio/gpio_direction";

/// The configuration before the reload.
fn before() -> String {
    format!("{CONFIGURATION}\n[metrics]\ninterval = \"1s\"\n")
}

/// An agent whose beacon is on, and what must stay as it is.
struct Undisturbed {
    process: String,
    connects: usize,
    /// The beacon's number in the kernel.
    beacon: u32,
    /// How many configurations had been taken up.
    reloads: u64,
    /// How much the agent had told the journal.
    told: usize,
}

impl Undisturbed {
    /// The agent with the configuration of [`before`], and the beacon on.
    fn new(board: &mut Board) -> Self {
        board.configure(&before(), "");
        assert!(board.command("beacon", "OFF").contains("\"done\""));
        trace(board, DIRECTIONS, "0");
        trace(board, LEVELS, "get == 0");
        assert!(board.command("beacon", "ON").contains("\"done\""));
        let set = traced(board, LEVELS);
        let beacon = set.split("gpio_value: ").nth(1).and_then(|event| event.strip_suffix(" set 1\n")?.parse().ok());
        let beacon = beacon.unwrap_or_else(|| panic!("not one level is set by one command: {set}"));
        board.wait_for_payload(BEACON, "ON");
        board.forget();
        let begun = Instant::now();
        let reloads = board.wait("metrics", |board| reloads(board, begun));
        Self { process: board.process(), connects: connects(board), beacon, reloads, told: told(board).len() }
    }

    /// Waits until `condition` has a value, and looks at the beacon meanwhile.
    fn wait<T>(&self, board: &mut Board, what: &str, mut condition: impl FnMut(&mut Board) -> Option<T>) -> T {
        board.wait(what, |board| {
            assert_eq!(line(board, 17), (true, OUTPUT), "the beacon, while waiting for {what}");
            condition(board)
        })
    }

    /// Has somebody with root's rights carry that out, and looks at the beacon meanwhile.
    fn root(&self, board: &mut Board, script: &str) -> Output {
        let mut login = board.guest.start("root", script);
        self.wait(board, script, |_| login.try_wait().expect("its state"));
        login.wait_with_output().expect("its output")
    }

    /// Waits until the metrics count so many more configurations that were taken up.
    fn wait_for_reloads(&self, board: &mut Board, more: u64) {
        let begun = Instant::now();
        self.wait(board, "metrics", |board| (reloads(board, begun)? == self.reloads + more).then_some(()));
    }

    /// What the agent itself has told the journal since.
    fn told(&self, board: &Board) -> String {
        told(board).split_off(self.told)
    }

    /// The same process and connection, a beacon that nothing was done to, and sensors that are read.
    fn end(&self, board: &mut Board) {
        let now = Instant::now();
        self.wait(board, "a reading", |board| (board.newest(READING)?.at > now).then_some(()));
        assert_eq!(board.process(), self.process);
        assert_eq!(board.guest.root("systemctl is-active board2mqtt").trim(), "active", "no reload is left open");
        assert_eq!(connects(board), self.connects);
        assert_eq!(board.payloads(STATUS), [""; 0]);
        assert_eq!(board.payloads(BEACON), [""; 0]);
        assert_eq!(self.events(board, 0), [format!("gpio_value: {} set 1", self.beacon)], "since it was commanded");
    }

    /// What was done to the line that lies so far behind the beacon's.
    fn events(&self, board: &Board, behind: u32) -> Vec<String> {
        let number = format!(": {} ", self.beacon + behind);
        let printed = traced(board, DIRECTIONS) + &traced(board, LEVELS);
        let event = |line: &str| line.find("gpio_").map(|at| line[at..].to_owned());
        printed.lines().filter_map(event).filter(|event| event.contains(&number)).collect()
    }
}

/// How often the server has let the agent in.
fn connects(board: &Board) -> usize {
    let connects = board.server.log().matches(" as board2mqtt-drone01 (").count();
    assert!(connects > 0, "the server's log does not tell");
    connects
}

/// How many configurations have been taken up, once metrics have come since then.
fn reloads(board: &Board, since: Instant) -> Option<u64> {
    let metrics = board.newest(METRICS).filter(|metrics| metrics.at > since)?;
    let metrics: serde_json::Value = serde_json::from_str(&metrics.payload).expect("an object");
    metrics["reloads"].as_u64()
}

/// What the agent itself has told the journal.
fn told(board: &Board) -> String {
    board.guest.root(&format!("journalctl --no-pager -o cat _PID={}", board.process()))
}

pub fn taken_up(board: &mut Board) {
    let undisturbed = Undisturbed::new(board);
    let faster = before().replace("address = 0x48\nbits", "address = 0x48\ninterval = \"500ms\"\nbits");
    // Before all others, so that no part stands where it stood.
    let lamp = "[outputs.lamp]\nline = \"GPIO23\"\ninitial = \"on\"\n\n[outputs.beacon]";
    board.replace(&faster.replace("[outputs.beacon]", lamp));
    let done = undisturbed.root(board, "systemctl reload board2mqtt");
    assert!(done.status.success(), "{done:?}");
    undisturbed.wait(board, "the lamp", |board| (board.newest(LAMP)?.payload == "ON").then_some(()));
    assert_eq!(line(board, 23), (true, OUTPUT));
    // Eleven readings are ten intervals: 5 s, where they were 20 s before.
    let (begun, heard) = (Instant::now(), board.payloads(READING).len());
    undisturbed.wait(board, "readings", |board| (board.payloads(READING).len() >= heard + 11).then_some(()));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(12), "ten intervals took {took:?}");
    undisturbed.wait_for_reloads(board, 1);
    let told = undisturbed.told(board);
    assert!(told.contains("configuration reloaded"), "{told}");
    undisturbed.end(board);
    assert!(!undisturbed.events(board, 23 - 17).is_empty(), "the tracing has seen the lamp");
    assert!(board.command("lamp", "OFF").contains("\"done\""), "and it is listened to");
    assert_eq!(line(board, 23), (false, OUTPUT));
}

pub fn refused_by_check(board: &mut Board) {
    let undisturbed = Undisturbed::new(board);
    board.replace(&before().replace("[inputs.door]", "[inputs.door]\nnonsense = 1"));
    let done = undisturbed.root(board, "systemctl reload board2mqtt");
    assert!(!done.status.success(), "{done:?}");
    let logged = board.guest.root("journalctl --no-pager -o cat -u board2mqtt -n 30");
    assert!(logged.contains("unknown key `nonsense`"), "the journal tells why: {logged}");
    undisturbed.wait_for_reloads(board, 0);
    let told = undisturbed.told(board);
    assert!(!told.contains("nonsense") && !told.contains("configuration re"), "it has not heard of it: {told}");
    undisturbed.end(board);
    board.replace(&before());
    let done = undisturbed.root(board, "systemctl reload board2mqtt");
    assert!(done.status.success(), "{done:?}");
    undisturbed.wait_for_reloads(board, 1);
    undisturbed.end(board);
}

pub fn refused_by_the_agent(board: &mut Board) {
    let undisturbed = Undisturbed::new(board);
    board.replace(&before().replace("[inputs.door]", "[inputs.door]\nnonsense = 1\nrubbish = 2"));
    let checked = board.guest.root("sudo -u board2mqtt board2mqtt check 2>&1 || true");
    // The journal keeps no empty lines.
    let report: Vec<_> = checked.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(report.iter().any(|line| line.contains("unknown key `rubbish`")), "{checked}");
    let done = undisturbed.root(board, &format!("kill -HUP {}", undisturbed.process));
    assert!(done.status.success(), "{done:?}");
    let report = report.join("\n");
    undisturbed.wait(board, "the journal's report", |board| undisturbed.told(board).contains(&report).then_some(()));
    let status = |board: &mut Board| board.guest.root("systemctl show -p StatusText --value board2mqtt");
    let refused = "reload refused, 2 faults, the first: /etc/board2mqtt/config.toml:";
    let said = |board: &mut Board| Some(status(board)).filter(|text| text.starts_with(refused));
    let text = undisturbed.wait(board, "the status line", said);
    assert!(text.contains(": unknown key `nonsense` in [inputs.door]; connected to mqtt://10.0.2.2:"), "{text}");
    undisturbed.wait_for_reloads(board, 0);
    undisturbed.end(board);
    board.replace(&before());
    assert!(undisturbed.root(board, "systemctl reload board2mqtt").status.success());
    undisturbed.wait(board, "the status line", |board| status(board).starts_with("connected to").then_some(()));
    undisturbed.end(board);
}
