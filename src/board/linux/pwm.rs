//! PWM channels through `/sys/class/pwm`.
//!
//! A channel is exported, waited for, and set so that the duty never exceeds the period; afterwards a level is one write
//! to `duty_cycle`, which glitches nothing. It is never unexported or switched off here: what it does after the agent is
//! what it was told last. sysfs has no owner, so two programs on one channel are not noticed.

use super::words;
use crate::board::Output;
use crate::board::model::Model;
use crate::clock::Clock;
use crate::line::{Active, Initial, Level, PwmId};
use crate::sample::{Failure, Reason};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the chips are, below the root.
const CLASS: &str = "sys/class/pwm";
/// How long the files of a channel just exported, and udev's permission on them, may take.
const APPEARS_WITHIN: Duration = Duration::from_secs(1);
/// How often they are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is asked of a channel.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Hertz.
    pub(crate) frequency_hz: u32,
    /// `Low` inverts the duty.
    pub(crate) active: Active,
    /// The first level. With `Keep` nothing is written until the first command, which then sets the frequency too.
    pub(crate) initial: Initial,
}

/// Opens a channel of a chip, which is named by its folder (`pwmchip0`) or by its device (`48302200.pwm`): the number of
/// the folder depends on what else the kernel has found.
pub(crate) fn open(root: &Path, clock: &dyn Clock, id: &PwmId, wanted: Wanted) -> Result<Box<dyn Output>, Failure> {
    Exported::new(root, clock, id)?.open(wanted)
}

/// A channel whose files are there and may be written.
pub(crate) struct Exported(Files);

impl Exported {
    /// Exports a channel if it is not exported yet.
    pub(crate) fn new(root: &Path, clock: &dyn Clock, id: &PwmId) -> Result<Self, Failure> {
        let (chip, channel) = match id {
            PwmId::Channel { chip, channel } => (chip, *channel),
            PwmId::Line(line) => return Err(no_channel_behind(root, line)),
        };
        let folder = export(root, clock, &existing_chip(root, chip, channel)?, channel)?;
        Ok(Self(Files { root: root.to_owned(), folder }))
    }

    /// Whether the channel puts out something now, which switching it off would interrupt.
    pub(crate) fn is_running(&self) -> Result<bool, Failure> {
        Ok(self.0.text("enable")? == "1" && self.0.number("period")? > 0)
    }

    /// Takes the channel over.
    pub(crate) fn open(self, wanted: Wanted) -> Result<Box<dyn Output>, Failure> {
        let mut pwm = SysfsPwm::take_over(self, period_of(wanted.frequency_hz)?, wanted.active)?;
        if let Initial::Level(level) = wanted.initial {
            pwm.configure(level)?;
        }
        Ok(Box::new(pwm))
    }
}

/// Nanoseconds.
fn period_of(frequency_hz: u32) -> Result<u64, Failure> {
    let none = || Failure::new(Reason::Driver, "a pwm frequency of 0 Hz has no period");
    1_000_000_000_u64.checked_div(u64::from(frequency_hz)).ok_or_else(none)
}

fn existing_chip(root: &Path, chip: &str, channel: u32) -> Result<PathBuf, Failure> {
    let name = chip.rsplit('/').next().unwrap_or_default();
    let absent = |detail| Err(Failure::new(Reason::Absent, detail));
    let all = chips(root);
    let Some(found) = all.iter().find(|found| found.name == name || found.device == name) else {
        return absent(format!("there is no pwm chip {chip}; {}", listed(root, &all, None)));
    };
    if channel >= found.channels {
        return absent(format!("{} has {} channels, counted from 0, so no {channel}", found.name, found.channels));
    }
    Ok(root.join(CLASS).join(&found.name))
}

fn no_channel_behind(root: &Path, line: &str) -> Failure {
    let there = listed(root, &chips(root), Some(line));
    Failure::new(
        Reason::Absent,
        format!("the kernel does not tell which pwm channel is behind {line}: give chip and channel; {there}"),
    )
}

/// A PWM chip.
struct Chip {
    /// Its folder's, `pwmchip0`.
    name: String,
    /// Its device's, `48302200.pwm`; empty where it has none.
    device: String,
    channels: u32,
}

