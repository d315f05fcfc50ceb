//! Where the device tree of a Raspberry Pi 1 to 4 leads its PWM.
//!
//! It reads files and decides nothing. What the tree does not say, or says in a way unknown here, is `None`.

use std::fs;
use std::path::Path;

/// The lines that a PWM chip (its folder in `/sys/class/pwm`) is led to: the `brcm,pins` of the pin groups in its `pinctrl-0`.
///
/// A PWM that is enabled need not come out at the header: Debian's own trees lead it to the audio jack.
pub(super) fn lines_of(chip: &Path) -> Option<Vec<u8>> {
    let node = fs::canonicalize(chip.join("device/of_node")).ok()?;
    let groups = cells(&node.join("pinctrl-0"))?;
    let controllers = fs::read_dir(node.parent()?).ok()?.flatten();
    let controllers = controllers.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"gpio@"));
    let mut lines = Vec::new();
    for group in controllers.filter_map(|entry| fs::read_dir(entry.path()).ok()).flatten().flatten() {
        let [phandle] = cells(&group.path().join("phandle")).unwrap_or_default()[..] else { continue };
        if groups.contains(&phandle) {
            let pins = cells(&group.path().join("brcm,pins"))?;
            lines.extend(pins.into_iter().filter_map(|pin| u8::try_from(pin).ok()));
        }
    }
    lines.sort_unstable();
    (!lines.is_empty()).then_some(lines)
}

/// A property made of 32-bit cells, which are big-endian.
fn cells(property: &Path) -> Option<Vec<u32>> {
    let bytes = fs::read(property).ok()?;
    let (cells, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The part of Debian's `bcm2837-rpi-3-b.dtb` that counts here, with `pinctrl-0` as given.
    fn tree(pinctrl: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &[u8]| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, content).expect("a file");
        };
        write("soc/pwm@7e20c000/pinctrl-0", pinctrl);
        for (group, phandle, pin) in [("pwm0_gpio40", 0x11, 40), ("pwm1_gpio41", 0x12, 41), ("pwm0_gpio18", 0x13, 18)] {
            write(&format!("soc/gpio@7e200000/{group}/phandle"), &[0, 0, 0, phandle]);
            write(&format!("soc/gpio@7e200000/{group}/brcm,pins"), &[0, 0, 0, pin]);
        }
        write("soc/gpio@7e200000/phandle", &[0, 0, 0, 0x11]);
        write("pwmchip0/device/unused", b"");
        symlink(root.path().join("soc/pwm@7e20c000"), root.path().join("pwmchip0/device/of_node")).expect("a link");
        root
    }

    #[test]
    fn the_lines_of_a_pwm_are_those_of_its_pin_groups() {
        let lines = |pinctrl: &[u8]| lines_of(&tree(pinctrl).path().join("pwmchip0"));
        assert_eq!(lines(&[0, 0, 0, 0x11, 0, 0, 0, 0x12]), Some(vec![40, 41]));
        assert_eq!(lines(&[0, 0, 0, 0x13]), Some(vec![18]));
    }

    #[test]
    fn a_tree_of_another_shape_says_nothing() {
        for pinctrl in [&[][..], &[0, 0, 0, 0x77], &[0, 0, 0]] {
            assert_eq!(lines_of(&tree(pinctrl).path().join("pwmchip0")), None, "{pinctrl:?}");
        }
        assert_eq!(lines_of(Path::new("/nonexistent")), None);
    }
}
