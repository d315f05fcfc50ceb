//! `bme280`
use super::{Attach, Attachment, Driver, Options, Sensor};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason};
/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "bme280",
    chips: "",
    accuracy: "",
    attach: Attach::I2c(&[0x76, 0x77]),
    quantities: &[Quantity::Temperature, Quantity::Pressure, Quantity::Humidity],
    options: &[],
    open,
};
fn open(_: Attachment, _: &Options) -> Result<Box<dyn Sensor>, Failure> {
    Err(Failure::new(Reason::Driver, "not written"))
}
