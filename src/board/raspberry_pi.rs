//! What a Raspberry Pi adds to `linux`: PWM by line name, and GPIO by registers where that is asked for, through rppal.
//!
//! rppal is called only where the device tree says `raspberrypi,`: it looks at `/proc/cpuinfo` first and may map
//! `/dev/mem`, which on another board is another board's memory. Whatever it refuses is done by `linux`, with one warning
//! a process. I2C and inputs always go through `linux`: rppal puts a stop between write and read, and edges and
//! ownership are the kernel's. No software PWM. No pin is reset when its output is dropped.
//!
//! rppal keeps its mapped registers and a table of taken pins for the whole process, shared by all boards opened here;
//! it reserves no line in the kernel, so whether a line is free is asked of the character device first, and `gpioinfo`
//! does not show lines driven by registers.

use super::linux::{self, ExportedPwm, Linux, Wanted};
use super::model::{self, Model};
use super::{Adapter, Board, Bus, Input, Output, pinctrl};
use crate::clock::Clock;
use crate::line::{Active, Bias, Drive, Edges, I2cPlace, Initial, Level, LineId, PwmId};
use crate::sample::{Failure, Reason};
use rppal::gpio::{Gpio, Mode, OutputPin};
use rppal::pwm::{Polarity, Pwm};
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

/// The lines with a hardware PWM channel.
const PWM_LINES: [u8; 4] = [12, 13, 18, 19];

/// Which chip has the PWM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// BCM2835 to BCM2711, models 1 to 4 and Zero: two channels, each on two lines.
    Bcm,
    /// Models with the RP1, 5 and later: four channels.
    Rp1,
}

/// A Raspberry Pi.
pub struct RaspberryPi {
    linux: Linux,
    /// `None` on any other board.
    family: Option<Family>,
    /// Whether outputs are driven by registers.
    gpio_by_registers: bool,
    /// False under a folder that stands for `/`: rppal knows only the real one.
    rppal: bool,
}

/// The board for `kind = "auto"`: GPIO by the character device everywhere, PWM through rppal on a Raspberry Pi.
pub fn auto(clock: Arc<dyn Clock>) -> Arc<dyn Board> {
    let root = Path::new("/");
    match detect(root) {
        Some(_) => Arc::new(RaspberryPi::under(root, clock, false)),
        None => Arc::new(Linux::new(clock)),
    }
}

impl RaspberryPi {
    /// The board for `kind = "raspberry-pi"`: outputs by registers too. On any other board it is `linux` with a warning.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let board = Self::under(Path::new("/"), clock, true);
        if board.family.is_none() {
            warn_once(&"the device tree names no Raspberry Pi");
        }
        board
    }

    fn under(root: &Path, clock: Arc<dyn Clock>, gpio_by_registers: bool) -> Self {
        let rppal = root == Path::new("/");
        Self { linux: Linux::under(root, clock), family: detect(root), gpio_by_registers, rppal }
    }

    /// The output by registers; `None` where the character device must do it.
    fn register_output(
        &self,
        line: &LineId,
        active: Active,
        initial: Initial,
    ) -> Result<Option<Box<dyn Output>>, Failure> {
        let LineId::Name(name) = line else { return Ok(None) };
        let (true, true, Some(_), Some(pin)) = (self.rppal, self.gpio_by_registers, self.family, bcm(name)) else {
            return Ok(None);
        };
        if let Some(busy) =
            linux::find_line(self.linux.root(), line).ok().and_then(|found| found.held(self.linux.root()))
        {
            return Err(busy);
        }
        match RegisterOutput::open(pin, active, initial) {
            Ok(output) => Ok(Some(Box::new(output))),
            Err(rppal::gpio::Error::PinUsed(_)) => {
                Err(Failure::new(Reason::Busy, format!("{name} is already an output of this program")))
            }
            Err(error) => {
                warn_once(&error);
                Ok(None)
            }
        }
    }

    /// PWM on a named line.
    ///
    /// rppal switches a channel off when it opens it, so one that runs is taken over through sysfs, and so is one to be kept.
    fn line_pwm(&self, family: Family, line: &str, wanted: Wanted) -> Result<Box<dyn Output>, Failure> {
        let channel = channel_of(family, line)?;
        let root = self.linux.root();
        let number = pwm_chip(root, family).ok_or_else(|| no_pwm(root, line, None))?;
        let chip = format!("pwmchip{number}");
        let led_to = pinctrl::lines_of(&root.join("sys/class/pwm").join(&chip)).filter(|_| family == Family::Bcm);
        if let Some(lines) = led_to.filter(|lines| !lines.iter().any(|led_to| bcm(line) == Some(*led_to))) {
            return Err(no_pwm(root, line, Some(&lines)));
        }
        let id = PwmId::Channel { chip, channel: u32::from(channel) };
        let exported = ExportedPwm::new(root, self.linux.clock(), &id)?;
        if let (true, Initial::Level(level), false) = (self.rppal, wanted.initial, exported.is_running()?) {
            match RppalPwm::open(number, channel, wanted, level) {
                Ok(pwm) => return Ok(Box::new(pwm)),
                Err(error) => warn_once(&error),
            }
        }
        exported.open(wanted)
    }
}

