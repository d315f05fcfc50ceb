//! What sysfs tells of an I2C bus, for the words of a failure: its adapter, its neighbours, who owns an address.
//!
//! It opens no device and classifies nothing; without a `/sys` it says less. Paths shown are those of the running system,
//! whatever folder stands for `/`.

use crate::board::model::Model;
use crate::line::I2cPlace;
use std::fs;
use std::path::{Path, PathBuf};

/// A bus as the configuration names it.
pub(super) struct Adapter {
    pub(super) root: PathBuf,
    pub(super) bus: PathBuf,
}

/// The kernel driver that owns an address.
pub(super) struct Owner {
    driver: String,
    /// The chip's folder in `/sys/bus/i2c/devices`, such as `1-0076`.
    chip: String,
    /// Where it tells what it measures.
    readable: String,
}

impl Owner {
    /// The owner and both remedies.
    pub(super) fn describe(&self, place: &I2cPlace) -> String {
        let Self { driver, chip, readable } = self;
        format!(
            "the kernel driver {driver} owns {place}: read the chip through {readable}, or free it with \
             echo {chip} | sudo tee /sys/bus/i2c/drivers/{driver}/unbind"
        )
    }
}

impl Adapter {
    /// `N` of `/dev/i2c-N`, through links such as those of udev.
    pub(super) fn number(&self) -> Option<u32> {
        let real = fs::canonicalize(&self.bus).unwrap_or_else(|_| self.bus.clone());
        real.file_name()?.to_str()?.strip_prefix("i2c-")?.parse().ok()
    }

    /// The kernel driver bound to an address.
    pub(super) fn owner(&self, address: u8) -> Option<Owner> {
        let chip = format!("{}-{address:04x}", self.number()?);
        let folder = self.devices().join(&chip);
        let driver = link_name(&folder.join("driver"))?;
        let readable = Path::new("/sys/bus/i2c/devices").join(&chip).join(measures(&folder).unwrap_or_default());
        Some(Owner { driver, chip, readable: readable.display().to_string().trim_end_matches('/').to_owned() })
    }

    /// Why there is no such bus, what there is, and how to get it.
    pub(super) fn absence(&self) -> String {
        let (bus, there) = (self.bus.display(), self.there());
        if self.bus.exists() {
            return format!("{bus} is no I2C bus, or its adapter is gone; {there}");
        }
        let number = self.number();
        if number.is_some_and(|number| self.devices().join(format!("i2c-{number}")).exists()) {
            return format!(
                "the adapter of {bus} is there, its device file is not: load i2c-dev (sudo modprobe i2c-dev)"
            );
        }
        let module = if self.root.join("sys/class/i2c-dev").exists() {
            ""
        } else {
            "; load i2c-dev too (sudo modprobe i2c-dev)"
        };
        format!("{bus} does not exist, {there}: {}{module}", Model::of(&self.root).enable_i2c(number))
    }

    /// `there is /dev/i2c-0 (21a0000.i2c), /dev/i2c-1 (21a4000.i2c)`
    fn there(&self) -> String {
        let name = |number: &u32| {
            let name = fs::read_to_string(self.devices().join(format!("i2c-{number}/name"))).unwrap_or_default();
            let bus = format!("/dev/i2c-{number}");
            if name.trim().is_empty() { bus } else { format!("{bus} ({})", name.trim()) }
        };
        match self.buses().iter().map(name).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "there is no I2C bus".to_owned(),
            some => format!("there is {some}"),
        }
    }

    /// The numbers of the buses that have a device file, ascending.
    fn buses(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.root.join("dev")).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("i2c-")?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn devices(&self) -> PathBuf {
        self.root.join("sys/bus/i2c/devices")
    }
}

/// Where a bound chip's measurements are below its folder: `iio:device0` or `hwmon/hwmon1`.
fn measures(chip: &Path) -> Option<PathBuf> {
    let first = |folder: &Path, prefix: &str| {
        let mut names: Vec<String> =
            fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names.into_iter().find(|name| name.starts_with(prefix))
    };
    let iio = first(chip, "iio:device").map(PathBuf::from);
    iio.or_else(|| first(&chip.join("hwmon"), "hwmon").map(|name| Path::new("hwmon").join(name)))
}

