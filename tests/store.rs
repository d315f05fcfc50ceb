//! Readings that were taken while the server was away, and then the gateway was killed, stopped, or had no disk to speak of.

mod support;

use board2mqtt::buffer::disk::{Disk, Options};
use board2mqtt::buffer::{Buffer, Limits, Moment, Overflow, Record, THIS_BOOT};
use board2mqtt::publish::history::History;
use board2mqtt::quantity::Unit;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::agent::{Agent, Recipe, stored_in};
use support::mosquitto::{Mosquitto, Received};
use support::proxy::Proxy;
use support::wait_for;

const SENSORS: [&str; 3] = ["a", "b", "c"];

/// A gateway called `mast` whose sensors count their reads, each as JSON with its time.
fn mast(server: u16) -> Recipe {
    let sensor = |name: &&str| {
        format!("[sensors.{name}]\ndriver = \"test-counter\"\n[sensors.{name}.readings.count]\npayload = \"json\"\n")
    };
    let sensors: String = SENSORS.iter().map(sensor).collect();
    Recipe::new(&format!(
        "[gateway]\nname = \"mast\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\nreconnect = {{ min = \"100ms\", max = \"200ms\" }}\n\
         [board]\nkind = \"simulated\"\n\
         [defaults]\ninterval = \"100ms\"\n\
         [outputs.lamp]\nline = \"GPIO17\"\n\
         {sensors}"
    ))
    .script("")
    .log_level("debug")
    .server(server)
}

fn live(sensor: &str) -> String {
    format!("board2mqtt/mast/{sensor}/count")
}

fn history(sensor: &str) -> String {
    format!("{}/history", live(sensor))
}

/// Every reading of a sensor in the order of arrival, on its live topic or as history: its time and its count.
fn readings(messages: &[Received], topic: &str) -> Vec<(String, u64)> {
    let of = messages.iter().filter(|message| message.topic == topic);
    let parsed = of.flat_map(|message| match serde_json::from_str(&message.payload).expect("JSON") {
        Value::Array(records) => records,
        record => vec![record],
    });
    parsed
        .map(|record| (record["time"].as_str().expect("a time").to_owned(), record["value"].as_u64().expect("a count")))
        .collect()
}

/// The counts of a sensor in each of the gateway's lives, told apart by their beginning again; doubles count once.
fn lives(messages: &[Received], sensor: &str) -> Vec<Vec<u64>> {
    let all = readings(messages, &live(sensor)).into_iter().chain(readings(messages, &history(sensor)));
    let by_time: BTreeMap<String, u64> = all.collect();
    let mut lives: Vec<Vec<u64>> = Vec::new();
    for count in by_time.into_values() {
        match lives.last_mut() {
            Some(life) if life.last() < Some(&count) => life.push(count),
            _ => lives.push(vec![count]),
        }
    }
    lives
}

/// How many samples of a sensor the gateway has logged since `start` bytes into its log.
fn taken(agent: &Agent, start: usize, sensor: &str) -> u64 {
    let (log, word) = (agent.log(), format!("DEBUG sample sensor={sensor} "));
    log[start..].lines().filter(|line| line.starts_with(&word)).count() as u64
}

/// How many samples of each sensor the store has taken since then, as it says itself: it takes all, in their order.
fn stored(agent: &Agent, start: usize) -> BTreeMap<&'static str, u64> {
    let log = agent.log();
    let samples = log[start..].lines().filter_map(|line| line.strip_prefix("DEBUG sample sensor="));
    let sensors: Vec<_> = samples.filter_map(|rest| rest.split(' ').next()).take(stored_in(&log[start..])).collect();
    SENSORS.iter().map(|name| (*name, sensors.iter().filter(|sensor| *sensor == name).count() as u64)).collect()
}

/// Lets the store take so many more of each sensor, kills the gateway, and tells how many of each were stored in this life.
fn kill_after(agent: &mut Agent, start: usize, more: u64) -> BTreeMap<&'static str, u64> {
    let before = stored(agent, start);
    wait_for("samples", || {
        stored(agent, start).iter().all(|(sensor, now)| *now >= before[sensor] + more).then_some(())
    });
    agent.kill();
    stored(agent, start)
}

