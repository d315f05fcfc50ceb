//! Which board this is, and what a person does there to get a bus, a PWM channel or a line: the words of remedies.
//!
//! What is known of single boards for the words of a failure stands here alone, in one function for each thing that can be
//! missing. It opens no device and decides nothing: with a wrong guess a sentence is less helpful, and nothing else is
//! different. Sources: Raspberry Pi's `overlays/README`, the device trees of Linux and of BeagleBoard.org, the
//! MinnowBoard's firmware menus.

use std::fs;
use std::path::Path;

/// The families of boards whose remedies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    RaspberryPi,
    BeagleBone,
    /// i.MX 6 and 7, whose manuals count controllers from 1.
    Imx,
    /// No device tree: the firmware tells what there is, as on a MinnowBoard.
    Acpi,
    Other,
}

/// The strings of the device tree's `compatible`, the board's own first; empty without a device tree.
pub(super) fn compatible(root: &Path) -> Vec<String> {
    let bytes = fs::read(root.join("proc/device-tree/compatible")).unwrap_or_default();
    let entries = bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries.map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

impl Model {
    /// The board whose `/proc` lies under `root`.
    pub(super) fn of(root: &Path) -> Self {
        const KNOWN: [(&str, Model); 4] = [
            ("raspberrypi,", Model::RaspberryPi),
            ("ti,am335x-bone", Model::BeagleBone),
            ("fsl,imx6", Model::Imx),
            ("fsl,imx7", Model::Imx),
        ];
        let compatible = compatible(root);
        let is = |prefix: &str| compatible.iter().any(|entry| entry.starts_with(prefix));
        let unknown = if compatible.is_empty() { Self::Acpi } else { Self::Other };
        KNOWN.iter().find(|(prefix, _)| is(prefix)).map_or(unknown, |(_, model)| *model)
    }

    /// What makes the I2C bus `/dev/i2c-{number}` exist.
    pub(super) fn enable_i2c(self, number: Option<u32>) -> String {
        match (self, number) {
            (Self::RaspberryPi, Some(0)) => in_config_txt("dtparam=i2c_vc=on"),
            (Self::RaspberryPi, None | Some(1)) => in_config_txt("dtparam=i2c_arm=on"),
            (Self::RaspberryPi, Some(number)) => in_config_txt(&format!("dtoverlay=i2c-gpio,bus={number}")),
            (Self::BeagleBone, Some(1)) => {
                "with the universal cape, config-pin P9.17 i2c and config-pin P9.18 i2c make it".to_owned()
            }
            (Self::BeagleBone, _) => "P9.19 and P9.20 are /dev/i2c-2".to_owned(),
            (Self::Imx, Some(number)) => {
                format!("it is the controller I2C{} of the manual: enable it in the device tree", number + 1)
            }
            (Self::Acpi, _) => {
                "the firmware must enable it and its driver be loaded (i2c-designware-platform on a MinnowBoard)"
                    .to_owned()
            }
            (Self::Imx | Self::Other, _) => "enable it in the device tree".to_owned(),
        }
    }

    /// What makes a PWM chip exist; `line` is the line it is wanted for, where that is known.
    pub(super) fn enable_pwm(self, line: Option<&str>) -> String {
        match (self, line) {
            (Self::RaspberryPi, Some("GPIO12")) => in_config_txt("dtoverlay=pwm,pin=12,func=4"),
            (Self::RaspberryPi, Some("GPIO13")) => in_config_txt("dtoverlay=pwm,pin=13,func=4"),
            (Self::RaspberryPi, Some("GPIO19")) => in_config_txt("dtoverlay=pwm,pin=19,func=2"),
            (Self::RaspberryPi, _) => in_config_txt("dtoverlay=pwm,pin=18,func=2"),
            (Self::BeagleBone, _) => "with the universal cape, config-pin P9.14 pwm makes EHRPWM1A".to_owned(),
            (Self::Acpi, _) => "the firmware must enable it".to_owned(),
            (Self::Imx | Self::Other, _) => "enable it in the device tree".to_owned(),
        }
    }

    /// What gives a line free that `consumer` holds.
    pub(super) fn free_line(self, consumer: &str) -> &'static str {
        let is_header_pin = consumer.starts_with("P8_") || consumer.starts_with("P9_");
        match self {
            _ if consumer == "board2mqtt" => "another board2mqtt runs; stop that one (systemctl stop board2mqtt)",
            _ if consumer == "sysfs" => "it was exported in /sys/class/gpio: unexport it there",
            Self::BeagleBone if is_header_pin => {
                "that is the universal cape: comment out enable_uboot_cape_universal=1 in /boot/uEnv.txt and restart the board"
            }
            Self::RaspberryPi => {
                "stop that program, or remove the dtparam or dtoverlay from config.txt that gives it the line"
            }
            _ => "stop that program, or take the line from that driver in the device tree",
        }
    }

    /// Where a line is that other kernels of this board call `name`: how its chip's label begins, and its offset.
    ///
    /// Upstream kernels name a Raspberry Pi's lines by their usual function (`SDA1`), and the Pi 5's first kernels by the
    /// header's pin (`PIN11`), but line n of the SoC is always offset n.
    pub(super) fn usual_place(self, name: &str) -> Option<(&'static str, u32)> {
        let number = name.strip_prefix("GPIO")?.parse().ok().filter(|number| *number <= 27)?;
        (self == Self::RaspberryPi).then_some(("pinctrl-", number))
    }
}

