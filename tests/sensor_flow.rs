//! What becomes of samples on their way to the server: filters, objects, status and health, `get`, references of altitude.
//!
//! The real core and drivers over the simulated board, on a clock moved by hand.

mod support;

use board2mqtt::board::simulated::{Fault, Weather};
use board2mqtt::clock::{Clock, Wall};
use board2mqtt::line::{Active, Drive, Initial, Level, LineId};
use board2mqtt::sample::{Failure, Reason};
use std::path::Path;
use std::time::Duration;
use support::rig::Rig;

const SECOND: Duration = Duration::from_secs(1);

struct House {
    rig: Rig,
    folder: tempfile::TempDir,
}

fn write(path: &Path, text: &str) {
    let head = "[gateway]\nname = \"house\"\n[mqtt]\nserver = \"mqtt://localhost\"\n";
    std::fs::write(path, format!("{head}{text}")).expect("written");
}

impl House {
    /// A gateway of this configuration, connected.
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("house.toml");
        write(&path, text);
        let mut rig = Rig::new(&path, 1);
        rig.connect();
        Self { rig, folder }
    }

    /// Takes up another configuration.
    fn reload(&mut self, text: &str) {
        let path = self.folder.path().join("house.toml");
        write(&path, text);
        self.rig.reload(&path);
    }

    fn air(&mut self, sensor: &str, temperature_c: f64, pressure_hpa: f64) {
        let weather = Weather { pressure_hpa, temperature_c, humidity_percent: 50.0 };
        self.rig.control.set_weather(sensor, Some(weather)).expect("a sensor");
    }

    /// The payloads that arrived on a topic since the last look at any.
    fn arrived(&mut self, topic: &str) -> Vec<String> {
        let all = std::mem::take(&mut self.rig.server.arrived);
        let of_topic = all.into_iter().filter(|message| message.topic == format!("board2mqtt/house/{topic}"));
        of_topic.map(|message| String::from_utf8(message.payload).expect("text")).collect()
    }

    fn retained(&self, topic: &str) -> Option<String> {
        let payload = self.rig.server.retained.get(&format!("board2mqtt/house/{topic}"));
        payload.map(|payload| String::from_utf8(payload.clone()).expect("text"))
    }

    fn health(&self, sensor: &str) -> serde_json::Value {
        serde_json::from_str(&self.retained(&format!("{sensor}/health")).expect("health")).expect("JSON")
    }

    fn altitude(&self) -> f64 {
        self.retained("mast/altitude").expect("an altitude").parse().expect("a number")
    }
}

const ROOF: &str = "[sensors.roof]\ndriver = \"tmp117\"\naddress = 0x48\ninterval = \"1s\"\n";
const MAST: &str = "[sensors.mast]\ndriver = \"bmp280\"\naddress = 0x76\ninterval = \"1s\"\n";

#[test]
fn small_changes_are_held_back_until_their_time_and_spikes_never_go_out() {
    let filters = "[sensors.roof.readings.temperature]\nmedian = 3\nchange = 1.0\nat_least_every = \"10s\"\n";
    let mut house = House::new(&format!("{ROOF}{filters}"));
    house.arrived("");
    for _ in 0..3 {
        house.rig.run(9 * SECOND);
        assert_eq!(house.arrived("roof/temperature"), [""; 0]);
        house.rig.run(SECOND);
        assert_eq!(house.arrived("roof/temperature"), ["20.00"]);
    }
    house.air("roof", 90.0, 1013.25);
    house.rig.run(SECOND);
    house.air("roof", 20.5, 1013.25);
    house.rig.run(4 * SECOND);
    assert_eq!(house.arrived("roof/temperature"), [""; 0], "a spike of one sample, then less than the change");
    house.air("roof", 21.0, 1013.25);
    house.rig.run(2 * SECOND);
    assert_eq!(house.arrived("roof/temperature"), ["21.00"]);
}

