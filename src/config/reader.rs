//! A table being read: each value is taken by its key, typed and in range, and what does not fit is noted, not thrown.
//!
//! It owns the wording of such faults. Invariant: reading goes on after a fault, so that one pass finds them all, and each
//! fault leaves a doubt about what stands in for the value.

use super::keys::{Absent, DEFAULTS, INPUT, Inner, Key, OUTPUT, SENSOR, Section};
use super::remedy;
use super::tree::{Data, Entry, Node, Table};
use super::values::Fit;
use super::{Diagnostic, Doubts, Located, Origin};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// What a whole reading shares: the faults found, what they make doubtful, and the folder relative paths start at.
pub(super) struct Context<'a> {
    pub folder: &'a Path,
    diagnostics: RefCell<Vec<Diagnostic>>,
    doubts: RefCell<Doubts>,
}

impl<'a> Context<'a> {
    pub fn new(folder: &'a Path) -> Self {
        Self { folder, diagnostics: RefCell::default(), doubts: RefCell::default() }
    }

    pub fn note(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    /// The key of that table cannot be relied on.
    pub fn doubt(&self, table: &str, key: &str) {
        self.doubts.borrow_mut().add(table, key);
    }

    /// A table of that kind may have a name that was not understood.
    pub fn doubt_names(&self, kind: &str) {
        self.doubts.borrow_mut().add_name(kind);
    }

    pub fn into_parts(self) -> (Vec<Diagnostic>, Doubts) {
        (self.diagnostics.into_inner(), self.doubts.into_inner())
    }
}

/// A table of the file with its section of the key table.
pub(super) struct View<'a> {
    pub context: &'a Context<'a>,
    /// As the file writes it between brackets.
    pub place: String,
    /// Its header.
    pub origin: &'a Origin,
    pub table: &'a Table,
    section: &'static Section,
    beneath: Option<&'a Table>,
}

static NOWHERE: Origin = Origin { span: 0..0, variable: None };
static EMPTY: Table = Table::EMPTY;

impl<'a> View<'a> {
    /// A table whose unknown keys have not been looked at.
    pub fn new(
        context: &'a Context<'a>,
        section: &'static Section,
        place: String,
        table: &'a Table,
        origin: &'a Origin,
    ) -> Self {
        Self { context, place, origin, table, section, beneath: None }
    }

    /// The same, with another table beneath that has a value where this one has none.
    pub fn over(mut self, beneath: Option<&'a Table>) -> Self {
        self.beneath = beneath;
        self
    }

    /// Notes every key the section does not have.
    pub fn only_known_keys(self) -> Self {
        self.unknown().for_each(|entry| self.unknown_key(entry));
        self
    }

    /// Notes a key the section does not have. It may have been meant for the one it resembles; if for none, for any that is
    /// not there. Where it belongs into another table, the header of that one may be lost.
    pub fn unknown_key(&self, entry: &Entry) {
        self.context.note(remedy::unknown_in(self.section, &self.place, &entry.key, &entry.origin));
        for (kind, section) in [("sensors", &SENSOR), ("inputs", &INPUT), ("outputs", &OUTPUT)] {
            if section.key(&entry.key).is_some() {
                self.context.doubt_names(kind);
            }
        }
        if DEFAULTS.key(&entry.key).is_some() {
            self.context.doubt("defaults", &entry.key);
        }
        match remedy::nearest(&entry.key, self.section.names()) {
            Some(meant) => self.doubt_meant(self.key(meant)),
            None => self.section.keys.iter().for_each(|key| {
                let takes_more = matches!(key.table, Some(Inner::Named(_) | Inner::Quantities(_)));
                if takes_more || self.node(key.name).is_none() {
                    self.doubt_meant(key);
                }
            }),
        }
    }

    /// Something else may have been meant for this key: where it holds tables with names, for one of those.
    fn doubt_meant(&self, key: &Key) {
        match key.table {
            Some(Inner::Named(_)) => self.context.doubt_names(key.name),
            _ => self.doubt(key.name),
        }
    }