/// Panics unless everything that was taken for certain in each life has arrived.
fn assert_complete(messages: &[Received], certain: &[BTreeMap<&str, u64>]) {
    for sensor in SENSORS {
        let lives = lives(messages, sensor);
        assert!(lives.len() >= certain.len(), "{} of {} lives of {sensor}", lives.len(), certain.len());
        for (number, (life, certain)) in lives.iter().zip(certain).enumerate() {
            let missing: Vec<_> = (1..=certain[sensor]).filter(|count| !life.contains(count)).collect();
            assert!(missing.is_empty(), "life {number} of {sensor} lacks {missing:?} of {}", certain[sensor]);
        }
    }
}

/// Waits until the gateway has sent everything it has on disk.
fn wait_until_drained(agent: &Agent) {
    let folder = agent.file("state/buffer");
    wait_for("the store to be empty", || segments(&folder).is_empty().then_some(()));
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

/// Whether the store has a file in the runtime folder.
fn has_tail(agent: &Agent) -> bool {
    let mut files = std::fs::read_dir(agent.file("run")).expect("the runtime folder").flatten();
    files.any(|file| file.file_name().to_string_lossy().starts_with("buffer-"))
}

#[test]
fn ten_times_killed_while_the_server_is_away_it_loses_nothing() {
    let mut server = Mosquitto::start();
    server.kill();
    // Some wait on disk when it dies, and some in the memory that outlives it.
    let mut agent = mast(server.port()).set("BUFFER__FLUSH_EVERY", "300ms").start();
    let mut certain = Vec::new();
    for life in 0..10 {
        if life > 0 {
            assert!(has_tail(&agent), "what outlives the process was not used");
            agent.start_again();
        }
        let start = if life == 0 { 0 } else { agent.log().len() };
        certain.push(kill_after(&mut agent, start, 5 + life));
    }
    server.start_again();
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    agent.start_again();
    agent.wait_for_log("readings of an earlier run wait on disk", 10);
    agent.wait_for_log("connected to the server", 1);
    wait_until_drained(&agent);
    let messages = watch.messages();
    assert_complete(&messages, &certain);
    for sensor in SENSORS {
        let history = readings(&messages, &history(sensor));
        assert!(history.is_sorted_by(|a, b| a.0 < b.0), "in order, and nothing twice: {history:?}");
        // Live were only the counts of the last life.
        let live = readings(&messages, &live(sensor));
        assert!(history.iter().all(|old| live.iter().all(|new| old.0 < new.0)), "{history:?}\n{live:?}");
    }
}

#[test]
fn killed_while_the_history_goes_out_it_loses_nothing_and_repeats_little() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    proxy.refuse(true);
    let mut agent = mast(proxy.port()).set("BUFFER__DRAIN", "40/s").start();
    let mut certain = Vec::new();
    let lives = 6;
    for life in 0..lives {
        let start = if life == 0 { 0 } else { agent.log().len() };
        if life > 0 {
            agent.start_again();
        }
        wait_for("samples", || (taken(&agent, start, "c") >= 10).then_some(()));
        let sent =
            |messages: &[Received]| messages.iter().filter(|message| message.topic.ends_with("/history")).count();
        let before = sent(&watch.messages());
        proxy.refuse(false);
        watch.wait_until("history", |messages| (sent(messages) >= before + 4).then_some(()));
        // Half of the times the server goes first, half of the times the gateway dies in the middle of it.
        if life % 2 == 0 {
            proxy.refuse(true);
            proxy.cut();
            certain.push(kill_after(&mut agent, start, 3));
        } else {
            agent.kill();
            proxy.refuse(true);
            // Nothing is certain of what was taken while the server was there: that was in memory, for lack of a reason.
            certain.push(SENSORS.iter().map(|sensor| (*sensor, 10 - 1)).collect());
        }
    }
    agent.start_again();
    proxy.refuse(false);
    agent.wait_for_log("connected to the server", lives + 1);
    wait_until_drained(&agent);
    let messages = watch.messages();
    assert_complete(&messages, &certain);
    for sensor in SENSORS {
        let mut times: Vec<_> = readings(&messages, &history(sensor)).into_iter().map(|(time, _)| time).collect();
        let all = times.len();
        times.sort();
        times.dedup();
        // One share of ten records in each life, if it was on its way.
        assert!(all - times.len() <= 10 * lives, "{} of {all} came twice", all - times.len());
    }
}

