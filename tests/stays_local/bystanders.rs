//! Those who must not notice: two sensors that count their own reads on the main thread, where whatever delays anything
//! delays them, and a lamp that is commanded. And the account of what they did.

use crate::support::mosquitto::{Mosquitto, Received, Subscriber};
use board2mqtt::clock::Wall;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A gateway called `yard` with the bystanders. They count every 50 and every 100 ms.
pub const CONFIG: &str = "[gateway]\nname = \"yard\"\n\
    [mqtt]\nserver = \"mqtt://localhost\"\nkeep_alive = \"5s\"\nreconnect = { min = \"100ms\", max = \"1s\" }\n\
    [board]\nkind = \"simulated\"\n\
    [metrics]\ninterval = \"1s\"\n\
    [sensors.quick]\ndriver = \"test-counter\"\ninterval = \"50ms\"\nreadings.count.payload = \"json\"\n\
    [sensors.steady]\ndriver = \"test-counter\"\ninterval = \"100ms\"\nreadings.count.payload = \"json\"\n\
    [outputs.lamp]\nline = \"GPIO17\"\n";
/// Everything the gateway says.
pub const ALL: &str = "board2mqtt/yard/#";
/// What it says of the bystanders and of itself.
pub const FILTERS: [&str; 5] = [
    "board2mqtt/yard/quick/#",
    "board2mqtt/yard/steady/#",
    "board2mqtt/yard/lamp/#",
    "board2mqtt/yard/metrics",
    "board2mqtt/yard/status",
];
/// On a busy machine a reading may be this late. Each fault lasts longer.
const LATE: Duration = Duration::from_secs(2);
/// How many readings a fault lasts at least, so 4 s.
pub const LASTS: usize = 80;
/// What resident memory may grow by, in KiB, while a fault lasts: buffers that grow to their working size.
pub const GROWTH_KIB: u64 = 4 * 1024;

pub fn topic(of: &str, what: &str) -> String {
    format!("board2mqtt/yard/{of}/{what}")
}

/// What was published on a topic, retained messages met when subscribing left out.
pub fn texts(messages: &[Received], topic: &str) -> Vec<String> {
    let of = messages.iter().filter(|message| message.topic == topic && !message.retain);
    of.map(|message| message.payload.clone()).collect()
}

/// The counts of a sensor and when they were read, in milliseconds, live and as history.
fn readings(messages: &[Received], sensor: &str) -> BTreeMap<u64, i64> {
    let live = texts(messages, &topic(sensor, "count")).into_iter();
    let live = live.map(|text| serde_json::from_str::<Value>(&text).expect("an object"));
    let history = texts(messages, &topic(sensor, "count/history")).into_iter();
    let history = history.flat_map(|text| serde_json::from_str::<Vec<Value>>(&text).expect("an array"));
    let read = |record: Value| {
        let time = record["time"].as_str().and_then(Wall::parse).expect("a date");
        (record["value"].as_u64().expect("a count"), time.0)
    };
    live.chain(history).map(read).collect()
}

/// The first count of the quick one that has come.
pub fn first_count(messages: &[Received]) -> u64 {
    *readings(messages, "quick").first_key_value().expect("some").0
}

/// Waits until the quick one has counted so much further, from what has come so far.
pub fn go_on(watch: &Subscriber, counts: usize) {
    let last = |messages: &[Received]| readings(messages, "quick").last_key_value().map_or(0, |(count, _)| *count);
    let goal = last(&watch.messages()) + counts as u64;
    watch.wait_until(&format!("the quick one to count to {goal}"), |messages| (last(messages) >= goal).then_some(()));
}

/// Every count has arrived, and none was late: from the first that was seen on.
pub fn kept_their_cadence(messages: &[Received]) {
    for (sensor, interval) in [("quick", 50), ("steady", 100)] {
        let readings = readings(messages, sensor);
        let ((first, begun), (last, ended)) = readings.first_key_value().zip(readings.last_key_value()).expect("some");
        let missing: Vec<_> = (*first..=*last).filter(|count| !readings.contains_key(count)).collect();
        assert!(missing.is_empty(), "{sensor}: {missing:?} never came, of {first} to {last}");
        let times: Vec<_> = readings.values().collect();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        assert!(gap < LATE.as_millis() as i64, "{sensor}: {gap} ms without a reading");
        // A time that has passed is skipped: a loop that is always late reads less often.
        let due = (ended - begun) / interval;
        let read = i64::try_from(readings.len()).expect("few");
        assert!(2 * read > due, "{sensor}: {read} readings of {due}");
    }
}

/// The lamp is switched on and off, so many times, and each command is answered.
pub fn commands_are_carried_out(server: &Mosquitto, watch: &Subscriber, times: usize) {
    for number in 0..times {
        let (state, id) = (if number % 2 == 0 { "ON" } else { "OFF" }, fastrand::u32(..));
        server.publish(&topic("lamp", "set"), &format!(r#"{{"state":"{state}","id":{id}}}"#));
        watch.wait_for(&topic("lamp", "reply"), &format!(r#"{{"id":{id},"outcome":"done","state":"{state}"}}"#));
    }
}

/// A number of the metrics, in every message so far.
pub fn metric(messages: &[Received], name: &str) -> Vec<u64> {
    let of = |text: String| serde_json::from_str::<Value>(&text).expect("JSON")[name].as_u64().expect("a whole number");
    texts(messages, "board2mqtt/yard/metrics").into_iter().map(of).collect()
}

/// Waits until a number of the metrics, as they are told from now on, satisfies `condition`.
pub fn wait_for_metric(watch: &Subscriber, name: &str, condition: impl Fn(u64) -> bool) -> u64 {
    let told = metric(&watch.messages(), name).len();
    let last = |messages: &[Received]| metric(messages, name).into_iter().skip(told).find(|number| condition(*number));
    watch.wait_until(&format!("{name} in the metrics"), last)
}
