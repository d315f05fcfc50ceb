//! The configuration as a tree of values that know where they were written, whether in the file or in the environment.
//!
//! It owns no key and no meaning. Invariant: tables hold their entries in the file's order, each key once.

use super::Origin;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it was written; a table's origin is its header.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub data: Data,
    pub origin: Origin,
}

/// What TOML can say, as far as a configuration needs it.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Text(String),
    Whole(i64),
    /// A whole number beyond 64 bits, as written.
    Huge(String),
    Number(f64),
    Flag(bool),
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key was written; for a table with a header, its last word there.
    pub origin: Origin,
    pub value: Node,
}

impl Table {
    pub const EMPTY: Self = Self { entries: Vec::new() };

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The tables that lead to the last entry of that name before `end`, and where it is.
    pub fn last_before<'a>(&'a self, key: &str, end: usize) -> Option<(Vec<&'a str>, usize)> {
        let own = self.get(key).map(|entry| (Vec::new(), entry.origin.span.start));
        let within = self.entries.iter().filter_map(|entry| {
            let (mut tables, start) = entry.value.data.table()?.last_before(key, end)?;
            tables.insert(0, entry.key.as_str());
            Some((tables, start))
        });
        own.into_iter().chain(within).filter(|(_, start)| *start < end).max_by_key(|(_, start)| *start)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }
}

impl From<DeTable<'_>> for Table {
    fn from(table: DeTable<'_>) -> Self {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| Entry {
                origin: at(key.span()),
                key: key.into_inner().into_owned(),
                value: Node::from(value),
            })
            .collect();
        // The parser moves a table met first through its child (`[a.b]` before `[a]`); it stands at its own header.
        entries.sort_by_key(|entry| entry.origin.span.start);
        Self { entries }
    }
}

impl From<Spanned<DeValue<'_>>> for Node {
    fn from(value: Spanned<DeValue<'_>>) -> Self {
        let origin = at(value.span());
        let data = match value.into_inner() {
            DeValue::String(text) => Data::Text(text.into_owned()),
            DeValue::Integer(whole) => i64::from_str_radix(whole.as_str(), whole.radix())
                .map_or_else(|_| Data::Huge(whole.to_string()), Data::Whole),
            DeValue::Float(number) => Data::Number(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Data::Flag(flag),
            DeValue::Datetime(date) => Data::Date(date.to_string()),
            DeValue::Array(list) => Data::List(list.into_iter().map(Self::from).collect()),
            DeValue::Table(table) => Data::Table(Table::from(table)),
        };
        Self { data, origin }
    }
}

fn at(span: std::ops::Range<usize>) -> Origin {
    Origin { span, variable: None }
}

impl Data {
    /// The table, where it is one.
    pub fn table(&self) -> Option<&Table> {
        if let Self::Table(table) = self { Some(table) } else { None }
    }

    /// What kind of value it is, without the value: for secrets.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Whole(_) | Self::Huge(_) | Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl fmt::Display for Data {
    /// For messages: short, one line, nothing that could move a cursor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "\"{}\"", escape(text)),
            Self::Whole(whole) => write!(f, "the number {whole}"),
            Self::Huge(text) => write!(f, "the number {}", escape(text)),
            Self::Number(number) => write!(f, "the number {number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Date(date) => write!(f, "the date {date}"),
            Self::List(_) | Self::Table(_) => f.write_str(self.noun()),
        }
    }
}

/// `text` as a message may show it: at most 60 characters, control characters escaped.
pub(super) fn escape(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN {
            shown.push('…');
            break;
        }
        if is_unprintable(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Characters that would move a cursor, change a direction or show nothing.
pub(super) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_the_order_of_the_file() {
        let text = "[b.x]\nv = 1\n[a]\nw = 2\n[b]\nz = 3\n";
        let table = Table::from(DeTable::parse(text).expect("toml").into_inner());
        let keys: Vec<_> = table.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["a", "b"], "b stands at its own header");
    }

    #[test]
    fn values_say_what_they_are() {
        let table = Table::from(
            DeTable::parse("a = 0x76\nb = 99999999999999999999\nc = \"\\u001b[2J\"\nd = 1979-05-27\ne = [1]\nf = 1e3")
                .expect("toml")
                .into_inner(),
        );
        let shown: Vec<_> = table.entries.iter().map(|entry| entry.value.data.to_string()).collect();
        assert_eq!(
            shown,
            [
                "the number 118",
                "the number 99999999999999999999",
                "\"\\u{1b}[2J\"",
                "the date 1979-05-27",
                "a list",
                "the number 1000"
            ]
        );
    }
}
