//! The layers of ARCHITECTURE.md as a table, and who may name which library and which clock.
//!
//! It reads source text, tests included; it does not compile anything. Invariant: a module that is not in the table is a
//! fault, so the table is never out of date.

mod source;

use source::{Source, block_end, words};
use std::collections::BTreeSet;

/// A module imports from rows above its own, never from its own row.
const LAYERS: &[&[&str]] = &[
    // Words: the second row is made of the first.
    &["clock", "quantity", "line", "topic"],
    &["sample", "command"],
    // Edges.
    &["config", "board", "buffer", "mqtt", "systemd", "state"],
    // Domain.
    &["sensors", "inputs", "outputs", "process", "payload"],
    // Flows: a plan, and what runs it.
    &["plan"],
    &["poll", "publish", "dispatch"],
    // The whole: `main` calls the command line, whose `run` starts the agent.
    &["agent"],
    &["cli"],
    &["main"],
];

/// A crate, and the beginnings of the paths that alone may name it.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("rumqttc", &["src/mqtt/"]),
    ("tokio_rustls", &["src/mqtt/"]),
    ("rustls_native_certs", &["src/mqtt/"]),
    ("rumqttd", &["src/cli/demo"]),
    ("linux_embedded_hal", &["src/board/linux", "src/board/raspberry_pi"]),
    ("gpiocdev", &["src/board/linux", "src/board/raspberry_pi"]),
    ("rppal", &["src/board/raspberry_pi"]),
    ("embedded_devices", &["src/sensors/"]),
    ("systemd_journal_logger", &["src/systemd/"]),
    ("sd_notify", &["src/systemd/"]),
    ("anyhow", &["src/agent/", "src/cli/", "src/main.rs"]),
];

/// How the system's clocks are read; only `clock` does, so that whole days can be run on another.
const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now", "clock_gettime", "clock_nanosleep", "UNIX_EPOCH.elapsed"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The top module a file belongs to; `None` for the root of the library, which only declares the others.
fn top_module(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/").expect("a source file");
    let first = below.split('/').next().expect("a name");
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

/// How many `super` lead from the file's own module to the root of the crate.
fn depth(path: &str) -> usize {
    let parts: Vec<_> = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    parts.len() - usize::from(parts.last() == Some(&"mod"))
}

/// Every top module that `source` names through `crate::`, `super::` or the crate's own name, with its line.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    for root in ["crate", "board2mqtt"] {
        for at in words(code, root).filter(|&at| !code[..at].ends_with("::")) {
            found.extend(first_segments(&code[at + root.len()..]).map(|name| (source.line_of(at), name)));
        }
    }
    let inline = inline_modules(code);
    for at in words(code, "super").filter(|&at| !code[..at].trim_end().ends_with("super::")) {
        let (mut rest, mut steps) = (&code[at..], 0);
        while let Some(after) = rest.strip_prefix("super") {
            steps += 1;
            rest = after;
            if let Some(next) = after.strip_prefix("::").filter(|next| next.starts_with("super")) {
                rest = next;
            }
        }
        let inside = inline.iter().filter(|(from, to)| (*from..*to).contains(&at)).count();
        if steps >= depth(&source.path) + inside {
            found.extend(first_segments(rest).map(|name| (source.line_of(at), name)));
        }
    }
    found
}

