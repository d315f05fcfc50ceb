//! What can go wrong on the board: chips, buses, drivers, lines. The agent runs in this process, where a test can do to its
//! board what nobody could script.

use crate::bystanders::*;
use crate::support::inside::{Inside, memory_kib};
use crate::support::mosquitto::{Mosquitto, Received, Subscriber};
use board2mqtt::board::Board;
use board2mqtt::board::simulated::{Fault, Simulated};
use board2mqtt::line::{Active, Bias, Drive, Edges, Initial, Level, LineId};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One bus with the sensor that will suffer, another with one that will not.
const BUSES: &str = "[sensors.sick]\ndriver = \"tmp117\"\naddress = 0x48\ninterval = \"200ms\"\ndeadline = \"500ms\"\n\
    [sensors.far]\nbus = \"/dev/i2c-2\"\ndriver = \"tmp117\"\naddress = 0x48\ninterval = \"200ms\"\n";
const BUS: &str = "/dev/i2c-1";

struct Scene {
    server: Mosquitto,
    watch: Subscriber,
    agent: Inside,
    /// KiB when all was well.
    memory: u64,
}

fn unwrapped(board: Simulated) -> Arc<dyn Board> {
    Arc::new(board)
}

impl Scene {
    /// All is well, as long as `agent` has the bystanders and `sensors`.
    fn new(more: &str, sensors: &[&str], wrap: impl FnOnce(Simulated) -> Arc<dyn Board>) -> Self {
        let server = Mosquitto::start();
        let watch = server.subscribe(&[ALL]);
        let agent = Inside::start(&format!("{CONFIG}{more}"), server.port(), wrap);
        for sensor in sensors {
            watch.wait_for(&topic(sensor, "status"), "online");
        }
        go_on(&watch, 10);
        Self { server, watch, agent, memory: memory_kib() }
    }

    /// The fault lasts for a while, and nobody but `sick` notices.
    fn goes_on(&self, others: &[&str]) {
        go_on(&self.watch, LASTS / 2);
        commands_are_carried_out(&self.server, &self.watch, 6);
        go_on(&self.watch, LASTS / 2);
        for sensor in others {
            assert_eq!(texts(&self.watch.messages(), &topic(sensor, "status")), ["online"]);
        }
    }

