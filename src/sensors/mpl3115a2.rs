//! `mpl3115a2`
use super::{Attach, Attachment, Driver, Options, Sensor};
use crate::sample::{Failure, Reason};
/// The registry entry.
pub const DRIVER: Driver =
    Driver { name: "mpl3115a2", chips: "", accuracy: "", attach: Attach::None, quantities: &[], options: &[], open };
fn open(_: Attachment, _: &Options) -> Result<Box<dyn Sensor>, Failure> {
    Err(Failure::new(Reason::Driver, "not written"))
}
