//! Everything that is wrong with a configuration in one report: the faults of its keys and those of its meaning.
//!
//! Invariant: a fault of the meaning stands beside faults of keys only where it does not follow from one of them.

use super::{Plan, build, build_doubting};
use crate::config::{Config, Diagnostic, Loaded, Report, Severity, SourceText};

/// A configuration without a fault.
pub struct Judged {
    /// As written.
    pub config: Config,
    /// Resolved.
    pub plan: Plan,
    /// Its text, to report what is found later.
    pub source: SourceText,
    /// What is accepted but should be looked at, by place.
    pub warnings: Vec<Diagnostic>,
}

/// Resolves what the loader gave, be it good or not.
///
/// # Errors
/// Every fault at once, by place. Where keys are refused, warnings about the meaning wait until they are not.
pub fn judge(loaded: Result<Loaded, Report>) -> Result<Judged, Report> {
    let Loaded { config, source, warnings } = loaded.map_err(with_meaning)?;
    match build(&config) {
        Ok((plan, more)) => {
            let warnings = source.report(warnings.into_iter().chain(more).collect()).diagnostics;
            Ok(Judged { config, plan, source, warnings })
        }
        Err(faults) => Err(source.report(warnings.into_iter().chain(faults).collect())),
    }
}

/// The report of refused keys with the faults of what is left.
fn with_meaning(report: Report) -> Report {
    let Report { source, mut diagnostics, partial } = report;
    let found = partial.and_then(|partial| build_doubting(&partial.config, partial.doubts).err());
    diagnostics.extend(found.into_iter().flatten().filter(|found| found.severity == Severity::Fault));
    source.report(diagnostics)
}
