//! Sensors: driver, place and options against the registry, quantities, the sea-level pressure.
//!
//! What is published of a single quantity is `reading`'s.

use super::claims::Owner;
use super::reading::{check_unit, reading};
use super::report::allowed;
use super::sources::Sources;
use super::templates::{Fields, Template, Templates};
use super::{Context, SeaLevel, Sensor};
use crate::config::{self, Located};
use crate::line::I2cPlace;
use crate::quantity::Quantity;
use crate::quantity::altitude::STANDARD_SEA_LEVEL_HPA;
use crate::sensors::{self, Attach, DRIVERS, Driver, DriverOption, Options};
use std::collections::HashMap;

/// What can be had from a driver: its quantities in its order, then altitude where there is pressure.
pub(super) fn measured(driver: &Driver) -> impl Iterator<Item = Quantity> {
    let direct = driver.quantities.iter().copied().filter(|quantity| *quantity != Quantity::Altitude);
    direct.chain(measures(driver, Quantity::Altitude).then_some(Quantity::Altitude))
}

/// Whether a quantity can be had from a driver.
pub(super) fn measures(driver: &Driver, quantity: Quantity) -> bool {
    let has = |quantity| driver.quantities.contains(&quantity);
    has(quantity) || (quantity == Quantity::Altitude && has(Quantity::Pressure))
}

/// The driver of each sensor, `None` where it is unknown or doubtful, which has then been reported.
pub(super) fn drivers(cx: &mut Context<'_>) -> Vec<Option<&'static Driver>> {
    let mut found = Vec::with_capacity(cx.config.sensors.len());
    for sensor in &cx.config.sensors {
        if cx.report.doubts(&["sensors", &sensor.name, "driver"]) {
            found.push(None);
            continue;
        }
        let driver = sensors::find(&sensor.driver);
        if driver.is_none() {
            let message = format!("no driver is called `{}`", sensor.driver.value);
            let help = allowed(&sensor.driver, DRIVERS.iter().map(|driver| driver.name));
            cx.report.fault(&sensor.driver.origin, message, help);
        }
        found.push(driver);
    }
    found
}

/// Resolves the sensors whose driver is known.
pub(super) fn resolve<'a>(
    drivers: &[Option<&'static Driver>],
    sources: &Sources<'_>,
    cx: &mut Context<'a>,
) -> Vec<Sensor> {
    let mut places = HashMap::new();
    let mut resolved = Vec::with_capacity(drivers.len());
    for (index, (sensor, driver)) in cx.config.sensors.iter().zip(drivers).enumerate() {
        let Some(driver) = driver else { continue };
        let wanted = |quantity| sources.wants(index, quantity);
        let one = sensor_of(sensor, driver, wanted, cx);
        if let Some(place) = &one.place
            && !["bus", "address"].iter().any(|key| cx.report.doubts(&["sensors", &sensor.name, key]))
            && let Some(other) = places.insert(place.clone(), sensor.name.value.as_str())
        {
            let origin = sensor.address.as_ref().map_or(&sensor.name.origin, |address| &address.origin);
            let message = format!("sensors `{other}` and `{}` are both at {place}", sensor.name.value);
            cx.report.fault(origin, message, "two chips on one bus need two addresses");
        }
        resolved.push(one);
    }
    resolved
}

fn sensor_of<'a>(
    sensor: &'a config::Sensor,
    driver: &'static Driver,
    wanted: impl Fn(Quantity) -> bool,
    cx: &mut Context<'a>,
) -> Sensor {
    check_quantities(sensor, driver, &wanted, cx);
    let published = |quantity| sensor.quantities.as_ref().is_none_or(|asked| asked.iter().any(|q| **q == quantity));
    let place = place(sensor, driver, cx);
    let options = options(sensor, driver.options, cx);
    let sea_level = sea_level(sensor, driver, published(Quantity::Altitude) || wanted(Quantity::Altitude), cx);
    let json_topic = topic_of(|t| t.sensor.as_ref(), sensor, Owner::SensorObject(&sensor.name), cx);
    let status_topic = topic_of(|t| t.sensor_status.as_ref(), sensor, Owner::SensorStatus(&sensor.name), cx);
    let health_topic = topic_of(|t| t.health.as_ref(), sensor, Owner::Health(&sensor.name), cx);
    let readings = measured(driver)
        .filter(|quantity| published(*quantity) || wanted(*quantity))
        .map(|quantity| reading(sensor, quantity, published(quantity), json_topic.as_deref(), cx))
        .collect();
    Sensor {
        name: sensor.name.value.clone(),
        driver,
        place,
        options,
        interval: sensor.interval,
        deadline: sensor.deadline,
        sea_level,
        clear_when_failing: sensor.clear_when_failing,
        readings,
        json_topic,
        status_topic,
        health_topic,
    }
}

