//! No GPIO line and no PWM channel has two users. Names are compared as they are written: that `GPIO17` is offset 17 of
//! some chip is known only on the board, where the kernel refuses the second request.

use super::Context;
use crate::config::Origin;
use crate::line::{Drive, LineId, PwmId};
use std::collections::HashMap;

/// A part of the board that has one user.
#[derive(PartialEq, Eq, Hash)]
enum Part<'a> {
    Line(&'a str),
    Offset(&'a str, u32),
    Pwm(&'a str, u32),
}

/// Reports every second user of a line or a channel.
pub(super) fn check(cx: &mut Context<'_>) {
    let inputs = cx.config.inputs.iter().map(|i| (of_line(&i.line), "input", &i.name.value, &i.line.origin));
    let outputs = cx.config.outputs.iter().map(|o| (of_drive(&o.drive), "output", &o.name.value, &o.drive.origin));
    let mut users: HashMap<Part<'_>, (&str, &str)> = HashMap::new();
    let mut doubles: Vec<(&Origin, String)> = Vec::new();
    for (part, kind, name, origin) in inputs.chain(outputs) {
        let what = match part {
            Part::Line(line) => line.to_owned(),
            Part::Offset(chip, number) | Part::Pwm(chip, number) => format!("{chip}:{number}"),
        };
        if let Some((other_kind, other)) = users.get(&part) {
            doubles.push((origin, format!("`{what}` is used twice: by {other_kind} `{other}` and {kind} `{name}`")));
        } else {
            users.insert(part, (kind, name));
        }
    }
    for (origin, message) in doubles {
        cx.report.fault(origin, message, "each input and each output needs a line of its own");
    }
}

fn of_line(line: &LineId) -> Part<'_> {
    match line {
        LineId::Name(name) => Part::Line(name),
        LineId::Offset { chip, offset } => Part::Offset(chip.strip_prefix("/dev/").unwrap_or(chip), *offset),
    }
}

fn of_drive(drive: &Drive) -> Part<'_> {
    match drive {
        Drive::Switch { line, .. } => of_line(line),
        Drive::Pwm { channel: PwmId::Line(name), .. } => Part::Line(name),
        Drive::Pwm { channel: PwmId::Channel { chip, channel }, .. } => Part::Pwm(chip, *channel),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::config::{Input, Output};
    use crate::line::Active;

    fn offset(chip: &str, offset: u32) -> LineId {
        LineId::Offset { chip: chip.into(), offset }
    }

    #[test]
    fn a_line_has_one_user() {
        let mut twice = config();
        twice.inputs.push(input("door", "GPIO18"));
        twice.outputs.push(pwm("fan", "GPIO18"));
        assert_eq!(fault(&twice).message, "`GPIO18` is used twice: by input `door` and output `fan`");
        let mut twice = config();
        twice.inputs.push(Input { line: at(offset("gpiochip0", 7), 0), ..input("a", "") });
        twice.inputs.push(Input { line: at(offset("/dev/gpiochip0", 7), 0), ..input("b", "") });
        assert_eq!(fault(&twice).message, "`gpiochip0:7` is used twice: by input `a` and input `b`");
    }

    #[test]
    fn a_pwm_chip_is_not_a_gpio_chip() {
        let mut config = config();
        let channel = PwmId::Channel { chip: "chip0".into(), channel: 1 };
        let drive = Drive::Pwm { channel, frequency_hz: 100, active: Active::High };
        config.outputs.push(Output { drive: at(drive.clone(), 0), ..output("fan", "") });
        config.inputs.push(Input { line: at(offset("chip0", 1), 0), ..input("door", "") });
        plan(&config);
        config.outputs.push(Output { drive: at(drive, 0), ..output("pump", "") });
        assert_eq!(fault(&config).message, "`chip0:1` is used twice: by output `fan` and output `pump`");
    }
}
