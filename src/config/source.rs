//! The text a configuration came from, and how faults and warnings about it are shown to a person.
//!
//! Invariant: a line that may hold a secret is never shown, and nothing shown can move a cursor.

use super::secrets;
use super::tree::is_unprintable;
use super::{Config, Diagnostic, Doubts, Severity};
use std::fmt;
use std::ops::Range;

/// The most diagnostics shown; the rest is counted.
const MOST_SHOWN: usize = 200;
/// Lines wider than this are cut around the caret, in columns.
const WIDEST: usize = 120;
/// How much of a cut line stays before the caret, in columns.
const BEFORE: usize = 40;
/// Columns of a line number.
const GUTTER: usize = 5;

/// Where a configuration came from. Its `Debug` shows no text.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText {
    /// As the user gave it: a path.
    pub name: String,
    text: String,
}

impl SourceText {
    /// A source with its text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// What is to be said about it, by place, each thing once.
    pub fn report(&self, mut diagnostics: Vec<Diagnostic>) -> Report {
        diagnostics.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.origin.variable.is_some(), d.origin.span.start, d.origin.span.end);
            key(a).cmp(&key(b)).then_with(|| a.origin.variable.cmp(&b.origin.variable))
        });
        let mut report =
            Report { source: self.clone(), diagnostics: Vec::with_capacity(diagnostics.len()), partial: None };
        for diagnostic in diagnostics {
            let same_place = report.diagnostics.iter().rev().take_while(|d| d.origin == diagnostic.origin);
            if !same_place.into_iter().any(|d| *d == diagnostic) {
                report.diagnostics.push(diagnostic);
            }
        }
        report
    }
}

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceText({:?}, {} bytes)", self.name, self.text.len())
    }
}

/// Everything there is to say about a configuration, ready to be printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it is about.
    pub source: SourceText,
    /// By place.
    pub diagnostics: Vec<Diagnostic>,
    /// What could be read in spite of the faults; never to be used but for finding more of them.
    pub partial: Option<Box<Partial>>,
}

/// What a refused configuration still says.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    /// With defaults for refused values, without the tables that lack what they need.
    pub config: Config,
    /// What of it cannot be relied on, and what was left out.
    pub doubts: Doubts,
}

impl Report {
    /// Whether the configuration is refused.
    pub fn has_faults(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Fault)
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    /// Each diagnostic as `file:line:column: message`, the line, and a caret with the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = Page::new(&self.source);
        for diagnostic in self.diagnostics.iter().take(MOST_SHOWN) {
            page.show(f, diagnostic)?;
        }
        match self.diagnostics.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "{}: … and {more} more", self.source.name),
        }
    }
}

/// The source cut into lines.
struct Page<'a> {
    name: &'a str,
    text: &'a str,
    /// The bytes of each line, without its end.
    lines: Vec<Range<usize>>,
    secret: Vec<bool>,
}

impl<'a> Page<'a> {
    fn new(source: &'a SourceText) -> Self {
        let text = source.text.as_str();
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            lines.push(start..start + bare.len());
            start += line.len();
        }
        if text.is_empty() || text.ends_with('\n') {
            lines.push(start..start);
        }
        if let Some(first) = lines.first_mut()
            && text.starts_with('\u{feff}')
        {
            first.start = '\u{feff}'.len_utf8();
        }
        let secret = secrets::lines(text, &lines);
        Self { name: &source.name, text, lines, secret }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
        let severity = match diagnostic.severity {
            Severity::Fault => "",
            Severity::Warning => "warning: ",
        };
        let (message, origin) = (&diagnostic.message, &diagnostic.origin);
        let place = origin.variable.as_deref().unwrap_or(self.name);
        if origin.variable.is_some() || origin.span == (0..0) {
            writeln!(f, "{place}: {severity}{message}")?;
            return diagnostic.help.as_ref().map_or(Ok(()), |help| writeln!(f, "{:GUTTER$} = {help}", ""));
        }
        let index = self.lines.partition_point(|line| line.start <= origin.span.start).saturating_sub(1);
        let line = self.lines[index].clone();
        let text = &self.text[line.clone()];
        let start = boundary(text, origin.span.start.saturating_sub(line.start));
        let end = boundary(text, origin.span.end.saturating_sub(line.start)).max(start);
        let column = text[..start].chars().count() + 1;
        let number = index + 1;
        writeln!(f, "{place}:{number}:{column}: {severity}{message}")?;
        let help = diagnostic.help.as_deref().unwrap_or_default();
        if self.secret[index] {
            writeln!(f, "{number:GUTTER$} | (not shown: it may hold a secret)")?;
            return if help.is_empty() { Ok(()) } else { writeln!(f, "{:GUTTER$} | {help}", "") };
        }
        let (shown, indent, carets) = excerpt(text, start..end);
        writeln!(f, "{number:GUTTER$} | {shown}")?;
        writeln!(f, "{}", format!("{:GUTTER$} | {:indent$}{:^<carets$} {help}", "", "", "").trim_end())
    }
}

