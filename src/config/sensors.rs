//! Reads `[defaults]` and `[sensors.*]`.
//!
//! What the defaults say holds for every sensor that does not say it itself. Keys nobody knows here may be options of the
//! sensor's driver, so they are kept, unless they are near misses of known ones.

use super::keys::{Inner, Kind, NOT_IN_DEFAULTS, READING, SENSOR};
use super::reader::View;
use super::remedy::{nearest, quantity_names};
use super::tree::{Data, Entry, Table, escape};
use super::{Diagnostic, Located, Reading, SeaLevel, Sensor, names};
use crate::quantity::{Quantity, Unit};
use std::path::PathBuf;

/// `[sensors.*]`, over `[defaults]`.
pub(super) fn sensors(root: &View<'_>) -> Vec<Sensor> {
    let defaults = defaults(root);
    named(root, "sensors", |view| sensor(view.over(defaults)))
}

/// `[defaults]`, each of its values looked at once even where no sensor uses it.
fn defaults<'a>(root: &View<'a>) -> Option<&'a Table> {
    let node = root.node("defaults")?;
    let Data::Table(table) = &node.data else {
        root.misfit("defaults", node);
        return None;
    };
    let Inner::Keys(section) = root.inner("defaults") else { return None };
    let view = View::new(root.context, section, "defaults".to_owned(), table, &node.origin);
    for entry in view.unknown() {
        if NOT_IN_DEFAULTS.contains(&entry.key.as_str()) {
            let message = format!("`{}` cannot stand in [defaults]", entry.key);
            let fault = Diagnostic::fault(&entry.origin, message);
            root.context.note(fault.help("each sensor says this for itself"));
            // Only an address may be absent from a sensor; without the others it is left out.
            if entry.key == "address" {
                view.doubt(&entry.key);
            }
        } else {
            view.unknown_key(entry);
        }
    }
    Shared::read(&view);
    Some(table)
}

/// Reads every table of `[sensors]`, `[inputs]` or `[outputs]` whose name is one.
pub(super) fn named<'a, T>(root: &View<'a>, kind: &str, mut read: impl FnMut(View<'a>) -> Option<T>) -> Vec<T> {
    let Some(node) = root.node(kind) else { return Vec::new() };
    let (Data::Table(table), Inner::Named(section)) = (&node.data, root.inner(kind)) else {
        let fault = Diagnostic::fault(&node.origin, format!("`{kind}` must be tables with names, found {}", node.data));
        root.context.note(fault.help(format!("write [{kind}.NAME]")));
        root.doubt(kind);
        return Vec::new();
    };
    let mut items = Vec::new();
    for entry in &table.entries {
        check_name(root, kind, entry);
        let Data::Table(table) = &entry.value.data else {
            let message = format!("`{}` in [{kind}] must be a table, found {}", escape(&entry.key), entry.value.data);
            root.context.note(Diagnostic::fault(&entry.origin, message).help(format!("write [{kind}.NAME]")));
            root.context.doubt(kind, &escape(&entry.key));
            continue;
        };
        let place = format!("{kind}.{}", escape(&entry.key));
        match read(View::new(root.context, section, place, table, &entry.value.origin)) {
            Some(item) => items.push(item),
            // Left out: nothing may be concluded from its absence.
            None => root.context.doubt(kind, &escape(&entry.key)),
        }
    }
    items
}

fn check_name(root: &View<'_>, kind: &str, entry: &Entry) {
    let shown = escape(&entry.key);
    if !names::is_name(&entry.key) {
        let fault = Diagnostic::fault(&entry.origin, format!("`{shown}` in [{kind}] is no name"));
        root.context.note(fault.help("names are 1 to 64 of the characters A-Z a-z 0-9 _ -"));
        root.context.doubt(kind, &shown);
        root.context.doubt_names(kind);
    } else if names::RESERVED.contains(&entry.key.as_str()) {
        let fault = Diagnostic::fault(&entry.origin, format!("`{shown}` in [{kind}] is a reserved name"));
        root.context.note(fault.help(format!("the gateway's own topics use {}", names::RESERVED.join(", "))));
        root.context.doubt(kind, &shown);
        root.context.doubt_names(kind);
    }
}

/// The name of the table a view shows.
pub(super) fn name_of(view: &View<'_>) -> Located<String> {
    let name = view.place.split_once('.').map_or("", |(_, name)| name);
    Located { value: name.to_owned(), origin: view.origin.clone() }
}

/// What `[defaults]` can say for a sensor.
struct Shared {
    bus: Located<PathBuf>,
    interval: std::time::Duration,
    deadline: std::time::Duration,
    sea_level_pressure: Option<Located<SeaLevel>>,
    quantities: Option<Vec<Located<Quantity>>>,
    clear_when_failing: bool,
}

impl Shared {
    fn read(view: &View<'_>) -> Self {
        Self {
            bus: view.located("bus"),
            interval: view.value("interval"),
            deadline: view.value("deadline"),
            sea_level_pressure: sea_level_pressure(view),
            quantities: quantities(view),
            clear_when_failing: view.choice("when_failing", [false, true]),
        }
    }
}

fn sensor(view: View<'_>) -> Option<Sensor> {
    let (options, misfits) = options(&view);
    let driver = view.required("driver");
    let address = view.optional("address");
    let readings = readings(&view);
    let shared = Shared::read(&view);
    Some(Sensor {
        name: name_of(&view),
        driver: driver?,
        bus: shared.bus,
        address,
        interval: shared.interval,
        deadline: shared.deadline,
        sea_level_pressure: shared.sea_level_pressure,
        quantities: shared.quantities,
        clear_when_failing: shared.clear_when_failing,
        readings,
        options,
        misfits,
    })
}

