//! `test-counter`: a diagnostic sensor without hardware, whose k-th successful read is k.
//!
//! It lets a test or a benchmark tell lost, late, doubled and reordered readings.

use super::{Attach, Attachment, Driver, Options, Sensor};
use crate::quantity::Quantity;
use crate::sample::{Failure, Sample, Values};

/// The registry entry.
pub const DRIVER: Driver = Driver {
    name: "test-counter",
    chips: "none: a built-in diagnostic",
    accuracy: "exact: the k-th read is k",
    attach: Attach::None,
    quantities: &[Quantity::Count],
    options: &[],
    open,
};

struct TestCounter {
    reads: u64,
}

fn open(_: Attachment, _: &Options) -> Result<Box<dyn Sensor>, Failure> {
    Ok(Box::new(TestCounter { reads: 0 }))
}

impl Sensor for TestCounter {
    fn read(&mut self) -> Sample {
        self.reads += 1;
        Ok(Values::new().with(Quantity::Count, self.reads as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kth_read_is_k() {
        let mut sensor = open(Attachment::None, &Options::default()).expect("always opens");
        for k in 1..=3 {
            assert_eq!(sensor.read().expect("always reads").get(Quantity::Count), Some(f64::from(k)));
        }
    }
}