/// The chips by name.
fn chips(root: &Path) -> Vec<Chip> {
    let entries = fs::read_dir(root.join(CLASS)).into_iter().flatten().flatten();
    let chip = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| name.starts_with("pwmchip"))?;
        let channels = fs::read_to_string(entry.path().join("npwm")).ok()?.trim().parse().ok()?;
        let device = fs::read_link(entry.path().join("device")).ok();
        let device = device.and_then(|link| Some(link.file_name()?.to_str()?.to_owned())).unwrap_or_default();
        Some(Chip { name, device, channels })
    };
    let mut all: Vec<Chip> = entries.filter_map(chip).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// `there is pwmchip0 (48302200.pwm, 2 channels)`, or how to get one.
fn listed(root: &Path, all: &[Chip], line: Option<&str>) -> String {
    let one = |chip: &Chip| match (&chip.name, &chip.device, chip.channels) {
        (name, device, channels) if device.is_empty() => format!("{name} ({channels} channels)"),
        (name, device, channels) => format!("{name} ({device}, {channels} channels)"),
    };
    match all.iter().map(one).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => format!("there is none: {}", Model::of(root).enable_pwm(line)),
        some => format!("there is {some}"),
    }
}

/// The folder of an exported channel: `pwm1`, on BeagleBoard.org's kernels `pwm-0:1` with the chip's number in front.
fn exported(chip: &Path, channel: u32) -> Option<PathBuf> {
    let number = chip.file_name()?.to_str()?.strip_prefix("pwmchip")?;
    let names = [format!("pwm{channel}"), format!("pwm-{number}:{channel}")];
    names.into_iter().map(|name| chip.join(name)).find(|folder| folder.exists())
}

/// Exports a channel if it is not, and waits until its files are there and may be written: udev gives them to a group only
/// after they have appeared. One that was exported before is not waited for, so that a lasting refusal costs nothing.
fn export(root: &Path, clock: &dyn Clock, chip: &Path, channel: u32) -> Result<PathBuf, Failure> {
    let mut until = clock.now();
    if exported(chip, channel).is_none() {
        let file = chip.join("export");
        fs::write(&file, channel.to_string()).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => {
                Failure::new(Reason::Busy, format!("a kernel driver owns channel {channel} of {}", chip.display()))
            }
            _ => words::refused(root, &file, "exporting a channel", &error),
        })?;
        until = until + APPEARS_WITHIN;
    }
    loop {
        let folder = exported(chip, channel).unwrap_or_else(|| chip.join(format!("pwm{channel}")));
        match writable(&folder) {
            Ok(()) => return Ok(folder),
            Err((file, error)) if clock.now() >= until => {
                return Err(words::refused(root, &file, "opening a channel", &error));
            }
            Err(_) => clock.sleep(LOOK_EVERY),
        }
    }
}