fn in_config_txt(line: &str) -> String {
    format!("add {line} to config.txt and restart the board")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A folder whose device tree names these.
    pub(in crate::board) fn root(compatible: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("proc/device-tree")).expect("a folder");
        fs::write(root.path().join("proc/device-tree/compatible"), compatible).expect("a file");
        root
    }

    #[test]
    fn the_device_tree_tells_the_board() {
        for (compatible, model) in [
            ("raspberrypi,5-model-b\0brcm,bcm2712\0", Model::RaspberryPi),
            ("ti,am335x-bone-black\0ti,am335x-bone\0ti,am33xx\0", Model::BeagleBone),
            ("udoo,neofull\0fsl,imx6sx\0", Model::Imx),
            ("phytec,imx7d-pba-c-09\0phytec,imx7d-phycore-som\0fsl,imx7d\0", Model::Imx),
            ("qcom,apq8016-sbc\0qcom,apq8016\0", Model::Other),
            ("my-raspberrypi,3\0", Model::Other),
        ] {
            assert_eq!(Model::of(root(compatible).path()), model, "{compatible:?}");
        }
        assert_eq!(Model::of(tempfile::tempdir().expect("a folder").path()), Model::Acpi);
    }

    #[test]
    fn a_bus_is_enabled_where_the_board_does_it() {
        let pi = |number| Model::RaspberryPi.enable_i2c(number);
        assert_eq!(pi(Some(1)), "add dtparam=i2c_arm=on to config.txt and restart the board");
        assert_eq!(pi(Some(3)), "add dtoverlay=i2c-gpio,bus=3 to config.txt and restart the board");
        assert_eq!(Model::BeagleBone.enable_i2c(Some(3)), "P9.19 and P9.20 are /dev/i2c-2");
        assert!(Model::Imx.enable_i2c(Some(1)).contains("I2C2 of the manual"));
        assert!(Model::Acpi.enable_i2c(Some(7)).contains("firmware"));
    }

    #[test]
    fn each_pwm_line_of_a_raspberry_pi_has_its_overlay() {
        for (line, overlay) in [("GPIO12", "pin=12,func=4"), ("GPIO18", "pin=18,func=2"), ("GPIO19", "pin=19,func=2")] {
            assert!(Model::RaspberryPi.enable_pwm(Some(line)).contains(overlay), "{line}");
        }
    }

    #[test]
    fn whoever_holds_a_line_is_told_how_to_let_it_go() {
        assert!(Model::BeagleBone.free_line("P9_12").contains("enable_uboot_cape_universal=1"));
        assert!(Model::Other.free_line("P9_12").starts_with("stop that program"));
        assert!(Model::RaspberryPi.free_line("spi0 CS0").contains("config.txt"));
        assert!(Model::RaspberryPi.free_line("board2mqtt").contains("systemctl stop board2mqtt"));
        assert!(Model::Other.free_line("sysfs").contains("unexport"));
    }

    #[test]
    fn a_raspberry_pis_numbers_are_offsets() {
        assert_eq!(Model::RaspberryPi.usual_place("GPIO17"), Some(("pinctrl-", 17)));
        for (model, name) in [(Model::Other, "GPIO17"), (Model::RaspberryPi, "GPIO28"), (Model::RaspberryPi, "PIN11")] {
            assert_eq!(model.usual_place(name), None, "{name}");
        }
    }
}
