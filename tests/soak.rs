//! A gateway on a link that fails in every way we know, for minutes: whatever the weather, every reading arrives.
//!
//! `SOAK_SECONDS` is how long the link is bad (`tests/all`: ten minutes), `SOAK_SEED` which weather it has; both are printed.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::agent::{Agent, Recipe};
use support::mosquitto::{Mosquitto, Received};
use support::proxy::{Mode, Proxy};

const SENSORS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// How long the history may take to arrive when the link is good again, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(600);
/// Resident; a gateway that grows by what it could not send would be far beyond it.
const MEMORY_KIB: u64 = 32 * 1024;

/// What the link does for a while.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Good,
    /// Connections end, new ones are welcome.
    Cut,
    /// Connections end in the middle of a packet.
    Torn,
    /// Connections end, new ones are closed at once.
    Refused,
    Is(Mode),
}

impl Weather {
    fn next(random: &mut fastrand::Rng) -> Self {
        match random.u8(..9) {
            0 | 1 => Self::Good,
            2 => Self::Cut,
            3 => Self::Torn,
            4 => Self::Refused,
            5 => Self::Is(Mode::BlackHole),
            6 => Self::Is(Mode::Delay(Duration::from_millis(random.u64(5..300)))),
            7 => Self::Is(Mode::SwallowAcks),
            _ => Self::Is(Mode::ReorderAcks),
        }
    }

    fn begin(self, link: &Proxy) {
        match self {
            Self::Good => {}
            Self::Cut => link.cut(),
            Self::Torn => link.set(Mode::Tear),
            Self::Refused => {
                link.refuse(true);
                link.cut();
            }
            Self::Is(mode) => link.set(mode),
        }
    }

    fn end(link: &Proxy) {
        link.refuse(false);
        link.set(Mode::Forward);
    }
}

/// What has arrived of one sensor.
#[derive(Default)]
struct Arrived {
    /// How often each count came, and the time it was told with.
    counts: BTreeMap<u64, (usize, Option<String>)>,
    newest_live: u64,
    messages: usize,
}

impl Arrived {
    fn live(&mut self, payload: &str) {
        let value: Value = serde_json::from_str(payload).expect("a JSON reading");
        let count = self.record(&value);
        assert!(count >= self.newest_live, "the live topic went back from {} to {count}", self.newest_live);
        self.newest_live = count;
    }

    fn history(&mut self, payload: &str) {
        let records: Vec<Value> = serde_json::from_str(payload).expect("a JSON array");
        let counts: Vec<u64> = records.iter().map(|record| self.record(record)).collect();
        assert!(counts.is_sorted(), "a message of the history is not in order: {counts:?}");
    }

    /// A reading's count has one time, on whichever topic and however often it comes.
    fn record(&mut self, reading: &Value) -> u64 {
        let count = reading["value"].as_u64().expect("a count");
        let time = reading["time"].as_str().expect("a time").to_owned();
        let (times, told) = self.counts.entry(count).or_default();
        *times += 1;
        assert_eq!(*told.get_or_insert(time.clone()), time, "the time of count {count}");
        count
    }

    fn doubles(&self) -> usize {
        self.counts.values().map(|(times, _)| times - 1).sum()
    }

    /// The first count that has not arrived, if one is missing below the newest.
    fn missing(&self) -> Option<u64> {
        let newest = self.counts.last_key_value().map_or(0, |(count, _)| *count);
        (1..newest).find(|count| !self.counts.contains_key(count))
    }
}

type Log = BTreeMap<&'static str, Arrived>;

fn sort(messages: Vec<Received>, log: &mut Log) {
    for message in messages {
        let Some(rest) = message.topic.strip_prefix("board2mqtt/mast/") else { continue };
        for sensor in SENSORS {
            let arrived = log.entry(sensor).or_default();
            if rest == format!("{sensor}/count") {
                arrived.live(&message.payload);
                arrived.messages += 1;
            } else if rest == format!("{sensor}/count/history") {
                arrived.history(&message.payload);
                arrived.messages += 1;
            }
        }
    }
}

fn mast(server: u16) -> Recipe {
    let sensors: String = SENSORS
        .iter()
        .map(|name| format!("[sensors.{name}]\ndriver = \"test-counter\"\nreadings.count.payload = \"json\"\n"))
        .collect();
    Recipe::new(&format!(
        "[gateway]\nname = \"mast\"\n\
         [mqtt]\nserver = \"mqtt://localhost\"\nkeep_alive = \"5s\"\nreconnect = {{ min = \"200ms\", max = \"2s\" }}\n\
         [board]\nkind = \"simulated\"\n\
         [defaults]\ninterval = \"100ms\"\n\
         [buffer]\ndrain = \"1000/s\"\n\
         [outputs.lamp]\nline = \"GPIO17\"\n\
         {sensors}"
    ))
    .script("")
    .server(server)
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")))
}

#[test]
fn every_reading_arrives_through_bad_weather() {
    let seconds = setting("SOAK_SECONDS", 45);
    let seed = setting("SOAK_SEED", fastrand::u64(..1_000_000));
    println!("SOAK_SECONDS={seconds} SOAK_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Mosquitto::start();
    let link = Proxy::to(server.port());
    let watch = server.subscribe(&["board2mqtt/mast/#"]);
    let mut agent = mast(link.port()).start();
    let mut log = Log::new();

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut memory = 0;
    while Instant::now() < end {
        let weather = Weather::next(&mut random);
        let lasts = Duration::from_millis(random.u64(100..6_000)).min(end.saturating_duration_since(Instant::now()));
        println!("{weather:?} for {lasts:?}");
        weather.begin(&link);
        // The weather lasts as long as it lasts; nothing is waited for.
        std::thread::sleep(lasts);
        Weather::end(&link);
        sort(watch.take(), &mut log);
        memory = memory.max(agent.memory_kib());
    }
    recover(&agent, &mut log, || watch.take());
    agent.assert_alive();
    assert!(memory < MEMORY_KIB, "{memory} KiB resident");
    report(&log, link.accepted(), memory);
}

/// Waits until everything up to a count that was read after the weather has arrived.
fn recover(agent: &Agent, log: &mut Log, take: impl Fn() -> Vec<Received>) {
    let begun = Instant::now();
    sort(take(), log);
    let goals: BTreeMap<_, _> = log.iter().map(|(sensor, arrived)| (*sensor, arrived.newest_live + 20)).collect();
    loop {
        sort(take(), log);
        let lacking = |sensor: &&str| {
            let arrived = &log[*sensor];
            (arrived.newest_live < goals[*sensor]).then_some(arrived.newest_live + 1).or_else(|| arrived.missing())
        };
        let Some((sensor, count)) = SENSORS.iter().find_map(|sensor| Some((sensor, lacking(sensor)?))) else { return };
        assert!(begun.elapsed() < RECOVERY, "count {count} of {sensor} has not arrived\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn report(log: &Log, connections: usize, memory: u64) {
    let sum = |of: fn(&Arrived) -> usize| log.values().map(of).sum::<usize>();
    let (readings, doubles) = (sum(|arrived| arrived.counts.len()), sum(Arrived::doubles));
    let messages = sum(|arrived| arrived.messages);
    println!(
        "{readings} readings, {doubles} of them twice, in {messages} messages over {connections} connections; {memory} KiB"
    );
    assert!(doubles * 10 < readings, "{doubles} doubles of {readings} readings");
}
