//! A simulated I2C bus: models of chips at their addresses, and faults that can be set and lifted while it runs.
//!
//! Transfers are serial, as on a wire: one that is slow or stuck keeps the next one waiting. Invariants: setting and
//! lifting a fault never waits for a transfer; a stuck transfer sleeps until it is let go; the weather is asked for while
//! nothing is locked that a fault needs.

use super::chips::{Chip, Weather};
use crate::board::{Bus, BusFault};
use crate::clock::Clock;
use crate::line::I2cPlace;
use crate::sample::{Failure, Reason};
use embedded_hal::i2c::{ErrorType, I2c, Operation};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is wrong with a bus or with one chip on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers.
    Nack,
    /// The transfer blocks for this long, then goes on (clock stretching).
    Slow(Duration),
    /// The transfer blocks until the fault is lifted or replaced, then fails as a time-out.
    Stuck,
    /// Every byte read is this.
    Garbage(u8),
    /// Arbitration is lost at once.
    Bus,
    /// The driver panics: whoever transfers does.
    Panic,
    /// The data registers read the pattern of a skipped measurement, identities and settings stay right.
    Skipped,
}

/// What the chip at a place senses now.
pub type Sense = Arc<dyn Fn(&I2cPlace) -> Weather + Send + Sync>;

/// A handle to one simulated bus; clones share it.
#[derive(Clone)]
pub struct SimulatedBus(Arc<Shared>);

struct Shared {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    sense: Sense,
    /// The wire: held for a whole transfer.
    wire: Mutex<()>,
    /// Held for moments only.
    state: Mutex<State>,
    /// Signalled whenever a fault is set or lifted.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chips: BTreeMap<u8, Box<dyn Chip>>,
    /// By address; `None` is the whole bus. The number tells one setting of a fault from the next.
    faults: BTreeMap<Option<u8>, (u64, Fault)>,
    settings: u64,
    /// Every transfer hangs for ever.
    unplugged: bool,
}

impl State {
    /// The fault a transfer to `address` meets: the whole bus's before the chip's own.
    fn fault(&self, address: u8) -> Option<(u64, Fault)> {
        if self.unplugged {
            return Some((self.settings, Fault::Stuck));
        }
        self.faults.get(&None).or_else(|| self.faults.get(&Some(address))).copied()
    }
}

impl SimulatedBus {
    /// An empty bus whose device file would be `path`.
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>, sense: Sense) -> Self {
        let (wire, state, changed) = (Mutex::default(), Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { path: path.into(), clock, sense, wire, state, changed }))
    }

    /// Puts a chip at `address`, in place of the one there.
    pub fn add(&self, address: u8, chip: Box<dyn Chip>) {
        self.state().chips.insert(address, chip);
    }

    /// Takes the chip at `address` off the bus.
    pub fn remove(&self, address: u8) {
        self.state().chips.remove(&address);
    }

    /// Takes the chip's power away and gives it back; its settings are those of the start.
    pub fn power_cycle(&self, address: u8) {
        if let Some(chip) = self.state().chips.get_mut(&address) {
            chip.reset();
        }
    }

    /// Sets or, with `None`, lifts the fault of the chip at `address`, or with no address that of the whole bus.
    ///
    /// Never waits for a transfer; a stuck one ends.
    pub fn set_fault(&self, address: Option<u8>, fault: Option<Fault>) {
        let mut state = self.state();
        state.settings += 1;
        let setting = state.settings;
        match fault {
            Some(fault) => drop(state.faults.insert(address, (setting, fault))),
            None => drop(state.faults.remove(&address)),
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Whatever is being transferred, or ever will be, hangs: its adapter is gone.
    pub fn unplug(&self) {
        self.state().unplugged = true;
    }

    /// Opens the bus; transfers may go to any address.
    pub fn open(&self) -> Bus {
        Bus::new(self.clone())
    }

    /// A model that panicked has left nothing here half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while this setting of a fault lasts.
    fn wait_until_lifted(&self, address: u8, setting: u64) {
        let lasts =
            |state: &mut State| state.unplugged || state.fault(address).is_some_and(|(current, _)| current == setting);
        drop(self.0.changed.wait_while(self.state(), lasts).unwrap_or_else(PoisonError::into_inner));
    }

    /// Lives through the fault of the moment; the one that then shapes the answer, if it goes on.
    fn meet_fault(&self, place: &I2cPlace) -> Result<Option<Fault>, BusFault> {
        let met = self.state().fault(place.address);
        let fault = |reason, detail: String| Err(BusFault(Failure::new(reason, detail)));
        match met {
            Some((_, Fault::Nack)) => fault(Reason::Nack, format!("nobody answers at {place}")),
            Some((_, Fault::Panic)) => panic!("a transfer to {place}, as the simulation was told"),
            Some((_, Fault::Bus)) => fault(Reason::Bus, format!("arbitration lost in a transfer to {place}")),
            Some((setting, Fault::Stuck)) => {
                self.wait_until_lifted(place.address, setting);
                fault(Reason::Timeout, format!("the bus was stuck in a transfer to {place}"))
            }
            Some((_, Fault::Slow(duration))) => {
                self.0.clock.sleep(duration);
                Ok(None)
            }
            other => Ok(other.map(|(_, fault)| fault)),
        }
    }
}

impl ErrorType for SimulatedBus {
    type Error = BusFault;
}

impl I2c for SimulatedBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusFault> {
        let place = I2cPlace { bus: self.0.path.clone(), address };
        let _wire = self.0.wire.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = self.meet_fault(&place)?;
        let weather = (self.0.sense)(&place);
        let mut state = self.state();
        let Some(chip) = state.chips.get_mut(&address) else {
            return Err(BusFault(Failure::new(Reason::Nack, format!("nobody answers at {place}"))));
        };
        chip.skip(fault == Some(Fault::Skipped));
        transfer(chip.as_mut(), operations, &weather);
        if let Some(Fault::Garbage(byte)) = fault {
            for operation in operations {
                if let Operation::Read(into) = operation {
                    into.fill(byte);
                }
            }
        }
        Ok(())
    }
}

