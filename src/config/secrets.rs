//! Which lines of a configuration must not be shown because they may hold a password, in files that parse and in those that do not.
//!
//! It would rather hide a line too many. Invariant: a line with the value of a key that looks like a password is hidden.

use super::tree::{Data, Node, Table};
use std::ops::Range;

/// For each line whether it is secret.
pub(super) fn lines(text: &str, lines: &[Range<usize>]) -> Vec<bool> {
    let mut secret = by_words(text, lines);
    let (tree, _) = toml::de::DeTable::parse_recoverable(text);
    let mut spans = Vec::new();
    in_table(&Table::from(tree.into_inner()), &mut spans);
    for span in spans {
        let first = lines.partition_point(|line| line.end < span.start);
        for (line, secret) in lines.iter().zip(&mut secret).skip(first) {
            if line.start > span.end {
                break;
            }
            *secret = true;
        }
    }
    secret
}

/// Lines that name a password or hold an address with a login, with the lines of the text or table that begins there.
fn by_words(text: &str, lines: &[Range<usize>]) -> Vec<bool> {
    let mut open: Option<&str> = None;
    let mut table = false;
    let mut secret = Vec::with_capacity(lines.len());
    for line in lines {
        let line = &text[line.clone()];
        if let Some(quotes) = open {
            secret.push(true);
            if line.contains(quotes) {
                open = None;
            }
            continue;
        }
        let named = line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).any(names_secret);
        if line.trim_start().starts_with('[') {
            table = named;
        }
        if named {
            open = ["\"\"\"", "'''"].into_iter().find(|quotes| line.matches(quotes).count() % 2 == 1);
        }
        secret.push(named || table || has_login(line));
    }
    secret
}

/// `password`, what looks like it, and other words for such things.
fn names_secret(word: &str) -> bool {
    const NAME: &str = "password";
    let word = word.to_lowercase();
    ["pass", "pwd", "secret", "token"].iter().any(|part| word.contains(part))
        || (word.len().abs_diff(NAME.len()) <= 2 && strsim::osa_distance(&word, NAME) <= 2)
}

/// `scheme://user:password@host`
fn has_login(line: &str) -> bool {
    line.split("://")
        .skip(1)
        .any(|rest| rest.split(['"', '\'', ' ', '\t', '/']).next().is_some_and(|host| host.contains('@')))
}

fn in_table(table: &Table, spans: &mut Vec<Range<usize>>) {
    for entry in &table.entries {
        if names_secret(&entry.key) {
            in_node(&entry.value, spans);
        } else if let Data::Table(inner) = &entry.value.data {
            in_table(inner, spans);
        }
    }
}

fn in_node(node: &Node, spans: &mut Vec<Range<usize>>) {
    spans.push(node.origin.span.clone());
    if let Data::Table(table) = &node.data {
        table.entries.iter().for_each(|entry| in_node(&entry.value, spans));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostic, Origin, SourceText};

    /// A diagnostic on every line of a text that holds `hunter2` somewhere shows it nowhere.
    #[test]
    fn no_way_of_writing_a_password_shows_it() {
        let texts = [
            "password = \"hunter2\"",
            "pasword = \"hunter2\"",
            "passwort = hunter2",
            "\"password\" = 'hunter2'",
            "password: hunter2",
            "password \"hunter2\"",
            "mqtt = { username = \"pi\", password = \"hunter2\" }",
            "password = \"\"\"\nhunter2\n\"\"\"",
            "password = '''\nhunter2",
            "password = {\n  text = \"hunter2\"\n}",
            "password = [\n  \"hunter2\"\n]",
            "[mqtt.password]\n\ntext = \"hunter2\"",
            "[mqtt.password]\ntext = hunter2 !",
            "mqtt.password.\"x y\" = \"hunter2\"",
            "server = \"mqtt://pi:hunter2@broker.lan\"",
            "server = mqtt://hunter2@broker.lan",
        ];
        for text in texts {
            let faults =
                (0..text.len()).map(|n| Diagnostic::fault(&Origin { span: n..n + 1, variable: None }, "x")).collect();
            let shown = SourceText::new("c.toml", text).report(faults).to_string();
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
            assert!(shown.contains("(not shown"), "{text}\n{shown}");
        }
    }

    #[test]
    fn other_lines_are_shown() {
        let text = "password = \"hunter2\"\n[topics]\nbase = \"mine\"\n";
        let at = text.find("base").expect("it is there");
        let fault = Diagnostic::fault(&Origin { span: at..at + 4, variable: None }, "x");
        let shown = SourceText::new("c.toml", text).report(vec![fault]).to_string();
        assert!(shown.contains("    3 | base = \"mine\""), "{shown}");
    }
}
