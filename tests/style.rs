//! The manner of the source that can be counted: sizes, opening docs, and what only tests may write.
//!
//! Naming and prose are left to people. Invariant: the limits are hard, no file is exempt.

mod source;

use source::{Source, block_end, words};

/// Lines of a file outside its tests.
const MAX_FILE_LINES: usize = 500;
/// Lines of a function, its signature included.
const MAX_FUNCTION_LINES: usize = 60;
/// Written only while something is unfinished.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];
/// The same, in comments.
const MARKS: &[&str] = &["TODO", "FIXME", "XXX"];

/// Functions outside tests: name, first line and number of lines.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let code = &source.product;
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name: String =
            code[at + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(open) = code[at..].find(['{', ';']).map(|len| at + len) else { continue };
        if !name.is_empty() && code[open..].starts_with('{') {
            let (first, last) = (source.line_of(at), source.line_of(block_end(code, open) - 1));
            found.push((name, first, last - first + 1));
        }
    }
    found
}

fn all() -> Vec<Source> {
    ["src", "tests"].iter().flat_map(|folder| source::below(folder)).collect()
}

#[test]
fn no_file_and_no_function_outgrows_a_readers_patience() {
    let mut faults = Vec::new();
    for source in source::below("src") {
        let lines = source.product_lines;
        if lines > MAX_FILE_LINES {
            faults.push(format!("{}: {lines} lines outside tests, at most {MAX_FILE_LINES}", source.path));
        }
        for (name, line, lines) in functions(&source).into_iter().filter(|(_, _, lines)| *lines > MAX_FUNCTION_LINES) {
            faults.push(format!("{}:{line}: `{name}` has {lines} lines, at most {MAX_FUNCTION_LINES}", source.path));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let silent: Vec<_> =
        all().into_iter().filter(|source| !source.raw.starts_with("//! ")).map(|source| source.path).collect();
    assert!(silent.is_empty(), "files that do not open with `//! `: {silent:?}");
}

#[test]
fn nothing_is_unfinished_and_nothing_unwraps_outside_tests() {
    let mut faults = Vec::new();
    for source in source::below("src") {
        for word in UNFINISHED {
            faults
                .extend(words(&source.code, word).map(|at| format!("{}:{}: {word}", source.path, source.line_of(at))));
        }
        let unwraps = source.product.match_indices(".unwrap()");
        faults.extend(unwraps.map(|(at, _)| format!("{}:{}: .unwrap()", source.path, source.line_of(at))));
        for mark in MARKS {
            faults.extend(words(&source.raw, mark).map(|_| format!("{}: {mark}", source.path)));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The counting itself.
mod counting {
    use super::*;

    const FILE: &str = "//! Doc.\n\nfn a() {\n    let brace = \"}\";\n    // }\n}\n\n#[cfg(test)]\nmod tests {\n\n    // x\n    fn b() { c().unwrap() }\n}\n";

    #[test]
    fn tests_are_not_counted() {
        let source = Source::new("src/x.rs", FILE);
        assert_eq!(source.product_lines, 7);
        assert_eq!(functions(&source), [("a".to_owned(), 3, 4)]);
        assert!(!source.product.contains("unwrap") && source.code.contains("unwrap"));
    }

    #[test]
    fn literals_and_comments_are_no_code() {
        let blanked = source::blank_literals(r##"a("x\"{", r#"{"#, b'{', '\'', '{') /* { /* } */ */ 'b: loop // {"##);
        assert!(!blanked.contains(['{', '}']) && blanked.contains("'b: loop"), "{blanked}");
    }
}