    /// `sensor` has failed for this reason and nothing else, and is well again.
    fn is_told(&self, sensor: &str, reason: &str) {
        let (status, health) = (topic(sensor, "status"), topic(sensor, "health"));
        let last = |messages: &[Received], topic| texts(messages, topic).pop().unwrap_or_default();
        self.watch.wait_until("the recovery", |messages| {
            (last(messages, &status) == "online" && last(messages, &health) == r#"{"state":"ok"}"#).then_some(())
        });
        assert_eq!(texts(&self.watch.messages(), &status), ["online", "offline", "online"]);
        let health = texts(&self.watch.messages(), &health);
        let failing: Vec<_> = health.iter().filter(|text| text.contains("failing")).collect();
        let told = |text: &&String| text.contains(&format!(r#""reason":"{reason}","since":""#));
        assert!(!failing.is_empty() && failing.iter().all(told), "{health:?}");
    }

    /// The account at the end.
    fn ends_well(mut self) {
        let grown = memory_kib().saturating_sub(self.memory);
        assert!(grown < GROWTH_KIB, "{grown} KiB more");
        self.agent.stop();
        self.watch.wait_for("board2mqtt/yard/status", "offline");
        kept_their_cadence(&self.watch.messages());
    }
}

#[test]
fn a_stuck_bus() {
    let scene = Scene::new(BUSES, &["sick", "far"], unwrapped);
    scene.agent.control.set_bus_fault(Path::new(BUS), Some(Fault::Stuck));
    scene.watch.wait_for(&topic("sick", "status"), "offline");
    wait_for_metric(&scene.watch, "hanging", |count| count == 1);
    scene.goes_on(&["far"]);
    scene.agent.control.set_bus_fault(Path::new(BUS), None);
    scene.is_told("sick", "timeout");
    wait_for_metric(&scene.watch, "failures", |count| count > 0);
    assert_eq!(wait_for_metric(&scene.watch, "failing", |count| count == 0), 0);
    scene.ends_well();
}

#[test]
fn an_adapter_that_hangs_for_ever_while_another_takes_its_place() {
    let scene = Scene::new(BUSES, &["sick", "far"], unwrapped);
    scene.agent.control.replug(Path::new(BUS));
    scene.watch.wait_for(&topic("sick", "status"), "offline");
    scene.is_told("sick", "timeout");
    scene.goes_on(&["far"]);
    wait_for_metric(&scene.watch, "connects", |count| count == 1);
    assert_eq!(metric(&scene.watch.messages(), "hanging").last(), Some(&0), "the bus does not hang any more");
    scene.ends_well();
}

#[test]
fn a_chip_that_stretches_the_clock_for_seconds() {
    let scene = Scene::new(BUSES, &["sick", "far"], unwrapped);
    let slow = Fault::Slow(Duration::from_secs(3));
    scene.agent.control.set_fault("sick", Some(slow)).expect("a sensor");
    scene.watch.wait_for(&topic("sick", "status"), "offline");
    scene.goes_on(&["far"]);
    scene.agent.control.set_fault("sick", None).expect("a sensor");
    scene.is_told("sick", "timeout");
    scene.ends_well();
}

#[test]
fn a_driver_that_panics() {
    // The default one works for seconds and takes 80 MiB to show where it was.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let scene = Scene::new(BUSES, &["sick", "far"], unwrapped);
    scene.agent.control.set_fault("sick", Some(Fault::Panic)).expect("a sensor");
    scene.watch.wait_for(&topic("sick", "status"), "offline");
    scene.goes_on(&["far"]);
    wait_for_metric(&scene.watch, "failing", |count| count == 1);
    scene.agent.control.set_fault("sick", None).expect("a sensor");
    scene.is_told("sick", "driver");
    scene.ends_well();
}

#[test]
fn lines_that_another_program_has() {
    let config = "[outputs.horn]\nline = \"GPIO22\"\n[inputs.door]\nline = \"GPIO27\"\n";
    let (horn, door) = (LineId::Name("GPIO22".into()), LineId::Name("GPIO27".into()));
    let mut held = None;
    let scene = Scene::new(config, &["quick"], |board| {
        let drive = Drive::Switch { line: horn, active: Active::High };
        let output = board.output(&drive, Initial::Level(Level::OFF)).expect("a free line");
        held = Some((output, board.input(&door, Active::High, Bias::AsIs, Edges::Both).expect("a free line")));
        Arc::new(board)
    });
    let (server, watch) = (&scene.server, &scene.watch);
    server.publish(&topic("horn", "set"), r#"{"state":"ON","id":1}"#);
    watch.wait_for(&topic("horn", "reply"), r#"{"id":1,"outcome":"refused","reason":"hardware"}"#);
    scene.goes_on(&["quick"]);
    let silent = |of: &str| texts(&watch.messages(), &format!("board2mqtt/yard/{of}")).iter().all(String::is_empty);
    assert!(silent("horn") && silent("door"), "nobody knows what they are");

    drop(held);
    watch.wait_for("board2mqtt/yard/door", "OFF");
    watch.wait_for("board2mqtt/yard/horn", "OFF");
    server.publish(&topic("horn", "set"), r#"{"state":"ON","id":2}"#);
    watch.wait_for(&topic("horn", "reply"), r#"{"id":2,"outcome":"done","state":"ON"}"#);
    scene.ends_well();
}

#[test]
fn a_flood_of_edges() {
    const FLIPS: u32 = 500_000;
    const BETWEEN: Duration = Duration::from_micros(10);
    let config = "[inputs.door]\nline = \"GPIO27\"\n\
        [inputs.wheel]\nline = \"GPIO22\"\nbias = \"pull-down\"\n\
        count = { edge = \"rising\", per_pulse = 1, unit = \"\", interval = \"1s\" }\n";
    let scene = Scene::new(config, &["quick"], unwrapped);
    let (control, used, begun) = (scene.agent.control.clone(), scene.agent.processor_time(), Instant::now());
    let flood = std::thread::spawn(move || {
        let begun = Instant::now();
        for flip in 0..FLIPS {
            // No sleep is that short, and a burst is not what an oscillating contact does.
            while begun.elapsed() < BETWEEN * flip {
                std::hint::spin_loop();
            }
            control.drive("GPIO22", flip % 2 == 0).expect("an input");
        }
    });
    scene.goes_on(&["quick"]);
    // The door is heard although the wheel floods.
    scene.agent.control.set_input("door", true).expect("an input");
    scene.watch.wait_for("board2mqtt/yard/door", "ON");
    flood.join().expect("no panic");
    let (used, took) = (scene.agent.processor_time() - used, begun.elapsed());
    assert!(used < took / 4, "the main thread was busy for {used:?} of {took:?}");
    // What was lost is known to have come: the count is right all the same.
    let total = (FLIPS / 2).to_string();
    scene.watch.wait_for("board2mqtt/yard/wheel", &total);
    wait_for_metric(&scene.watch, "edges_lost", |count| count > u64::from(FLIPS) / 10);
    scene.ends_well();
}