#[test]
fn one_object_holds_all_quantities_of_one_read() {
    let mut house = House::new(&format!("[topics]\nsensor = \"{{base}}/{{sensor}}\"\nreading = \"none\"\n{MAST}"));
    house.arrived("");
    house.rig.run(3 * SECOND);
    let objects = house.arrived("mast");
    assert_eq!(objects.len(), 3, "one a read: {objects:?}");
    let object: serde_json::Value = serde_json::from_str(&objects[2]).expect("JSON");
    let numbers = ["temperature", "pressure", "altitude"].map(|name| object[name].as_f64().expect("a number"));
    assert!((numbers[0] - 20.0).abs() < 0.1 && (numbers[1] - 1013.25).abs() < 0.2 && numbers[2].abs() < 2.0);
    assert!(object["time"].as_str().is_some_and(|time| time.starts_with("2026-03-01T00:00:0")), "{object}");
}

#[test]
fn a_failing_sensor_is_told_once_and_so_is_its_return() {
    let mut house = House::new(ROOF);
    house.arrived("");
    house.rig.control.set_fault("roof", Some(Fault::Nack)).expect("a sensor");
    house.rig.run(60 * SECOND);
    let all = std::mem::take(&mut house.rig.server.arrived);
    let on = |topic: &str| all.iter().filter(|m| m.topic == format!("board2mqtt/house/roof/{topic}")).count();
    assert_eq!((on("status"), on("temperature")), (1, 0));
    assert!((2..=5).contains(&on("health")), "at each doubling of the failures: {}", on("health"));
    assert_eq!(house.retained("roof/status").as_deref(), Some("offline"));
    let health = house.health("roof");
    assert_eq!((&health["state"], &health["reason"]), (&"failing".into(), &"nack".into()), "{health}");
    assert_eq!(house.retained("roof/temperature").as_deref(), Some("20.00"), "kept unless configured otherwise");

    house.rig.control.set_fault("roof", Some(Fault::Bus)).expect("a sensor");
    house.rig.run(20 * SECOND);
    assert_eq!(house.arrived("roof/status"), [""; 0], "another reason is no other status");
    assert_eq!(house.health("roof")["reason"], "bus");

    house.rig.control.set_fault("roof", None).expect("a sensor");
    house.rig.run(30 * SECOND);
    assert_eq!(house.arrived("roof/status"), ["online"]);
    assert_eq!(house.health("roof"), serde_json::json!({"state": "ok"}));
}

#[test]
fn every_reason_has_its_word_and_its_sentence() {
    use Reason::{Absent, Bus, Busy, Crc, Driver, Nack, OutOfRange, Permission, Timeout, WrongChip};
    let mut house = House::new(ROOF);
    let words = "nack timeout bus busy absent permission crc wrong-chip out-of-range driver";
    let reasons = [Nack, Timeout, Bus, Busy, Absent, Permission, Crc, WrongChip, OutOfRange, Driver];
    for ((reason, word), failures) in reasons.into_iter().zip(words.split(' ')).zip(1..) {
        house.rig.core().sensor_failed(0, Failure::new(reason, format!("what {word} means")));
        house.rig.run(Duration::from_millis(1));
        let health = house.health("roof");
        assert_eq!((&health["state"], &health["reason"]), (&"failing".into(), &word.into()), "{health}");
        assert_eq!((&health["detail"], &health["failures"]), (&format!("what {word} means").into(), &failures.into()));
        assert_eq!(house.retained("roof/status").as_deref(), Some("offline"));
    }
}

#[test]
fn a_value_beyond_its_limits_is_a_failed_reading() {
    let mut house = House::new(&format!("{ROOF}[sensors.roof.readings.temperature]\nmax = 30.0\n"));
    house.air("roof", 31.0, 1000.0);
    house.rig.run(2 * SECOND);
    let health = house.health("roof");
    assert_eq!(health["reason"], "out-of-range", "{health}");
    assert!(health["detail"].as_str().is_some_and(|detail| detail.contains("31")), "{health}");
    assert_eq!(house.retained("roof/temperature").as_deref(), Some("20.00"));
}