/// Where the chip is; without an address the driver's usual one, with a warning where there are others.
fn place(sensor: &config::Sensor, driver: &Driver, cx: &mut Context<'_>) -> Option<I2cPlace> {
    let listed = |addresses: &[u8]| addresses.iter().map(|a| format!("0x{a:02x}")).collect::<Vec<_>>().join(", ");
    let address = match (driver.attach, &sensor.address) {
        (Attach::None, None) => return None,
        (Attach::None, Some(address)) => {
            let message = format!("driver `{}` hangs on no bus and has no address", driver.name);
            cx.report.fault(&address.origin, message, "remove it");
            return None;
        }
        (Attach::I2c(addresses), Some(address)) => {
            if !addresses.contains(address) {
                let message = format!("a `{}` cannot be at address 0x{:02x}", driver.name, address.value);
                cx.report.fault(&address.origin, message, format!("its pins select {}", listed(addresses)));
            }
            address.value
        }
        (Attach::I2c(addresses), None) => {
            if let [usual, others @ ..] = addresses
                && !others.is_empty()
            {
                let message =
                    format!("no `address` is given for sensor `{}`: 0x{usual:02x} is taken", sensor.name.value);
                cx.report.warning(&sensor.name.origin, message, format!("its pins select {}", listed(addresses)));
            }
            *addresses.first()?
        }
    };
    Some(I2cPlace { bus: sensor.bus.value.clone(), address })
}

fn options(sensor: &config::Sensor, known: &'static [DriverOption], cx: &mut Context<'_>) -> Options {
    let values = |option: &DriverOption| option.allowed.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let find = |name: &str| known.iter().find(|option| option.name == name);
    let mut given = Vec::new();
    for (name, value) in &sensor.options {
        match find(name) {
            Some(option) if option.allowed.contains(value) => given.push((option.name, value.value)),
            Some(option) => {
                let message = format!("`{}` cannot be {}", option.name, value.value);
                cx.report.fault(&value.origin, message, format!("allowed: {}", values(option)));
            }
            None => unknown_key(sensor, name, known, cx),
        }
    }
    for name in &sensor.misfits {
        match find(name) {
            Some(option) => {
                let message = format!("`{}` must be a whole number", option.name);
                cx.report.fault(&name.origin, message, format!("allowed: {}", values(option)));
            }
            None => unknown_key(sensor, name, known, cx),
        }
    }
    Options(given)
}

/// Near misses of the keys every sensor has were told by the loader.
fn unknown_key(sensor: &config::Sensor, name: &Located<String>, known: &[DriverOption], cx: &mut Context<'_>) {
    let message = format!("unknown key `{}` in [sensors.{}]", name.value, sensor.name.value);
    let options = allowed(name, known.iter().map(|option| option.name));
    cx.report.fault(&name.origin, message, format!("options of `{}`: {options}", sensor.driver.value));
}

/// Quantities and tables the driver cannot fill, and tables of what is neither published nor followed.
fn check_quantities(sensor: &config::Sensor, driver: &Driver, wanted: impl Fn(Quantity) -> bool, cx: &mut Context<'_>) {
    let tables = sensor.readings.iter().map(|reading| &reading.quantity);
    for quantity in sensor.quantities.iter().flatten().chain(tables) {
        if !measures(driver, **quantity) {
            let message = format!("a `{}` measures no {}", driver.name, quantity.value);
            cx.report.fault(&quantity.origin, message, allowed(quantity.name(), measured(driver).map(Quantity::name)));
        }
    }
    let Some(asked) = &sensor.quantities else { return };
    for table in &sensor.readings {
        if !asked.contains(&table.quantity) && !wanted(*table.quantity) {
            let message = format!("{} is not among the `quantities`, nothing is published of it", table.quantity.value);
            cx.report.warning(&table.quantity.origin, message, "add it there, or remove this table");
        }
    }
}

