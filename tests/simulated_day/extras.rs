//! What another configuration of the house has besides: put before everything else, so that every place in it is another one.
//!
//! Nobody accounts for the extras themselves; they must neither disturb the rest nor leave anything behind.

use super::Day;
use crate::support::rig::Rig;
use board2mqtt::board::simulated::{Parts, SimulatedSensor};
use board2mqtt::line::I2cPlace;
use std::path::{Path, PathBuf};

/// The line of the extra output.
pub const LINE: &str = "EXTRA";
const PLACE: (&str, u8) = ("/dev/i2c-3", 0x4b);
const TABLES: &str = r#"
[sensors.extra_counter]
driver = "test-counter"
interval = "7s"

[sensors.extra_chip]
driver = "tmp117"
bus = "/dev/i2c-3"
address = 0x4b
interval = "3s"

[inputs.extra_input]
line = "EXTRA_INPUT"

[outputs.extra]
line = "EXTRA"
follow = { topic = "sensors/drone01/altitude", unit = "m", on_above = 100, off_below = 90, stale_after = "1m" }
require = { reading = "extra_chip.temperature", below = 90, stale_after = "30s" }

"#;

/// Two configurations.
pub struct Extras {
    pub are_there: bool,
    pub reloads: usize,
    with: PathBuf,
    without: PathBuf,
    _folder: tempfile::TempDir,
}

impl Extras {
    pub fn new(rig: &Rig) -> Self {
        let without = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulated_day/configuration.toml");
        let text = std::fs::read_to_string(&without).expect("the configuration");
        let (head, parts) = text.split_at(text.find("[sensors.").expect("sensors"));
        let folder = tempfile::tempdir().expect("a folder");
        let with = folder.path().join("with.toml");
        std::fs::write(&with, format!("{head}{TABLES}{parts}")).expect("the other configuration");
        let place = I2cPlace { bus: PLACE.0.into(), address: PLACE.1 };
        let chip = SimulatedSensor { name: "extra_chip".into(), place, driver: "tmp117" };
        rig.control.extend(&Parts { sensors: vec![chip], inputs: Vec::new() });
        Self { are_there: false, reloads: 0, with, without, _folder: folder }
    }
}

impl Day {
    /// The other configuration is taken up, or the same one once more.
    pub fn reload(&mut self) {
        if self.random.u8(0..4) > 0 {
            self.extras.are_there = !self.extras.are_there;
        }
        self.extras.reloads += 1;
        let configuration = if self.extras.are_there { &self.extras.with } else { &self.extras.without };
        self.rig.reload(&configuration.clone());
        self.watch();
    }

    /// Everything is as it was at first.
    pub fn without_extras(&mut self) {
        while self.extras.are_there {
            self.reload();
        }
    }
}