    /// The value of that key cannot be relied on.
    pub fn doubt(&self, name: &str) {
        self.context.doubt(&self.place, name);
    }

    /// Entries whose key the section does not have.
    pub fn unknown(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let section = self.section;
        self.table.entries.iter().filter(move |entry| section.key(&entry.key).is_none())
    }

    /// The entry of that key, and whether it comes from the table beneath.
    fn entry(&self, name: &str) -> Option<(&'a Entry, bool)> {
        let own = self.table.get(name).map(|entry| (entry, false));
        own.or_else(|| self.beneath.and_then(|table| table.get(name)).map(|entry| (entry, true)))
    }

    /// The value of that key as the tree has it.
    pub fn node(&self, name: &str) -> Option<&'a Node> {
        self.entry(name).map(|(entry, _)| &entry.value)
    }

    fn key(&self, name: &str) -> &'static Key {
        self.section.key(name).expect("every key that is read is in the key table")
    }

    /// The keys of the table below that key.
    fn section_of(&self, name: &str) -> &'static Section {
        match self.inner(name) {
            Inner::Keys(section) | Inner::Named(section) | Inner::Quantities(section) => section,
        }
    }

    /// What tables below that key hold.
    pub fn inner(&self, name: &str) -> Inner {
        self.key(name).table.expect("a key read as a table is one in the key table")
    }

    /// Where the value of that key was written; the table's header where it was not.
    pub fn at(&self, name: &str) -> Origin {
        self.node(name).map_or(self.origin, |node| &node.origin).clone()
    }

    /// `in [sensors.roof]`, or `in [defaults]` where the value stands there.
    fn place_of(&self, name: &str) -> String {
        let beneath = self.entry(name).is_some_and(|(_, beneath)| beneath);
        remedy::place_name(if beneath { "defaults" } else { &self.place })
    }

    /// "`interval` in [sensors.roof]"
    pub fn name_of(&self, name: &str) -> String {
        format!("`{name}` {}", self.place_of(name))
    }

    /// Notes a fault at the value of that key.
    pub fn fault(&self, name: &str, message: impl AsRef<str>, help: impl Into<String>) {
        let message = format!("{} {}", self.name_of(name), message.as_ref());
        self.context.note(Diagnostic::fault(&self.at(name), message).help(help));
        self.doubt(name);
    }

    /// Notes a fault at the table's header.
    pub fn fault_here(&self, message: impl AsRef<str>, help: impl Into<String>) {
        let message = format!("[{}] {}", self.place, message.as_ref());
        self.context.note(Diagnostic::fault(self.origin, message).help(help));
    }

    /// Notes that this value is not what the key may hold.
    pub fn misfit(&self, name: &str, node: &Node) {
        let kind = self.key(name).kind;
        let found = remedy::found(&node.data, kind);
        let message = format!("{} must be {kind}, found {found}", self.name_of(name));
        let diagnostic = Diagnostic::fault(&node.origin, message);
        self.doubt(name);
        self.context.note(match remedy::remedy(&node.data, kind) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        });
    }

    /// Notes that a key is missing.
    pub fn missing(&self, name: &str) {
        let key = self.key(name);
        self.doubt(name);
        let message = format!("`{name}` is missing {}", remedy::place_name(&self.place));
        self.context.note(Diagnostic::fault(self.origin, message).help(format!("it must be {}", key.kind)));
    }

    /// A typed value, where there is one.
    pub fn optional<T: Fit>(&self, name: &str) -> Option<Located<T>> {
        let kind = self.key(name).kind;
        let node = self.node(name)?;
        let value = T::fit(&node.data, kind);
        if value.is_none() {
            self.misfit(name, node);
        }
        value.map(|value| Located { value, origin: node.origin.clone() })
    }

    /// The same without its place.
    pub fn plain<T: Fit>(&self, name: &str) -> Option<T> {
        self.optional(name).map(|located| located.value)
    }

    /// A typed value that must be there; `None` has been noted.
    pub fn required<T: Fit>(&self, name: &str) -> Option<Located<T>> {
        if self.node(name).is_none() {
            self.missing(name);
        }
        self.optional(name)
    }

    /// A typed value or the key table's default, which also stands in for a value that was noted as a fault.
    pub fn located<T: Fit>(&self, name: &str) -> Located<T> {
        self.optional(name).unwrap_or_else(|| {
            let key = self.key(name);
            let default = T::fit(&default_of(key), key.kind).expect("the key table's default fits its own kind");
            Located { value: default, origin: Origin::default() }
        })
    }

    /// The same without its place.
    pub fn value<T: Fit>(&self, name: &str) -> T {
        self.located(name).value
    }

    /// One of the key's words, as the value at the same place of `values`.
    pub fn choice<T: Copy, const N: usize>(&self, name: &str, values: [T; N]) -> T {
        let super::keys::Kind::Choice(words) = self.key(name).kind else {
            unreachable!("`{name}` is a choice in the key table")
        };
        assert_eq!(words.len(), N, "as many values of `{name}` as words in the key table");
        let word: String = self.value(name);
        let index = words.iter().position(|known| *known == word).expect("only known words fit");
        values[index]
    }

    /// A topic, or `None` for "none".
    pub fn topic_or_none(&self, name: &str) -> Option<Located<String>> {
        Some(self.located::<String>(name)).filter(|topic| topic.value != "none")
    }

    /// A path, from the file's folder where it is relative.
    pub fn path(&self, name: &str) -> Option<Located<PathBuf>> {
        self.optional::<PathBuf>(name)
            .map(|path| Located { value: self.context.folder.join(&path.value), origin: path.origin })
    }

    /// The table of that key; anything else has been noted.
    pub fn table(&self, name: &str) -> Option<View<'a>> {
        let node = self.node(name)?;
        let view = self.table_in(name, node);
        if view.is_none() {
            self.misfit(name, node);
        }
        view
    }

    /// The table of that key if its value is one, its unknown keys noted.
    pub fn table_in(&self, name: &str, node: &'a Node) -> Option<View<'a>> {
        let section = self.section_of(name);
        let Data::Table(table) = &node.data else { return None };
        let beneath = self.entry(name).is_some_and(|(_, beneath)| beneath);
        let place = match (self.place.as_str(), beneath) {
            ("", _) => name.to_owned(),
            (_, true) => format!("defaults.{name}"),
            (place, false) => format!("{place}.{name}"),
        };
        Some(View::new(self.context, section, place, table, &node.origin).only_known_keys())
    }

    /// The table of that key, empty where there is none.
    pub fn table_or_empty(&self, name: &str) -> View<'a> {
        self.table(name)
            .unwrap_or_else(|| View::new(self.context, self.section_of(name), name.to_owned(), &EMPTY, &NOWHERE))
    }

    /// The one key of `names` that is there; none or several have been noted.
    pub fn exactly_one(&self, names: &[&'static str]) -> Option<&'static str> {
        let given: Vec<_> = names.iter().copied().filter(|name| self.node(name).is_some()).collect();
        let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match given.as_slice() {
            [one] => Some(one),
            [] => {
                self.fault_here("says too little", format!("it needs one of {}", quoted(names)));
                None
            }
            several => {
                self.fault_here(format!("has {} at once", quoted(several)), format!("only one of {}", quoted(names)));
                None
            }
        }
    }
}

/// The key table's default as a value; only for keys that have one.
pub(super) fn default_of(key: &Key) -> Data {
    match key.absent {
        Absent::Text(text) => Data::Text(text.to_owned()),
        Absent::Flag(flag) => Data::Flag(flag),
        Absent::Whole(whole) => Data::Whole(whole),
        Absent::Number(number) => Data::Number(number),
        Absent::Required | Absent::Nothing | Absent::Words(_) => {
            unreachable!("`{}` is read with a default it does not have", key.name)
        }
    }
}