fn sea_level<'a>(sensor: &'a config::Sensor, driver: &Driver, used: bool, cx: &mut Context<'a>) -> SeaLevel {
    let Some(given) = &sensor.sea_level_pressure else { return SeaLevel::Fixed(STANDARD_SEA_LEVEL_HPA) };
    if !measures(driver, Quantity::Pressure) {
        let message = format!("`sea_level_pressure` needs a pressure, a `{}` measures none", driver.name);
        cx.report.fault(&given.origin, message, "remove it");
    } else if !used {
        let message = "`sea_level_pressure` is not used, as there is no altitude";
        cx.report.warning(&given.origin, message, "add `altitude` to `quantities`, or remove it");
    }
    match &given.value {
        config::SeaLevel::Fixed(hpa) => SeaLevel::Fixed(*hpa),
        config::SeaLevel::KnownElevation(metres) => SeaLevel::KnownElevation(*metres),
        config::SeaLevel::Topic { topic, unit, stale_after, otherwise } => {
            if !cx.report.doubts(&["sensors", &sensor.name, "sea_level_pressure", "unit"]) {
                check_unit(Quantity::Pressure, &Located { value: *unit, origin: given.origin.clone() }, cx);
            }
            let name = cx.templates.foreign_topic(topic, &mut cx.report).unwrap_or_default();
            cx.claims.add(&name, Owner::SeaLevel(&sensor.name), &topic.origin);
            SeaLevel::Topic { topic: name, unit: *unit, stale_after: *stale_after, otherwise: *otherwise }
        }
    }
}