#[test]
fn a_stop_in_order_keeps_everything_for_the_next_start_and_sends_it_once() {
    let mut server = Mosquitto::start();
    server.kill();
    let mut agent = mast(server.port()).start();
    wait_for("samples", || (taken(&agent, 0, "c") >= 20).then_some(()));
    assert!(agent.stop().0.success());
    assert_eq!(agent.logged("readings wait on disk for the next start"), 1);
    assert_eq!(agent.logged("lost"), 0);
    let certain: BTreeMap<_, _> = SENSORS.iter().map(|sensor| (*sensor, taken(&agent, 0, sensor))).collect();
    server.start_again();
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    agent.start_again();
    agent.wait_for_log("connected to the server", 1);
    wait_until_drained(&agent);
    let messages = watch.messages();
    assert_complete(&messages, &[certain]);
    for sensor in SENSORS {
        let history = readings(&messages, &history(sensor));
        assert!(history.is_sorted_by(|a, b| a.0 < b.0), "{history:?}");
    }
}

/// What a gateway of 0.1 left in `golden/store-1`; it is never made anew.
#[test]
fn a_store_of_the_first_version_is_read() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["sensors/#", "board2mqtt/drone01/#"]);
    let store = tempfile::tempdir().expect("a folder");
    let store = store.path();
    for name in ["0000000000000000.log", "cursor"] {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-1").join(name);
        std::fs::copy(golden, store.join(name)).expect("a copy");
    }
    let path = store.to_str().expect("UTF-8");
    let _agent = mast(server.port()).set("BUFFER__MAX_AGE", "3650d").set("BUFFER__PATH", path).start();
    let second = |second: u8, value: &str, unit: &str| {
        format!(r#"{{"time":"2026-01-31T12:00:0{second}.250Z","value":{value},"unit":"{unit}"}}"#)
    };
    let altitude = ["400.2", "402.2", "404.2", "406.2"].iter().zip([0, 2, 4, 6]);
    let altitude: Vec<_> = altitude.map(|(value, at)| second(at, value, "ft")).collect();
    watch.wait_for("sensors/drone01/altitude/history", &format!("[{}]", altitude.join(",")));
    // The one of 12:00:03 the server had.
    let temperature = ["-11.50", "-7.50", "-5.50"].iter().zip([1, 5, 7]);
    let temperature: Vec<_> = temperature.map(|(value, at)| second(at, value, "°C")).collect();
    watch.wait_for("board2mqtt/drone01/barometer/temperature/history", &format!("[{}]", temperature.join(",")));
    wait_for("the store to be empty", || segments(store).is_empty().then_some(()));
}

