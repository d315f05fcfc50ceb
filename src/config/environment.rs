//! Environment variables that override keys: `BOARD2MQTT__MQTT__SERVER` for `server` in `[mqtt]`.
//!
//! Case does not matter and `-` is written `_`. Invariant: an override that fits no key, or more than one, is a fault, never ignored.

use super::keys::{Inner, Kind, ROOT};
use super::remedy::nearest;
use super::tree::{Data, Entry, Node, Table};
use super::{Diagnostic, Doubts, Origin};
use crate::quantity::Quantity;

/// How such a variable begins.
pub const PREFIX: &str = "BOARD2MQTT__";

/// A key that can be overridden.
struct Target {
    /// As the variable spells it after the prefix, in lower case.
    name: String,
    path: Vec<String>,
    /// `None` for a key that only the file knows: an option of a driver.
    kind: Option<Kind>,
}

/// Puts the overrides into the tree; returns what is wrong with them, and the keys that such were perhaps meant for.
pub(super) fn override_keys(
    root: &mut Table,
    environment: impl Iterator<Item = (String, String)>,
) -> (Vec<Diagnostic>, Doubts) {
    let mut doubts = Doubts::default();
    let mut variables: Vec<_> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    if variables.is_empty() {
        return (Vec::new(), doubts);
    }
    variables.sort();
    let mut targets = Vec::new();
    collect(Inner::Keys(&ROOT), Some(root), &[], &mut targets);
    let mut put = |(variable, value): (_, String)| override_key(root, &targets, variable, &value, &mut doubts).err();
    let faults = variables.into_iter().filter_map(&mut put).collect();
    (faults, doubts)
}

fn override_key(
    root: &mut Table,
    targets: &[Target],
    variable: String,
    value: &str,
    doubts: &mut Doubts,
) -> Result<(), Diagnostic> {
    let mut doubt = |target: &Target| {
        if let [tables @ .., key] = target.path.as_slice() {
            doubts.add(&tables.join("."), key);
        }
    };
    let wanted = spelled(&variable[PREFIX.len()..]);
    let mut fitting = targets.iter().filter(|target| target.name == wanted);
    let origin = Origin { span: 0..0, variable: Some(variable) };
    let Some(target) = fitting.next() else {
        let fault = Diagnostic::fault(&origin, "there is no such key to override");
        return Err(match nearest(&wanted, targets.iter().map(|target| target.name.as_str())) {
            Some(name) => {
                targets.iter().filter(|target| target.name == name).for_each(doubt);
                fault.help(format!("did you mean {PREFIX}{}?", name.to_ascii_uppercase()))
            }
            None => fault.help("sections, names and keys are joined by two underscores: BOARD2MQTT__MQTT__SERVER"),
        });
    };
    if let Some(other) = fitting.next() {
        [target, other].into_iter().for_each(&mut doubt);
        let paths = [&target.path, &other.path].map(|path| format!("`{}`", path.join("."))).join(" and ");
        return Err(Diagnostic::fault(&origin, format!("fits {paths}")).help("give one of them another name"));
    }
    put(root, &target.path, Node { data: read(value, target.kind, &origin), origin });
    Ok(())
}

/// As variables spell a key, in lower case.
fn spelled(key: &str) -> String {
    key.to_ascii_lowercase().replace('-', "_")
}