#[test]
fn metrics_are_retained_and_count_what_happens() {
    let mut house = House::new(&format!("[metrics]\ninterval = \"1s\"\n{ROOF}"));
    house.rig.run(10 * SECOND);
    let told = |house: &House| -> serde_json::Value {
        serde_json::from_str(&house.retained("metrics").expect("metrics")).expect("JSON")
    };
    let before = told(&house);
    let number = |metrics: &serde_json::Value, key: &str| metrics[key].as_u64().expect("a number");
    assert!((9..=10).contains(&number(&before, "uptime_s")), "{before}");
    assert!((9..=11).contains(&number(&before, "readings")), "{before}");
    assert_eq!(["connects", "failing", "dropped"].map(|key| number(&before, key)), [1, 0, 0]);
    assert!(number(&before, "buffered") <= 1, "at most what is on its way just now: {before}");
    assert!(number(&before, "memory_kib") > 0 && before["cpu_s"].as_f64() > Some(0.0), "{before}");

    house.rig.disconnect();
    house.rig.control.set_fault("roof", Some(Fault::Nack)).expect("a sensor");
    house.rig.run(5 * SECOND);
    house.rig.control.set_fault("roof", None).expect("a sensor");
    house.rig.run(20 * SECOND);
    assert_eq!(told(&house), before, "nothing is told without a server");
    house.rig.connect();
    house.rig.run(3 * SECOND);
    let after = told(&house);
    assert_eq!(["connects", "failing", "dropped"].map(|key| number(&after, key)), [2, 0, 0]);
    assert!(number(&after, "buffered") <= 1, "{after}");
    assert!(number(&after, "failures") > number(&before, "failures") && number(&after, "history") > 0, "{after}");

    let mut quiet = House::new(&format!("[topics]\nmetrics = \"none\"\n[metrics]\ninterval = \"1s\"\n{ROOF}"));
    quiet.rig.run(10 * SECOND);
    assert!(quiet.rig.server.retained.keys().all(|topic| !topic.contains("metrics")));
}

#[test]
fn since_when_a_sensor_fails_has_a_date_as_soon_as_there_is_one() {
    let mut house = House::new(ROOF);
    house.rig.clock.set_wall(None);
    house.rig.control.set_fault("roof", Some(Fault::Nack)).expect("a sensor");
    house.rig.run(2 * SECOND);
    let health = house.health("roof");
    assert!(health["since"].is_null() && health["since_uptime_ms"].is_u64(), "{health}");
    let failing_ms =
        house.rig.clock.now().as_nanos() / 1_000_000 - health["since_uptime_ms"].as_u64().expect("a number");

    let now = Wall::parse("2026-05-01T12:00:00Z").expect("a date");
    house.rig.clock.set_wall(Some(now));
    house.rig.core().clock_set();
    house.rig.run(Duration::from_millis(1));
    let since = house.health("roof")["since"].as_str().and_then(Wall::parse).expect("a date");
    assert_eq!(since, Wall(now.0 - i64::try_from(failing_ms).expect("a while")));
}

#[test]
fn the_last_reading_gets_its_date_when_there_is_one() {
    let texts = "[sensors.roof.readings.temperature]\npayload = \"json\"\n[topics]\nsensor = \"{base}/{sensor}\"\n";
    let mut house = House::new(&format!("{}{texts}", ROOF.replace("\"1s\"", "\"1h\"")));
    house.rig.clock.set_wall(None);
    house.rig.message("board2mqtt/house/get", b"");
    house.rig.run(SECOND);
    let told = |house: &House, topic: &str| -> serde_json::Value {
        serde_json::from_str(&house.retained(topic).expect("a reading")).expect("JSON")
    };
    let uptime = told(&house, "roof/temperature")["uptime_ms"].as_u64().expect("no date");
    assert_eq!(told(&house, "roof")["uptime_ms"], uptime);

    house.rig.run(20 * SECOND);
    house.rig.clock.set_wall(MAY);
    house.rig.core().clock_set();
    house.rig.run(Duration::from_millis(1));
    let age = house.rig.clock.now().as_nanos() / 1_000_000 - uptime;
    let date = Wall(house.rig.clock.wall().expect("May").0 - i64::try_from(age).expect("a while")).to_string();
    assert_eq!(told(&house, "roof/temperature")["time"], date.as_str());
    assert_eq!(told(&house, "roof")["time"], date.as_str());
    house.arrived("");

    // A clock that is set a little tells nothing new; one that was wrong does, to a server that comes later as well.
    house.rig.core().clock_set();
    house.rig.run(Duration::from_millis(1));
    assert!(house.rig.server.arrived.is_empty());
    house.rig.disconnect();
    house.rig.clock.set_wall(JANUARY);
    house.rig.core().clock_set();
    house.rig.connect();
    house.rig.run(SECOND);
    let times = house.arrived("roof/temperature");
    assert!(times.len() == 1 && times[0].contains("2026-01-"), "{times:?}");
}