impl Board for RaspberryPi {
    fn kind(&self) -> &'static str {
        match (self.family, self.gpio_by_registers) {
            (None, _) => "linux",
            (Some(_), true) => "raspberry-pi",
            (Some(_), false) => "auto",
        }
    }

    fn adapter(&self, bus: &Path) -> Option<Adapter> {
        self.linux.adapter(bus)
    }

    fn i2c(&self, place: &I2cPlace, deadline: Duration) -> Result<Bus, Failure> {
        self.linux.i2c(place, deadline)
    }

    fn output(&self, drive: &Drive, initial: Initial) -> Result<Box<dyn Output>, Failure> {
        match (drive, self.family) {
            (Drive::Switch { line, active }, _) => match self.register_output(line, *active, initial)? {
                Some(output) => Ok(output),
                None => self.linux.output(drive, initial),
            },
            (Drive::Pwm { channel: PwmId::Line(line), frequency_hz, active }, Some(family)) => {
                self.line_pwm(family, line, Wanted { frequency_hz: *frequency_hz, active: *active, initial })
            }
            _ => self.linux.output(drive, initial),
        }
    }

    fn input(&self, line: &LineId, active: Active, bias: Bias, edges: Edges) -> Result<Box<dyn Input>, Failure> {
        self.linux.input(line, active, bias, edges)
    }
}

fn warn_once(error: &dyn Display) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| log::warn!(error:%; "rppal is not usable here, the kernel's interfaces are used instead"));
}

/// Which Raspberry Pi the device tree describes.
fn detect(root: &Path) -> Option<Family> {
    let compatible = model::compatible(root);
    let is_pi = compatible.iter().any(|entry| entry.starts_with("raspberrypi,"));
    let has_rp1 = compatible.iter().any(|entry| entry == "brcm,bcm2712");
    is_pi.then_some(if has_rp1 { Family::Rp1 } else { Family::Bcm })
}

/// The BCM number in a line's name: `GPIO0` to `GPIO27`, the lines of the header.
fn bcm(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("GPIO")?;
    let number: u8 = digits.parse().ok()?;
    (number <= 27 && number.to_string() == digits).then_some(number)
}

/// The PWM channel behind a line, as rppal's `pwm` documentation and the `pwm` overlays have them.
fn channel_of(family: Family, line: &str) -> Result<u8, Failure> {
    let absent = || {
        let lines = PWM_LINES.map(|line| format!("GPIO{line}")).join(", ");
        Failure::new(Reason::Absent, format!("{line} has no hardware pwm, these lines have: {lines}"))
    };
    let index = bcm(line).and_then(|pin| PWM_LINES.iter().position(|line| *line == pin)).ok_or_else(absent)?;
    Ok(match family {
        Family::Bcm => index as u8 % 2,
        Family::Rp1 => index as u8,
    })
}

/// The number of the sysfs chip behind the header's lines, found by its address in the SoC: it depends on the kernel's
/// version (on a Pi 5 it is 2, since Linux 6.12 0; rppal's own guess is always 2), and other chips (fan, audio) stand beside it.
fn pwm_chip(root: &Path, family: Family) -> Option<u8> {
    let address = match family {
        Family::Bcm => "20c000.pwm",
        Family::Rp1 => "98000.pwm",
    };
    let entries = fs::read_dir(root.join("sys/class/pwm")).ok()?;
    entries.flatten().find_map(|entry| {
        let device = fs::read_link(entry.path().join("device")).ok()?;
        let matches = device.file_name()?.to_str()?.ends_with(address);
        matches.then(|| entry.file_name().to_str()?.strip_prefix("pwmchip")?.parse().ok()).flatten()
    })
}

/// The PWM is not enabled, or the device tree leads it to other lines.
fn no_pwm(root: &Path, line: &str, led_to: Option<&[u8]>) -> Failure {
    let why = match led_to {
        None => format!("the pwm of {line} is not enabled"),
        Some(lines) => {
            let names: Vec<_> = lines.iter().map(|line| format!("GPIO{line}")).collect();
            format!("the device tree leads the pwm to {}, not to {line}", names.join(" and "))
        }
    };
    Failure::new(Reason::Absent, format!("{why}: {}", Model::of(root).enable_pwm(Some(line))))
}

/// The physical level of a logical one.
fn physical(level: Level, active: Active) -> rppal::gpio::Level {
    (level.is_on() == (active == Active::High)).into()
}

