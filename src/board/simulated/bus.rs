//! Stand-in for the simulated bus, to be discarded.

use super::chips::{Chip, Weather};
use crate::board::{Bus, BusFault};
use crate::clock::Clock;
use crate::line::I2cPlace;
use crate::sample::{Failure, Reason};
use embedded_hal::i2c::{ErrorType, I2c, Operation};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers.
    Nack,
    /// Late.
    Slow(Duration),
    /// Never.
    Stuck,
    /// Only this byte.
    Garbage(u8),
    /// Bus error.
    Bus,
    /// Writes are ignored.
    Skipped,
}

/// The weather at a place.
pub type Sense = Arc<dyn Fn(&I2cPlace) -> Weather + Send + Sync>;

#[derive(Default)]
struct State {
    chips: HashMap<u8, Box<dyn Chip>>,
    faults: HashMap<Option<u8>, Fault>,
}

/// A bus.
#[derive(Clone)]
pub struct SimulatedBus {
    path: PathBuf,
    weather: Sense,
    state: Arc<Mutex<State>>,
}

impl SimulatedBus {
    /// An empty bus.
    pub fn new(path: impl Into<PathBuf>, _clock: Arc<dyn Clock>, weather: Sense) -> Self {
        Self { path: path.into(), weather, state: Arc::default() }
    }

    /// Adds a chip.
    pub fn add(&self, address: u8, chip: Box<dyn Chip>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).chips.insert(address, chip);
    }

    /// Sets or clears a fault of an address, or of the whole bus.
    pub fn set_fault(&self, address: Option<u8>, fault: Option<Fault>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => state.faults.insert(address, fault),
            None => state.faults.remove(&address),
        };
    }

    /// Opens it.
    pub fn open(&self) -> Bus {
        Bus::new(self.clone())
    }
}

impl ErrorType for SimulatedBus {
    type Error = BusFault;
}

impl I2c for SimulatedBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusFault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = state.faults.get(&None).or_else(|| state.faults.get(&Some(address))).copied();
        let nack = BusFault(Failure::new(Reason::Nack, "nothing answered"));
        if fault == Some(Fault::Nack) {
            return Err(nack);
        }
        let weather = (self.weather)(&I2cPlace { bus: self.path.clone(), address });
        let chip = state.chips.get_mut(&address).ok_or(nack)?;
        for operation in operations {
            match operation {
                Operation::Read(into) => chip.read(into, &weather),
                Operation::Write(bytes) => chip.write(bytes, &weather),
            }
        }
        Ok(())
    }
}