const TICK: &str = "[sensors.tick]\ndriver = \"test-counter\"\ninterval = \"1s\"\n";
const JANUARY: Option<Wall> = Some(Wall(1_768_000_000_000));
const MAY: Option<Wall> = Some(Wall(1_778_000_000_000));

impl House {
    /// Away from its server for ten seconds, with this date on its clock.
    fn away(date: Option<Wall>) -> Self {
        let mut house = Self::new(TICK);
        house.rig.disconnect();
        house.rig.clock.set_wall(date);
        house.rig.run(10 * SECOND);
        house.rig.server.arrived.clear();
        house
    }

    /// The records of the history that has come.
    fn records(&mut self) -> Vec<serde_json::Value> {
        let all = self.arrived("tick/count/history");
        all.iter().flat_map(|text| serde_json::from_str::<Vec<_>>(text).expect("an array")).collect()
    }

    /// The history is that of a reading each second up to a moment ago, when it was May.
    fn is_dated(&mut self) {
        let records = self.records();
        let time = |record: &serde_json::Value| record["time"].as_str().and_then(Wall::parse).expect("a date").0;
        let times: Vec<_> = records.iter().map(time).collect();
        assert!(times.len() >= 9, "{records:?}");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 1_000), "{times:?}");
        let age = self.rig.clock.wall().expect("May").0 - times[times.len() - 1];
        assert!((0..60_000).contains(&age), "{times:?}");
    }
}

#[test]
fn what_was_read_before_the_date_was_known_is_dated_when_it_is_sent() {
    let mut house = House::away(None);
    house.rig.clock.set_wall(MAY);
    house.rig.connect();
    house.rig.run(2 * SECOND);
    house.is_dated();
}

#[test]
fn what_was_read_by_a_clock_that_somebody_then_set_is_dated_by_the_new_one() {
    // A board without a real-time clock starts where it was switched off.
    let mut house = House::away(JANUARY);
    house.rig.clock.set_wall(MAY);
    house.rig.connect();
    house.rig.run(2 * SECOND);
    house.is_dated();
}

#[test]
fn history_without_a_date_waits_a_while_for_one() {
    let mut house = House::away(None);
    house.rig.connect();
    house.rig.run(25 * SECOND);
    assert_eq!(house.records(), [serde_json::Value::Null; 0], "its network has just come");
    house.rig.clock.set_wall(MAY);
    house.rig.core().clock_set();
    house.rig.run(SECOND);
    house.is_dated();
}

#[test]
fn history_that_never_gets_a_date_is_marked() {
    let mut house = House::away(None);
    house.rig.connect();
    house.rig.run(40 * SECOND);
    let records = house.records();
    assert!(records.len() >= 9, "{records:?}");
    let marked = |record: &serde_json::Value| record["time"].is_null() && record["uptime_ms"].is_u64();
    assert!(records.iter().all(|record| marked(record) && record.get("boot").is_none()), "{records:?}");
}

