//! I2C through `/dev/i2c-N`: one open device per sensor, errno turned into a [`Failure`] with its remedy.
//!
//! The kernel serialises transfers of several devices on one bus. Nothing here cancels a transfer: the adapter's own
//! time-out is asked for, and whether a driver keeps it is the driver's affair.

use super::adapter::Adapter;
use super::transfer::{self, MAX_MESSAGE, Wire};
use super::words;
use crate::board::BusFault;
use crate::line::I2cPlace;
use crate::sample::{Failure, Reason};
use embedded_hal::i2c::{ErrorType, I2c, Operation};
use linux_embedded_hal::i2cdev::core::{I2CMessage, I2CTransfer};
use linux_embedded_hal::i2cdev::linux::{LinuxI2CDevice, LinuxI2CError, LinuxI2CMessage};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// Sets the adapter's time-out in units of 10 ms (`linux/i2c-dev.h`).
const I2C_TIMEOUT: u32 = 0x0702;

/// When an errno was seen: the same number means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Transfer,
}

/// One chip's place on a bus.
pub(super) struct Place {
    device: LinuxI2CDevice,
    selected: u8,
    adapter: Adapter,
}

impl Place {
    /// Opens the bus and takes the address; `timeout` becomes the time-out of the whole adapter.
    pub(super) fn open(root: &Path, place: &I2cPlace, timeout: Duration) -> Result<Self, Failure> {
        let adapter = Adapter { root: root.to_owned(), bus: place.bus.clone() };
        let device = LinuxI2CDevice::new(&place.bus, u16::from(place.address))
            .map_err(|error| failure(&adapter, &io_error(error), Stage::Open, place.address))?;
        set_timeout(&device, timeout, &place.bus);
        Ok(Self { device, selected: place.address, adapter })
    }

    /// i2c-dev checks for a kernel driver when an address is selected, so `busy` may come from here too.
    fn select(&mut self, address: u8) -> Result<(), BusFault> {
        if self.selected != address {
            self.device
                .set_slave_address(u16::from(address))
                .map_err(|error| BusFault(failure(&self.adapter, &io_error(error), Stage::Open, address)))?;
            self.selected = address;
        }
        Ok(())
    }
}

impl ErrorType for Place {
    type Error = BusFault;
}

impl I2c for Place {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusFault> {
        self.select(address)?;
        transfer::carry_out(&mut self.device, operations)
            .map_err(|error| BusFault(failure(&self.adapter, &error, Stage::Transfer, address)))
    }
}

