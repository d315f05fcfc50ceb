//! The documentation as text: its fenced blocks, the commands in them, tables, and what may differ between two runs.

pub mod agent;
pub mod commands;
pub mod world;

use std::path::Path;

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// What stands after the fence: `toml`, `sh`, `console`…
    pub language: String,
    /// Its lines.
    pub text: String,
    /// The line of its fence, from 1.
    pub line: usize,
    /// The heading it stands under.
    pub heading: String,
    /// The HTML comment just above: `<!-- before: …` and TOML to put in front, or `<!-- file: PATH -->`.
    pub comment: Option<String>,
}

impl Block {
    /// What the comment says after `key:`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.comment.as_deref()?.strip_prefix(key)?.strip_prefix(':')
    }
}

/// A file of the repository.
pub fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a Markdown text.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let (mut heading, mut comment, mut open) = (String::new(), None, None::<Block>);
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(block) = &mut open {
            if line == "```" {
                found.extend(open.take());
            } else {
                block.text.push_str(line);
                block.text.push('\n');
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let comment = comment.take();
            let (language, heading) = (language.to_owned(), heading.clone());
            open = Some(Block { language, text: String::new(), line: at + 1, heading, comment });
        } else if let Some(begun) = line.strip_prefix("<!-- ") {
            let mut text = format!("{begun}\n");
            while !text.trim_end().ends_with("-->") {
                let (_, more) = lines.next().expect("an HTML comment ends");
                text.push_str(more);
                text.push('\n');
            }
            comment = Some(text.trim_end().trim_end_matches("-->").to_owned());
        } else {
            comment = None;
            if let Some(title) = line.strip_prefix("## ") {
                title.clone_into(&mut heading);
            }
        }
    }
    assert!(open.is_none(), "the last block is not closed");
    found
}

/// Every number becomes `#` and every run of blanks one, so that two runs can be compared.
pub fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.trim_end().chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if !(matches!(c, '#' | ' ') && shape.ends_with(c)) {
            shape.push(c);
        }
    }
    shape
}

/// The shapes of a text's lines.
pub fn shapes(text: &str) -> Vec<String> {
    text.lines().map(shape).collect()
}

/// The cells of the rows of the tables in `text`, without their heads.
pub fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<_> = text.lines().collect();
    let is_row = |at: &usize| lines[*at].starts_with("| ") && !lines[*at].starts_with("| ---");
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("| ---"));
    let cells = |at: usize| lines[at].trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    (0..lines.len()).filter(is_row).filter(|at| !is_head(*at)).map(cells).collect()
}

/// The part of a text under a heading of the second level.
pub fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let begin = text.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("there is a section `{heading}`"));
    let rest = &text[begin + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// The code spans of a text outside its fenced blocks.
pub fn spans(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}
