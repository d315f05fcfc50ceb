//! Where a configured GPIO line is: its chip and offset, by name or by number. Requests nothing.
//!
//! gpiocdev's own search passes over chips it may not open; here a refused chip is told apart from a missing line, and
//! a name that two lines bear is refused rather than guessed at, for the wrong line may drive the wrong thing.

use super::words;
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
    pub(super) fn from_info(chip: &Path, info: Info) -> Self {
        let Info { offset, name, used, consumer, .. } = info;
        Self { chip: chip.to_owned(), offset, name, used, consumer }
    }

    #[cfg(test)]
    pub(super) fn for_test(chip: &str, offset: u32, name: &str) -> Self {
        Self { chip: chip.into(), offset, name: name.into(), used: false, consumer: String::new() }
    }

    /// For messages: `GPIO17 (/dev/gpiochip0:17)`.
    pub(super) fn describe(&self) -> String {
        let place = format!("{}:{}", self.chip.display(), self.offset);
        if self.name.is_empty() { place } else { format!("{} ({place})", self.name) }
    }

    /// `busy` with the name of the holder, if the line has one.
    pub(crate) fn held(&self) -> Option<Failure> {
        let holder = if self.consumer.is_empty() { "somebody who gave no name" } else { &self.consumer };
        self.used.then(|| Failure::new(Reason::Busy, format!("{} is held by {holder}", self.describe())))
    }
}

/// Finds a line.
pub(crate) fn find(root: &Path, line: &LineId) -> Result<Found, Failure> {
    match line {
        LineId::Offset { chip, offset } => by_offset(root, chip, *offset),
        LineId::Name(name) => {
            let (all, refused) = list(root);
            choose(name, &all).map_err(|failure| refused.unwrap_or(failure))
        }
    }
}

fn by_offset(root: &Path, chip: &str, offset: u32) -> Result<Found, Failure> {
    let path = if chip.contains('/') { PathBuf::from(chip) } else { root.join("dev").join(chip) };
    let opened = Chip::from_path(&path).map_err(|error| no_chip(root, &path, &error))?;
    opened.line_info(offset).map(|info| Found::from_info(opened.path(), info)).map_err(|error| {
        let detail = match opened.info() {
            Ok(info) if offset >= info.num_lines => {
                format!("{} has lines 0 to {}, not {offset}", path.display(), info.num_lines.saturating_sub(1))
            }
            _ => format!("line {offset} of {} cannot be asked: {error}", path.display()),
        };
        Failure::new(Reason::Absent, detail)
    })
}

fn no_chip(root: &Path, path: &Path, error: &gpiocdev::Error) -> Failure {
    match errno(error) {
        Some(libc::EACCES | libc::EPERM) => words::permission(root, path),
        Some(libc::ENOENT) => {
            let chips: Vec<String> = chips().iter().map(|chip| chip.display().to_string()).collect();
            let there = if chips.is_empty() { "no GPIO chip".to_owned() } else { chips.join(", ") };
            Failure::new(Reason::Absent, format!("{} does not exist, there is {there}", path.display()))
        }
        _ => Failure::new(Reason::Absent, format!("{} is no GPIO chip: {error}", path.display())),
    }
}

fn chips() -> Vec<PathBuf> {
    gpiocdev::chip::chips().unwrap_or_default()
}

/// All lines, and the failure of the first chip that may not be opened.
fn list(root: &Path) -> (Vec<Found>, Option<Failure>) {
    let (mut all, mut refused) = (Vec::new(), None);
    for path in chips() {
        match Chip::from_path(&path) {
            Ok(chip) => {
                let infos = chip.line_info_iter().into_iter().flatten().flatten();
                all.extend(infos.map(|info| Found::from_info(&path, info)));
            }
            Err(error) => refused = refused.or_else(|| Some(no_chip(root, &path, &error))),
        }
    }
    (all, refused)
}

/// The only line of that name.
fn choose(name: &str, all: &[Found]) -> Result<Found, Failure> {
    let mut matching = all.iter().filter(|line| line.name == name);
    let absent = |detail| Err(Failure::new(Reason::Absent, detail));
    match (matching.next(), matching.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(one), Some(other)) => absent(format!(
            "{name} is the name of two lines, {} and {}: name the chip and the offset instead",
            one.describe(),
            other.describe()
        )),
        (None, _) => absent(unknown(name, all)),
    }
}

fn unknown(name: &str, all: &[Found]) -> String {
    if all.is_empty() {
        return format!("there is no line {name}, for there is no GPIO chip (/dev/gpiochip0 and so on)");
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

    #[test]
    fn a_name_must_be_borne_by_one_line() {
        let mut all = vec![line("/dev/gpiochip0", 17, "GPIO17", ""), line("/dev/gpiochip0", 27, "GPIO27", "")];
        assert_eq!(choose("GPIO17", &all).expect("a line").offset, 17);
        all.push(line("/dev/gpiochip4", 17, "GPIO17", ""));
        let failure = choose("GPIO17", &all).expect_err("two lines");
        assert!(
            failure.detail.contains("/dev/gpiochip0:17") && failure.detail.contains("/dev/gpiochip4:17"),
            "{failure}"
        );
    }

    #[test]
    fn an_unknown_name_brings_those_that_exist() {
        let all = [line("/dev/gpiochip0", 17, "GPIO17", ""), line("/dev/gpiochip0", 2, "ID_SDA", "")];
        let detail = |name, all: &[Found]| choose(name, all).expect_err("no such line").detail;
        assert_eq!(detail("GPIO71", &all), "there is no line GPIO71, did you mean GPIO17");
        assert_eq!(detail("BEACON", &all), "there is no line BEACON; of 2 names the first are GPIO17, ID_SDA");
        assert!(detail("GPIO17", &[line("/dev/gpiochip0", 17, "", "")]).contains("have no names"));
        assert!(detail("GPIO17", &[]).contains("no GPIO chip"));
    }

    #[test]
    fn a_held_line_says_who_holds_it() {
        assert_eq!(line("/dev/gpiochip0", 17, "GPIO17", "").held(), None);
        let failure = line("/dev/gpiochip0", 17, "GPIO17", "gpio-fan").held().expect("held");
        assert_eq!(failure.to_string(), "busy: GPIO17 (/dev/gpiochip0:17) is held by gpio-fan");
    }

    #[test]
    fn a_missing_chip_is_absent() {
        let root = tempfile::tempdir().expect("a folder");
        let line = LineId::Offset { chip: "gpiochip9".into(), offset: 1 };
        let failure = find(root.path(), &line).expect_err("no chip");
        assert_eq!(failure.reason, Reason::Absent);
        assert!(failure.detail.contains("gpiochip9 does not exist"), "{failure}");
    }

    #[test]
    fn the_errno_is_found_behind_both_kinds_of_error() {
        assert_eq!(errno(&io::Error::from_raw_os_error(libc::EACCES).into()), Some(libc::EACCES));
        assert_eq!(errno(&gpiocdev::Error::NoGpioChips()), None);
        let text = io_error(&gpiocdev::Error::NoGpioChips()).to_string();
        assert_eq!(text, "No GPIO chips are available");
    }
}