/// A key with its whole number.
type DriverOption = (Located<String>, Located<i64>);

/// What may be options of the driver: whole numbers, and the keys of what are none.
fn options(view: &View<'_>) -> (Vec<DriverOption>, Vec<Located<String>>) {
    let (mut options, mut misfits) = (Vec::new(), Vec::new());
    for entry in view.unknown() {
        if nearest(&entry.key, SENSOR.names()).is_some() {
            view.unknown_key(entry);
            continue;
        }
        let key = Located { value: entry.key.clone(), origin: entry.origin.clone() };
        match entry.value.data {
            Data::Whole(value) => options.push((key, Located { value, origin: entry.value.origin.clone() })),
            _ => misfits.push(key),
        }
    }
    (options, misfits)
}

fn sea_level_pressure(view: &View<'_>) -> Option<Located<SeaLevel>> {
    const NAME: &str = "sea_level_pressure";
    let node = view.node(NAME)?;
    let origin = node.origin.clone();
    let Some(table) = view.table_in(NAME, node) else {
        let pressure = super::values::Fit::fit(&node.data, Kind::Pressure(800.0, 1100.0));
        if pressure.is_none() {
            view.misfit(NAME, node);
        }
        return pressure.map(|hpa| Located { value: SeaLevel::Fixed(hpa), origin });
    };
    let value = match table.exactly_one(&["topic", "known_elevation"])? {
        "topic" => SeaLevel::Topic {
            topic: table.optional("topic")?,
            unit: pressure_unit(&table),
            stale_after: table.plain("stale_after"),
            otherwise: table.plain("otherwise"),
        },
        _ => {
            for name in ["unit", "stale_after", "otherwise"] {
                if table.node(name).is_some() {
                    table.fault(name, "goes with `topic` only", "a known elevation needs nothing else");
                }
            }
            SeaLevel::KnownElevation(table.plain("known_elevation")?)
        }
    };
    Some(Located { value, origin })
}

fn pressure_unit(table: &View<'_>) -> Unit {
    let unit: Located<Unit> = table.located("unit");
    if unit.quantity() != Quantity::Pressure {
        let units = Unit::of(Quantity::Pressure).iter().map(|unit| unit.symbol()).collect::<Vec<_>>().join(", ");
        table.fault(
            "unit",
            format!("must be a unit of pressure, found \"{}\"", unit.value),
            format!("such are {units}"),
        );
    }
    unit.value
}

fn quantities(view: &View<'_>) -> Option<Vec<Located<Quantity>>> {
    const NAME: &str = "quantities";
    let node = view.node(NAME)?;
    let Data::List(items) = &node.data else {
        view.misfit(NAME, node);
        return None;
    };
    if items.is_empty() {
        view.fault(NAME, "must not be empty", "leave it out to publish all quantities of the driver");
    }
    let mut quantities: Vec<Located<Quantity>> = Vec::new();
    for item in items {
        let known = item.data.text().and_then(Quantity::from_name);
        let message = match known {
            None => format!("has {}, which is no quantity", item.data),
            Some(quantity) if quantities.iter().any(|q| q.value == quantity) => format!("has {} twice", item.data),
            Some(value) => {
                quantities.push(Located { value, origin: item.origin.clone() });
                continue;
            }
        };
        let fault = Diagnostic::fault(&item.origin, format!("{} {message}", view.name_of(NAME)));
        view.context.note(fault.help(quantity_names()));
        view.doubt(NAME);
    }
    Some(quantities)
}

fn readings(view: &View<'_>) -> Vec<Reading> {
    let Some(node) = view.node("readings") else { return Vec::new() };
    let Data::Table(table) = &node.data else {
        view.misfit("readings", node);
        return Vec::new();
    };
    let mut readings = Vec::new();
    for entry in &table.entries {
        let place = format!("{}.readings.{}", view.place, escape(&entry.key));
        let Some(quantity) = Quantity::from_name(&entry.key) else {
            let fault = Diagnostic::fault(&entry.origin, format!("[{place}] names no quantity"));
            let meant = nearest(&entry.key, Quantity::ALL.map(Quantity::name));
            let meant = meant.map(|word| format!("did you mean `{word}`? ")).unwrap_or_default();
            view.context.note(fault.help(format!("{meant}{}", quantity_names())));
            view.doubt("readings");
            continue;
        };
        let Data::Table(table) = &entry.value.data else {
            let fault = format!("[{place}] must be a table, found {}", entry.value.data);
            view.context
                .note(Diagnostic::fault(&entry.value.origin, fault).help("write for example { unit = \"ft\" }"));
            view.context.doubt(&format!("{}.readings", view.place), quantity.name());
            continue;
        };
        let quantity = Located { value: quantity, origin: entry.origin.clone() };
        readings.push(reading(
            &View::new(view.context, &READING, place, table, &entry.value.origin).only_known_keys(),
            quantity,
        ));
    }
    readings
}

fn reading(view: &View<'_>, quantity: Located<Quantity>) -> Reading {
    let (min, max) = (view.optional::<f64>("min"), view.optional::<f64>("max"));
    if let (Some(min), Some(max)) = (&min, &max)
        && min.value >= max.value
    {
        view.fault("max", "must be above `min`", "values outside are failed readings, so these would be all");
    }
    Reading {
        quantity,
        topic: view.optional("topic"),
        unit: view.optional("unit"),
        decimals: view.plain("decimals"),
        payload: view.optional("payload"),
        qos: view.plain("qos"),
        retain: view.plain("retain"),
        scale: view.value("scale"),
        offset: view.value("offset"),
        min,
        max,
        median: view.value("median"),
        average: view.value("average"),
        change: view.plain("change"),
        at_least_every: view.optional("at_least_every"),
    }
}