/// Fills the store of a gateway that does not run with that many readings of each sensor, a second apart.
fn fill(folder: &Path, each: u64) {
    let limits = Limits { max_size: 64 << 20, max_age: Duration::from_secs(86_400), overflow: Overflow::DropOldest };
    let (sender, woken) = std::sync::mpsc::channel();
    let wake = Box::new(move || _ = sender.send(()));
    let flush_every = Duration::from_secs(5);
    let mut store = Disk::start(Options { path: folder.to_owned(), memory: None, limits, flush_every, boot: 1, wake });
    let label = |sensor: &str| History { topic: history(sensor), decimals: 0, unit: Unit::One }.label();
    let series = SENSORS.map(|sensor| store.series(&label(sensor)));
    let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a date").as_millis() as i64;
    let settle = |store: &mut Disk| {
        store.turn(Moment::default());
        while store.contents().at_risk > 0 || store.is_busy() {
            woken.recv_timeout(support::PATIENCE).expect("the thread answers");
            store.turn(Moment::default());
        }
    };
    for count in 0..each {
        for series in series {
            // The last one is a minute old.
            let wall_ms = Some(start - 60_000 - (each - count) as i64 * 100);
            let ticket = store.push(Record {
                series,
                boot: THIS_BOOT,
                wall_ms,
                uptime_ms: count * 100,
                value: (count + 1) as f64,
            });
            store.release(ticket..ticket + 1);
        }
        if count % 1_000 == 0 {
            settle(&mut store);
        }
    }
    store.finish();
    settle(&mut store);
    assert_eq!(store.contents().on_disk as u64, each * 3);
    drop(store);
    let lock = std::fs::File::open(folder.join("lock")).expect("the lock");
    wait_for("the lock to be free", || lock.try_lock().ok());
}