/// Plays the operations to the chip; neighbours of one kind are one transfer, as `embedded-hal` says.
fn transfer(chip: &mut dyn Chip, operations: &mut [Operation<'_>], weather: &Weather) {
    let is_read = |operation: &Operation<'_>| matches!(operation, Operation::Read(_));
    for run in operations.chunk_by_mut(|a, b| is_read(a) == is_read(b)) {
        let mut written = Vec::new();
        let mut length = 0;
        for operation in run.iter() {
            match operation {
                Operation::Write(bytes) => written.extend_from_slice(bytes),
                Operation::Read(into) => length += into.len(),
            }
        }
        if run.first().is_some_and(|first| !is_read(first)) {
            chip.write(&written, weather);
            continue;
        }
        let mut answer = vec![0; length];
        chip.read(&mut answer, weather);
        let mut rest = answer.as_slice();
        for operation in run {
            if let Operation::Read(into) = operation {
                let (now, later) = rest.split_at(into.len());
                into.copy_from_slice(now);
                rest = later;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::simulated::chips::model;
    use crate::clock::{Instant, ManualClock};
    use std::sync::mpsc;
    use std::thread;

    const CALM: Weather = Weather { pressure_hpa: 1013.25, temperature_c: 25.0, humidity_percent: 40.0 };

    /// A bus with an LM75 at 0x48 and a TMP117 at 0x49 that is ten degrees warmer.
    fn bus() -> (SimulatedBus, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Instant::default()));
        let sense: Sense = Arc::new(|place| {
            let warmer = f64::from(place.address - 0x48) * 10.0;
            Weather { temperature_c: CALM.temperature_c + warmer, ..CALM }
        });
        let bus = SimulatedBus::new("/dev/i2c-1", clock.clone(), sense);
        bus.add(0x48, model("lm75").expect("a model"));
        bus.add(0x49, model("tmp117").expect("a model"));
        (bus, clock)
    }

    fn read(bus: &SimulatedBus, address: u8) -> Result<[u8; 2], Reason> {
        let mut bytes = [0; 2];
        match bus.open().write_read(address, &[0], &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(BusFault(failure)) => Err(failure.reason),
        }
    }

    #[test]
    fn each_place_has_its_chip_and_its_weather() {
        let (bus, _) = bus();
        assert_eq!(read(&bus, 0x48), Ok([0x19, 0x00]));
        assert_eq!(read(&bus, 0x49), Ok([0x11, 0x80]));
        assert_eq!(read(&bus, 0x4a), Err(Reason::Nack));
        bus.remove(0x48);
        assert_eq!(read(&bus, 0x48), Err(Reason::Nack));
        assert_eq!(bus.open().write(0x49, &[]), Ok(()), "an empty write finds a chip");
    }

    #[test]
    fn neighbouring_operations_are_one_transfer() {
        let (bus, _) = bus();
        let (mut high, mut low) = ([0], [0]);
        let mut operations = [
            Operation::Write(&[1]),
            Operation::Write(&[0x06]),
            Operation::Write(&[0x20]),
            Operation::Read(&mut high),
            Operation::Read(&mut low),
        ];
        bus.open().transaction(0x49, &mut operations).expect("no fault");
        assert_eq!([high[0] & 0x0f, low[0]], [0x06, 0x20], "two bytes were written as one register, and read back");
    }

    #[test]
    fn faults_are_the_chips_or_the_whole_buss_and_can_be_lifted() {
        let (bus, _) = bus();
        bus.set_fault(Some(0x48), Some(Fault::Nack));
        assert_eq!((read(&bus, 0x48), read(&bus, 0x49)), (Err(Reason::Nack), Ok([0x11, 0x80])));
        bus.set_fault(None, Some(Fault::Bus));
        assert_eq!((read(&bus, 0x48), read(&bus, 0x49)), (Err(Reason::Bus), Err(Reason::Bus)));
        bus.set_fault(None, Some(Fault::Garbage(0xff)));
        assert_eq!(read(&bus, 0x49), Ok([0xff, 0xff]));
        bus.set_fault(None, None);
        assert_eq!((read(&bus, 0x48), read(&bus, 0x49)), (Err(Reason::Nack), Ok([0x11, 0x80])));
        bus.set_fault(Some(0x48), None);
        bus.set_fault(Some(0x49), Some(Fault::Skipped));
        assert_eq!((read(&bus, 0x48), read(&bus, 0x49)), (Ok([0x19, 0x00]), Ok([0x80, 0x00])));
        bus.set_fault(Some(0x49), None);
        assert_eq!(read(&bus, 0x49), Ok([0x11, 0x80]));
    }

    #[test]
    fn a_slow_transfer_takes_its_time_on_the_injected_clock() {
        let (bus, clock) = bus();
        bus.set_fault(None, Some(Fault::Slow(Duration::from_secs(3))));
        assert_eq!(read(&bus, 0x48), Ok([0x19, 0x00]));
        assert_eq!(clock.now().since(Instant::default()), Duration::from_secs(3));
    }

    #[test]
    fn a_power_cycle_forgets_the_settings() {
        let (bus, _) = bus();
        bus.open().write(0x48, &[1, 0x60]).expect("no fault");
        bus.power_cycle(0x48);
        let mut configuration = [0xff];
        bus.open().write_read(0x48, &[1], &mut configuration).expect("no fault");
        assert_eq!(configuration, [0x00]);
    }

    #[test]
    fn a_stuck_transfer_waits_for_the_fault_to_be_lifted_and_blocks_only_its_bus() {
        let (bus, _) = bus();
        let (other, _) = self::bus();
        bus.set_fault(Some(0x48), Some(Fault::Stuck));
        let (sender, receiver) = mpsc::channel();
        let stuck = bus.clone();
        let thread = thread::spawn(move || sender.send(read(&stuck, 0x48)));
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "it must not return while stuck");
        assert_eq!(read(&other, 0x48), Ok([0x19, 0x00]));
        // Another fault elsewhere does not free it; lifting its own does.
        bus.set_fault(Some(0x49), Some(Fault::Nack));
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        bus.set_fault(Some(0x48), None);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(Err(Reason::Timeout)));
        thread.join().expect("no panic").expect("the receiver lives");
        assert_eq!(read(&bus, 0x48), Ok([0x19, 0x00]));
    }

    #[test]
    fn the_weather_may_set_faults_itself() {
        let slot: Arc<Mutex<Option<SimulatedBus>>> = Arc::default();
        let script = slot.clone();
        let sense: Sense = Arc::new(move |_| {
            let bus = script.lock().expect("no panic").clone().expect("set below");
            bus.set_fault(None, Some(Fault::Nack));
            CALM
        });
        let bus = SimulatedBus::new("/dev/i2c-1", Arc::new(ManualClock::default()), sense);
        *slot.lock().expect("no panic") = Some(bus.clone());
        bus.add(0x48, model("lm75").expect("a model"));
        assert_eq!(read(&bus, 0x48), Ok([0x19, 0x00]));
        assert_eq!(read(&bus, 0x48), Err(Reason::Nack));
    }
}
