//! The crate's own source as text, for the tests that hold its shape: comments and literals blanked out, tests marked.
//!
//! It is a lexer, not a parser: it knows enough Rust to tell code from what only looks like it. Invariant: every blanked
//! text has the line breaks of the original, so places agree.

// Each test that holds a shape needs a part of it.
#![allow(dead_code)]

use std::ops::Range;
use std::path::{Path, PathBuf};

/// One source file.
pub struct Source {
    /// Relative to the package, `src/board/linux.rs`.
    pub path: String,
    /// As it is on disk.
    pub raw: String,
    /// Comments, strings and characters blanked.
    pub code: String,
    /// As `code`, with every `#[cfg(test)]` item blanked as well.
    pub product: String,
    /// Lines outside those items, comments and empty ones included.
    pub product_lines: usize,
}

impl Source {
    /// A file of this content.
    pub fn new(path: impl Into<String>, raw: &str) -> Self {
        let code = blank_literals(raw);
        let mut product = code.clone();
        let mut product_lines = code.lines().count();
        for item in test_items(&code) {
            product_lines -= code[item.clone()].lines().count();
            product.replace_range(item.clone(), &blank(&code[item]));
        }
        Self { path: path.into(), raw: raw.to_owned(), code, product, product_lines }
    }

    /// The line, counted from 1, of a byte of `code` or `product`.
    pub fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// Every Rust file below `folder` of the package, sorted; none is a fault of the caller.
pub fn below(folder: &str) -> Vec<Source> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&package.join(folder), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no source below {folder}");
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(package).expect("below the package").display().to_string();
        Source::new(name, &std::fs::read_to_string(path).expect("readable source"))
    };
    paths.iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the package") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Byte offsets in `text` where `word` stands as a whole identifier or path, not as a part of a longer one.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// Blanks comments, string, byte-string, raw-string and character literals; keeps line breaks and lifetimes.
pub fn blank_literals(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let skip = literal_len(rest, out.chars().next_back());
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skip].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    out
}

/// The length of the comment or literal that `text` begins with, 0 where it begins with code.
fn literal_len(text: &str, before: Option<char>) -> usize {
    let inside_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment_len(text);
    }
    let prefix = if inside_word {
        0
    } else {
        ["br", "cr", "r", "b", "c"].iter().find(|p| text.starts_with(**p)).map_or(0, |p| p.len())
    };
    let body = &text[prefix..];
    if text[..prefix].ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        if body[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = prefix + hashes + 1;
            return text[from..].find(&end).map_or(text.len(), |at| from + at + end.len());
        }
        return 0;
    }
    if body.starts_with('"') {
        return prefix + quoted_len(body, '"');
    }
    // 'x' and '\n' are characters, 'a without a second quote is a lifetime.
    let mut after = body.chars().skip(1);
    match (body.starts_with('\''), after.next(), after.next()) {
        (true, Some('\\'), _) | (true, Some(_), Some('\'')) => prefix + quoted_len(body, '\''),
        _ => 0,
    }
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The items that follow a `#[cfg(test)]`, outermost only, in text without literals.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        if items.last().is_none_or(|last| last.end <= at) {
            items.push(at..at + item_len(&code[at..]));
        }
    }
    items
}

fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The length of an item with its attributes: to its `;`, or to the end of its braces.
fn item_len(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The byte after the brace that closes the one at `open`.
pub fn block_end(code: &str, open: usize) -> usize {
    open + item_len(&code[open..])
}
