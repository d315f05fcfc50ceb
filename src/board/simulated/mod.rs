//! A board of models: chips at register level on simulated buses, GPIO lines and PWM channels that always exist.
//!
//! It owns what happens when ([`Script`]), what the outputs did ([`Trace`]) and the handle by which tests and the demo
//! reach into it ([`Control`]). The air is a function of time, worked out when a chip is read; faults and inputs need
//! something to happen at a time, which one thread does, or [`Control::advance`]. No two worlds share anything.

mod air;
pub mod bus;
pub mod chips;
mod control;
mod lines;
mod player;
mod schedule;
mod script;
mod trace;

pub use bus::Fault;
pub use chips::Weather;
pub use control::Control;
pub use script::{Script, ScriptError};
pub use trace::Trace;

use super::{Adapter, Board, Bus, Input, Output};
use crate::clock::{Clock, Instant};
use crate::line::{Active, Bias, Drive, Edges, I2cPlace, Initial, LineId};
use crate::sample::Failure;
use air::Tracks;
use bus::SimulatedBus;
use lines::Lines;
use player::{Player, Thread};
use schedule::{Act, Place, Schedule};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a simulated board is made of; output lines exist when they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The sensors that hang on I2C.
    pub sensors: Vec<SimulatedSensor>,
    /// The inputs.
    pub inputs: Vec<SimulatedInput>,
}

/// A sensor of a simulated board.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedSensor {
    /// Its name in the configuration, by which a script calls it.
    pub name: String,
    /// Where a model of its chip answers.
    pub place: I2cPlace,
    /// Whose chip.
    pub driver: &'static str,
}

/// An input of a simulated board; it starts OFF.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedInput {
    /// Its name in the configuration, by which a script calls it.
    pub name: String,
    /// The line.
    pub line: LineId,
    /// Which level is ON.
    pub active: Active,
}

/// A simulated board. Dropping it ends its thread; what was opened on it lives on.
pub struct Simulated {
    world: Arc<World>,
    /// `None` where nothing happens by itself, or where time is moved by hand.
    _thread: Option<Thread>,
}

