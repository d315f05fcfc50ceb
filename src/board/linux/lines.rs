//! Where a configured GPIO line is: its chip and offset, by name or by number. Requests nothing.
//!
//! gpiocdev's own search passes over chips it may not open; here a refused chip is told apart from a missing line, and
//! a name that two lines bear is refused rather than guessed at, for the wrong line may drive the wrong thing.

use super::words;
use crate::board::model::Model;
use crate::board::nearest::did_you_mean;
use crate::line::LineId;
use crate::sample::{Failure, Reason};
use gpiocdev::chip::Chip;
use gpiocdev::line::Info;
use std::io;
use std::path::{Path, PathBuf};

/// A line that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The chip's device file.
    pub(super) chip: PathBuf,
    /// The chip's label.
    label: String,
    /// On that chip.
    pub(super) offset: u32,
    /// By the device tree; empty where it has none.
    name: String,
    /// Whether somebody holds it.
    used: bool,
    /// Who.
    consumer: String,
}

impl Found {
    /// The line that `info` describes.
    pub(super) fn from_info(chip: &Path, label: &str, info: Info) -> Self {
        let Info { offset, name, used, consumer, .. } = info;
        Self { chip: chip.to_owned(), label: label.to_owned(), offset, name, used, consumer }
    }

    #[cfg(test)]
    pub(super) fn for_test(chip: &str, offset: u32, name: &str) -> Self {
        let (label, consumer) = (String::new(), String::new());
        Self { chip: chip.into(), label, offset, name: name.into(), used: false, consumer }
    }

    /// For messages: `GPIO17 (/dev/gpiochip0:17)`.
    pub(super) fn describe(&self) -> String {
        let place = format!("{}:{}", self.chip.display(), self.offset);
        if self.name.is_empty() { place } else { format!("{} ({place})", self.name) }
    }

    /// As the configuration spells its place: `{ chip = "gpiochip0", offset = 17 }`.
    fn spelled(&self) -> String {
        let chip = self.chip.file_name().unwrap_or_default().to_string_lossy();
        format!("{{ chip = \"{chip}\", offset = {} }}", self.offset)
    }

    /// `busy` with the name of the holder and what makes it let go, if the line has one.
    pub(crate) fn held(&self, root: &Path) -> Option<Failure> {
        self.used.then(|| self.busy(Model::of(root)))
    }

    fn busy(&self, model: Model) -> Failure {
        let holder = if self.consumer.is_empty() { "somebody who gave no name" } else { &self.consumer };
        let (line, remedy) = (self.describe(), model.free_line(&self.consumer));
        Failure::new(Reason::Busy, format!("{line} is held by {holder}: {remedy}"))
    }
}

/// A GPIO chip of this board.
struct ChipFound {
    path: PathBuf,
    /// Its controller's, such as `pinctrl-rp1`: it stays the same where the number of the device file does not.
    label: String,
    lines: u32,
}

impl ChipFound {
    fn name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }
}

/// Finds a line.
pub(crate) fn find(root: &Path, line: &LineId) -> Result<Found, Failure> {
    match line {
        LineId::Offset { chip, offset } => by_offset(root, chip, *offset),
        LineId::Name(name) => {
            let (all, refused) = list(root);
            choose(name, &all, Model::of(root)).map_err(|failure| refused.unwrap_or(failure))
        }
    }
}

fn by_offset(root: &Path, chip: &str, offset: u32) -> Result<Found, Failure> {
    let path = if chip.contains('/') { PathBuf::from(chip) } else { root.join("dev").join(chip) };
    let path = if chip.contains('/') || path.exists() { path } else { labelled(root, chip, path, &chips())? };
    let opened = Chip::from_path(&path).map_err(|error| no_chip(root, &path, &error))?;
    let label = opened.info().map(|info| info.label).unwrap_or_default();
    opened.line_info(offset).map(|info| Found::from_info(opened.path(), &label, info)).map_err(|error| {
        let detail = match opened.info() {
            Ok(info) if offset >= info.num_lines => {
                format!("{} has lines 0 to {}, not {offset}", path.display(), info.num_lines.saturating_sub(1))
            }
            _ => format!("line {offset} of {} cannot be asked: {error}", path.display()),
        };
        Failure::new(Reason::Absent, detail)
    })
}

/// The only chip with that label; without any, `path` as it was, so that its absence is told as such. A chip that may not
/// be opened may be the one.
fn labelled(root: &Path, label: &str, path: PathBuf, all: &[ChipFound]) -> Result<PathBuf, Failure> {
    let mut matching = all.iter().filter(|chip| chip.label == label);
    let closed = all.iter().find(|chip| chip.lines == 0 && !label.starts_with("gpiochip"));
    match (matching.next(), matching.next()) {
        (Some(only), None) => Ok(only.path.clone()),
        (None, _) => closed.map_or(Ok(path), |chip| Err(words::permission(root, &chip.path))),
        (Some(_), Some(_)) => {
            let detail = format!("{label} is the label of several chips, {}: give the name", listed(all));
            Err(Failure::new(Reason::Absent, detail))
        }
    }
}

