//! Collects what is wrong, so that every fault is told at once, and knows what cannot be relied on. Knows nothing of what is
//! checked.

use crate::config::{Diagnostic, Doubts, Origin, Severity};

/// Faults and warnings in the making.
#[derive(Default)]
pub(super) struct Report {
    diagnostics: Vec<Diagnostic>,
    doubts: Doubts,
}

impl Report {
    /// Of a configuration with these doubts.
    pub fn doubting(doubts: Doubts) -> Self {
        Self { doubts, ..Self::default() }
    }

    /// Whether nothing may be concluded from this place of the configuration: a fault about it would perhaps be none.
    pub fn doubts(&self, path: &[&str]) -> bool {
        self.doubts.cover(path)
    }

    /// Whether there may be a table of this kind and name nevertheless.
    pub fn may_name(&self, kind: &str, name: &str) -> bool {
        self.doubts.may_name(kind, name)
    }

    /// Adds a fault with its remedy.
    pub fn fault(&mut self, origin: &Origin, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::fault(origin, message).help(help));
    }

    /// Adds a warning with its remedy.
    pub fn warning(&mut self, origin: &Origin, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(origin, message).help(help));
    }

    /// `Ok` with the warnings where there is no fault, else everything; in the file's order, nothing said twice.
    pub fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        self.diagnostics.sort_by_key(|diagnostic| diagnostic.origin.span.start);
        let mut told: Vec<Diagnostic> = Vec::with_capacity(self.diagnostics.len());
        for diagnostic in self.diagnostics {
            let same_place = told.iter().rev().take_while(|t| t.origin.span.start == diagnostic.origin.span.start);
            if !{ same_place }.any(|t| *t == diagnostic) {
                told.push(diagnostic);
            }
        }
        let is_refused = told.iter().any(|diagnostic| diagnostic.severity == Severity::Fault);
        if is_refused { Err(told) } else { Ok(told) }
    }
}

/// What may be given instead of `found`: the nearest name first where one is near, then all of them.
pub(super) fn allowed<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let reach = 1 + found.chars().count() / 4;
    let nearest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), *name))
        .filter(|(distance, _)| *distance <= reach)
        .min();
    let list = match names.as_slice() {
        [] => "there are none".to_owned(),
        names => format!("there {} {}", if names.len() == 1 { "is" } else { "are" }, quoted(names)),
    };
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`? {list}"),
        None => list,
    }
}

/// `a`, `b`, `c`
pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: usize) -> Origin {
        Origin { span: start..start + 1, variable: None }
    }

    #[test]
    fn faults_come_in_order_and_once() {
        let mut report = Report::default();
        report.fault(&at(9), "b", "");
        report.warning(&at(3), "a", "");
        report.fault(&at(9), "c", "");
        report.fault(&at(9), "b", "");
        let told = report.finish().expect_err("faults");
        assert_eq!(told.iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn warnings_alone_refuse_nothing() {
        let mut report = Report::default();
        report.warning(&at(3), "a", "");
        assert_eq!(report.finish().expect("accepted").len(), 1);
    }

    #[test]
    fn the_nearest_name_is_proposed() {
        assert_eq!(allowed("bmp28", ["bme280", "bmp280"]), "did you mean `bmp280`? there are `bme280`, `bmp280`");
        assert_eq!(allowed("zebra", ["bme280"]), "there is `bme280`");
        assert_eq!(allowed("x", []), "there are none");
    }
}
