//! A board without a real-time clock, by the real agent: what it measured before it knew the date, in which boot, and TLS
//! that has to wait for the date.
//!
//! The agent's date and boot come from `clock.c`; every other clock is the machine's, so an agent that is started again
//! goes on in the same boot.

#[path = "../support/mod.rs"]
mod support;

use board2mqtt::clock::{Clock, SystemClock, Wall};
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use support::agent::{Agent, Recipe, stored_in};
use support::mosquitto::{Mosquitto, Received, make_ca};
use support::wait_for;

const BOOTS: [&str; 2] = ["5c2f1b6a-0d3e-4f80-9a1b-2c3d4e5f6071", "00000000-0000-4000-8000-0000000000ff"];
const COUNT: &str = "board2mqtt/mast/tick/count";
const HISTORY: &str = "board2mqtt/mast/tick/count/history";
/// A record is stamped this much earlier or later than the test notices, at most: the machine may be busy.
const SLACK_MS: i64 = 5_000;

/// A gateway that counts every 100 ms, on a board that says it is 1970.
fn mast() -> Recipe {
    Recipe::new(
        "[gateway]\nname = \"mast\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\nreconnect = { min = \"100ms\", max = \"200ms\" }\n\
         [board]\nkind = \"simulated\"\n\
         [sensors.tick]\ndriver = \"test-counter\"\ninterval = \"100ms\"\n\
         [sensors.tick.readings.count]\npayload = \"json\"\n",
    )
    .script("")
    .log_level("debug")
}

/// What the board says its date and its boot are.
struct Board {
    folder: tempfile::TempDir,
    times_set: i64,
}

