//! Any Linux board: I2C by `/dev/i2c-N`, GPIO by the character device, PWM by sysfs.
//!
//! It owns the meaning of errno and the words that go with it. It keeps nothing between calls but the time-out asked of
//! each bus. It detects no board and uses nothing that only one board has; see `raspberry_pi` for that.

mod adapter;
mod gpio;
mod i2c;
mod lines;
mod pwm;
mod transfer;
mod words;

pub(super) use lines::find as find_line;
pub(super) use pwm::{Exported as ExportedPwm, Wanted, open as open_pwm};

use super::{Adapter, Board, Bus, Input, Output};
use crate::clock::Clock;
use crate::line::{Active, Bias, Drive, Edges, I2cPlace, Initial, LineId};
use crate::sample::Failure;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A board driven by the kernel's own interfaces.
pub struct Linux {
    /// `/`, or a folder that stands for it.
    root: PathBuf,
    clock: Arc<dyn Clock>,
    /// The longest deadline asked for on each bus: the kernel has one time-out an adapter, for all its chips.
    timeouts: Mutex<HashMap<PathBuf, Duration>>,
}

impl Linux {
    /// This machine; the clock bounds the wait for PWM channels to appear.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::under(Path::new("/"), clock)
    }

    /// A board whose `/dev`, `/sys`, `/proc` and `/etc` lie under `root`, for tests without hardware.
    ///
    /// An I2C bus and a GPIO chip given by path are opened as given.
    pub fn under(root: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { root: root.to_owned(), clock, timeouts: Mutex::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The longest deadline asked for on `bus` so far: a shorter one would cut off a chip that may take longer.
    fn adapter_timeout(&self, bus: &Path, deadline: Duration) -> Duration {
        let mut timeouts = self.timeouts.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = timeouts.entry(bus.to_owned()).or_default();
        *longest = deadline.max(*longest);
        *longest
    }
}

impl Board for Linux {
    fn kind(&self) -> &'static str {
        "linux"
    }

    fn adapter(&self, bus: &Path) -> Option<Adapter> {
        let file = std::fs::metadata(bus).ok()?;
        Some(Adapter { file: (file.dev(), file.ino()), device: file.rdev() })
    }

    fn i2c(&self, place: &I2cPlace, deadline: Duration) -> Result<Bus, Failure> {
        let timeout = self.adapter_timeout(&place.bus, deadline);
        i2c::Place::open(&self.root, place, timeout).map(Bus::new)
    }

    fn output(&self, drive: &Drive, initial: Initial) -> Result<Box<dyn Output>, Failure> {
        match drive {
            Drive::Switch { line, active } => gpio::output(&self.root, &find_line(&self.root, line)?, *active, initial),
            Drive::Pwm { channel, frequency_hz, active } => {
                let wanted = Wanted { frequency_hz: *frequency_hz, active: *active, initial };
                open_pwm(&self.root, &*self.clock, channel, wanted)
            }
        }
    }

    fn input(&self, line: &LineId, active: Active, bias: Bias, edges: Edges) -> Result<Box<dyn Input>, Failure> {
        gpio::input(&self.root, &find_line(&self.root, line)?, active, bias, edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::line::Level;
    use crate::sample::Reason;

    fn empty_board() -> (tempfile::TempDir, Linux) {
        let root = tempfile::tempdir().expect("a folder");
        let board = Linux::under(root.path(), Arc::new(ManualClock::default()));
        (root, board)
    }

    #[test]
    fn a_board_without_anything_fails_with_remedies_and_never_panics() {
        let (root, board) = empty_board();
        let place = I2cPlace { bus: root.path().join("dev/i2c-1"), address: 0x76 };
        let line = LineId::Offset { chip: "gpiochip0".into(), offset: 17 };
        let bus = board.i2c(&place, Duration::from_secs(1)).err().expect("no bus");
        let output =
            board.output(&Drive::Switch { line: line.clone(), active: Active::High }, Initial::Level(Level::OFF));
        let input = board.input(&line, Active::Low, Bias::PullUp, Edges::Both);
        let failures = [bus, output.err().expect("no line"), input.err().expect("no line")];
        for failure in failures {
            assert_eq!(failure.reason, Reason::Absent, "{failure}");
        }
    }

    #[test]
    fn an_adapter_plugged_again_is_another_one() {
        let (root, board) = empty_board();
        let bus = root.path().join("i2c-7");
        assert_eq!(board.adapter(&bus), None);
        std::fs::write(&bus, b"").expect("a file");
        let first = board.adapter(&bus).expect("an adapter");
        assert_eq!(board.adapter(&bus), Some(first), "it stays the same");
        // Made beside it, so that the file system cannot give the number away again.
        let second = root.path().join("i2c-8");
        std::fs::write(&second, b"").expect("a file");
        std::fs::rename(&second, &bus).expect("in its place");
        assert!(board.adapter(&bus).is_some_and(|now| now != first));
    }

    #[test]
    fn an_adapter_gets_the_longest_deadline_of_its_chips() {
        let (_root, board) = empty_board();
        let ms = Duration::from_millis;
        let asked = [100, 500, 200].map(|deadline| board.adapter_timeout(Path::new("/dev/i2c-1"), ms(deadline)));
        assert_eq!(asked, [ms(100), ms(500), ms(500)]);
        assert_eq!(board.adapter_timeout(Path::new("/dev/i2c-2"), ms(50)), ms(50));
    }
}