impl Simulated {
    /// A board that plays its script, or without one a flight, in real time. It has a thread if anything but the air
    /// changes.
    ///
    /// # Errors
    /// A script that names what `parts` does not have.
    pub fn new(
        parts: Parts,
        script: Option<Script>,
        trace: Option<Trace>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ScriptError> {
        let mut board = Self::by_hand(parts, script, trace, clock)?;
        // What a script has at its very start is so from the first read on, however late the thread comes to run.
        board.world.play(board.world.start);
        board._thread = Thread::start(&board.world).map_err(ScriptError::NoThread)?;
        Ok(board)
    }

    /// The same without a thread: faults and inputs change when [`Control::advance`] is called. For manual clocks.
    ///
    /// # Errors
    /// As [`Simulated::new`].
    pub fn by_hand(
        parts: Parts,
        script: Option<Script>,
        trace: Option<Trace>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ScriptError> {
        let schedule = match &script {
            Some(script) => schedule::compile(script, &parts)?,
            None => schedule::flight(&parts),
        };
        Ok(Self { world: World::new(parts, schedule, trace, clock), _thread: None })
    }

    /// A handle on what is behind the lines and buses.
    pub fn control(&self) -> Control {
        Control::new(self.world.clone())
    }
}

impl Board for Simulated {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn trace(&self) -> Option<&str> {
        self.world.lines.trace_target()
    }

    fn control(&self) -> Option<Control> {
        Some(Simulated::control(self))
    }

    fn adapter(&self, bus: &Path) -> Option<Adapter> {
        let (number, _) = self.world.numbered(bus);
        Some(Adapter { file: (0, number), device: 0 })
    }

    /// Any bus exists; at a place without a sensor nobody answers. A simulated adapter cannot be told a deadline.
    fn i2c(&self, place: &I2cPlace, _deadline: Duration) -> Result<Bus, Failure> {
        Ok(self.world.bus(&place.bus).open())
    }

    fn output(&self, drive: &Drive, initial: Initial) -> Result<Box<dyn Output>, Failure> {
        self.world.lines.output(drive, initial)
    }

    fn input(&self, line: &LineId, active: Active, bias: Bias, edges: Edges) -> Result<Box<dyn Input>, Failure> {
        self.world.lines.input(line, active, bias, edges)
    }
}

/// Everything behind a simulated board.
struct World {
    clock: Arc<dyn Clock>,
    start: Instant,
    /// As it was made: what the script speaks of.
    parts: Parts,
    /// Sensors that have come later.
    added: Mutex<Vec<SimulatedSensor>>,
    sky: Arc<Sky>,
    lines: Arc<Lines>,
    /// By path, and how many adapters that path had before.
    buses: Mutex<HashMap<PathBuf, (u64, SimulatedBus)>>,
    player: Mutex<Player>,
}

/// The air at every place, now.
struct Sky {
    clock: Arc<dyn Clock>,
    start: Instant,
    /// By place, an index into the sensors.
    places: HashMap<I2cPlace, usize>,
    air: Option<Vec<Tracks>>,
    repeat: Option<Duration>,
    /// By sensor: what a test has put in place of the script's air.
    fixed: Mutex<Vec<Option<Weather>>>,
}

impl World {
    fn new(parts: Parts, schedule: Schedule, trace: Option<Trace>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let start = clock.now();
        let Schedule { air, repeat, deeds } = schedule;
        let places = parts.sensors.iter().enumerate().map(|(index, sensor)| (sensor.place.clone(), index)).collect();
        let fixed = Mutex::new(vec![None; parts.sensors.len()]);
        let sky = Arc::new(Sky { clock: clock.clone(), start, places, air, repeat, fixed });
        let lines = Arc::new(Lines::new(clock.clone(), trace));
        let player = Mutex::new(Player::new(deeds));
        let (added, buses) = (Mutex::default(), Mutex::default());
        let world = Self { clock, start, parts, added, sky, lines, buses, player };
        for input in 0..world.parts.inputs.len() {
            world.drive_input(input, false, start);
        }
        Arc::new(world)
    }

    /// The bus of that path, made if need be.
    fn bus(&self, path: &Path) -> SimulatedBus {
        self.numbered(path).1
    }

    /// The same, with the number of its adapter.
    fn numbered(&self, path: &Path) -> (u64, SimulatedBus) {
        self.buses().entry(path.to_owned()).or_insert_with(|| (0, self.new_bus(path))).clone()
    }

    fn buses(&self) -> MutexGuard<'_, HashMap<PathBuf, (u64, SimulatedBus)>> {
        self.buses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A bus with the chips of its sensors, freshly switched on.
    fn new_bus(&self, path: &Path) -> SimulatedBus {
        let sky = self.sky.clone();
        let bus = SimulatedBus::new(path, self.clock.clone(), Arc::new(move |place| sky.weather(place)));
        let added = self.added();
        let all = self.parts.sensors.iter().chain(added.iter());
        all.filter(|sensor| sensor.place.bus == path).for_each(|sensor| add_chip(&bus, sensor));
        bus
    }

    fn added(&self) -> MutexGuard<'_, Vec<SimulatedSensor>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for what a configuration has that the board was not made with: a chip in still air for each sensor, a
    /// level for each input. What is there stays, a chip of another driver in its place excepted.
    fn extend(&self, parts: &Parts) {
        for sensor in &parts.sensors {
            let there = |known: &&SimulatedSensor| known.place == sensor.place;
            let newest = self.added().iter().rev().find(there).or(self.parts.sensors.iter().find(there)).cloned();
            if newest.is_none_or(|known| known.driver != sensor.driver) {
                add_chip(&self.bus(&sensor.place.bus), sensor);
                self.added().retain(|known| known.place != sensor.place);
                self.added().push(sensor.clone());
            }
        }
        for input in &parts.inputs {
            let line = self.lines.line(&lines::line_key(&input.line));
            if line.physical().is_none() {
                drive(&line, input, false, self.clock.now());
            }
        }
    }

    /// The adapter is unplugged in the middle of whatever it does, which then never ends, and another takes its path.
    fn replug(&self, path: &Path) {
        let (number, gone) = self.numbered(path);
        gone.unplug();
        self.buses().insert(path.to_owned(), (number + 1, self.new_bus(path)));
    }

    /// Brings an input (by index) to a logical level. A configuration may use its line as an output too: that is then the
    /// stronger.
    fn drive_input(&self, input: usize, on: bool, at: Instant) {
        let input = &self.parts.inputs[input];
        drive(&self.lines.line(&lines::line_key(&input.line)), input, on, at);
    }

    fn set_fault(&self, place: &Place, fault: Option<Fault>) {
        match place {
            Place::Sensor(index) => {
                let place = &self.parts.sensors[*index].place;
                self.bus(&place.bus).set_fault(Some(place.address), fault);
            }
            Place::Bus(path) => self.bus(path).set_fault(None, fault),
        }
    }

    fn player(&self) -> MutexGuard<'_, Player> {
        self.player.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due by `now` and returns when the next deed is due.
    fn play(&self, now: Instant) -> Option<Instant> {
        let mut player = self.player();
        while let Some((due, act)) = player.take(now.since(self.start)) {
            self.act(act, self.start + due);
        }
        player.due().map(|due| self.start + due)
    }

    fn act(&self, act: &Act, at: Instant) {
        match act {
            Act::Fault(place, fault) => self.set_fault(place, *fault),
            Act::Replug(path) => self.replug(path),
            Act::Level(input, on) => self.drive_input(*input, *on, at),
            // The player has gone back to the first deed; the air is a function of time.
            Act::StartOver => {}
        }
    }
}

fn add_chip(bus: &SimulatedBus, sensor: &SimulatedSensor) {
    match chips::model(sensor.driver) {
        Some(chip) => bus.add(sensor.place.address, chip),
        None => log::warn!(driver = sensor.driver; "no model of this chip, nobody answers in its place"),
    }
}

fn drive(line: &lines::Line, input: &SimulatedInput, on: bool, at: Instant) {
    let high = on == (input.active == Active::High);
    if let Err(failure) = line.drive(high, at) {
        log::debug!(failure:%; "simulated input does not move");
    }
}

impl Sky {
    /// The air at a place; still air where there is no sensor.
    fn weather(&self, place: &I2cPlace) -> Weather {
        self.places.get(place).map_or(air::STILL, |sensor| self.at(*sensor))
    }

    fn at(&self, sensor: usize) -> Weather {
        let fixed = self.fixed.lock().unwrap_or_else(PoisonError::into_inner)[sensor];
        let elapsed = self.clock.now().since(self.start);
        fixed.unwrap_or_else(|| match &self.air {
            Some(tracks) => tracks[sensor].at(self.in_lap(elapsed)),
            None => air::flight(elapsed, sensor),
        })
    }

    fn in_lap(&self, elapsed: Duration) -> Duration {
        let Some(repeat) = self.repeat else { return elapsed };
        Duration::from_nanos((elapsed.as_nanos() % repeat.as_nanos().max(1)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::line::Level;
    use crate::sample::Reason;
    use embedded_hal::i2c::I2c;
    use std::os::fd::AsRawFd;

    const BUS: &str = "/dev/i2c-1";

    fn place(address: u8) -> I2cPlace {
        I2cPlace { bus: BUS.into(), address }
    }

    fn parts() -> Parts {
        let sensor =
            |name: &str, address| SimulatedSensor { name: name.into(), place: place(address), driver: "bmp280" };
        let line = LineId::Name("GPIO27".into());
        let door = SimulatedInput { name: "door".into(), line, active: Active::Low };
        Parts { sensors: vec![sensor("barometer", 0x76), sensor("roof", 0x77)], inputs: vec![door] }
    }

    fn by_hand(script: Option<&str>) -> (Simulated, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Instant::from_nanos(1_000)));
        let script = script.map(|text| Script::parse(text, Path::new("flight.toml")).expect("a script"));
        (Simulated::by_hand(parts(), script, None, clock.clone()).expect("a board"), clock)
    }

    fn pass(board: &Simulated, clock: &ManualClock, seconds: u64) {
        clock.advance(Duration::from_secs(seconds));
        board.control().advance(clock.now());
    }

    /// The chip's identity, or why there is none.
    fn identity(board: &Simulated, address: u8) -> Result<u8, Reason> {
        let mut id = [0];
        let mut bus = board.i2c(&place(address), Duration::from_secs(1)).expect("a bus");
        bus.write_read(address, &[0xD0], &mut id).map(|()| id[0]).map_err(|fault| fault.0.reason)
    }

    #[test]
    fn every_sensor_finds_its_chip_and_nobody_else_answers() {
        let (board, _) = by_hand(None);
        assert_eq!([identity(&board, 0x76), identity(&board, 0x77)], [Ok(0x58), Ok(0x58)]);
        assert_eq!(identity(&board, 0x40), Err(Reason::Nack));
        assert_eq!(board.kind(), "simulated");
    }

    #[test]
    fn faults_come_and_go_with_the_script_and_by_hand() {
        let text = "[[step]]\nat = \"10s\"\nsensor = \"roof\"\nfault = \"nack\"\nlasts = \"5s\"";
        let (board, clock) = by_hand(Some(text));
        pass(&board, &clock, 9);
        assert_eq!(identity(&board, 0x77), Ok(0x58));
        pass(&board, &clock, 1);
        assert_eq!([identity(&board, 0x76), identity(&board, 0x77)], [Ok(0x58), Err(Reason::Nack)]);
        pass(&board, &clock, 5);
        assert_eq!(identity(&board, 0x77), Ok(0x58));
        let control = board.control();
        control.set_bus_fault(Path::new(BUS), Some(Fault::Nack));
        assert_eq!(identity(&board, 0x76), Err(Reason::Nack));
        control.set_bus_fault(Path::new(BUS), None);
        control.set_fault("barometer", Some(Fault::Nack)).expect("a sensor");
        assert_eq!([identity(&board, 0x76), identity(&board, 0x77)], [Err(Reason::Nack), Ok(0x58)]);
        assert_eq!(control.set_fault("cellar", None).expect_err("no such sensor").reason, Reason::Absent);
    }

    #[test]
    fn what_is_open_on_an_adapter_hangs_for_ever_when_another_takes_its_path() {
        let (board, clock) = by_hand(Some("[[step]]\nat = \"10s\"\nbus = \"/dev/i2c-1\"\nfault = \"replugged\""));
        let adapter = || board.adapter(Path::new(BUS)).expect("an adapter");
        let first = adapter();
        let mut open = board.i2c(&place(0x76), Duration::from_secs(1)).expect("a bus");
        pass(&board, &clock, 10);
        assert_ne!(adapter(), first);
        // Its thread ends with this process.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(open.write(0x76, &[0xD0]).is_ok()));
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "it must not return");
        assert_eq!([identity(&board, 0x76), identity(&board, 0x77)], [Ok(0x58), Ok(0x58)]);
        assert_ne!(adapter(), board.adapter(Path::new("/dev/i2c-2")).expect("an adapter"));
    }

    #[test]
    fn a_fault_set_by_hand_outlives_the_laps_of_the_flight() {
        let (board, clock) = by_hand(None);
        board.control().set_fault("roof", Some(Fault::Nack)).expect("a sensor");
        pass(&board, &clock, 1_000);
        assert_eq!(identity(&board, 0x77), Err(Reason::Nack));
    }

    #[test]
    fn the_air_follows_the_script_lap_after_lap_until_a_test_takes_over() {
        let text = "repeat = \"1m\"\n[[step]]\nat = \"0s\"\nsensor = \"roof\"\ntemperature = 30\nover = \"20s\"";
        let (board, clock) = by_hand(Some(text));
        let control = board.control();
        let mut temperatures = Vec::new();
        for _ in 0..5 {
            temperatures.push(control.weather("roof").expect("a sensor").temperature_c);
            clock.advance(Duration::from_secs(15));
        }
        assert_eq!(temperatures, [20.0, 27.5, 30.0, 30.0, 20.0]);
        let storm = Weather { pressure_hpa: 950.0, temperature_c: -5.0, humidity_percent: 99.0 };
        control.set_weather("roof", Some(storm)).expect("a sensor");
        assert_eq!((control.weather("roof"), control.weather("barometer")), (Ok(storm), Ok(air::STILL)));
        control.set_weather("roof", None).expect("a sensor");
        assert_ne!(control.weather("roof"), Ok(storm));
    }

    #[test]
    fn inputs_follow_the_script_with_the_time_each_edge_was_due() {
        let text = "[[step]]\nat = \"5s\"\ninput = \"door\"\nlevel = \"ON\"\nbounces = 1";
        let (board, clock) = by_hand(Some(text));
        let line = LineId::Name("GPIO27".into());
        let mut input = board.input(&line, Active::Low, Bias::PullUp, Edges::Both).expect("a line");
        assert!(!input.is_active().expect("a level"), "an input starts OFF");
        pass(&board, &clock, 60);
        let mut edges = Vec::new();
        input.edges(&mut edges).expect("edges");
        let got: Vec<(bool, u64)> = edges.iter().map(|edge| (edge.active, edge.at.as_nanos() / 1_000)).collect();
        assert_eq!(got, [(true, 5_000_001), (false, 5_001_001), (true, 5_002_001)]);
        board.control().set_input("door", false).expect("an input");
        assert!(!input.is_active().expect("a level"));
        assert_eq!(board.control().is_high("GPIO27"), Some(true));
    }

    #[test]
    fn what_a_script_begins_with_is_so_before_anybody_reads() {
        let script = "[[step]]\nat = \"0s\"\nsensor = \"barometer\"\nfault = \"nack\"\n";
        let script = Script::parse(script, Path::new("flight.toml")).expect("a script");
        // No time passes, and no thread is needed for it.
        let clock = Arc::new(ManualClock::new(Instant::from_nanos(1_000)));
        let board = Simulated::new(parts(), Some(script), None, clock).expect("a board");
        assert!(board._thread.is_none());
        assert_eq!(identity(&board, 0x76), Err(Reason::Nack));
    }

    #[test]
    fn the_trace_has_every_write_with_the_initial_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace.log");
        let trace = Trace::open(path.to_str().expect("text")).expect("a trace");
        let clock = Arc::new(ManualClock::new(Instant::from_nanos(5)));
        let board = Simulated::by_hand(parts(), None, Some(trace), clock.clone()).expect("a board");
        let line = LineId::Offset { chip: "/dev/gpiochip0".into(), offset: 4 };
        let drive = Drive::Switch { line, active: Active::Low };
        let mut output = board.output(&drive, Initial::Level(Level::OFF)).expect("a line");
        clock.advance(Duration::from_nanos(2));
        output.set(Level::ON).expect("a level");
        drop(output);
        let kept = board.output(&drive, Initial::Keep).expect("a line");
        board.control().fail_output("gpiochip0:4", true);
        drop(kept);
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "5 /dev/gpiochip0:4 1\n7 /dev/gpiochip0:4 0\n");
        let control = board.control();
        assert_eq!((control.requests("gpiochip0:4"), control.writes("gpiochip0:4")), (2, 2));
        assert_eq!((control.is_high("gpiochip0:4"), control.is_high("GPIO9")), (Some(false), None));
        assert_eq!(control.lost_in_trace(), 0);
    }