#[test]
fn a_hundred_thousand_readings_stand_in_nobodys_way() {
    let each = 33_334;
    let server = Mosquitto::start();
    let recipe = mast(server.port()).set("BUFFER__DRAIN", "20000/s").log_level("info");
    let mut agent = recipe.start();
    agent.wait_for_log("connected to the server", 1);
    assert!(agent.stop().0.success());
    fill(&agent.file("state/buffer"), each);
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    agent.start_again();
    let is_history = |message: &&Received| message.topic.ends_with("/history");
    watch.wait_until("the history to begin", |messages| messages.iter().find(is_history).map(|_| ()));
    server.publish("board2mqtt/mast/lamp/set", "ON");
    let answered = watch.wait_for("board2mqtt/mast/lamp/reply", r#"{"outcome":"done","state":"ON"}"#).at;
    let all =
        |messages: &[Received]| SENSORS.iter().all(|sensor| readings(messages, &history(sensor)).len() as u64 >= each);
    wait_for("all of it", || all(&watch.messages()).then_some(()));
    let messages = watch.messages();
    for sensor in SENSORS {
        let history = readings(&messages, &history(sensor));
        let old: Vec<_> = history.iter().map(|(_, count)| *count).take(each as usize).collect();
        assert_eq!(old, (1..=each).collect::<Vec<_>>(), "each of {sensor} once, in order");
        assert!(history.is_sorted_by(|a, b| a.0 < b.0));
    }
    // The command was carried out, and live readings went on, in the midst of it.
    let first = messages.iter().find(is_history).expect("history").at;
    let last = messages.iter().rfind(is_history).expect("history").at;
    assert!(first < answered && answered < last);
    let before = messages.iter().position(|message| is_history(&message)).expect("history");
    let status =
        messages.iter().position(|message| message.topic == "board2mqtt/mast/status" && message.payload == "online");
    assert!(status.expect("online") < before, "the status goes first");
    for sensor in SENSORS {
        let topic = live(sensor);
        let during =
            messages.iter().filter(|message| message.topic == topic && message.at > first && message.at < last);
        let (during, seconds) = (during.count(), last.duration_since(first).as_secs_f64());
        assert!(during as f64 >= seconds * 10.0 * 0.7 - 2.0, "{during} live readings of {sensor} in {seconds} s");
    }
}

#[test]
fn a_healthy_link_leaves_the_disk_alone() {
    let server = Mosquitto::start();
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    let agent = mast(server.port()).start();
    agent.wait_for_log("connected to the server", 1);
    wait_until_drained(&agent);
    let state = || {
        let files = std::fs::read_dir(agent.file("state/buffer")).expect("a folder").map(|file| file.expect("a file"));
        let file = |file: std::fs::DirEntry| {
            let about = file.metadata().expect("about it");
            (file.file_name(), about.len(), about.modified().expect("a time"))
        };
        files.map(file).collect::<std::collections::BTreeSet<_>>()
    };
    let pass = |count: usize| {
        let seen = readings(&watch.messages(), &live("a")).len();
        watch.wait_until("readings", |messages| (readings(messages, &live("a")).len() >= seen + count).then_some(()));
    };
    // What was taken before the server was there is written and, once it is delivered, forgotten.
    let before = wait_for("the disk to come to rest", || {
        let before = state();
        pass(10);
        (state() == before).then_some(before)
    });
    pass(60);
    assert_eq!(state(), before);
}

#[test]
fn two_gateways_on_one_store_are_told_apart() {
    let mut server = Mosquitto::start();
    server.kill();
    let mut first = mast(server.port()).start();
    let folder = first.file("state/buffer");
    wait_for("the first one's store", || (!segments(&folder).is_empty()).then_some(()));
    let path = folder.display().to_string();
    let mut second = mast(server.port()).set("BUFFER__PATH", path.clone()).set("GATEWAY__NAME", "twin").start();
    let refused = format!("the store on disk cannot be used, readings wait in memory path={path}");
    second.wait_for_log(&refused, 1);
    let line = second.log().lines().find(|line| line.contains(&refused)).expect("it was logged").to_owned();
    assert!(line.starts_with("ERROR") && line.contains(&format!("in use by process {}", first.pid())), "{line}");
    wait_for("samples", || (taken(&second, 0, "c") >= 5).then_some(()));
    assert!(second.stop().0.success());
    assert_eq!(second.logged("readings lost, the server did not take them before the stop"), 1);
    first.assert_alive();
    assert_eq!(first.logged("ERROR"), 0);
}

#[test]
fn where_there_can_be_no_store_it_goes_on_without() {
    let server = Mosquitto::start();
    let proxy = Proxy::to(server.port());
    // A file in its place; a file system where nobody can make a folder, root neither.
    for path in ["a-file", "/proc/board2mqtt"] {
        let recipe = mast(proxy.port()).file("a-file", "precious").set("BUFFER__PATH", path);
        proxy.refuse(true);
        let mut agent = recipe.start();
        agent.wait_for_log("the store on disk cannot be used, readings wait in memory", 1);
        wait_for("samples", || (taken(&agent, 0, "c") >= 10).then_some(()));
        let watch = server.subscribe(&["board2mqtt/mast/#"]);
        proxy.refuse(false);
        watch.wait_until("the history", |messages| (readings(messages, &history("c")).len() >= 9).then_some(()));
        assert_eq!(agent.logged("cannot be used"), 1, "told once");
        assert!(agent.stop().0.success());
        assert_eq!(std::fs::read_to_string(agent.file("a-file")).expect("read"), "precious");
    }
}

#[test]
fn a_disk_that_is_full_is_told_once_and_used_again_when_there_is_space() {
    let mut server = Mosquitto::start();
    server.kill();
    // No file may grow beyond 4 KiB: room for about a hundred readings.
    let recipe =
        mast(server.port()).log_level("info").set("DEFAULTS__INTERVAL", "10ms").set("BUFFER__DRAIN", "20000/s");
    let mut agent = recipe.file_limit(4_096).start();
    agent.wait_for_log("the store on disk cannot be used, readings wait in memory", 1);
    agent.lift_file_limit();
    agent.wait_for_log("the store on disk is used again", 1);
    assert_eq!(agent.logged("cannot be used"), 1, "told once");
    assert!(agent.stop().0.success());
    assert_eq!(agent.logged("lost"), 0);
    server.start_again();
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    agent.start_again();
    wait_until_drained(&agent);
    for sensor in SENSORS {
        let counts: Vec<_> =
            readings(&watch.messages(), &history(sensor)).into_iter().map(|(_, count)| count).collect();
        let first = counts.iter().skip(1).position(|count| *count == 1).map_or(counts.len(), |at| at + 1);
        assert!(first > 100, "{first}");
        assert_eq!(counts[..first], (1..=first as u64).collect::<Vec<_>>(), "nothing was lost in between");
    }
}