fn no_chip(root: &Path, path: &Path, error: &gpiocdev::Error) -> Failure {
    match errno(error) {
        Some(libc::EACCES | libc::EPERM) => words::permission(root, path),
        Some(libc::ENOENT) => {
            Failure::new(Reason::Absent, format!("{} does not exist; {}", path.display(), listed(&chips())))
        }
        _ => Failure::new(Reason::Absent, format!("{} is no GPIO chip; {}", path.display(), listed(&chips()))),
    }
}

/// `there is gpiochip0 (pinctrl-bcm2835, 54 lines), gpiochip1 (raspberrypi-exp-gpio, 8 lines)`
fn listed(all: &[ChipFound]) -> String {
    let one = |chip: &ChipFound| {
        let name = chip.name().unwrap_or_default();
        if chip.lines == 0 { name.to_owned() } else { format!("{name} ({}, {} lines)", chip.label, chip.lines) }
    };
    match all.iter().map(one).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "there is no GPIO chip".to_owned(),
        some => format!("there is {some}"),
    }
}

/// All chips; one that may not be opened has a name and no more.
fn chips() -> Vec<ChipFound> {
    let paths = gpiocdev::chip::chips().unwrap_or_default().into_iter();
    let chip = |path: PathBuf| match Chip::from_path(&path).and_then(|chip| chip.info()) {
        Ok(info) => ChipFound { path, label: info.label, lines: info.num_lines },
        Err(_) => ChipFound { path, label: String::new(), lines: 0 },
    };
    paths.map(chip).collect()
}

/// All lines, and the failure of the first chip that may not be opened.
fn list(root: &Path) -> (Vec<Found>, Option<Failure>) {
    let (mut all, mut refused) = (Vec::new(), None);
    for path in gpiocdev::chip::chips().unwrap_or_default() {
        match Chip::from_path(&path) {
            Ok(chip) => {
                let label = chip.info().map(|info| info.label).unwrap_or_default();
                let infos = chip.line_info_iter().into_iter().flatten().flatten();
                all.extend(infos.map(|info| Found::from_info(&path, &label, info)));
            }
            Err(error) => refused = refused.or_else(|| Some(no_chip(root, &path, &error))),
        }
    }
    (all, refused)
}

/// The only line of that name.
fn choose(name: &str, all: &[Found], model: Model) -> Result<Found, Failure> {
    let matching: Vec<&Found> = all.iter().filter(|line| line.name == name).collect();
    let absent = |detail| Err(Failure::new(Reason::Absent, detail));
    match matching.as_slice() {
        [] => absent(unknown(name, all, model)),
        [only] => Ok((*only).clone()),
        several => {
            let places: Vec<String> = several.iter().take(3).map(|line| line.spelled()).collect();
            let more = if several.len() > places.len() { ", …" } else { "" };
            absent(format!(
                "{name} is the name of {} lines: give chip and offset instead: {}{more}",
                several.len(),
                places.join(", ")
            ))
        }
    }
}

fn unknown(name: &str, all: &[Found], model: Model) -> String {
    if all.is_empty() {
        return format!("there is no line {name}, for there is no GPIO chip (/dev/gpiochip0 and so on)");
    }
    let (label, offset) = model.usual_place(name).unzip();
    let is_meant =
        |line: &&Found| Some(line.offset) == offset && label.is_some_and(|label| line.label.starts_with(label));
    if let Some(line) = all.iter().find(is_meant) {
        let meant = if line.name.is_empty() { line.spelled() } else { line.describe() };
        return format!("there is no line {name}, did you mean {meant}");
    }
    if let Some(line) = all.iter().find(|line| line.consumer == name) {
        let (line, remedy) = (line.describe(), model.free_line(name));
        return format!("there is no line {name}, but {line} is held by {name}: {remedy}");
    }
    let names: Vec<&str> = all.iter().map(|line| line.name.as_str()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return format!("there is no line {name}: the lines of this board have no names, give chip and offset");
    }
    let near = did_you_mean(name, names.iter().copied());
    if near.is_empty() {
        let some = names[..names.len().min(5)].join(", ");
        return format!("there is no line {name}; of {} names the first are {some}", names.len());
    }
    format!("there is no line {name}{near}")
}