/// The names right behind a path's root: `::a::b` gives `a`, `::{a, b::{c}}` gives `a` and `b`.
fn first_segments(rest: &str) -> impl Iterator<Item = String> {
    let identifier =
        |text: &str| -> String { text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = Vec::new();
    if let Some(path) = rest.strip_prefix("::") {
        match path.trim_start().strip_prefix('{') {
            None => names.push(identifier(path)),
            Some(group) => {
                let (mut depth, mut start) = (0usize, true);
                for (at, c) in group.char_indices() {
                    if start && !c.is_whitespace() {
                        names.push(identifier(&group[at..]));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                }
            }
        }
    }
    names.into_iter().filter(|name| name.starts_with(char::is_lowercase))
}

/// The ranges of `mod name { … }` blocks.
fn inline_modules(code: &str) -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    for at in words(code, "mod") {
        let Some(end) = code[at..].find([';', '{']).map(|len| at + len) else { continue };
        if code[end..].starts_with('{') {
            blocks.push((end, block_end(code, end)));
        }
    }
    blocks
}

/// What is wrong with one file's imports.
fn faults(source: &Source) -> Vec<String> {
    let Some(own) = top_module(&source.path) else { return Vec::new() };
    let Some(height) = layer(own) else { return vec![format!("{}: `{own}` is in no layer", source.path)] };
    let judge = |(line, name): (usize, String)| {
        let place = format!("{}:{line}", source.path);
        match layer(&name) {
            None => Some(format!("{place}: `{name}` is in no layer")),
            Some(_) if name == own => None,
            Some(other) if other < height => None,
            Some(other) => Some(format!("{place}: `{own}` (layer {height}) must not use `{name}` (layer {other})")),
        }
    };
    imports(source).into_iter().filter_map(judge).collect()
}

#[test]
fn modules_import_only_from_lower_layers() {
    let faults: Vec<_> = source::below("src").iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_table_names_every_module_and_no_other() {
    let sources = source::below("src");
    let there: BTreeSet<_> = sources.iter().filter_map(|source| top_module(&source.path)).collect();
    let named: BTreeSet<_> = LAYERS.iter().flat_map(|row| row.iter().copied()).collect();
    assert_eq!(there, named);
    assert_eq!(LAYERS.iter().map(|row| row.len()).sum::<usize>(), named.len(), "a module stands in one row");
}

#[test]
fn each_library_is_named_only_where_it_belongs() {
    let mut faults = Vec::new();
    for source in source::below("src") {
        for (library, homes) in
            LIBRARIES.iter().filter(|(_, homes)| !homes.iter().any(|home| source.path.starts_with(home)))
        {
            for at in words(&source.code, library).filter(|&at| is_crate(&source.code, at, library)) {
                faults.push(format!("{}:{}: {library} belongs to {homes:?}", source.path, source.line_of(at)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Whether the word at `at` is the root of a path or follows `use`: our own module `lm75` is neither.
fn is_crate(code: &str, at: usize, library: &str) -> bool {
    let (before, after) = (code[..at].trim_end(), &code[at + library.len()..]);
    let used = before.ends_with("use") || before.ends_with("extern crate");
    !before.ends_with("::") && (used || after.starts_with("::")) && !declares(code, library)
}

/// Whether the file declares a module of that name, which then shadows the crate's.
fn declares(code: &str, name: &str) -> bool {
    words(code, name).any(|at| code[..at].trim_end().ends_with("mod"))
}

#[test]
fn only_clock_reads_the_systems_clocks() {
    let mut faults = Vec::new();
    for source in source::below("src").iter().filter(|source| source.path != "src/clock.rs") {
        // The session's time-outs are tokio's, and so is the instant they count from.
        let tokio = source.path.starts_with("src/mqtt/") && !source.code.contains("std::time::Instant");
        for clock in CLOCKS.iter().filter(|clock| !(tokio && **clock == "Instant::now")) {
            for at in words(&source.product, clock) {
                faults.push(format!("{}:{}: {clock}", source.path, source.line_of(at)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The rules themselves, on text that breaks them.
mod rules {
    use super::*;

    fn judged(path: &str, text: &str) -> Vec<String> {
        faults(&Source::new(path, text))
    }

    #[test]
    fn lower_layers_and_own_submodules_are_allowed() {
        let text = "use crate::clock::Instant;\nuse crate::{topic, sample::{Sample}};\nuse super::fake;\nuse crate::mqtt::tls;";
        assert_eq!(judged("src/mqtt/session.rs", text), [""; 0]);
        assert_eq!(judged("src/outputs/mod.rs", "// use crate::agent;\nlet x = \"crate::plan\";"), [""; 0]);
        assert_eq!(judged("src/main.rs", "fn main() { board2mqtt::cli::main() }"), [""; 0]);
        assert_eq!(judged("src/board/mod.rs", "mod tests { use super::*; use super::linux; }"), [""; 0]);
    }

    #[test]
    fn every_way_up_or_sideways_is_found() {
        for text in [
            "use crate::plan::Plan;",
            "use crate::{clock, plan};",
            "use crate::{clock::{Clock, Instant},\n    plan::{Plan}};",
            "fn f(x: crate::plan::Plan) {}",
            "use super::super::plan;",
            "use super::super::{clock, plan};",
            "mod tests { use super::super::super::plan; }",
            "#[cfg(test)]\nmod tests { use crate::plan; }",
            "use board2mqtt::plan;",
            "use crate::outputs;",
            "use crate::nowhere;",
        ] {
            assert_eq!(judged("src/inputs/edges.rs", text).len(), 1, "{text}");
        }
        assert_eq!(judged("src/poll.rs", "use super::publish;").len(), 1);
        assert_eq!(judged("src/unheard_of.rs", "").len(), 1);
    }

    #[test]
    fn a_crate_is_told_from_a_module_of_its_name() {
        let named = |text: &str| words(text, "lm75").any(|at| is_crate(text, at, "lm75"));
        assert!(named("use lm75::Lm75;") && named("let x = lm75::new();") && named("use lm75;"));
        assert!(!named("mod lm75;\nlet x = lm75::DRIVER;") && !named("crate::sensors::lm75::X"));
    }
}
