//! `board2mqtt drivers`: what sensors there are.

use super::table::{Side, lines, widths};
use super::{Failed, unknown, write_out};
use crate::quantity::Quantity;
use crate::sensors::{Attach, DRIVERS, Driver};
use serde_json::json;
use std::fmt::Write;

/// Lists all drivers, or shows one.
pub fn run(name: Option<&str>, as_json: bool) -> Result<(), Failed> {
    let drivers: Vec<&Driver> = match name {
        None => DRIVERS.to_vec(),
        Some(name) => {
            let found = crate::sensors::find(name);
            vec![found.ok_or_else(|| unknown("driver", name, DRIVERS.iter().map(|driver| driver.name)))?]
        }
    };
    let text = match (as_json, name) {
        (true, _) => format!("{:#}\n", drivers.iter().map(|driver| as_value(driver)).collect::<serde_json::Value>()),
        (false, None) => table(&drivers),
        (false, Some(_)) => detail(drivers[0]),
    };
    write_out(&text)
}

fn table(drivers: &[&Driver]) -> String {
    let head = ["driver", "addresses", "quantities", "chips"].map(str::to_owned);
    let row = |driver: &&Driver| {
        [driver.name.to_owned(), addresses(driver), quantities(driver).join(" "), driver.chips.to_owned()]
    };
    let rows: Vec<_> = std::iter::once(head).chain(drivers.iter().map(row)).collect();
    lines(&rows, [Side::Left; 4], widths(&rows))
}

fn detail(driver: &Driver) -> String {
    let mut text = format!(
        "{}\n  chips       {}\n  accuracy    {}\n  addresses   {}\n  quantities  {}\n",
        driver.name,
        driver.chips,
        driver.accuracy,
        addresses(driver),
        quantities(driver).join(", ")
    );
    for option in driver.options {
        let allowed: Vec<_> = option.allowed.iter().map(i64::to_string).collect();
        writeln!(
            text,
            "  option      {} = {} (default {}): {}",
            option.name,
            allowed.join("|"),
            allowed[0],
            option.doc
        )
        .expect("a string takes what is written");
    }
    text
}

fn as_value(driver: &Driver) -> serde_json::Value {
    let options = driver.options.iter().map(|option| {
        json!({"name": option.name, "allowed": option.allowed, "default": option.allowed[0], "doc": option.doc})
    });
    let addresses = match driver.attach {
        Attach::I2c(addresses) => addresses,
        Attach::None => &[],
    };
    json!({
        "name": driver.name,
        "chips": driver.chips,
        "accuracy": driver.accuracy,
        "addresses": addresses,
        "quantities": quantities(driver),
        "options": options.collect::<Vec<_>>(),
    })
}

/// What the gateway makes of it: altitude wherever there is pressure.
fn quantities(driver: &Driver) -> Vec<&'static str> {
    let altitude = driver.quantities.contains(&Quantity::Pressure).then_some(Quantity::Altitude);
    driver.quantities.iter().copied().chain(altitude).map(Quantity::name).collect()
}

fn addresses(driver: &Driver) -> String {
    match driver.attach {
        Attach::I2c(addresses) if addresses.len() > 4 => {
            format!("0x{:02x} to 0x{:02x}", addresses[0], addresses[addresses.len() - 1])
        }
        Attach::I2c(addresses) => addresses.iter().map(|a| format!("0x{a:02x}")).collect::<Vec<_>>().join(" "),
        Attach::None => "none".to_owned(),
    }
}