#[test]
fn a_value_is_removed_while_its_sensor_fails_where_that_is_wanted() {
    let mut house = House::new(&format!("{ROOF}when_failing = \"clear\"\n"));
    assert_eq!(house.retained("roof/temperature").as_deref(), Some("20.00"));
    house.rig.control.set_fault("roof", Some(Fault::Nack)).expect("a sensor");
    house.rig.run(2 * SECOND);
    assert_eq!(house.retained("roof/temperature"), None);
    // A new connection, on which everything known is sent again, does not bring it back.
    house.rig.disconnect();
    house.rig.run(2 * SECOND);
    house.rig.connect();
    assert_eq!(house.retained("roof/temperature"), None);
    house.rig.control.set_fault("roof", None).expect("a sensor");
    house.rig.run(20 * SECOND);
    assert_eq!(house.retained("roof/temperature").as_deref(), Some("20.00"));
}

#[test]
fn get_reads_and_publishes_everything_at_once_and_moves_no_cadence() {
    let filters = "[sensors.roof.readings.temperature]\nchange = 5\n";
    let mut house = House::new(&format!("{ROOF}{filters}").replace("\"1s\"", "\"1h\""));
    house.rig.run(1000 * SECOND);
    house.air("roof", 21.0, 1013.25);
    house.arrived("");
    house.rig.server.retained.insert("board2mqtt/house/get".to_owned(), Vec::new());
    house.rig.disconnect();
    house.rig.connect();
    house.rig.run(SECOND);
    assert!(house.rig.reports.len() == 1, "a retained request reads nothing");
    house.rig.message("board2mqtt/house/get", b"");
    house.rig.run(SECOND);
    assert_eq!(house.retained("roof/temperature").as_deref(), Some("21.00"), "also what has hardly moved");
    let topics: Vec<String> = house.rig.server.arrived.iter().map(|message| message.topic.clone()).collect();
    for topic in ["status", "roof/status", "roof/health", "roof/temperature"] {
        assert!(topics.contains(&format!("board2mqtt/house/{topic}")), "{topic} in {topics:?}");
    }
    house.rig.run(3600 * SECOND);
    let stamps: Vec<u64> = house.rig.reports.iter().map(|report| report.stamp.at.as_nanos() / 1_000_000_000).collect();
    assert_eq!(stamps, [1, 1002, 3601], "the third on the hour from the start");
}

#[test]
fn an_altitude_follows_its_reference_from_a_topic_and_says_how_old_that_is() {
    let reference = "sea_level_pressure = { topic = \"weather/qnh\", unit = \"hPa\", stale_after = \"10m\", otherwise = \"1013.25 hPa\" }\n";
    let mut house = House::new(&format!("{MAST}{reference}"));
    house.rig.run(SECOND);
    assert!(house.altitude().abs() < 2.0, "{}", house.altitude());
    assert_eq!(house.health("mast")["reference_age_s"], serde_json::Value::Null);
    for nonsense in ["", "high", "5", "20 C", "nan"] {
        house.rig.message("weather/qnh", nonsense.as_bytes());
    }
    house.rig.run(SECOND);
    assert!(house.altitude().abs() < 2.0);
    house.rig.message("weather/qnh", b"29.53 inHg");
    house.rig.run(90 * SECOND);
    assert!((house.altitude() + 110.0).abs() < 5.0, "1000 hPa at sea level: {}", house.altitude());
    let age = house.health("mast")["reference_age_s"].as_u64().expect("an age");
    assert!((30..=90).contains(&age), "{age}");
    house.rig.run(600 * SECOND);
    assert!(house.altitude().abs() < 2.0, "stale: {}", house.altitude());
}

