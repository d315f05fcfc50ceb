//! `mpl3115a2`
use super::{Attach, Attachment, Driver, Options, Sensor};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason};
/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "mpl3115a2",
    chips: "",
    accuracy: "",
    attach: Attach::I2c(&[0x60]),
    quantities: &[Quantity::Pressure, Quantity::Temperature],
    options: &[],
    open,
};
fn open(_: Attachment, _: &Options) -> Result<Box<dyn Sensor>, Failure> {
    Err(Failure::new(Reason::Driver, "not written"))
}