/// The errno behind a gpiocdev error, where there is one.
pub(super) fn errno(error: &gpiocdev::Error) -> Option<i32> {
    match error {
        gpiocdev::Error::Os(errno) | gpiocdev::Error::Uapi(_, gpiocdev_uapi::Error::Os(errno)) => Some(errno.0),
        _ => None,
    }
}

/// A gpiocdev error as an [`io::Error`], for messages.
pub(super) fn io_error(error: &gpiocdev::Error) -> io::Error {
    errno(error).map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(chip: &str, offset: u32, name: &str, consumer: &str) -> Found {
        Found { used: !consumer.is_empty(), consumer: consumer.into(), ..Found::for_test(chip, offset, name) }
    }

    /// The lines of a chip by their names; `name < consumer` is held.
    fn chip(path: &str, label: &str, names: &[&str]) -> Vec<Found> {
        let one = |(offset, text): (usize, &&str)| {
            let (name, consumer) = text.split_once(" < ").unwrap_or((text, ""));
            Found { label: label.into(), ..line(path, offset as u32, name, consumer) }
        };
        names.iter().enumerate().map(one).collect()
    }

    fn refused(name: &str, all: &[Found], model: Model) -> String {
        let failure = choose(name, all, model).expect_err("no such line");
        assert_eq!(failure.reason, Reason::Absent);
        failure.detail.into_owned()
    }

    /// A BeagleBone's second controller, as Linux 6.1 names it: `NC` several times, blanks and brackets in names.
    fn beaglebone() -> Vec<Found> {
        let names = ["P8_25 [mmc1_dat0]", "NC", "NC", "P8_12", "P9_14 [ehrpwm1a]", "NC", "NC", "P9_12 < P9_12"];
        chip("/dev/gpiochip0", "gpio-0-31", &names)
    }

    #[test]
    fn a_name_must_be_borne_by_one_line() {
        let mut all = vec![line("/dev/gpiochip0", 17, "GPIO17", ""), line("/dev/gpiochip0", 27, "GPIO27", "")];
        assert_eq!(choose("GPIO17", &all, Model::Other).expect("a line").offset, 17);
        all.push(line("/dev/gpiochip4", 17, "GPIO17", ""));
        assert_eq!(
            refused("GPIO17", &all, Model::RaspberryPi),
            "GPIO17 is the name of 2 lines: give chip and offset instead: \
             { chip = \"gpiochip0\", offset = 17 }, { chip = \"gpiochip4\", offset = 17 }"
        );
        assert_eq!(
            refused("NC", &beaglebone(), Model::BeagleBone),
            "NC is the name of 4 lines: give chip and offset instead: { chip = \"gpiochip0\", offset = 1 }, \
             { chip = \"gpiochip0\", offset = 2 }, { chip = \"gpiochip0\", offset = 5 }, …"
        );
    }

    #[test]
    fn names_with_blanks_and_brackets_are_names_like_others() {
        let all = beaglebone();
        assert_eq!(choose("P9_14 [ehrpwm1a]", &all, Model::BeagleBone).expect("a line").offset, 4);
        assert_eq!(refused("P9_14", &all, Model::BeagleBone), "there is no line P9_14, did you mean P9_14 [ehrpwm1a]");
    }

    #[test]
    fn an_unknown_name_brings_those_that_exist() {
        let all = [line("/dev/gpiochip0", 17, "GPIO17", ""), line("/dev/gpiochip0", 2, "ID_SDA", "")];
        let detail = |name, all: &[Found]| refused(name, all, Model::Other);
        assert_eq!(detail("GPIO71", &all), "there is no line GPIO71, did you mean GPIO17");
        assert_eq!(detail("BEACON", &all), "there is no line BEACON; of 2 names the first are GPIO17, ID_SDA");
        assert!(detail("GPIO17", &[line("/dev/gpiochip0", 17, "", "")]).contains("have no names"));
        assert!(detail("GPIO17", &[]).contains("no GPIO chip"));
    }

    #[test]
    fn a_raspberry_pis_line_is_found_under_another_kernels_name() {
        let soc = || chip("/dev/gpiochip0", "gpio-brcmstb@107d508500", &["-", "2712_BOOT_CS_N", "-", "-"]);
        let with = |names: &[&str]| [soc(), chip("/dev/gpiochip4", "pinctrl-rp1", names)].concat();
        let detail = |names: &[&str]| refused("GPIO2", &with(names), Model::RaspberryPi);
        let pi_5 = ["ID_SD", "ID_SC", "PIN3", "PIN5"];
        assert_eq!(detail(&pi_5), "there is no line GPIO2, did you mean PIN3 (/dev/gpiochip4:2)");
        let unnamed = "there is no line GPIO2, did you mean { chip = \"gpiochip4\", offset = 2 }";
        assert_eq!(detail(&["", "", "", ""]), unnamed);
        assert_eq!(choose("PIN3", &with(&pi_5), Model::RaspberryPi).expect("a line").offset, 2);
    }

    #[test]
    fn the_name_of_a_holder_leads_to_the_line_it_holds() {
        let all = chip("/dev/gpiochip1", "gpio-32-63", &["GPMC_BEN1 < P9_12", "GPMC_CSN1"]);
        let told = refused("P9_12", &all, Model::BeagleBone);
        assert!(
            told.starts_with("there is no line P9_12, but GPMC_BEN1 (/dev/gpiochip1:0) is held by P9_12: that is the"),
            "{told}"
        );
    }

    #[test]
    fn a_held_line_says_who_holds_it_and_how_to_get_it() {
        let held = |consumer: &str, model| line("/dev/gpiochip0", 17, "GPIO17", consumer).busy(model).to_string();
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(line("/dev/gpiochip0", 17, "GPIO17", "").held(root.path()), None);
        assert!(line("/dev/gpiochip0", 17, "GPIO17", "gpio-fan").held(root.path()).is_some());
        assert_eq!(
            held("gpio-fan", Model::RaspberryPi),
            "busy: GPIO17 (/dev/gpiochip0:17) is held by gpio-fan: stop that program, or remove the dtparam or \
             dtoverlay from config.txt that gives it the line"
        );
        assert!(held("", Model::Other).contains("is held by somebody who gave no name: stop that program"));
        assert!(held("board2mqtt", Model::Other).contains("another board2mqtt runs"));
    }

    #[test]
    fn chips_are_told_with_their_labels() {
        let chip = |path: &str, label: &str, lines| ChipFound { path: path.into(), label: label.into(), lines };
        let pi = [chip("/dev/gpiochip0", "pinctrl-bcm2711", 58), chip("/dev/gpiochip1", "", 0)];
        assert_eq!(listed(&pi), "there is gpiochip0 (pinctrl-bcm2711, 58 lines), gpiochip1");
        assert_eq!(listed(&[]), "there is no GPIO chip");
    }

    #[test]
    fn a_chip_is_found_by_its_label_where_its_number_changes() {
        let chip = |path: &str, label: &str| ChipFound { path: path.into(), label: label.into(), lines: 44 };
        let all =
            [chip("/dev/gpiochip0", "INT33FC:00"), chip("/dev/gpiochip2", "INT33FC:02"), chip("/dev/gpiochip3", "x")];
        let path = |label| labelled(Path::new("/"), label, "/dev/absent".into(), &all);
        assert_eq!(path("INT33FC:02"), Ok(PathBuf::from("/dev/gpiochip2")));
        assert_eq!(path("INT33FC:07"), Ok(PathBuf::from("/dev/absent")));
        let closed = [ChipFound { path: "/dev/gpiochip0".into(), label: String::new(), lines: 0 }];
        let reason =
            |label| labelled(Path::new("/"), label, "/dev/absent".into(), &closed).map_err(|failure| failure.reason);
        assert_eq!(reason("INT33FC:02"), Err(Reason::Permission), "it may be that one");
        assert_eq!(reason("gpiochip7"), Ok(PathBuf::from("/dev/absent")), "that is no label");
        let twice = [chip("/dev/gpiochip0", "x"), chip("/dev/gpiochip3", "x")];
        let failure = labelled(Path::new("/"), "x", PathBuf::new(), &twice).expect_err("two chips");
        assert_eq!(failure.reason, Reason::Absent);
        assert!(
            failure.detail.starts_with("x is the label of several chips, there is gpiochip0 (x, 44 lines)"),
            "{failure}"
        );
    }

    #[test]
    fn a_missing_chip_is_absent() {
        let root = tempfile::tempdir().expect("a folder");
        let line = LineId::Offset { chip: "gpiochip9".into(), offset: 1 };
        let failure = find(root.path(), &line).expect_err("no chip");
        assert_eq!(failure.reason, Reason::Absent);
        assert!(failure.detail.contains("gpiochip9 does not exist; there is "), "{failure}");
        let null = LineId::Offset { chip: "/dev/null".into(), offset: 1 };
        let failure = find(root.path(), &null).expect_err("no chip");
        assert_eq!(failure.reason, Reason::Absent);
        assert!(failure.detail.starts_with("/dev/null is no GPIO chip; there is "), "{failure}");
    }

    #[test]
    fn the_errno_is_found_behind_both_kinds_of_error() {
        assert_eq!(errno(&io::Error::from_raw_os_error(libc::EACCES).into()), Some(libc::EACCES));
        assert_eq!(errno(&gpiocdev::Error::NoGpioChips()), None);
        let text = io_error(&gpiocdev::Error::NoGpioChips()).to_string();
        assert_eq!(text, "No GPIO chips are available");
    }
}
