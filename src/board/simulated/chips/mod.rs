//! Stand-in for the chip models, to be discarded: it answers 0x58 to every read.

/// The air around a chip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// hPa.
    pub pressure_hpa: f64,
    /// °C.
    pub temperature_c: f64,
    /// %.
    pub humidity_percent: f64,
}

/// A chip.
pub trait Chip: Send {
    /// Bytes written to it.
    fn write(&mut self, bytes: &[u8], weather: &Weather);
    /// Bytes read from it.
    fn read(&mut self, into: &mut [u8], weather: &Weather);
    /// Power-on state.
    fn reset(&mut self);
}

struct Stub;

impl Chip for Stub {
    fn write(&mut self, _: &[u8], _: &Weather) {}
    fn read(&mut self, into: &mut [u8], _: &Weather) {
        into.fill(0x58);
    }
    fn reset(&mut self) {}
}

/// The model of a driver's chip.
pub fn model(driver: &str) -> Option<Box<dyn Chip>> {
    (driver != "test-counter").then(|| Box::new(Stub) as Box<dyn Chip>)
}
