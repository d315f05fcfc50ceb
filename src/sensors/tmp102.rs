//! `tmp102`
use super::{Attach, Attachment, Driver, Options, Sensor};
use crate::quantity::Quantity;
use crate::sample::{Failure, Reason};
/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "tmp102",
    chips: "",
    accuracy: "",
    attach: Attach::I2c(&[0x48, 0x49, 0x4a, 0x4b]),
    quantities: &[Quantity::Temperature],
    options: &[],
    open,
};
fn open(_: Attachment, _: &Options) -> Result<Box<dyn Sensor>, Failure> {
    Err(Failure::new(Reason::Driver, "not written"))
}