impl Wire for LinuxI2CDevice {
    fn transfer(&mut self, write: Option<&[u8]>, read: Option<&mut [u8]>) -> io::Result<()> {
        let (wanted, done) = match (write, read) {
            (Some(write), Some(read)) => {
                (2, I2CTransfer::transfer(self, &mut [LinuxI2CMessage::write(write), LinuxI2CMessage::read(read)]))
            }
            (Some(write), None) => (1, I2CTransfer::transfer(self, &mut [LinuxI2CMessage::write(write)])),
            (None, Some(read)) => (1, I2CTransfer::transfer(self, &mut [LinuxI2CMessage::read(read)])),
            (None, None) => return Ok(()),
        };
        // An adapter may stop early and say so only by its count.
        if done.map_err(io_error)? == wanted { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
    }
}

fn io_error(error: LinuxI2CError) -> io::Error {
    error.into()
}

/// Tens of milliseconds, rounded up, at least one.
fn timeout_units(timeout: Duration) -> libc::c_ulong {
    let tens = timeout.as_micros().div_ceil(10_000).clamp(1, 100_000);
    tens as libc::c_ulong
}

/// Asks the adapter for the time-out; one that does not take it keeps its own, usually a second.
fn set_timeout(device: &LinuxI2CDevice, timeout: Duration, bus: &Path) {
    // SAFETY: the descriptor is open for the duration of the call, and I2C_TIMEOUT takes its argument by value.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), I2C_TIMEOUT as _, timeout_units(timeout)) };
    if answer != 0 {
        let error = io::Error::last_os_error();
        log::debug!(bus:% = bus.display(), error:%; "i2c adapter keeps its own time-out");
    }
}

/// The word for an errno.
///
/// Nobody answering is ENXIO, EREMOTEIO or ENODEV, by the adapter's driver (kernel `i2c/fault-codes`). ETIMEDOUT is a
/// stretched clock or a bus held low on every adapter, the i.MX's too (`i2c_imx_acked` gives ENXIO, `i2c_imx_trx_complete`
/// and `i2c_imx_bus_busy` ETIMEDOUT); only QEMU's model of that one, which never tells its driver of a missing
/// acknowledgement, lets an absent chip end so.
fn reason(errno: i32, stage: Stage, kernel_driver: bool) -> Reason {
    match (errno, stage) {
        (libc::EACCES | libc::EPERM, _) => Reason::Permission,
        (libc::ENOENT | libc::ENOTDIR, _) => Reason::Absent,
        (libc::ENXIO | libc::ENODEV | libc::ENOTTY | libc::EISDIR, Stage::Open) => Reason::Absent,
        (libc::ENXIO | libc::ENODEV | libc::EREMOTEIO, Stage::Transfer) => Reason::Nack,
        (libc::ETIMEDOUT, _) => Reason::Timeout,
        (libc::EBUSY, Stage::Open) => Reason::Busy,
        (libc::EBUSY, Stage::Transfer) if kernel_driver => Reason::Busy,
        (libc::EMSGSIZE | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS, _) => Reason::Driver,
        _ => Reason::Bus,
    }
}

/// A refused call with its word and its remedy.
fn failure(adapter: &Adapter, error: &io::Error, stage: Stage, address: u8) -> Failure {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let owner = (errno == libc::EBUSY).then(|| adapter.owner(address)).flatten();
    let reason = reason(errno, stage, owner.is_some());
    let place = I2cPlace { bus: adapter.bus.clone(), address };
    let detail = match reason {
        Reason::Permission => return words::permission(&adapter.root, &adapter.bus),
        Reason::Absent => adapter.absence(),
        Reason::Nack => nobody(adapter, &place),
        Reason::Timeout => {
            format!(
                "{place} did not finish in time: a chip stretches the clock, or the bus is held low or lacks pull-ups"
            )
        }
        Reason::Busy => owner.map_or_else(|| format!("another driver owns {place}"), |owner| owner.describe(&place)),
        Reason::Driver if errno == libc::EMSGSIZE => format!("a message to {place} exceeds {MAX_MESSAGE} bytes"),
        Reason::Driver => format!("the adapter of {place} cannot do this transfer: {error}"),
        _ => format!("the bus of {place} failed: {error}"),
    };
    Failure::new(reason, detail)
}

fn nobody(adapter: &Adapter, place: &I2cPlace) -> String {
    let look =
        adapter.number().map_or_else(String::new, |number| format!(" (i2cdetect -y {number} shows who answers)"));
    format!("nothing answered at {place}: check wiring, power and address{look}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn board() -> (tempfile::TempDir, Adapter) {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("dev")).expect("a folder");
        fs::create_dir_all(root.path().join("sys/bus/i2c/devices")).expect("a folder");
        let adapter = Adapter { root: root.path().to_owned(), bus: root.path().join("dev/i2c-1") };
        fs::write(&adapter.bus, "").expect("a file");
        (root, adapter)
    }

    fn failure(adapter: &Adapter, errno: i32, stage: Stage) -> Failure {
        super::failure(adapter, &io::Error::from_raw_os_error(errno), stage, 0x76)
    }

    #[test]
    fn every_errno_has_its_word() {
        use Stage::{Open, Transfer};
        let table = [
            (libc::ENXIO, Transfer, Reason::Nack),
            (libc::EREMOTEIO, Transfer, Reason::Nack),
            (libc::ENODEV, Transfer, Reason::Nack),
            (libc::ENXIO, Open, Reason::Absent),
            (libc::ENODEV, Open, Reason::Absent),
            (libc::ENOENT, Open, Reason::Absent),
            (libc::ENOTTY, Open, Reason::Absent),
            (libc::EISDIR, Open, Reason::Absent),
            (libc::ENOTDIR, Open, Reason::Absent),
            (libc::ETIMEDOUT, Transfer, Reason::Timeout),
            (libc::EIO, Transfer, Reason::Bus),
            (libc::EAGAIN, Transfer, Reason::Bus),
            (libc::EPROTO, Transfer, Reason::Bus),
            (libc::EBUSY, Open, Reason::Busy),
            (libc::EBUSY, Transfer, Reason::Bus),
            (libc::EACCES, Open, Reason::Permission),
            (libc::EPERM, Transfer, Reason::Permission),
            (libc::EOPNOTSUPP, Transfer, Reason::Driver),
            (libc::EINVAL, Transfer, Reason::Driver),
            (libc::EMSGSIZE, Transfer, Reason::Driver),
        ];
        for (errno, stage, expected) in table {
            assert_eq!(reason(errno, stage, false), expected, "errno {errno} at {stage:?}");
        }
        assert_eq!(reason(libc::EBUSY, Transfer, true), Reason::Busy);
    }

    #[test]
    fn a_kernel_driver_is_named_at_open_and_at_the_first_transfer() {
        let (root, adapter) = board();
        let chip = root.path().join("sys/bus/i2c/devices/1-0076");
        fs::create_dir(&chip).expect("a folder");
        symlink("/sys/bus/i2c/drivers/bmp280", chip.join("driver")).expect("a link");
        for stage in [Stage::Open, Stage::Transfer] {
            let failure = failure(&adapter, libc::EBUSY, stage);
            assert_eq!(failure.reason, Reason::Busy);
            assert!(failure.detail.contains("kernel driver bmp280"), "{failure}");
            assert!(failure.detail.contains("/sys/bus/i2c/devices/1-0076"), "{failure}");
        }
    }

    #[test]
    fn nobody_at_the_address_leads_to_wiring_and_to_a_look_at_the_bus() {
        let (root, adapter) = board();
        let failure = failure(&adapter, libc::EREMOTEIO, Stage::Transfer);
        assert_eq!(
            failure.to_string().replace(&root.path().display().to_string(), ""),
            "nack: nothing answered at /dev/i2c-1 0x76: check wiring, power and address (i2cdetect -y 1 shows who answers)"
        );
    }

    #[test]
    fn what_is_no_bus_is_absent() {
        let (root, adapter) = board();
        for (bus, says) in [
            (root.path().join("dev/i2c-7"), "does not exist"),
            (adapter.bus, "is no I2C bus"),
            (root.path().join("dev"), "is no I2C bus"),
            ("/dev/null".into(), "is no I2C bus"),
        ] {
            let place = I2cPlace { bus, address: 0x48 };
            let failure = Place::open(root.path(), &place, Duration::from_secs(1)).err().expect("no bus");
            assert_eq!(failure.reason, Reason::Absent, "{failure}");
            assert!(failure.detail.contains(says), "{failure}");
        }
    }

    #[test]
    fn timeouts_are_rounded_up_to_tens_of_milliseconds() {
        for (timeout, units) in [(0, 1), (1, 1), (10, 1), (11, 2), (500, 50), (1_000, 100)] {
            assert_eq!(timeout_units(Duration::from_millis(timeout)), units);
        }
        assert_eq!(timeout_units(Duration::MAX), 100_000);
    }
}