/// A line driven by the SoC's registers.
struct RegisterOutput {
    pin: OutputPin,
    active: Active,
}

impl RegisterOutput {
    /// The level is in the register before the direction changes, so the line goes from where it was to where it shall be.
    fn open(pin: u8, active: Active, initial: Initial) -> rppal::gpio::Result<Self> {
        let pin = Gpio::new()?.get(pin)?;
        let level = match initial {
            Initial::Level(level) => physical(level, active),
            Initial::Keep => pin.read(),
        };
        let keep = initial == Initial::Keep && pin.mode() == Mode::Output;
        let mut pin = match level {
            _ if keep => pin.into_output(),
            rppal::gpio::Level::Low => pin.into_output_low(),
            rppal::gpio::Level::High => pin.into_output_high(),
        };
        pin.set_reset_on_drop(false);
        Ok(Self { pin, active })
    }
}

impl Output for RegisterOutput {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        self.pin.write(physical(level, self.active));
        Ok(())
    }

    fn level(&mut self) -> Result<Level, Failure> {
        Ok(Level::switch(self.pin.is_set_high() == (self.active == Active::High)))
    }
}

/// A channel through rppal's own use of sysfs.
struct RppalPwm {
    pwm: Pwm,
    /// Nanoseconds.
    period: f64,
}

impl RppalPwm {
    /// The duty stands before the channel is on.
    fn open(chip: u8, channel: u8, wanted: Wanted, level: Level) -> rppal::pwm::Result<Self> {
        let mut pwm = Pwm::with_pwmchip(chip, channel)?;
        pwm.set_reset_on_drop(false);
        // The kernel takes no period shorter than the duty, which may be somebody else's, and no duty before a period.
        if !pwm.pulse_width()?.is_zero() {
            pwm.set_pulse_width(Duration::ZERO)?;
        }
        let period = (1e9 / f64::from(wanted.frequency_hz)).floor();
        pwm.set_period(Duration::from_nanos(period as u64))?;
        pwm.set_polarity(if wanted.active == Active::Low { Polarity::Inverse } else { Polarity::Normal })?;
        let opened = Self { pwm, period };
        opened.drive(level)?;
        opened.pwm.enable()?;
        Ok(opened)
    }

    fn drive(&self, level: Level) -> rppal::pwm::Result<()> {
        let nanoseconds = (level.percent() / 100.0 * self.period).round();
        self.pwm.set_pulse_width(Duration::from_nanos(nanoseconds as u64))
    }
}

impl Output for RppalPwm {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        self.drive(level).map_err(|error| pwm_failure(&error))
    }

    fn level(&mut self) -> Result<Level, Failure> {
        let duty = self.pwm.pulse_width().map_err(|error| pwm_failure(&error))?;
        Ok(Level::from_percent(duty.as_nanos() as f64 / self.period * 100.0).unwrap_or(Level::OFF))
    }
}