/// Every key that exists below here, in the key table or in the file.
fn collect(inner: Inner, table: Option<&Table>, above: &[String], into: &mut Vec<Target>) {
    let mut add = |name: &str, kind: Option<Kind>, below: Option<Inner>| {
        let mut path = above.to_vec();
        path.push(name.to_owned());
        let spelled = path.iter().map(|part| spelled(part)).collect::<Vec<_>>().join("__");
        into.push(Target { name: spelled, path: path.clone(), kind });
        if let Some(below) = below {
            let table = table.and_then(|table| table.get(name)).and_then(|entry| entry.value.data.table());
            collect(below, table, &path, into);
        }
    };
    let existing = table.map_or(&[][..], |table| &table.entries);
    match inner {
        Inner::Keys(section) => {
            section.keys.iter().for_each(|key| add(key.name, Some(key.kind), key.table));
            existing
                .iter()
                .filter(|entry| section.key(&entry.key).is_none())
                .for_each(|entry| add(&entry.key, None, None));
        }
        Inner::Named(section) => {
            existing.iter().for_each(|entry| add(&entry.key, Some(Kind::Table), Some(Inner::Keys(section))));
        }
        Inner::Quantities(section) => {
            Quantity::ALL.iter().for_each(|q| add(q.name(), Some(Kind::Table), Some(Inner::Keys(section))));
        }
    }
}

/// Sets the value at a path, making the tables that lead there; what is no table on the way is replaced by one.
fn put(table: &mut Table, path: &[String], value: Node) {
    let Some((key, rest)) = path.split_first() else { return };
    if table.get(key).is_none() {
        let node = Node { data: Data::Table(Table::EMPTY), origin: value.origin.clone() };
        table.entries.push(Entry { key: key.clone(), origin: value.origin.clone(), value: node });
    }
    let entry = table.get_mut(key).expect("it is there now");
    if rest.is_empty() {
        entry.value = value;
        return;
    }
    if entry.value.data.table().is_none() {
        entry.value = Node { data: Data::Table(Table::EMPTY), origin: value.origin.clone() };
    }
    if let Data::Table(inner) = &mut entry.value.data {
        put(inner, rest, value);
    }
}

/// The value as TOML where that fits the key, else as the text it is.
fn read(value: &str, kind: Option<Kind>, origin: &Origin) -> Data {
    let parsed = toml::de::DeValue::parse(value.trim()).map(Node::from);
    match parsed {
        Ok(mut node) if fits(&node.data, kind) => {
            rehome(&mut node, origin);
            node.data
        }
        _ => Data::Text(value.to_owned()),
    }
}

/// Whether this is the type of value such a key takes.
fn fits(data: &Data, kind: Option<Kind>) -> bool {
    let Some(kind) = kind else { return true };
    match kind {
        Kind::Secret => matches!(data, Data::Table(_)),
        Kind::SeaLevel | Kind::Line | Kind::KeepOr => matches!(data, Data::Text(_) | Data::Table(_)),
        Kind::Flag => matches!(data, Data::Flag(_)),
        Kind::Whole(..) | Kind::Odd(..) | Kind::Address | Kind::Number | Kind::NotNegative | Kind::NotZero => {
            matches!(data, Data::Whole(_) | Data::Number(_) | Data::Huge(_))
        }
        Kind::Level | Kind::LevelOr(_) => !matches!(data, Data::Date(_) | Data::List(_) | Data::Table(_)),
        Kind::Quantities | Kind::Names | Kind::Curve => matches!(data, Data::List(_)),
        Kind::Table => matches!(data, Data::Table(_)),
        _ => matches!(data, Data::Text(_)),
    }
}