/// The last character boundary of `text` at or before `index`.
fn boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// A line as it is shown, the columns before the caret, and how many carets there are.
fn excerpt(line: &str, marked: Range<usize>) -> (String, usize, usize) {
    let cells = |text: &str| text.chars().map(cell).collect::<Vec<_>>();
    let width = |cells: &[(String, usize)]| cells.iter().map(|(_, width)| width).sum::<usize>();
    let (before, within, after) =
        (cells(&line[..marked.start]), cells(&line[marked.clone()]), cells(&line[marked.end..]));
    let total = width(&before) + width(&within) + width(&after);
    let mut shown = String::new();
    let mut indent = width(&before);
    let mut first = 0;
    if total > WIDEST && indent > BEFORE {
        while indent + 1 > BEFORE {
            indent -= before[first].1;
            first += 1;
        }
        shown.push('…');
        indent += 1;
    }
    before[first..].iter().for_each(|(text, _)| shown.push_str(text));
    let mut room = if total > WIDEST { WIDEST - indent } else { total };
    let mut carets = 0;
    for (index, (text, width)) in within.iter().chain(&after).enumerate() {
        if *width > room {
            shown.push('…');
            break;
        }
        room -= width;
        shown.push_str(text);
        carets += if index < within.len() { *width } else { 0 };
    }
    (shown, indent, carets.max(1))
}

/// A character as it is shown, and its columns.
fn cell(c: char) -> (String, usize) {
    match c {
        '\t' => ("    ".to_owned(), 4),
        c if is_unprintable(c) => {
            let escaped = c.escape_unicode().to_string();
            let width = escaped.len();
            (escaped, width)
        }
        c => (c.to_string(), columns(c)),
    }
}

/// Columns of a printable character in a terminal (Unicode Standard Annex 11, the blocks that are wide as a whole).
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xa960..=0xa97f | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
        0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff => 2,
        0x1f900..=0x1f9ff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn shown(text: &str, span: Range<usize>) -> String {
        let origin = Origin { span, variable: None };
        let diagnostic = Diagnostic::fault(&origin, "wrong").help("do");
        SourceText::new("c.toml", text).report(vec![diagnostic]).to_string()
    }

    #[test]
    fn the_caret_stands_below_what_is_meant() {
        assert_eq!(shown("a = 1\nbc = 2\n", 6..8), "c.toml:2:1: wrong\n    2 | bc = 2\n      | ^^ do\n");
        assert_eq!(shown("\ta = 1", 1..2), "c.toml:1:2: wrong\n    1 |     a = 1\n      |     ^ do\n");
        assert_eq!(shown("日本 = x", 9..10), "c.toml:1:6: wrong\n    1 | 日本 = x\n      |        ^ do\n");
        assert_eq!(shown("\u{feff}a = 1\r\n", 3..4), "c.toml:1:1: wrong\n    1 | a = 1\n      | ^ do\n");
        assert_eq!(shown("a\u{1b}b", 2..3), "c.toml:1:3: wrong\n    1 | a\\u{1b}b\n      |        ^ do\n");
        assert_eq!(shown("a =", 3..3), "c.toml:1:4: wrong\n    1 | a =\n      |    ^ do\n");
        assert_eq!(shown("a = 1\n", 6..6), "c.toml:2:1: wrong\n    2 | \n      | ^ do\n");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{} = {} # {}", "k".repeat(5), "9".repeat(300), "c".repeat(300));
        let far = shown(&text, 308..312);
        let lines: Vec<_> = far.lines().collect();
        assert!(lines[1].chars().count() <= WIDEST + 10, "{far}");
        assert!(lines[1].starts_with("    1 | …") && lines[1].ends_with('…'), "{far}");
        let caret = lines[2].chars().position(|c| c == '^').expect("a caret");
        let marked: String = lines[1].chars().skip(caret).take(4).collect();
        assert_eq!(marked, &text[308..312], "{far}");
    }

    #[test]
    fn things_are_said_once_and_in_the_order_of_the_file() {
        let at = |start: usize| Origin { span: start..start + 1, variable: None };
        let variable = Origin { span: 0..0, variable: Some("BOARD2MQTT__X".into()) };
        let report = SourceText::new("c.toml", "abc").report(vec![
            Diagnostic::fault(&variable, "v"),
            Diagnostic::fault(&at(2), "second"),
            Diagnostic::fault(&at(1), "first"),
            Diagnostic::fault(&at(2), "second"),
        ]);
        let messages: Vec<_> = report.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, ["first", "second", "v"]);
        assert!(report.to_string().ends_with("BOARD2MQTT__X: v\n"), "{report}");
    }

    #[test]
    fn a_flood_is_counted() {
        let faults = (0..500).map(|n| Diagnostic::fault(&Origin { span: n..n + 1, variable: None }, "x")).collect();
        let report = SourceText::new("c.toml", "x".repeat(500)).report(faults);
        assert!(report.to_string().ends_with("c.toml: … and 300 more\n"));
    }
}