/// Tries every file that is going to be written: udev changes them one after the other. Some chips have no polarity.
fn writable(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    for name in ["duty_cycle", "period", "enable", "polarity"] {
        let file = folder.join(name);
        match OpenOptions::new().write(true).open(&file) {
            Err(error) if name != "polarity" || error.kind() == io::ErrorKind::PermissionDenied => {
                return Err((file, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The files of one channel.
struct Files {
    root: PathBuf,
    folder: PathBuf,
}

impl Files {
    fn write(&self, name: &str, value: impl Display) -> Result<(), Failure> {
        let file = self.folder.join(name);
        fs::write(&file, format!("{value}\n")).map_err(|error| words::refused(&self.root, &file, "writing", &error))
    }

    fn text(&self, name: &str) -> Result<String, Failure> {
        let file = self.folder.join(name);
        let text = fs::read_to_string(&file).map_err(|error| words::refused(&self.root, &file, "reading", &error))?;
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    }

    fn number(&self, name: &str) -> Result<u64, Failure> {
        let text = self.text(name)?;
        let wrong = |_| Failure::new(Reason::Driver, format!("{} holds {text:?}", self.folder.join(name).display()));
        text.parse().map_err(wrong)
    }
}

struct SysfsPwm {
    files: Files,
    duty_file: File,
    /// As configured, in nanoseconds.
    wanted_period: u64,
    /// As it stands.
    period: u64,
    active: Active,
    /// The duty is the part of the period at the *inactive* level: the polarity is not the wanted one.
    complement: bool,
    running: bool,
}

impl SysfsPwm {
    fn take_over(exported: Exported, wanted_period: u64, active: Active) -> Result<Self, Failure> {
        let running = exported.is_running()?;
        let Exported(files) = exported;
        let path = files.folder.join("duty_cycle");
        let duty_file = OpenOptions::new().write(true).open(&path);
        let duty_file = duty_file.map_err(|error| words::refused(&files.root, &path, "opening", &error))?;
        let period = files.number("period")?;
        // A chip that knows no polarity may have no such file: it is normal then.
        let inversed = files.text("polarity").is_ok_and(|polarity| polarity == "inversed");
        let complement = inversed != (active == Active::Low);
        Ok(Self { files, duty_file, wanted_period, period, active, complement, running })
    }

    /// Brings period, polarity, duty and enable to what is wanted.
    ///
    /// A running channel of the right polarity is not switched off on the way; polarity can be changed only while the
    /// channel is off. A chip without polarity gets the complement of the duty instead.
    fn configure(&mut self, level: Level) -> Result<(), Failure> {
        if self.complement && self.running {
            self.files.write("enable", 0)?;
            self.running = false;
        }
        self.set_period(level)?;
        if self.complement {
            let polarity = if self.active == Active::Low { "inversed" } else { "normal" };
            self.complement = self.files.write("polarity", polarity).is_err();
        }
        self.write_duty(self.duty(level, self.period))?;
        if !self.running {
            self.files.write("enable", 1)?;
            self.running = true;
        }
        Ok(())
    }

    /// The kernel refuses a duty above the period at every step: the smaller of the two moves first.
    fn set_period(&mut self, level: Level) -> Result<(), Failure> {
        if self.period == self.wanted_period {
            return Ok(());
        }
        if self.files.number("duty_cycle")? > self.wanted_period {
            self.write_duty(self.duty(level, self.wanted_period))?;
        }
        self.files.write("period", self.wanted_period)?;
        self.period = self.wanted_period;
        Ok(())
    }

    /// Nanoseconds of `period` for a logical level.
    fn duty(&self, level: Level, period: u64) -> u64 {
        let active = (level.percent() / 100.0 * period as f64).round() as u64;
        if self.complement { period - active.min(period) } else { active }
    }

    fn write_duty(&mut self, nanoseconds: u64) -> Result<(), Failure> {
        let mut text = [0; 24];
        let length = {
            use io::Write;
            let mut rest = &mut text[..];
            writeln!(rest, "{nanoseconds}").expect("twenty digits and a line end fit");
            24 - rest.len()
        };
        let file = || self.files.folder.join("duty_cycle");
        self.duty_file
            .write_all_at(&text[..length], 0)
            .map_err(|error| words::refused(&self.files.root, &file(), "writing", &error))
    }
}

impl Output for SysfsPwm {
    fn set(&mut self, level: Level) -> Result<(), Failure> {
        if self.running && self.period == self.wanted_period {
            return self.write_duty(self.duty(level, self.period));
        }
        self.configure(level)
    }

    /// From the registers; a channel that does not run is OFF.
    fn level(&mut self) -> Result<Level, Failure> {
        if !self.running {
            return Ok(Level::OFF);
        }
        let duty = self.files.number("duty_cycle")?.min(self.period);
        let active = if self.complement { self.period - duty } else { duty };
        Ok(Level::from_percent(active as f64 * 100.0 / self.period as f64).unwrap_or(Level::OFF))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::model;
    use crate::clock::ManualClock;

    /// A tree with one exported channel 0 in the given state.
    fn tree(period: u64, duty: u64, polarity: &str, enable: u8) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let chip = root.path().join("sys/class/pwm/pwmchip0");
        fs::create_dir_all(chip.join("pwm0")).expect("a folder");
        fs::write(chip.join("npwm"), "2\n").expect("a file");
        fs::write(chip.join("export"), "").expect("a file");
        let files = [("period", period.to_string()), ("duty_cycle", duty.to_string()), ("enable", enable.to_string())];
        for (name, value) in files {
            fs::write(chip.join("pwm0").join(name), value + "\n").expect("a file");
        }
        fs::write(chip.join("pwm0/polarity"), format!("{polarity}\n")).expect("a file");
        root
    }

    fn id(channel: u32) -> PwmId {
        PwmId::Channel { chip: "pwmchip0".into(), channel }
    }

    fn wanted(percent: f64, active: Active) -> Wanted {
        let initial = Initial::Level(Level::from_percent(percent).expect("a percentage"));
        Wanted { frequency_hz: 25_000, active, initial }
    }

    fn opened(root: &tempfile::TempDir, wanted: Wanted) -> Box<dyn Output> {
        open(root.path(), &ManualClock::default(), &id(0), wanted).expect("a channel")
    }

    fn file(root: &tempfile::TempDir, name: &str) -> String {
        let text = fs::read_to_string(root.path().join("sys/class/pwm/pwmchip0/pwm0").join(name)).expect("a file");
        text.lines().next().expect("a line").to_owned()
    }

    fn failure(root: &tempfile::TempDir, id: &PwmId) -> Failure {
        let opened = open(root.path(), &ManualClock::default(), id, wanted(0.0, Active::High));
        opened.err().expect("a failure")
    }

    #[test]
    fn the_initial_level_stands_when_the_channel_is_enabled() {
        let root = tree(0, 0, "normal", 0);
        let mut pwm = opened(&root, wanted(40.0, Active::High));
        let now = |name| file(&root, name);
        assert_eq!((now("period"), now("duty_cycle"), now("enable")), ("40000".into(), "16000".into(), "1".into()));
        assert_eq!(pwm.level().expect("a level").percent(), 40.0);
    }

    #[test]
    fn setting_writes_the_duty_alone() {
        let root = tree(0, 0, "normal", 0);
        let mut pwm = opened(&root, wanted(0.0, Active::High));
        for name in ["period", "enable", "polarity"] {
            fs::remove_file(root.path().join("sys/class/pwm/pwmchip0/pwm0").join(name)).expect("a file");
        }
        pwm.set(Level::ON).expect("one write");
        assert_eq!(file(&root, "duty_cycle"), "40000");
        assert_eq!(pwm.level().expect("a level"), Level::ON);
        pwm.set(Level::OFF).expect("one write");
        assert_eq!(file(&root, "duty_cycle"), "0");
    }

    #[test]
    fn active_low_is_the_chips_polarity() {
        let root = tree(0, 0, "normal", 0);
        let mut pwm = opened(&root, wanted(25.0, Active::Low));
        assert_eq!((file(&root, "polarity"), file(&root, "duty_cycle")), ("inversed".into(), "10000".into()));
        assert_eq!(pwm.level().expect("a level").percent(), 25.0);
    }

    #[test]
    fn a_chip_without_polarity_gets_the_complement() {
        let root = tree(0, 0, "normal", 0);
        let polarity = root.path().join("sys/class/pwm/pwmchip0/pwm0/polarity");
        fs::remove_file(&polarity).expect("a file");
        fs::create_dir(&polarity).expect("a folder, which refuses to be written");
        let mut pwm = opened(&root, wanted(25.0, Active::Low));
        assert_eq!(file(&root, "duty_cycle"), "30000");
        assert_eq!(pwm.level().expect("a level").percent(), 25.0);
    }

    #[test]
    fn a_longer_duty_left_behind_shrinks_before_the_period() {
        let root = tree(20_000_000, 15_000_000, "normal", 1);
        let period = root.path().join("sys/class/pwm/pwmchip0/pwm0/period");
        fs::remove_file(&period).expect("a file");
        fs::create_dir(&period).expect("a folder");
        // With a period that cannot be written at all, what has been done before it shows.
        let files = Files { root: root.path().into(), folder: period.parent().expect("a folder").into() };
        let duty_file = OpenOptions::new().write(true).open(files.folder.join("duty_cycle")).expect("a file");
        let (active, complement, running) = (Active::High, false, true);
        let mut pwm =
            SysfsPwm { files, duty_file, wanted_period: 40_000, period: 20_000_000, active, complement, running };
        pwm.set(Level::from_percent(50.0).expect("a percentage")).expect_err("the period cannot be written");
        assert_eq!(file(&root, "duty_cycle"), "20000");
    }

    #[test]
    fn keep_touches_nothing_until_the_first_command() {
        let root = tree(20_000_000, 5_000_000, "normal", 1);
        let keep = Wanted { initial: Initial::Keep, ..wanted(0.0, Active::High) };
        let mut pwm = opened(&root, keep);
        assert_eq!(pwm.level().expect("a level").percent(), 25.0);
        assert_eq!((file(&root, "period"), file(&root, "duty_cycle")), ("20000000".into(), "5000000".into()));
        pwm.set(Level::ON).expect("a level");
        assert_eq!((file(&root, "period"), file(&root, "duty_cycle")), ("40000".into(), "40000".into()));
    }

    #[test]
    fn keep_reads_a_foreign_polarity_right() {
        let root = tree(20_000_000, 5_000_000, "inversed", 1);
        let keep = Wanted { initial: Initial::Keep, ..wanted(0.0, Active::High) };
        assert_eq!(opened(&root, keep).level().expect("a level").percent(), 75.0);
    }

    #[test]
    fn a_channel_whose_files_never_appear_fails_after_a_bounded_wait() {
        let root = tree(0, 0, "normal", 0);
        let clock = ManualClock::default();
        let failure = open(root.path(), &clock, &id(1), wanted(0.0, Active::High)).err().expect("no files");
        assert_eq!(failure.reason, Reason::Absent);
        assert_eq!(clock.now().as_nanos(), 1_000_000_000);
        let export = fs::read_to_string(root.path().join("sys/class/pwm/pwmchip0/export")).expect("a file");
        assert_eq!(export, "1");
    }

    #[test]
    fn a_lasting_refusal_is_waited_for_once() {
        let root = tree(0, 0, "normal", 0);
        let duty = root.path().join("sys/class/pwm/pwmchip0/pwm0/duty_cycle");
        fs::remove_file(&duty).expect("a file");
        let clock = ManualClock::default();
        assert!(open(root.path(), &clock, &id(0), wanted(0.0, Active::High)).is_err());
        assert_eq!(clock.now().as_nanos(), 0, "it had been exported before");
    }

    #[test]
    fn absent_chips_and_channels_say_what_there_is() {
        let root = tree(0, 0, "normal", 0);
        let detail = |id: PwmId| failure(&root, &id).detail;
        assert_eq!(detail(id(2)), "pwmchip0 has 2 channels, counted from 0, so no 2");
        let other = || PwmId::Channel { chip: "pwmchip7".into(), channel: 0 };
        assert_eq!(detail(other()), "there is no pwm chip pwmchip7; there is pwmchip0 (2 channels)");
        assert!(detail(PwmId::Line("GPIO18".into())).contains("give chip and channel; there is pwmchip0"));
        let traversal = PwmId::Channel { chip: "../../etc".into(), channel: 0 };
        assert_eq!(failure(&root, &traversal).reason, Reason::Absent);
        let bare = model::tests::root("ti,am335x-bone-black\0ti,am335x-bone\0");
        assert_eq!(
            failure(&bare, &other()).detail,
            "there is no pwm chip pwmchip7; there is none: with the universal cape, config-pin P9.14 pwm makes EHRPWM1A"
        );
    }

    #[test]
    fn a_chip_is_found_by_its_device_too() {
        let root = tree(0, 0, "normal", 0);
        let chip = root.path().join("sys/class/pwm/pwmchip0");
        std::os::unix::fs::symlink("../../../48302200.pwm", chip.join("device")).expect("a link");
        let by_device = PwmId::Channel { chip: "48302200.pwm".into(), channel: 0 };
        open(root.path(), &ManualClock::default(), &by_device, wanted(40.0, Active::High)).expect("a channel");
        assert_eq!(file(&root, "duty_cycle"), "16000");
        let none = PwmId::Channel { chip: "48300200.pwm".into(), channel: 0 };
        assert!(failure(&root, &none).detail.ends_with("there is pwmchip0 (48302200.pwm, 2 channels)"));
    }

    #[test]
    fn a_channel_that_is_called_after_its_chip_is_found() {
        let root = tree(0, 0, "normal", 0);
        let chip = root.path().join("sys/class/pwm/pwmchip0");
        fs::rename(chip.join("pwm0"), chip.join("pwm-0:0")).expect("a folder");
        let mut pwm = opened(&root, wanted(40.0, Active::High));
        assert_eq!(pwm.level().expect("a level").percent(), 40.0);
        assert_eq!(fs::read_to_string(chip.join("pwm-0:0/duty_cycle")).expect("a file"), "16000\n");
    }

    #[test]
    fn no_frequency_is_a_failure_not_a_division_by_zero() {
        let root = tree(0, 0, "normal", 0);
        let none = Wanted { frequency_hz: 0, ..wanted(0.0, Active::High) };
        assert!(open(root.path(), &ManualClock::default(), &id(0), none).is_err());
    }
}