#[test]
fn a_known_elevation_is_taken_once_a_boot_kept_over_restarts_and_taken_again_on_request() {
    let mut house = House::new(&format!("{MAST}sea_level_pressure = {{ known_elevation = \"100 m\" }}\n"));
    house.rig.run(SECOND);
    assert!((house.altitude() - 100.0).abs() < 0.2, "{}", house.altitude());
    house.air("mast", 20.0, 1003.25);
    house.rig.run(SECOND);
    let lifted = house.altitude();
    assert!((lifted - 184.0).abs() < 3.0, "{lifted}");

    let restart = |house: &mut House, in_order: bool| {
        if in_order {
            house.rig.stop()
        } else {
            house.rig.kill()
        }
        house.rig.restart();
        house.rig.connect();
        house.rig.run(2 * SECOND);
    };
    restart(&mut house, true);
    assert_eq!(house.altitude(), lifted, "kept over a restart");
    house.rig.run(120 * SECOND);
    restart(&mut house, false);
    assert_eq!(house.altitude(), lifted, "kept over a crash");
    house.rig.boot_id = "another boot".to_owned();
    restart(&mut house, true);
    assert!((house.altitude() - 100.0).abs() < 0.2, "taken again after a boot: {}", house.altitude());
    house.air("mast", 20.0, 1013.25);
    house.rig.run(SECOND);
    assert!((house.altitude() - 16.0).abs() < 3.0, "{}", house.altitude());
    house.rig.message("board2mqtt/house/get", b"calibrate");
    house.rig.run(SECOND);
    assert!((house.altitude() - 100.0).abs() < 0.2, "taken again on request: {}", house.altitude());
}

#[test]
fn an_output_gives_back_its_last_commanded_level_after_a_stop_and_after_a_crash() {
    let mut house = House::new("[outputs.lamp]\nline = \"GPIO17\"\ninitial = \"last\"\n");
    house.rig.message("board2mqtt/house/lamp/set", b"ON");
    house.rig.stop();
    assert_eq!(house.rig.control.is_high("GPIO17"), Some(false), "off on exit");
    house.rig.restart();
    assert_eq!(house.rig.control.is_high("GPIO17"), Some(true), "as it was commanded last");
    house.rig.connect();
    house.rig.message("board2mqtt/house/lamp/set", b"OFF");
    house.rig.run(61 * SECOND);
    house.rig.kill();
    house.rig.restart();
    assert_eq!(house.rig.control.is_high("GPIO17"), Some(false));
}

#[test]
fn pulses_that_are_not_published_yet_outlive_a_stop_a_crash_and_a_reload() {
    let rain = "[inputs.rain]\nline = \"GPIO22\"\ncount = { edge = \"rising\", per_pulse = 1, unit = \"mm\", interval = \"1h\" }\n";
    let mut house = House::new(rain);
    let pulses = |house: &mut House, count: usize| {
        for _ in 0..count {
            house.rig.input("rain", true);
            house.rig.input("rain", false);
        }
        house.rig.run(2 * SECOND);
    };
    pulses(&mut house, 3);
    house.rig.stop();
    house.rig.restart();
    house.rig.connect();
    assert_eq!(house.retained("rain").as_deref(), Some("3"));
    pulses(&mut house, 4);
    house.rig.run(61 * SECOND);
    house.rig.kill();
    house.rig.restart();
    house.rig.connect();
    assert_eq!(house.retained("rain").as_deref(), Some("7"), "written within a minute");
    pulses(&mut house, 2);
    house.reload("");
    house.reload(rain);
    assert_eq!(house.retained("rain").as_deref(), Some("9"));
}

#[test]
fn an_output_that_a_reload_leads_to_a_line_that_is_taken_has_no_state() {
    let (lamp, horn) = ("[outputs.lamp]\nline = \"GPIO17\"\n", "[outputs.horn]\nline = \"GPIO22\"\n");
    let mut house = House::new(&format!("{lamp}{horn}"));
    house.reload(lamp);
    let taken = Drive::Switch { line: LineId::Name("GPIO22".into()), active: Active::High };
    let taken = house.rig.board.output(&taken, Initial::Level(Level::OFF)).expect("a free line");
    house.rig.message("board2mqtt/house/lamp/set", b"ON");
    assert_eq!(house.retained("lamp").as_deref(), Some("ON"));
    house.reload(&lamp.replace("GPIO17", "GPIO22"));
    assert_eq!((house.rig.control.is_high("GPIO17"), house.retained("lamp")), (Some(false), None));
    drop(taken);
    house.rig.run(61 * SECOND);
    assert_eq!(house.retained("lamp").as_deref(), Some("OFF"));
}