/// Spans inside a variable mean nothing in the file: everything in it comes from the variable.
fn rehome(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| rehome(item, origin)),
        Data::Table(table) => {
            for entry in &mut table.entries {
                entry.origin = origin.clone();
                rehome(&mut entry.value, origin);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overridden(text: &str, variables: &[(&str, &str)]) -> (Table, Vec<Diagnostic>) {
        let mut table = Table::from(toml::de::DeTable::parse(text).expect("toml").into_inner());
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (diagnostics, _) = override_keys(&mut table, variables);
        (table, diagnostics)
    }

    fn at<'a>(table: &'a Table, path: &[&str]) -> &'a Node {
        let (first, rest) = path.split_first().expect("a path");
        let node = &table.get(first).expect("the key").value;
        if rest.is_empty() { node } else { at(node.data.table().expect("a table"), rest) }
    }

    #[test]
    fn names_are_matched_without_case_and_dashes() {
        let text = "[sensors.Roof-2]\ndriver = \"x\"\noversampling = 1";
        let (table, faults) = overridden(
            text,
            &[
                ("BOARD2MQTT__SENSORS__ROOF_2__INTERVAL", "5s"),
                ("BOARD2MQTT__SENSORS__ROOF_2__OVERSAMPLING", "4"),
                ("BOARD2MQTT__SENSORS__ROOF_2__READINGS__ALTITUDE__UNIT", "ft"),
                ("BOARD2MQTT__MQTT__SERVER", "mqtt://a"),
                ("BOARD2MQTT_LOG", "ignored"),
                ("PATH", "ignored"),
            ],
        );
        assert_eq!(faults, []);
        assert_eq!(at(&table, &["sensors", "Roof-2", "interval"]).data.text(), Some("5s"));
        assert!(matches!(at(&table, &["sensors", "Roof-2", "oversampling"]).data, Data::Whole(4)));
        assert_eq!(at(&table, &["sensors", "Roof-2", "readings", "altitude", "unit"]).data.text(), Some("ft"));
        let server = at(&table, &["mqtt", "server"]);
        assert_eq!(server.origin.variable.as_deref(), Some("BOARD2MQTT__MQTT__SERVER"));
    }

    #[test]
    fn values_take_the_type_of_the_key() {
        let (table, faults) = overridden(
            "[mqtt]\npassword = \"x\"",
            &[
                ("BOARD2MQTT__MQTT__USERNAME", "1234"),
                ("BOARD2MQTT__MQTT__QOS", "2"),
                ("BOARD2MQTT__MQTT__RETAIN", "false"),
                ("BOARD2MQTT__MQTT__KEEP_ALIVE", "30"),
                ("BOARD2MQTT__MQTT__CLIENT_ID", "\"quoted\""),
                ("BOARD2MQTT__MQTT__PASSWORD__FILE", "/run/secret"),
                ("BOARD2MQTT__MQTT__TLS", "{ ca = \"ca.pem\" }"),
            ],
        );
        assert_eq!(faults, []);
        assert_eq!(at(&table, &["mqtt", "username"]).data.text(), Some("1234"));
        assert!(matches!(at(&table, &["mqtt", "qos"]).data, Data::Whole(2)));
        assert!(matches!(at(&table, &["mqtt", "retain"]).data, Data::Flag(false)));
        assert_eq!(at(&table, &["mqtt", "keep_alive"]).data.text(), Some("30"));
        assert_eq!(at(&table, &["mqtt", "client_id"]).data.text(), Some("quoted"));
        assert_eq!(at(&table, &["mqtt", "password", "file"]).data.text(), Some("/run/secret"));
        let ca = at(&table, &["mqtt", "tls", "ca"]);
        assert_eq!((ca.data.text(), ca.origin.variable.as_deref()), (Some("ca.pem"), Some("BOARD2MQTT__MQTT__TLS")));
    }

    #[test]
    fn a_password_is_taken_to_the_letter() {
        let (table, _) = overridden("", &[("BOARD2MQTT__MQTT__PASSWORD", "\"a\"")]);
        assert_eq!(at(&table, &["mqtt", "password"]).data.text(), Some("\"a\""));
    }

    #[test]
    fn an_override_without_its_key_is_a_fault() {
        let (_, faults) = overridden(
            "[sensors.a-b]\n[sensors.a_b]",
            &[("BOARD2MQTT__MQTT__SEVER", "x"), ("BOARD2MQTT__", "x"), ("BOARD2MQTT__SENSORS__A_B__BUS", "x")],
        );
        let helps: Vec<_> = faults.iter().map(|fault| fault.help.as_deref().unwrap_or_default()).collect();
        assert_eq!(faults.len(), 3);
        assert!(helps.contains(&"did you mean BOARD2MQTT__MQTT__SERVER?"), "{helps:?}");
        assert!(
            faults.iter().any(|fault| fault.message == "fits `sensors.a-b.bus` and `sensors.a_b.bus`"),
            "{faults:?}"
        );
    }
}
