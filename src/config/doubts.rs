//! Which keys of a refused configuration say nothing reliable, so that nothing is concluded from them.
//!
//! A default stands in for a refused value and a table without what it needs is left out; whoever reads on has to know. It
//! would rather doubt too much. Invariant: a configuration without a fault has no doubts.

use super::keys::NOT_IN_DEFAULTS;
use std::collections::BTreeSet;

/// What no name can be.
const UNKNOWN_NAME: &str = "*";

/// Places of the file that cannot be relied on, with everything beneath them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// As `sensors.roof.interval`.
    paths: BTreeSet<String>,
    /// Keys that are doubtful wherever they stand.
    keys: BTreeSet<String>,
}

impl Doubts {
    /// Doubts the key of a table; the file itself is the table without a name.
    pub(super) fn add(&mut self, table: &str, key: &str) {
        self.paths.insert(join(table, key));
    }

    /// Doubts a key in every table.
    pub(super) fn add_everywhere(&mut self, key: &str) {
        self.keys.insert(key.to_owned());
    }

    /// Takes over what another doubts.
    pub(super) fn extend(&mut self, other: Self) {
        self.paths.extend(other.paths);
        self.keys.extend(other.keys);
    }

    /// Doubts that all names of a kind of table are known.
    pub(super) fn add_name(&mut self, kind: &str) {
        self.add(kind, UNKNOWN_NAME);
    }

    /// Whether a table of this name may have been meant, although there is none.
    pub fn may_name(&self, kind: &str, name: &str) -> bool {
        self.cover(&[kind, name]) || self.cover(&[kind, UNKNOWN_NAME])
    }

    /// Whether this place, or a table it stands in, is doubtful; what a sensor takes from `[defaults]` is looked up there too.
    pub fn cover(&self, path: &[&str]) -> bool {
        if self.paths.is_empty() && self.keys.is_empty() {
            return false;
        }
        if let ["sensors", _, below @ ..] = path
            && let Some(key) = below.first()
        {
            let in_defaults = if NOT_IN_DEFAULTS.contains(key) {
                self.paths.contains(&join("defaults", key))
            } else {
                self.cover(&[&["defaults"], below].concat())
            };
            if in_defaults {
                return true;
            }
        }
        let mut place = String::new();
        path.iter().any(|key| {
            place = join(&place, key);
            self.paths.contains(&place) || self.keys.contains(*key)
        })
    }
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_covers_what_is_beneath_and_nothing_beside() {
        let mut doubts = Doubts::default();
        doubts.add("sensors.roof", "readings");
        assert!(doubts.cover(&["sensors", "roof", "readings", "altitude", "topic"]));
        assert!(!doubts.cover(&["sensors", "roof"]) && !doubts.cover(&["sensors", "roof", "interval"]));
        doubts.add("", "outputs");
        assert!(doubts.cover(&["outputs", "fan"]));
    }

    #[test]
    fn doubtful_defaults_are_doubtful_for_every_sensor() {
        let mut doubts = Doubts::default();
        doubts.add("defaults", "interval");
        assert!(doubts.cover(&["sensors", "roof", "interval"]) && !doubts.cover(&["sensors", "roof", "bus"]));
        assert!(!doubts.cover(&["sensors", "interval"]));
        doubts.add("", "defaults");
        assert!(doubts.cover(&["sensors", "roof", "bus"]) && !doubts.cover(&["sensors", "roof", "driver"]));
    }

    #[test]
    fn a_refused_name_may_have_been_any() {
        let mut doubts = Doubts::default();
        doubts.add("sensors", "roof");
        assert!(doubts.may_name("sensors", "roof") && !doubts.may_name("sensors", "cellar"));
        doubts.add_name("sensors");
        assert!(doubts.may_name("sensors", "cellar") && !doubts.may_name("outputs", "cellar"));
        assert!(!doubts.cover(&["sensors", "cellar"]));
    }

    #[test]
    fn a_key_can_be_doubtful_everywhere() {
        let mut doubts = Doubts::default();
        doubts.add_everywhere("roof");
        assert!(doubts.cover(&["sensors", "roof", "bus"]) && !doubts.cover(&["sensors", "cellar", "bus"]));
    }
}