/// A topic of a whole sensor.
fn topic_of<'a>(
    select: impl for<'t> Fn(&'t Templates<'a>) -> Option<&'t Template<'a>>,
    sensor: &'a config::Sensor,
    owner: Owner<'a>,
    cx: &mut Context<'a>,
) -> Option<String> {
    if cx.report.doubts(&["sensors", &sensor.name]) {
        return None;
    }
    let fields = Fields { sensor: &sensor.name, ..Fields::default() };
    let topic = cx.templates.render(select(&cx.templates)?, &fields, &mut cx.report)?;
    cx.claims.add(&topic, owner, &sensor.name.origin);
    Some(topic)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, *};
    use super::*;
    use crate::config::Config;
    use crate::plan::Plan;
    use crate::quantity::Unit;

    fn with(sensors: impl IntoIterator<Item = config::Sensor>) -> Config {
        Config { sensors: sensors.into_iter().collect(), ..config() }
    }

    fn quantities(plan: &Plan) -> Vec<Quantity> {
        plan.sensors[0].readings.iter().map(|one| one.quantity).collect()
    }

    #[test]
    fn unknown_drivers_get_a_proposal_and_hide_no_other_fault() {
        let mut config = with([sensor("a", "bmp208", None), sensor("b", "bme280", Some(0x10))]);
        config.sensors[0].driver = at("bmp208".into(), 5);
        config.sensors[1].address = Some(at(0x10, 9));
        let Err(faults) = crate::plan::build(&config) else { panic!("accepted") };
        assert_eq!(faults[0].message, "no driver is called `bmp208`");
        assert!(faults[0].help.as_ref().expect("help").starts_with("did you mean `bmp280`?"));
        assert_eq!(faults[1].message, "a `bme280` cannot be at address 0x10");
        assert_eq!(faults[1].help.as_deref(), Some("its pins select 0x76, 0x77"));
        assert_eq!((faults.len(), faults[1].origin.span.start), (2, 9));
    }

    #[test]
    fn places_are_used_once() {
        let twice = with([sensor("a", "lm75", Some(0x48)), sensor("b", "tmp102", Some(0x48))]);
        assert_eq!(fault(&twice).message, "sensors `a` and `b` are both at /dev/i2c-1 0x48");
        let mut apart = twice;
        apart.sensors[1].bus = at("/dev/i2c-2".into(), 0);
        plan(&apart);
    }

    #[test]
    fn the_usual_address_is_taken_and_told_where_there_are_others() {
        let several = warning(&with([sensor("a", "tmp102", None)]));
        assert_eq!(several.message, "no `address` is given for sensor `a`: 0x48 is taken");
        let only = plan(&with([sensor("a", "mpl3115a2", None)]));
        assert_eq!(only.sensors[0].place.as_ref().map(|place| place.address), Some(0x60));
        let none = plan(&with([sensor("a", "test-counter", None)]));
        assert_eq!(none.sensors[0].place, None);
        let odd = fault(&with([sensor("a", "test-counter", Some(0x48))]));
        assert_eq!(odd.message, "driver `test-counter` hangs on no bus and has no address");
    }

    #[test]
    fn options_are_whole_numbers_out_of_a_list() {
        const KNOWN: &[DriverOption] = &[DriverOption { name: "oversampling", allowed: &[1, 2, 4], doc: "" }];
        let config = config();
        let check = |change: fn(&mut config::Sensor)| {
            let mut report = super::super::report::Report::default();
            let templates = Templates::new(&config, &mut report);
            let mut cx = Context { config: &config, templates, claims: Default::default(), report };
            let mut sensor = sensor("a", "bmp280", Some(0x76));
            change(&mut sensor);
            let options = options(&sensor, KNOWN, &mut cx);
            cx.report.finish().map(|_| options).map_err(|faults| faults[0].message.clone())
        };
        assert_eq!(
            check(|s| s.options = vec![(located("oversampling"), at(4, 0))]),
            Ok(Options(vec![("oversampling", 4)]))
        );
        let refused = |change| check(change).expect_err("refused");
        assert_eq!(refused(|s| s.options = vec![(located("oversampling"), at(3, 0))]), "`oversampling` cannot be 3");
        assert_eq!(
            refused(|s| s.options = vec![(located("oversample"), at(3, 0))]),
            "unknown key `oversample` in [sensors.a]"
        );
        assert_eq!(refused(|s| s.misfits = vec![located("oversampling")]), "`oversampling` must be a whole number");
        assert_eq!(refused(|s| s.misfits = vec![located("colour")]), "unknown key `colour` in [sensors.a]");
    }

    #[test]
    fn altitude_comes_with_pressure_and_last() {
        use Quantity::{Altitude, Temperature};
        let barometer = plan(&with([sensor("a", "bmp280", Some(0x76))]));
        let direct = barometer.sensors[0].driver.quantities;
        assert_eq!(quantities(&barometer), [direct, &[Altitude]].concat());
        assert_eq!(quantities(&plan(&with([sensor("a", "lm75", Some(0x48))]))), [Temperature]);
        let asked = config::Sensor { quantities: Some(vec![at(Altitude, 0)]), ..sensor("a", "bmp280", Some(0x76)) };
        assert_eq!(quantities(&plan(&with([asked]))), [Altitude]);
        let odd = config::Sensor { quantities: Some(vec![at(Altitude, 0)]), ..sensor("a", "lm75", Some(0x48)) };
        assert_eq!(fault(&with([odd])).message, "a `lm75` measures no altitude");
    }

    #[test]
    fn what_is_only_followed_is_read_without_a_topic() {
        let asked = config::Sensor {
            quantities: Some(vec![at(Quantity::Altitude, 0)]),
            readings: vec![config::Reading {
                unit: Some(at(Unit::Fahrenheit, 0)),
                ..fixture::reading(Quantity::Temperature)
            }],
            ..sensor("a", "bmp280", Some(0x76))
        };
        let mut config = with([asked]);
        assert!(warning(&config).message.starts_with("temperature is not among the `quantities`"));
        config.outputs.push(config::Output { follow: Some(follow(local("a.temperature"))), ..output("x", "1") });
        let plan = plan(&config);
        assert_eq!(quantities(&plan), [Quantity::Temperature, Quantity::Altitude]);
        let followed = &plan.sensors[0].readings[0];
        assert_eq!((&followed.topic, &followed.history, followed.process.unit), (&None, &None, Unit::Fahrenheit));
        config.topics.sensor = Some(at("{base}/{sensor}".to_owned(), 0));
        let with_object = self::plan(&config).sensors.remove(0).readings;
        assert_eq!(with_object.iter().map(|r| r.in_object).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn sea_level_pressure_needs_a_pressure() {
        let given = |value, driver, address| config::Sensor {
            sea_level_pressure: Some(at(value, 0)),
            ..sensor("a", driver, Some(address))
        };
        let topic =
            |unit| config::SeaLevel::Topic { topic: located("weather/qnh"), unit, stale_after: None, otherwise: None };
        let thermometer = with([given(config::SeaLevel::Fixed(1000.0), "lm75", 0x48)]);
        assert_eq!(fault(&thermometer).message, "`sea_level_pressure` needs a pressure, a `lm75` measures none");
        let wrong = with([given(topic(Unit::Metre), "bmp280", 0x76)]);
        assert_eq!(fault(&wrong).message, "`m` is no unit of pressure");
        let right = plan(&with([given(topic(Unit::Hectopascal), "bmp280", 0x76)]));
        assert!(matches!(&right.sensors[0].sea_level, SeaLevel::Topic { topic, .. } if topic == "weather/qnh"));
        let mut unused = with([given(config::SeaLevel::Fixed(1000.0), "bmp280", 0x76)]);
        unused.sensors[0].quantities = Some(vec![at(Quantity::Pressure, 0)]);
        assert!(warning(&unused).message.contains("is not used"));
    }
}