fn pwm_failure(error: &rppal::pwm::Error) -> Failure {
    Failure::new(Reason::Driver, format!("the pwm channel failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::os::unix::fs::symlink;

    const PI_3: &[u8] = b"raspberrypi,3-model-b-plus\0brcm,bcm2837\0";
    const PI_5: &[u8] = b"raspberrypi,5-model-b\0brcm,bcm2712\0";

    fn root(compatible: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("proc/device-tree")).expect("a folder");
        fs::write(root.path().join("proc/device-tree/compatible"), compatible).expect("a file");
        root
    }

    fn add_chip(root: &tempfile::TempDir, chip: &str, device: &str, channels: u32) {
        let folder = root.path().join("sys/class/pwm").join(chip);
        for channel in 0..channels {
            let folder = folder.join(format!("pwm{channel}"));
            fs::create_dir_all(&folder).expect("a folder");
            for (name, value) in [("period", "0"), ("duty_cycle", "0"), ("polarity", "normal"), ("enable", "0")] {
                fs::write(folder.join(name), format!("{value}\n")).expect("a file");
            }
        }
        fs::write(folder.join("npwm"), format!("{channels}\n")).expect("a file");
        symlink(format!("../../../{device}"), folder.join("device")).expect("a link");
    }

    fn board(root: &tempfile::TempDir) -> RaspberryPi {
        RaspberryPi::under(root.path(), Arc::new(ManualClock::default()), true)
    }

    fn pwm(line: &str) -> Drive {
        Drive::Pwm { channel: PwmId::Line(line.into()), frequency_hz: 25_000, active: Active::High }
    }

    #[test]
    fn only_the_device_tree_makes_a_raspberry_pi() {
        assert_eq!(detect(root(PI_3).path()), Some(Family::Bcm));
        assert_eq!(detect(root(PI_5).path()), Some(Family::Rp1));
        for other in [&b"ti,am335x-bone-black\0ti,am33xx\0"[..], b"fsl,imx6sx-udoo-neo\0", b"", b"my-raspberrypi,3\0"] {
            assert_eq!(detect(root(other).path()), None, "{other:?}");
        }
        assert_eq!(detect(tempfile::tempdir().expect("a folder").path()), None);
    }

    #[test]
    fn bcm_numbers_come_from_the_headers_names_alone() {
        assert_eq!([bcm("GPIO0"), bcm("GPIO17"), bcm("GPIO27")], [Some(0), Some(17), Some(27)]);
        for other in ["GPIO28", "GPIO017", "GPIO+7", "GPIO", "gpio17", "17", "ID_SDA", "GPIO256"] {
            assert_eq!(bcm(other), None, "{other}");
        }
    }

    #[test]
    fn channels_follow_the_model() {
        let channels = |family| PWM_LINES.map(|line| channel_of(family, &format!("GPIO{line}")).expect("a channel"));
        assert_eq!(channels(Family::Bcm), [0, 1, 0, 1]);
        assert_eq!(channels(Family::Rp1), [0, 1, 2, 3]);
        let failure = channel_of(Family::Bcm, "GPIO17").expect_err("no pwm");
        assert_eq!(
            failure.to_string(),
            "absent: GPIO17 has no hardware pwm, these lines have: GPIO12, GPIO13, GPIO18, GPIO19"
        );
    }

    #[test]
    fn without_rppal_a_line_finds_its_channel_beside_other_chips() {
        let root = root(PI_5);
        add_chip(&root, "pwmchip0", "1f0009c000.pwm", 4);
        add_chip(&root, "pwmchip2", "1f00098000.pwm", 4);
        let on = Initial::Level(Level::ON);
        let mut output = board(&root).output(&pwm("GPIO18"), on).expect("a channel");
        assert_eq!(output.level().expect("a level"), Level::ON);
        let duty = fs::read_to_string(root.path().join("sys/class/pwm/pwmchip2/pwm2/duty_cycle")).expect("a file");
        assert_eq!(duty, "40000\n");
    }

    #[test]
    fn a_pwm_that_is_not_enabled_names_the_overlay() {
        let root = root(PI_3);
        let failure = board(&root).output(&pwm("GPIO18"), Initial::Keep).err().expect("no chip");
        assert_eq!(failure.reason, Reason::Absent);
        assert_eq!(
            failure.detail,
            "the pwm of GPIO18 is not enabled: add dtoverlay=pwm,pin=18,func=2 to config.txt and restart the board"
        );
    }

    #[test]
    fn a_pwm_that_comes_out_elsewhere_is_not_driven() {
        let root = root(PI_3);
        add_chip(&root, "pwmchip0", "3f20c000.pwm", 2);
        let soc = root.path().join("soc");
        for (file, cell) in [("pwm@7e20c000/pinctrl-0", 17), ("gpio@7e200000/a/phandle", 17)] {
            fs::create_dir_all(soc.join(file).parent().expect("a folder")).expect("a folder");
            fs::write(soc.join(file), [0, 0, 0, cell]).expect("a file");
        }
        let device = root.path().join("sys/class/pwm/pwmchip0/device");
        let chip = fs::read_link(&device).expect("a link");
        fs::create_dir_all(device.parent().expect("a folder").join(&chip)).expect("a folder");
        symlink(soc.join("pwm@7e20c000"), device.join("of_node")).expect("a link");
        let open_when_on = |pin: u8| {
            fs::write(soc.join("gpio@7e200000/a/brcm,pins"), [0, 0, 0, pin]).expect("a file");
            board(&root).output(&pwm("GPIO12"), Initial::Level(Level::ON))
        };
        let failure = open_when_on(40).err().expect("another line");
        let detail =
            "the device tree leads the pwm to GPIO40, not to GPIO12: add dtoverlay=pwm,pin=12,func=4 to config.txt";
        assert!(failure.detail.starts_with(detail), "{failure}");
        assert!(open_when_on(12).is_ok());
    }

    #[test]
    fn elsewhere_it_is_a_linux_board() {
        let root = root(b"ti,am335x-bone-black\0");
        let board = board(&root);
        assert_eq!(board.kind(), "linux");
        let failure = board.output(&pwm("P9_14"), Initial::Keep).err().expect("no channel by name");
        assert!(failure.detail.contains("give chip and channel"), "{failure}");
    }

    #[test]
    fn active_low_is_the_other_physical_level() {
        use rppal::gpio::Level::{High, Low};
        let all = [
            (Level::ON, Active::High),
            (Level::OFF, Active::High),
            (Level::ON, Active::Low),
            (Level::OFF, Active::Low),
        ];
        assert_eq!(all.map(|(level, active)| physical(level, active)), [High, Low, Low, High]);
    }
}
