//! The reference of every key as Markdown, printed from the key table.
//!
//! It owns the layout alone. Invariant: what it says is what the reader does.

use super::keys::{Absent, Inner, Key, ROOT, Section};
use std::fmt::Write;

/// One table a section, in the order of the key table.
pub fn reference() -> String {
    let mut text = String::new();
    for key in ROOT.keys {
        below(key, &mut text);
    }
    text
}

fn below(key: &Key, text: &mut String) {
    let Some(inner) = key.table else { return };
    let (Inner::Keys(section) | Inner::Named(section) | Inner::Quantities(section)) = inner;
    table(section, key.meaning, text);
    // What the defaults hold is explained with the sensors.
    if section.path != "defaults" {
        section.keys.iter().for_each(|key| below(key, text));
    }
}

fn table(section: &Section, meaning: &str, text: &mut String) {
    let (path, separator) = (section.path, if text.is_empty() { "" } else { "\n" });
    let _ = writeln!(text, "{separator}**`[{path}]`**: {}\n", lower(meaning));
    text.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in section.keys {
        let kind = cell(&key.kind.to_string());
        let _ = writeln!(text, "| `{}` | {kind} | {} | {} |", key.name, cell(&absent(key)), cell(key.meaning));
    }
}

/// The first letter small, since a path stands before it.
fn lower(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn absent(key: &Key) -> String {
    match key.absent {
        Absent::Required => "required".to_owned(),
        Absent::Nothing => "–".to_owned(),
        Absent::Words(words) => words.to_owned(),
        Absent::Text(text) => format!("`\"{text}\"`"),
        Absent::Flag(flag) => format!("`{flag}`"),
        Absent::Whole(whole) => format!("`{whole}`"),
        Absent::Number(number) => format!("`{number:?}`"),
    }
}

/// Text that cannot end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_its_table_once() {
        let text = reference();
        for path in ["gateway", "mqtt.tls", "sensors.NAME", "sensors.NAME.readings.QUANTITY", "outputs.NAME.follow"] {
            assert_eq!(text.matches(&format!("**`[{path}]`**: ")).count(), 1, "{path}");
        }
        assert!(text.contains("| `keep_alive` | a duration from 5s to 18h | `\"30s\"` |"), "{text}");
    }
}