impl Board {
    fn new() -> Self {
        let mut board = Self { folder: tempfile::tempdir().expect("a folder"), times_set: 0 };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dates/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-pthread", "-o"]).arg(board.file("clock.so"));
        let done = compiler.arg(source).arg("-ldl").output().expect("a C compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        board.off_by(-SystemClock.date().0);
        board.boots(0);
        board
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The agent runs on this board.
    fn under(&self, recipe: Recipe) -> Recipe {
        let path = |name: &str| self.file(name).display().to_string();
        recipe
            .variable("LD_PRELOAD", path("clock.so"))
            .variable("BOARD_CLOCK", path("clock"))
            .variable("BOARD_BOOT", path("boot"))
    }

    /// Somebody sets the clock: it is off by so many milliseconds now.
    fn off_by(&mut self, ms: i64) {
        let clock = std::fs::File::options().create(true).truncate(false).write(true).open(self.file("clock"));
        let clock = clock.expect("the board's clock");
        self.times_set += 1;
        clock.write_all_at(&(ms * 1_000_000).to_ne_bytes(), 0).expect("its date");
        clock.write_all_at(&self.times_set.to_ne_bytes(), 8).expect("how often it was set");
    }

    /// It is switched off and on again.
    fn boots(&self, boot: usize) {
        std::fs::write(self.file("boot"), format!("{}\n", BOOTS[boot])).expect("the boot");
    }
}

/// Waits until the store has taken so many more samples.
fn take(agent: &Agent, more: usize) {
    let stored = || stored_in(&agent.log());
    let before = stored();
    wait_for("samples in the store", || (stored() >= before + more).then_some(()));
}

/// The records of the history so far, in the order of arrival.
fn records(messages: &[Received]) -> Vec<Value> {
    let arrays = messages.iter().filter(|message| message.topic == HISTORY);
    arrays.flat_map(|message| serde_json::from_str::<Vec<_>>(&message.payload).expect("an array")).collect()
}

fn wait_until_drained(folder: &Path) {
    let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let segments = || std::fs::read_dir(folder).expect("the store").flatten().filter(|file| is_segment(&file.path()));
    wait_for("the store to be empty", || (segments().count() == 0).then_some(()));
}

fn date(record: &Value) -> Option<i64> {
    record["time"].as_str().map(|time| Wall::parse(time).expect("a date").0)
}

/// Panics unless these have dates between two moments, 100 ms from count to count.
fn assert_dated(records: &[Value], begin: i64, end: i64) {
    assert!(!records.is_empty());
    let of = |record: &Value| {
        (date(record).unwrap_or_else(|| panic!("{record}")), record["value"].as_i64().expect("a count"))
    };
    let (first, first_count) = of(&records[0]);
    for record in records {
        let (date, count) = of(record);
        assert!(begin - SLACK_MS <= date && date <= end + SLACK_MS, "{record} is not from {begin} to {end}");
        assert!((date - first - 100 * (count - first_count)).abs() < SLACK_MS / 2, "{record} after {}", records[0]);
        assert_eq!(record.as_object().map(serde_json::Map::len), Some(3), "{record}");
    }
}

#[test]
fn what_a_killed_agent_took_without_a_date_is_dated_by_the_next_one_of_the_same_boot() {
    let mut server = Mosquitto::start();
    server.kill();
    let mut board = Board::new();
    let begin = SystemClock.date().0;
    let mut agent = board.under(mast()).server(server.port()).start();
    take(&agent, 10);
    agent.kill();
    let end = SystemClock.date().0;

    server.start_again();
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    agent.start_again();
    // It has its network back before its date; what it says meanwhile is marked.
    watch.wait_until("a reading", |messages| messages.iter().any(|message| message.topic == COUNT).then_some(()));
    board.off_by(0);
    agent.wait_for_log("the clock was set", 1);
    wait_until_drained(&agent.file("state/buffer"));
    let messages = watch.messages();
    let live: Vec<Value> = messages
        .iter()
        .filter(|message| message.topic == COUNT)
        .map(|message| serde_json::from_str(&message.payload).expect("JSON"))
        .collect();
    let undated = live.iter().take_while(|reading| reading["time"].is_null()).count();
    assert!(undated > 0 && live[..undated].iter().all(|reading| reading["uptime_ms"].is_u64()), "{live:?}");
    assert!(live[undated..].iter().all(|reading| date(reading).is_some()), "{live:?}");
    let records = records(&messages);
    let earlier: Vec<_> = records.iter().filter(|record| date(record) <= Some(end)).cloned().collect();
    assert!(earlier.len() >= 9, "{records:?}");
    assert_dated(&earlier, begin, end);
}

#[test]
fn what_an_earlier_boot_took_without_a_date_names_that_boot_and_what_it_dated_keeps_its_date() {
    let mut server = Mosquitto::start();
    server.kill();
    let mut board = Board::new();
    let mut agent = board.under(mast()).server(server.port()).start();
    take(&agent, 10);
    board.off_by(0);
    agent.wait_for_log("the clock was set", 1);
    let begin = SystemClock.date().0;
    take(&agent, 10);
    agent.kill();
    let end = SystemClock.date().0;

    server.start_again();
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    board.boots(1);
    agent.start_again();
    agent.wait_for_log("connected to the server", 1);
    wait_until_drained(&agent.file("state/buffer"));
    let records = records(&watch.messages());
    let (undated, dated): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record["time"].is_null());
    assert!(undated.len() >= 9, "{undated:?}");
    for pair in undated.windows(2) {
        let passed = |key: &str| pair[1][key].as_i64().expect("a number") - pair[0][key].as_i64().expect("a number");
        assert!((passed("uptime_ms") - 100 * passed("value")).abs() < SLACK_MS / 2, "{pair:?}");
    }
    assert!(undated.iter().all(|record| record["boot"] == BOOTS[0]), "{undated:?}");
    assert!(dated.len() >= 9, "{dated:?}");
    assert_dated(&dated, begin, end);
}

#[test]
fn tls_that_a_wrong_clock_prevents_tells_the_clock_and_comes_when_it_is_set() {
    let server = Mosquitto::with(|folder| {
        make_ca(folder, "localhost", &[], 30);
        let file = |name: &str| folder.join(name).display().to_string();
        let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
        format!("allow_anonymous true\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n")
    });
    let mut board = Board::new();
    let recipe = board
        .under(mast())
        .set("MQTT__SERVER", format!("mqtts://localhost:{}", server.port()))
        .set("MQTT__TLS__CA", server.file("ca.pem").display().to_string())
        .set("MQTT__RECONNECT__MIN", "1h")
        .set("MQTT__RECONNECT__MAX", "1h");
    let mut agent = recipe.start();
    let told = "set this board's clock (this board's clock says 1970-01-0";
    agent.wait_for_log(told, 1);
    take(&agent, 5);
    board.off_by(0);
    agent.wait_for_log("connected to the server", 1);
    assert_eq!(agent.logged(told), 1, "{}", agent.log());
    wait_until_drained(&agent.file("state/buffer"));
    assert!(agent.stop().0.success());
}