    #[test]
    fn in_real_time_a_thread_plays_the_script_and_ends_with_the_board() {
        let text = "[[step]]\nat = \"20ms\"\ninput = \"door\"\nlevel = \"ON\"\n\
                    [[step]]\nat = \"1h\"\ninput = \"door\"\nlevel = \"OFF\"";
        let script = Script::parse(text, Path::new("flight.toml")).expect("a script");
        let board = Simulated::new(parts(), Some(script), None, Arc::new(SystemClock)).expect("a board");
        let mut input =
            board.input(&LineId::Name("GPIO27".into()), Active::Low, Bias::PullUp, Edges::Both).expect("a line");
        let mut poll = libc::pollfd { fd: input.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd for the duration of the call.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 10_000) }, 1, "the edge comes");
        let mut edges = Vec::new();
        input.edges(&mut edges).expect("edges");
        assert!(edges.len() == 1 && edges[0].active);
        let world = Arc::downgrade(&board.world);
        drop(board);
        assert!(world.upgrade().is_none(), "the thread has let go of the world");
    }

    #[test]
    fn the_air_alone_needs_no_thread() {
        let text = "[[step]]\nat = \"1s\"\nsensor = \"roof\"\nhumidity = 3";
        let script = Script::parse(text, Path::new("flight.toml")).expect("a script");
        let board = Simulated::new(parts(), Some(script), None, Arc::new(SystemClock)).expect("a board");
        assert!(board._thread.is_none());
    }
}
