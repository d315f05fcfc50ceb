//! The one table of keys: each key's place, what it may hold, its default and its meaning.
//!
//! The reader takes defaults, ranges and allowed words from here, the reference is printed from here, and the environment is
//! matched against it. It owns no value. Invariant: a key that is not here does not exist.

mod devices;
mod gateway;
mod kind;

pub(super) use devices::{DEFAULTS, INPUT, NOT_IN_DEFAULTS, OUTPUT, READING, SENSOR};
pub(super) use gateway::ROOT;
pub(super) use kind::Kind;

/// A key.
pub(super) struct Key {
    /// As written.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What holds where it is absent.
    pub absent: Absent,
    /// One sentence for people.
    pub meaning: &'static str,
    /// Its own keys, where it may hold a table.
    pub table: Option<Inner>,
}

/// What a table below a key holds.
#[derive(Clone, Copy)]
pub(super) enum Inner {
    /// These keys.
    Keys(&'static Section),
    /// Names a person chose, each a table of these keys.
    Named(&'static Section),
    /// Quantities, each a table of these keys.
    Quantities(&'static Section),
}

/// What holds where a key is absent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Absent {
    /// It must be there.
    Required,
    /// Nothing.
    Nothing,
    /// Something that is not written here, in words.
    Words(&'static str),
    /// This text.
    Text(&'static str),
    /// This flag.
    Flag(bool),
    /// This whole number.
    Whole(i64),
    /// This number.
    Number(f64),
}

/// A table's keys.
pub(super) struct Section {
    /// Its path, with `NAME` and `QUANTITY` where a name is chosen.
    pub path: &'static str,
    /// In the order of the reference.
    pub keys: &'static [Key],
}

impl Section {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// All names, in the order of the alphabet.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.keys.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names
    }
}

/// The names of the keys a sensor's table may hold besides its driver's options, in the order of the alphabet.
pub fn sensor_keys() -> Vec<&'static str> {
    SENSOR.names()
}

/// A key without keys of its own.
const fn key(name: &'static str, kind: Kind, absent: Absent, meaning: &'static str) -> Key {
    Key { name, kind, absent, meaning, table: None }
}

/// A key that may hold a table.
const fn table(name: &'static str, kind: Kind, absent: Absent, meaning: &'static str, inner: Inner) -> Key {
    Key { name, kind, absent, meaning, table: Some(inner) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every section, root first.
    fn walk(section: &'static Section, visit: &mut impl FnMut(&'static Section)) {
        visit(section);
        for key in section.keys {
            if let Some(Inner::Keys(inner) | Inner::Named(inner) | Inner::Quantities(inner)) = key.table {
                walk(inner, visit);
            }
        }
    }

    #[test]
    fn names_are_unique_and_sentences_are_plain() {
        walk(&ROOT, &mut |section| {
            let mut names = section.names();
            names.dedup();
            assert_eq!(names.len(), section.keys.len(), "a key twice in {}", section.path);
            for key in section.keys {
                assert!(!key.meaning.is_empty() && !key.meaning.ends_with('.'), "{} {}", section.path, key.name);
                assert!(!key.meaning.contains('\n'), "{} {}", section.path, key.name);
            }
        });
    }

    #[test]
    fn every_default_is_allowed_by_its_own_kind() {
        use super::super::reader::default_of;
        use super::super::values::Fit;
        use crate::quantity::Unit;
        use std::path::PathBuf;
        use std::time::Duration;
        walk(&ROOT, &mut |section| {
            for key in section.keys.iter().filter(|key| {
                matches!(key.absent, Absent::Text(_) | Absent::Flag(_) | Absent::Whole(_) | Absent::Number(_))
            }) {
                let (data, kind) = (default_of(key), key.kind);
                let fits = match kind {
                    Kind::Duration(..) => Duration::fit(&data, kind).is_some(),
                    Kind::Size(..) => u64::fit(&data, kind).is_some(),
                    Kind::Rate(..) => u32::fit(&data, kind).is_some(),
                    Kind::Whole(..) | Kind::Odd(..) => i64::fit(&data, kind).is_some(),
                    Kind::Number | Kind::NotZero => f64::fit(&data, kind).is_some(),
                    Kind::Flag => bool::fit(&data, kind).is_some(),
                    Kind::Path => PathBuf::fit(&data, kind).is_some(),
                    Kind::Unit => Unit::fit(&data, kind).is_some(),
                    Kind::Level => data.text() == Some("off"),
                    Kind::LevelOr(words) => data.text().is_some_and(|text| words.contains(&text)),
                    Kind::KeepOr => data.text() == Some("keep"),
                    Kind::Text | Kind::Topic | Kind::TopicOrNone | Kind::Choice(_) | Kind::Protocol => {
                        String::fit(&data, kind).is_some()
                    }
                    other => panic!("{} {} has a default though it is {other}", section.path, key.name),
                };
                assert!(fits, "{} {}: {data} is not {kind}", section.path, key.name);
            }
        });
    }
}