fn link_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::model::tests::root;
    use std::os::unix::fs::symlink;

    const PI: &str = "raspberrypi,3-model-b-plus\0brcm,bcm2837\0";

    /// `/dev/i2c-1` on that board.
    fn board(compatible: &str) -> (tempfile::TempDir, Adapter) {
        let root = root(compatible);
        for folder in ["dev", "sys/bus/i2c/devices", "sys/class/i2c-dev"] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        let adapter = Adapter { root: root.path().to_owned(), bus: root.path().join("dev/i2c-1") };
        (root, adapter)
    }

    fn add_bus(root: &tempfile::TempDir, number: u32, name: &str) {
        fs::write(root.path().join(format!("dev/i2c-{number}")), "").expect("a file");
        let adapter = root.path().join(format!("sys/bus/i2c/devices/i2c-{number}"));
        fs::create_dir(&adapter).expect("a folder");
        fs::write(adapter.join("name"), format!("{name}\n")).expect("a file");
    }

    /// With `/` in place of the folder that stands for it.
    fn told(root: &tempfile::TempDir, text: &str) -> String {
        text.replace(&root.path().display().to_string(), "")
    }

    fn add_chip(root: &tempfile::TempDir, driver: &str, measures: &str) {
        let chip = root.path().join("sys/bus/i2c/devices/1-0076");
        fs::create_dir_all(chip.join(measures)).expect("a folder");
        symlink(format!("../../../bus/i2c/drivers/{driver}"), chip.join("driver")).expect("a link");
    }

    #[test]
    fn an_absent_bus_says_what_there_is_and_how_to_get_it() {
        let (root, adapter) = board(PI);
        let nothing = "/dev/i2c-1 does not exist, there is no I2C bus: add dtparam=i2c_arm=on to config.txt and \
                       restart the board";
        assert_eq!(told(&root, &adapter.absence()), nothing);
        add_bus(&root, 20, "fef04500.i2c");
        add_bus(&root, 3, "");
        let some = nothing.replace("there is no I2C bus", "there is /dev/i2c-3, /dev/i2c-20 (fef04500.i2c)");
        assert_eq!(told(&root, &adapter.absence()), some);
        fs::remove_dir(root.path().join("sys/class/i2c-dev")).expect("a folder");
        assert_eq!(told(&root, &adapter.absence()), format!("{some}; load i2c-dev too (sudo modprobe i2c-dev)"));
    }

    #[test]
    fn an_adapter_without_its_device_file_lacks_a_module() {
        let (root, adapter) = board(PI);
        add_bus(&root, 1, "bcm2835 (i2c@7e804000)");
        fs::remove_file(&adapter.bus).expect("a file");
        assert_eq!(
            told(&root, &adapter.absence()),
            "the adapter of /dev/i2c-1 is there, its device file is not: load i2c-dev (sudo modprobe i2c-dev)"
        );
    }

    #[test]
    fn a_file_that_is_no_bus_says_which_are() {
        let (root, _) = board(PI);
        add_bus(&root, 1, "bcm2835 (i2c@7e804000)");
        let null = Adapter { root: root.path().to_owned(), bus: "/dev/null".into() };
        assert_eq!(
            null.absence(),
            "/dev/null is no I2C bus, or its adapter is gone; there is /dev/i2c-1 (bcm2835 (i2c@7e804000))"
        );
    }

    #[test]
    fn an_owned_address_names_the_driver_and_both_ways_out() {
        for (driver, measures, readable) in [
            ("bmp280", "iio:device0", "/sys/bus/i2c/devices/1-0076/iio:device0"),
            ("lm75", "hwmon/hwmon1", "/sys/bus/i2c/devices/1-0076/hwmon/hwmon1"),
            ("at24", "power", "/sys/bus/i2c/devices/1-0076"),
        ] {
            let (root, adapter) = board(PI);
            add_chip(&root, driver, measures);
            let place = I2cPlace { bus: "/dev/i2c-1".into(), address: 0x76 };
            assert_eq!(
                adapter.owner(0x76).expect("an owner").describe(&place),
                format!(
                    "the kernel driver {driver} owns /dev/i2c-1 0x76: read the chip through {readable}, or free it \
                     with echo 1-0076 | sudo tee /sys/bus/i2c/drivers/{driver}/unbind"
                )
            );
            assert!(adapter.owner(0x77).is_none());
        }
    }
}
